/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* How a connection begins, and how it is told from one that had the same addresses and ports before
 * (RFC 9293 3.5, 3.10.7; RFC 5961 4; RFC 6191). What only looks like a beginning changes nothing but
 * counters of packets:
 *
 * - A SYN with the number that the connection began with is a repetition.
 * - On a connection that is over, a SYN with another number begins a new one at once.
 * - On one that is not, the receiver answers such a SYN with a challenge or, if it knows nothing of
 *   the connection, with a SYN-ACK. So it is remembered, and its SYN-ACK begins the new one. A RST
 *   that answers it (sequence number 0, RFC 9293 3.5.2) tells of a refused attempt.
 * - A SYN-ACK counts if it acknowledges a SYN that was seen, and what follows completes the
 *   handshake if its numbers are those of both SYNs.
 *
 * What was of the old connection is told before the new one begins. Where neither the ring nor what
 * lies aside has room for it, the old one stays in its place, and the new one has no flow: a round
 * through the table finds the old one, and the new one is told of by its answers (refused.h). */
#ifndef PILOTFISH_HANDSHAKE_H
#define PILOTFISH_HANDSHAKE_H

#include "emit.h"
#include "maps.h"
#include "packet.h"

#define PF_FURTHEST 0x40000000 /* the largest TCP window (RFC 7323 2.3) */

#define PF_KNOWN_SEQ(dir) (1 << (dir)) /* in seq_known */
#define PF_KNOWN_ISN(dir) (4 << (dir))
#define PF_FIN(dir) (PF_FLOW_FIN_IN << (dir))
#define PF_FIN_EARLY(dir) (PF_FLOW_FIN_EARLY_IN << (dir))
#define PF_SYN_AGAIN(dir) (PF_FLOW_SYN_AGAIN_IN << (dir))
#define PF_SYN_AGAIN_ANY (PF_FLOW_SYN_AGAIN_IN | PF_FLOW_SYN_AGAIN_OUT)
#define PF_FIN_EARLY_ANY (PF_FLOW_FIN_EARLY_IN | PF_FLOW_FIN_EARLY_OUT)
#define PF_FLOW_LINES(dir) (PF_FLOW_LINES_IN << (dir))
#define PF_FLOW_LINES_ANY (PF_FLOW_LINES_IN | PF_FLOW_LINES_OUT)
#define PF_FRAMES_LINES(dir) (PF_FRAMES_LINES_IN + (dir))
#define PF_ROLES (PF_FLOW_LOCAL_CLIENT | PF_FLOW_LOCAL_SERVER)
#define PF_TCP_ENDS (PF_TCP_FIN | PF_TCP_RST)

/* Signed distance between sequence numbers. */
static __always_inline __s32 pf_ahead(__u32 a, __u32 b)
{
	return (__s32)(a - b);
}

/* The handshake is not complete. */
static __always_inline int pf_half_open(struct pf_flow *flow)
{
	return !(flow->flags & (PF_FLOW_ESTABLISHED | PF_FLOW_MIDWAY));
}

/* Whether this is the number of the SYN that the direction began with. */
static __always_inline int pf_is_isn(struct pf_flow *flow, int dir, __u32 seq)
{
	return flow->seq_known & PF_KNOWN_ISN(dir) && flow->isn[dir] == seq;
}

/* Whether `ack` acknowledges the direction's SYN, and nothing that it has not sent. */
static __always_inline int pf_acks_syn(struct pf_flow *flow, int dir, __u32 ack)
{
	return flow->seq_known & PF_KNOWN_ISN(dir) && ack - flow->isn[dir] - 1 < flow->next_seq[dir] - flow->isn[dir];
}

static __always_inline void pf_note_close(struct pf_flow *flow, struct pf_cpu *cpu)
{
	struct pf_closed *closed = &cpu->closed;

	closed->flow_flags = flow->flags;
	closed->turn = flow->turn;
	closed->flow_id = flow->flow_id;
	closed->at_ns = cpu->before.now;
	closed->counters = flow->counters;
	closed->last = flow->message;
}

/* The tuple is used again: what was of the old connection is told, and goes. 0: it stays, since there is no room to
 * tell of it. The only helpers that are called under the lock, seldom: so nothing of the new one comes before it. */
static __always_inline int pf_start_afresh(struct pf_flow *flow, struct pf_cpu *cpu, struct pf_control *control)
{
	__u32 kept = flow->flags & (PF_FLOW_NOT_COPIED | PF_FLOW_EAGER);

	if (!(flow->flags & PF_FLOW_CLOSE_REPORTED)) {
		pf_note_close(flow, cpu);
		if (pf_emit_closed(cpu, control) && pf_put_aside(cpu, control))
			return 0;
		cpu->stats.count[PF_STAT_REPLACED]++;
	}
	/* Not the lock: we hold it. */
	__builtin_memset((void *)flow + sizeof(flow->lock), 0, sizeof(*flow) - sizeof(flow->lock));
	flow->flags = kept;
	flow->flow_id = cpu->before.now;
	flow->head_bytes = control->head_bytes;
	/* That was asked for by the old one. */
	cpu->before.overridden = 0;
	return 1;
}

/* The old connection keeps its place. */
static __always_inline void pf_keep(struct pf_flow *flow)
{
	if (flow->flags & PF_FLOW_KEPT)
		return;
	flow->flags |= PF_FLOW_KEPT;
	flow->syn_ns = flow->last_ns; /* of what is its own */
}

/* The first SYN of a direction. */
static __always_inline void pf_open(struct pf_flow *flow, int dir, __u32 seq)
{
	flow->seq_known |= PF_KNOWN_SEQ(dir) | PF_KNOWN_ISN(dir);
	flow->isn[dir] = seq;
	flow->next_seq[dir] = seq + 1;
	flow->acked[dir] = seq;
	flow->ack_known |= 1 << dir;
}

/* The same of a SYN without ACK: its sender is the client. Of both: a simultaneous open (RFC 9293 3.5). */
static __always_inline void pf_open_client(struct pf_flow *flow, int dir, __u32 seq, __u64 now)
{
	pf_open(flow, dir, seq);
	flow->flags |= dir == PF_EGRESS ? PF_FLOW_LOCAL_CLIENT : PF_FLOW_LOCAL_SERVER;
	if (dir == PF_EGRESS)
		flow->syn_ns = now;
}

static __always_inline void pf_uncount(struct pf_flow *flow, int dir, __u32 packets, __u64 bytes, __u32 retransmits)
{
	__sync_fetch_and_add(&flow->counters.packets[dir], -(__s64)(__s32)packets);
	__sync_fetch_and_add(&flow->counters.bytes[dir], -bytes);
	flow->counters.retransmits[dir] -= retransmits;
}

/* The SYN that was remembered was meant: the flow is its connection. `ack`: what its answer acknowledged. */
static __always_inline void pf_start_again(struct pf_flow *flow, int dir, struct pf_cpu *cpu, struct pf_control *control)
{
	__u32 seq = flow->again_seq, end = flow->again_end, packets = flow->again_packets, ack = cpu->packet.ack;
	__u32 again = pf_is_isn(flow, dir, seq) ? packets : 0;
	__u64 bytes = flow->again_bytes, sent = flow->again_ns;

	/* They were counted where they came. */
	pf_uncount(flow, dir, packets, bytes, again);
	if (!pf_start_afresh(flow, cpu, control)) {
		pf_uncount(flow, dir, -packets, -bytes, -again);
		return pf_keep(flow);
	}
	flow->counters.packets[dir] = packets;
	flow->counters.bytes[dir] = bytes;
	flow->counters.retransmits[dir] = packets - 1;
	pf_open_client(flow, dir, seq, sent);
	if (!(cpu->packet.tcp_flags & PF_TCP_SYN)) {
		flow->next_seq[dir] = end; /* refused as a whole */
		return;
	}
	if (ack == seq + 1)
		return;
	/* Its payload was taken by the server (RFC 7413), and passed when it looked like none of this connection: a message
	 * whose head is lost. */
	flow->next_seq[dir] = ack;
	if (flow->flags & PF_FLOW_NOT_COPIED)
		return;
	flow->turn = 1;
	flow->turn_dir = dir;
	flow->turn_seq[dir] = seq + 1;
	flow->message.turn = 1;
	flow->message.dir = dir;
	flow->message.bytes = ack - seq - 1;
	flow->message.packets = 1;
	flow->message.first_ns = flow->message.last_ns = sent ? sent : cpu->before.now;
}

/* Before the packet is counted: is it of another connection than the flow? Then the flow is that one from here on. A
 * function of its own: see pf_find_l3. Returns nothing of use. */
__noinline int pf_begin(struct pf_flow *flow, int dir, struct pf_cpu *cpu, struct pf_control *control)
{
	struct pf_packet *p;
	__u8 flags;

	if (!flow || !cpu || !control)
		return 0;
	dir &= 1;
	p = &cpu->packet;
	flags = p->tcp_flags & (PF_TCP_SYN | PF_TCP_ACK | PF_TCP_ENDS);
	if (flags == PF_TCP_SYN) {
		if (flow->flags & PF_FLOW_CLOSED && !pf_is_isn(flow, dir, p->seq))
			pf_start_afresh(flow, cpu, control);
		return 0;
	}
	if (!(flow->flags & PF_SYN_AGAIN(!dir)) || p->ack - flow->again_seq - 1 >= flow->again_end - flow->again_seq)
		return 0;
	if (pf_half_open(flow) && !(flow->flags & PF_FLOW_CLOSED) && pf_acks_syn(flow, !dir, p->ack))
		return 0;
	if (flags == (PF_TCP_SYN | PF_TCP_ACK) || (flags == (PF_TCP_RST | PF_TCP_ACK) && !p->seq))
		pf_start_again(flow, !dir, cpu, control);
	return 0;
}

/* A SYN on a flow that has one already. */
static __always_inline void pf_syn_again(struct pf_flow *flow, int dir, struct pf_packet *p, __u64 now)
{
	__u32 again = PF_SYN_AGAIN(dir);

	if (flow->flags & again && flow->again_seq == p->seq) {
		flow->again_packets++;
		flow->again_bytes += p->ip_bytes;
		flow->again_ns = 0; /* the answer could be to either (Karn, RFC 6298 3) */
		return;
	}
	flow->flags = (flow->flags & ~PF_SYN_AGAIN_ANY) | again;
	flow->again_seq = p->seq;
	flow->again_end = p->seq + 1 + p->payload;
	flow->again_packets = 1;
	flow->again_bytes = p->ip_bytes;
	flow->again_ns = now;
}

/* True when the packet's payload is the direction's first. */
static __always_inline int pf_syn(struct pf_flow *flow, int dir, struct pf_packet *p, __u64 now)
{
	if (!(flow->seq_known & (PF_KNOWN_SEQ(0) | PF_KNOWN_SEQ(1)))) {
		pf_open_client(flow, dir, p->seq, now);
		return 1;
	}
	if (pf_is_isn(flow, dir, p->seq)) {
		flow->counters.retransmits[dir]++;
		if (pf_half_open(flow))
			flow->syn_ns = 0;
		/* When the connection is over, a listener may take it for a new one all the same. */
		if (flow->flags & PF_FLOW_CLOSED)
			pf_syn_again(flow, dir, p, now);
		return 0;
	}
	if (pf_half_open(flow) && !(flow->seq_known & PF_KNOWN_SEQ(dir)) && !(flow->flags & PF_FLOW_CLOSED)) {
		pf_open_client(flow, dir, p->seq, now);
		return 1;
	}
	pf_syn_again(flow, dir, p, now);
	return 0;
}

/* As above. */
static __always_inline int pf_syn_ack(struct pf_flow *flow, int dir, struct pf_packet *p, __u64 now)
{
	int first;

	if (!(flow->seq_known & (PF_KNOWN_SEQ(0) | PF_KNOWN_SEQ(1)))) {
		/* The SYN was not seen, but it is known now. */
		pf_open(flow, !dir, p->ack - 1);
		flow->next_seq[!dir] = p->ack;
	} else if (pf_is_isn(flow, dir, p->seq) && (flow->flags & PF_ROLES) != PF_ROLES) {
		flow->counters.retransmits[dir]++;
		flow->syn_ns = 0;
		return 0;
	}
	if (!pf_half_open(flow) || flow->flags & PF_FLOW_CLOSED || !pf_acks_syn(flow, !dir, p->ack))
		return 0;
	first = !(flow->seq_known & PF_KNOWN_SEQ(dir));
	if ((flow->flags & PF_ROLES) == PF_ROLES) {
		if (!pf_is_isn(flow, dir, p->seq))
			return 0;
		flow->flags |= PF_FLOW_ESTABLISHED;
		flow->acked[!dir] = p->ack;
		return 0;
	}
	/* Another number than before: a server that keeps nothing of a SYN (RFC 4987 3.6) may have made up a new one. */
	pf_open(flow, dir, p->seq);
	flow->acked[!dir] = p->ack;
	if (!first) {
		flow->counters.retransmits[dir]++;
		flow->syn_ns = 0;
	} else if (dir == PF_EGRESS) {
		flow->flags |= PF_FLOW_LOCAL_SERVER;
		flow->syn_ns = now;
	} else {
		flow->flags |= PF_FLOW_LOCAL_CLIENT | PF_FLOW_ESTABLISHED;
		if (flow->syn_ns)
			flow->counters.rtt_ns = now - flow->syn_ns;
	}
	return first;
}

/* A packet without SYN and RST while the handshake is not complete: false when it is none of this
 * connection, which a server answers with a RST and a client's server with a challenge. A function of its own: see
 * pf_find_l3. */
__noinline int pf_complete(struct pf_flow *flow, int dir, struct pf_cpu *cpu)
{
	struct pf_packet *p;
	__u64 now;
	int known;

	if (!flow || !cpu)
		return 0;
	dir &= 1;
	p = &cpu->packet;
	now = cpu->before.now;
	known = flow->seq_known & PF_KNOWN_ISN(dir);

	if (known && p->seq - flow->isn[dir] - 1 >= PF_FURTHEST)
		return 0;
	if (flow->seq_known & PF_KNOWN_ISN(!dir)) {
		if (!pf_acks_syn(flow, !dir, p->ack))
			return 0;
	} else if (!known) {
		return 0;
	}
	if ((flow->flags & PF_ROLES) == PF_FLOW_LOCAL_SERVER && dir == PF_INGRESS && flow->syn_ns)
		flow->counters.rtt_ns = now - flow->syn_ns;
	/* What a server sends before that may be in answer to data that came with the SYN (RFC 7413). */
	if (!known || (flow->flags & PF_ROLES) != (dir == PF_EGRESS ? PF_FLOW_LOCAL_SERVER : PF_FLOW_LOCAL_CLIENT))
		flow->flags |= PF_FLOW_ESTABLISHED;
	return 1;
}

#endif
