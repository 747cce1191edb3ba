/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* How a connection ends: when both FINs have acted, or with a RST that its receiver believes.
 *
 * A FIN acts at its sequence number (RFC 9293 3.4, 3.10.7.4): one that overtakes lost bytes waits
 * until these have come, or until the other side acknowledges the FIN, which tells that they came
 * and were not seen here. What lies behind it is no payload.
 *
 * A receiver believes a RST that has exactly the number that it expects next, and challenges any
 * other in its window (RFC 5961 3.2, RFC 9293 3.10.7.4); a sender that means it answers the
 * challenge with that number. Who observes both does not know what the receiver expects, only that
 * it is not below what it has acknowledged and not above what was sent: a RST in between closes,
 * one with the last acknowledged number does even where bytes were missed, and no other does. A
 * SYN is refused by a RST that acknowledges it (RFC 9293 3.10.7.3). */
#ifndef PILOTFISH_END_H
#define PILOTFISH_END_H

#include "handshake.h"
#include "lines.h"
#include "refused.h"

static __always_inline void pf_close(struct pf_flow *flow, struct pf_cpu *cpu)
{
	flow->flags |= PF_FLOW_CLOSED;
	/* Reported until proven otherwise: pf_handle takes it back when the ring is full. */
	flow->flags |= PF_FLOW_CLOSE_REPORTED;
	pf_note_close(flow, cpu);
	cpu->after.closed = 1;
}

static __always_inline int pf_believes_reset(struct pf_flow *flow, int dir, struct pf_packet *p)
{
	__u32 next = flow->next_seq[dir], acked = flow->acked[dir];

	if (!(flow->seq_known & PF_KNOWN_SEQ(dir))) {
		if (pf_half_open(flow))
			return p->tcp_flags & PF_TCP_ACK && pf_acks_syn(flow, !dir, p->ack);
		if (flow->flags & PF_FIN_EARLY(dir) && p->seq == flow->fin_seq[dir] + 1)
			return 1;
		return !(flow->ack_known & (1 << dir)) || p->seq == acked;
	}
	if (flow->flags & PF_FIN_EARLY(dir))
		next = flow->fin_seq[dir] + 1;
	if (p->seq == next)
		return 1;
	return flow->ack_known & (1 << dir) && (p->seq == acked || (pf_ahead(p->seq, acked) > 0 && pf_ahead(p->seq, next) < 0));
}

static __always_inline void pf_reset(struct pf_flow *flow, int dir, struct pf_cpu *cpu)
{
	if (flow->flags & PF_FLOW_CLOSED) {
		if (flow->flags & PF_FLOW_KEPT)
			pf_answer_over(cpu, dir);
		return;
	}
	if (!pf_believes_reset(flow, dir, &cpu->packet))
		return;
	flow->flags |= PF_FLOW_RST;
	pf_close(flow, cpu);
}

/* A packet with a FIN, whose payload has been looked at. */
static __always_inline void pf_fin(struct pf_flow *flow, int dir, struct pf_cpu *cpu)
{
	struct pf_packet *p = &cpu->packet;
	__u32 fin = p->seq + p->payload;

	if (flow->flags & (PF_FIN(dir) | PF_FIN_EARLY(dir) | PF_FLOW_KEPT)) {
		if (flow->flags & PF_FLOW_KEPT)
			pf_answer_over(cpu, dir);
		else if (!p->payload && fin == flow->fin_seq[dir])
			flow->counters.retransmits[dir]++;
		return;
	}
	if (flow->seq_known & PF_KNOWN_SEQ(dir)) {
		if (fin - flow->next_seq[dir] >= PF_FURTHEST)
			return;
	} else if (flow->ack_known & (1 << dir) && flow->acked[dir] == fin) {
		/* All that it follows was there before the first packet that was seen. Else some of it may come. */
		flow->seq_known |= PF_KNOWN_SEQ(dir);
		flow->next_seq[dir] = fin;
	}
	flow->fin_seq[dir] = fin;
	flow->flags |= PF_FIN_EARLY(dir);
}

/* Lets the direction's FIN act when its time has come. */
static __always_inline void pf_fin_acts(struct pf_flow *flow, int dir)
{
	__u32 fin = flow->fin_seq[dir], next = flow->seq_known & PF_KNOWN_SEQ(dir) ? flow->next_seq[dir] : fin + 1;
	int all;

	if (!(flow->flags & PF_FIN_EARLY(dir)))
		return;
	all = next == fin && flow->hole_start[dir] == flow->hole_end[dir];
	if (!all && !(flow->ack_known & (1 << dir) && pf_ahead(flow->acked[dir], fin) > 0))
		return;
	if (pf_ahead(fin, next) > 0) {
		if (flow->hole_start[dir] == flow->hole_end[dir])
			flow->hole_start[dir] = next;
		flow->hole_end[dir] = fin;
		if (flow->flags & PF_FLOW_LINES(dir))
			flow->message.skipped = pf_lines_break(flow->message.skipped);
		if (flow->turn && flow->turn_dir == dir)
			flow->message.bytes += fin - next;
	}
	flow->next_seq[dir] = fin + 1; /* a FIN takes one number */
	flow->seq_known |= PF_KNOWN_SEQ(dir);
	flow->flags = (flow->flags & ~PF_FIN_EARLY(dir)) | PF_FIN(dir);
}

static __always_inline void pf_end(struct pf_flow *flow, struct pf_cpu *cpu)
{
	const __u32 both = PF_FLOW_FIN_IN | PF_FLOW_FIN_OUT;

	if (!(flow->flags & PF_FIN_EARLY_ANY))
		return;
	pf_fin_acts(flow, 0);
	pf_fin_acts(flow, 1);
	if ((flow->flags & both) == both && !(flow->flags & PF_FLOW_CLOSED))
		pf_close(flow, cpu);
}

#endif
