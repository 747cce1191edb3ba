/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What a packet does to its flow. All but pf_ack runs under the flow's lock, and calls no helper,
 * to hold it shortly, but where a connection takes another one's place. */
#ifndef PILOTFISH_FLOW_H
#define PILOTFISH_FLOW_H

#include "end.h"
#include "handshake.h"
#include "lines.h"
#include "maps.h"
#include "packet.h"
#include "walk.h"

#define PF_LONG_MESSAGE 0x40000000 /* offsets in a message are 32 bits wide: past this one, its head is not looked for any more */

/* Most packets of a connection that sends much are ACKs without payload, of which only counters
 * remain. True when this packet was one and is counted. No lock, which both directions would wait
 * for: the two counters are changed atomically, here and under the lock (1 ns each). */
static __always_inline int pf_ack(struct pf_flow *flow, int dir, struct pf_cpu *cpu)
{
	struct pf_packet *p = &cpu->packet;
	__u8 flags = p->tcp_flags & (PF_TCP_SYN | PF_TCP_ENDS | PF_TCP_ACK);
	__u64 tick;

	if (p->payload || flags != PF_TCP_ACK || p->key.proto != IPPROTO_TCP || !p->window || flow->zero_window & (1 << dir) ||
	    pf_half_open(flow) || flow->flags & (PF_FIN_EARLY_ANY | PF_FLOW_KEPT) || !(flow->ack_known & (1 << !dir)))
		return 0;
	if (pf_ahead(p->ack, flow->acked[!dir]) > 0)
		flow->acked[!dir] = p->ack;
	/* Good to 1-4 ms, which is enough to know when a flow was active last: read once per tick
	 * instead of 34 ns for each packet. */
	tick = bpf_jiffies64();
	if (cpu->tick != tick) {
		cpu->tick = tick;
		cpu->tick_ns = bpf_ktime_get_coarse_ns();
	}
	if (cpu->tick_ns > flow->last_ns)
		flow->last_ns = cpu->tick_ns;
	__sync_fetch_and_add(&flow->counters.packets[dir], 1);
	__sync_fetch_and_add(&flow->counters.bytes[dir], p->ip_bytes);
	return 1;
}

/* Takes [seq, end) out of the direction's hole; false when it is not in it. */
static __always_inline int pf_fill(struct pf_flow *flow, int dir, __u32 seq, __u32 end)
{
	__u32 from = flow->hole_start[dir], to = flow->hole_end[dir];

	if (from == to || pf_ahead(end, from) <= 0 || pf_ahead(seq, to) >= 0)
		return 0;
	if (pf_ahead(seq, from) <= 0)
		flow->hole_start[dir] = pf_ahead(end, to) >= 0 ? to : end;
	else if (pf_ahead(end, to) >= 0)
		flow->hole_end[dir] = seq;
	return 1;
}

static __always_inline void pf_start_message(struct pf_flow *flow, int dir, __u32 seq, struct pf_cpu *cpu, struct pf_control *control)
{
	__u32 counted = flow->flags & PF_FLOW_LINES_ANY;

	cpu->after.prev = flow->message;
	cpu->after.start = 1;
	flow->turn++;
	flow->turn_dir = dir;
	flow->turn_seq[dir] = seq;
	flow->head_bytes = control->head_bytes;
	/* What user space wants of it may be on its way. */
	if (flow->flags & PF_FLOW_EAGER && flow->counters.bytes[dir] < PF_EVERYTHING_MOST && !cpu->before.crowded)
		flow->head_bytes = PF_EVERYTHING_MOST;
	flow->flags &= ~(PF_FLOW_WALKED | PF_FLOW_LINES_ANY);
	if (pf_walks(cpu->before.frames))
		flow->flags |= PF_FLOW_WALKED;
	else if (cpu->before.frames)
		/* Of the client: from its next message on. */
		flow->flags |= cpu->before.frames == PF_FRAMES_LINES(dir) ? PF_FLOW_LINES(dir) : counted & PF_FLOW_LINES(!dir);
	/* Everything, but not of a message that is longer than any that could be made of many. */
	if (cpu->before.overridden)
		flow->head_bytes = cpu->before.override < PF_EVERYTHING_MOST ? cpu->before.override : PF_EVERYTHING_MOST;
	__builtin_memset(&flow->message, 0, __builtin_offsetof(struct pf_message, skipped)); /* that is counted on */
	flow->message.first_ns = cpu->before.now;
	flow->message.turn = flow->turn;
	flow->message.dir = dir;
}

/* Keeps the last 8 bytes: `tail` as a little-endian number, so that older bytes move towards the low end. */
static __always_inline void pf_keep_tail(struct pf_message *message, __u64 bytes, __u32 payload, int contiguous)
{
	__u64 *kept = (__u64 *)message->tail;
	__u32 length = contiguous ? message->tail_len : 0;

	if (payload >= 8) {
		*kept = bytes;
		message->tail_len = 8;
		return;
	}
	*kept = (*kept >> (payload * 8)) | (bytes & (~0ULL << (64 - payload * 8)));
	length += payload;
	message->tail_len = length > 8 ? 8 : length;
}

/* Whether what ends at `end` lies before the direction's first byte: known while its numbers have not come around. */
static __always_inline int pf_is_older(struct pf_flow *flow, int dir, __u32 end)
{
	return flow->seq_known & PF_KNOWN_ISN(dir) && flow->counters.bytes[dir] < PF_FURTHEST && pf_ahead(end, flow->isn[dir] + 1) <= 0;
}

/* The next number of a direction of which no payload was seen. */
static __always_inline __u32 pf_first(struct pf_flow *flow, int dir, __u32 seq)
{
	__u32 first = flow->isn[dir] + 1;

	return flow->seq_known & PF_KNOWN_ISN(dir) && first - seq < PF_FURTHEST ? first : seq;
}

/* The first message behind an answer that was told without a flow. What it acknowledges was there before it. True when
 * messages are to be told. */
static __always_inline int pf_goes_on(struct pf_flow *flow, int dir, struct pf_packet *p)
{
	flow->flags &= ~PF_FLOW_TOLD;
	if (!(flow->seq_known & PF_KNOWN_SEQ(!dir)) && p->ack - 1 - flow->isn[!dir] < PF_FURTHEST)
		flow->isn[!dir] = p->ack - 1;
	return !(flow->flags & (PF_FLOW_NOT_COPIED | PF_FLOW_CLOSED));
}

/* Where a message begins that would begin at `next`: what the other side has, and was not seen to pass, passed before
 * there was a flow. It is no hole. */
static __always_inline __u32 pf_from_here(struct pf_flow *flow, int dir, __u32 seq, __u32 next)
{
	__u32 acked = flow->acked[dir];

	if (!(flow->ack_known & (1 << dir)) || acked - next - 1 >= PF_FURTHEST)
		return next;
	if (pf_ahead(seq, next) > 0 && flow->hole_start[dir] == next)
		flow->hole_start[dir] = pf_ahead(seq, acked) > 0 ? acked : seq;
	return acked;
}

/* Payload of one TCP segment; p->seq is the sequence number of its first byte. */
static __always_inline void pf_payload(struct pf_flow *flow, int dir, struct pf_cpu *cpu, struct pf_control *control, struct pf_walk *walk)
{
	struct pf_packet *p = &cpu->packet;
	struct pf_before *before = &cpu->before;
	struct pf_after *after = &cpu->after;
	const __u32 bit = 1 << dir, other = 1 << !dir;
	__u32 seq = p->seq, end = seq + p->payload;
	__u32 next = flow->seq_known & bit ? flow->next_seq[dir] : pf_first(flow, dir, seq);
	int messages = !(flow->flags & (PF_FLOW_NOT_COPIED | PF_FLOW_CLOSED | PF_FLOW_TOLD));
	int fills = 0, progress = 0;
	__u32 turn, skip, room;
	__s32 offset;

	if (!messages && flow->flags & PF_FLOW_TOLD && p->untold)
		messages = pf_goes_on(flow, dir, p);
	if (pf_ahead(seq, next) > PF_FURTHEST || pf_ahead(next, seq) > PF_FURTHEST) {
		/* No window is so wide. Gone on unseen, if the other side says so, too; else of another connection. */
		if (flow->ack_known & bit && seq - flow->acked[dir] + PF_FURTHEST > 2u * PF_FURTHEST)
			return;
		next = seq;
		flow->hole_start[dir] = flow->hole_end[dir] = 0;
	}
	if (pf_ahead(seq, next) < 0)
		fills = pf_fill(flow, dir, seq, end);
	if (pf_ahead(end, next) <= 0) {
		/* No repetition is a keep-alive probe: one byte that was acknowledged already, right before what comes
		 * next (RFC 9293 3.8.4). Nor is what was sent before the connection began (RFC 9293 3.4.2). */
		if (!fills && !(p->payload == 1 && end == next && (!(flow->ack_known & bit) || flow->acked[dir] == next)) &&
		    !pf_is_older(flow, dir, end))
			flow->counters.retransmits[dir]++;
	} else if (!(p->payload == 1 && seq == next && (flow->zero_window & other))) { /* not a zero-window probe (RFC 9293 3.8.6.1) */
		progress = 1;
	}
	if (progress) {
		if (pf_ahead(seq, next) > 0) {
			if (flow->hole_start[dir] == flow->hole_end[dir])
				flow->hole_start[dir] = next;
			flow->hole_end[dir] = seq;
		}
		if (messages) {
			if (!flow->turn || flow->turn_dir != dir) {
				if (flow->flags & PF_FLOW_MIDWAY) {
					next = pf_from_here(flow, dir, seq, next);
					if (pf_ahead(end, next) <= 0) {
						flow->seq_known |= bit;
						flow->next_seq[dir] = next;
						return;
					}
				}
				if (walk)
					pf_flush_tail(walk, cpu);
				pf_start_message(flow, dir, next, cpu, control);
			} else if (pf_walks(before->frames) && !(flow->flags & PF_FLOW_WALKED)) {
				/* What it speaks showed when this message had begun, and it may be the last one: it is copied
				 * within the budget, until user space says where a header is. */
				flow->flags |= PF_FLOW_WALKED;
				flow->head_bytes = PF_EVERYTHING_MOST;
			}
			/* The rest of it is left out, as of any message: what is refused might be another's head. */
			if (before->crowded && flow->head_bytes > control->head_bytes)
				flow->head_bytes = control->head_bytes;
			flow->message.bytes += end - next;
			if (before->tail_read)
				pf_keep_tail(&flow->message, before->tail, p->payload, pf_ahead(seq, next) <= 0);
			if (flow->flags & PF_FLOW_LINES_ANY)
				pf_lined(flow, dir, cpu, next);
		}
		flow->seq_known |= bit;
		flow->next_seq[dir] = end;
	}
	if (!messages || !flow->turn)
		return;
	turn = flow->turn;
	if (flow->turn_dir == dir) {
		if (progress || fills) {
			flow->message.packets++;
			flow->message.last_ns = before->now;
		}
	} else if (fills && turn > 1) {
		turn--; /* the late piece of the message that was answered already */
	} else {
		return;
	}
	offset = pf_ahead(seq, flow->turn_seq[dir]);
	skip = 0;
	room = flow->head_bytes;
	if (flow->turn_dir == dir && flow->message.bytes > PF_LONG_MESSAGE) {
		if (room != PF_BUDGET_EVERYTHING)
			room = 0;
	} else if (offset < 0) {
		skip = -offset;
	} else if (room != PF_BUDGET_EVERYTHING) {
		room = room > (__u32)offset ? room - offset : 0;
	}
	if (skip >= p->held)
		return;
	after->skip = skip;
	after->copy = p->held - skip < room ? p->held - skip : room;
	after->turn = turn;
	if (walk && flow->flags & PF_FLOW_WALKED) {
		if (!progress && !fills)
			after->copy = 0; /* what was left out is so again */
		else if (!pf_walked_packet(cpu) && progress)
			pf_walked(flow, dir, walk, cpu, next);
	}
}

/* What is left of the payload where a FIN was seen: nothing behind it is any (RFC 9293 3.10.7.4). A function of its
 * own: see pf_find_l3. Returns nothing of use. */
__noinline int pf_cut_at_fin(struct pf_flow *flow, int dir, struct pf_cpu *cpu)
{
	struct pf_packet *p;
	__u32 left;

	if (!flow || !cpu)
		return 0;
	dir &= 1;
	p = &cpu->packet;
	left = flow->fin_seq[dir] - p->seq;
	if (pf_ahead(p->seq + p->payload, flow->fin_seq[dir]) <= 0)
		return 0;
	p->payload = (__s32)left > 0 ? left : 0;
	if (p->held > p->payload)
		p->held = p->payload;
	cpu->before.tail_read = 0; /* that was what is cut off */
	cpu->before.walked = 0;
	return 0;
}

/* A packet that opens; true when its payload is the direction's first. A function of its own: see pf_find_l3. */
__noinline int pf_opens(struct pf_flow *flow, int dir, struct pf_cpu *cpu)
{
	struct pf_packet *p;
	int first;

	if (!flow || !cpu)
		return 0;
	dir &= 1;
	p = &cpu->packet;
	first = p->tcp_flags & PF_TCP_ACK ? pf_syn_ack(flow, dir, p, cpu->before.now) : pf_syn(flow, dir, p, cpu->before.now);
	p->seq++;
	return first;
}

/* A packet that has a FIN, or that one waits for. A function of its own: see pf_find_l3. Returns nothing of use. */
__noinline int pf_ends(struct pf_flow *flow, int dir, struct pf_cpu *cpu, struct pf_walk *walk)
{
	if (!flow || !cpu)
		return 0;
	if (cpu->packet.tcp_flags & PF_TCP_FIN)
		pf_fin(flow, dir & 1, cpu);
	pf_end(flow, cpu);
	if (walk && cpu->after.closed)
		pf_flush_tail(walk, cpu);
	return 0;
}

/* A function of its own: see pf_find_l3. So is what few packets need (a beginning, an end): the verifier does not go
 * through what all need once for each way through that, and what all need is close together. Returns nothing of use. */
__noinline int pf_tcp(struct pf_flow *flow, int dir, struct pf_cpu *cpu, struct pf_control *control, struct pf_walk *walk)
{
	struct pf_packet *p;
	__u8 tcp_flags;
	__u32 bit;
	__u64 now;

	if (!flow || !cpu || !control)
		return 0;
	dir &= 1;
	p = &cpu->packet;
	bit = 1 << dir;
	tcp_flags = p->tcp_flags;
	now = cpu->before.now;

	if (tcp_flags & (PF_TCP_SYN | PF_TCP_RST))
		pf_begin(flow, dir, cpu, control);
	if (walk && walk->flow_id != flow->flow_id)
		walk = 0; /* of a connection before */
	flow->last_ns = now;
	__sync_fetch_and_add(&flow->counters.packets[dir], 1);
	__sync_fetch_and_add(&flow->counters.bytes[dir], p->ip_bytes);
	/* A segment without ACK is dropped (RFC 9293 3.10.7.4), as is one that asks for both a beginning and an end. */
	if (!(tcp_flags & (PF_TCP_SYN | PF_TCP_RST | PF_TCP_ACK)) || (tcp_flags & PF_TCP_SYN && tcp_flags & PF_TCP_ENDS))
		return 0;
	if (tcp_flags & PF_TCP_RST) {
		pf_reset(flow, dir, cpu); /* its payload is a text for people (RFC 9293 3.10.7.4) */
		if (walk && flow->flags & PF_FLOW_CLOSED)
			pf_flush_tail(walk, cpu);
		return 0;
	}
	if (tcp_flags & PF_TCP_SYN) {
		if (!pf_opens(flow, dir, cpu))
			return 0;
	} else {
		if (pf_half_open(flow) && (flow->flags & PF_FLOW_CLOSED || !pf_complete(flow, dir, cpu)))
			return 0;
		if (!(flow->ack_known & (1 << !dir)) || pf_ahead(p->ack, flow->acked[!dir]) > 0) {
			flow->ack_known |= 1 << !dir;
			flow->acked[!dir] = p->ack;
		}
		if (p->payload && flow->flags & (PF_FIN(dir) | PF_FIN_EARLY(dir)))
			pf_cut_at_fin(flow, dir, cpu);
	}
	if (p->payload)
		pf_payload(flow, dir, cpu, control, walk);
	if (tcp_flags & PF_TCP_SYN)
		return 0;
	if (!(tcp_flags & PF_TCP_FIN)) {
		if (p->window) {
			flow->zero_window &= ~bit;
		} else {
			flow->zero_window |= bit;
			flow->counters.zero_windows[dir]++;
		}
	}
	if (tcp_flags & PF_TCP_FIN || flow->flags & PF_FIN_EARLY_ANY)
		pf_ends(flow, dir, cpu, walk);
	return 0;
}

static __always_inline int pf_is_dns(__u16 port)
{
	return port == 53 || port == 5353;
}

static __always_inline void pf_udp(struct pf_flow *flow, int dir, struct pf_cpu *cpu, struct pf_control *control)
{
	struct pf_packet *p = &cpu->packet;
	struct pf_before *before = &cpu->before;
	struct pf_after *after = &cpu->after;
	__u32 budget = control->head_bytes;

	flow->last_ns = before->now;
	__sync_fetch_and_add(&flow->counters.packets[dir], 1);
	__sync_fetch_and_add(&flow->counters.bytes[dir], p->ip_bytes);
	if (flow->flags & PF_FLOW_NOT_COPIED)
		return;
	if (before->overridden)
		budget = before->override;
	else if (!pf_is_dns(p->key.local_port) && !pf_is_dns(p->key.remote_port) && flow->counters.packets[dir] > control->udp_datagrams)
		return;
	if (budget > PF_CHUNK)
		budget = PF_CHUNK; /* one record for a datagram: it has no sequence numbers to put several together */
	after->copy = p->held < budget ? p->held : budget;
	if (after->copy)
		flow->turn++;
	after->turn = flow->turn;
}

#endif
