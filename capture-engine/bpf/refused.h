/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Who gets a flow where there is little room, and what it costs those that get none.
 *
 * A namespace may have PF_SHARE_TIMES the flows that are left free: three quarters of an empty
 * table, and then the next one three quarters of what is left. So no one fills it.
 *
 * What a packet without a flow says is not followed. But an answer that begins with it shows that
 * an exchange took place, so these are counted: final responses of HTTP/1 (RFC 9112 4) and of DNS
 * (RFC 1035 4.1.1), each once, as far as can be known. An answer is told from its repetition by the
 * newest number of its connection, for which there are PF_ANSWERS places; where those that it may
 * have are in use by other connections, it counts as no exchange, but as an answer that found no
 * place. Requests are not counted: where there is room again before the answer, that is followed
 * and counted. So it is at least so many, seldom all.
 *
 * Where there is room again, what is sent again of such an exchange begins no flow, and what follows
 * of its answer no message: both ends' numbers in the place say what is new.
 *
 * A place is in use for a time in which repetitions come. It is also free for another once who
 * asked has the answer and ends the connection: else short connections, each of which has one
 * answer, would take all places in less than that time. */
#ifndef PILOTFISH_REFUSED_H
#define PILOTFISH_REFUSED_H

#include "handshake.h"
#include "maps.h"
#include "packet.h"

#define PF_ANSWER_WAYS 4 /* places that a connection may have: half of all in use, 37 of 1,000 answers find none, a quarter, 4 */
#define PF_ANSWER_AGAIN (1 << 20) /* sent again is what lies before the newest number by less */
#define PF_ANSWER_NEAR (1 << 16) /* of a connection that is over, both numbers are no farther from the newest ones */
#define PF_ANSWER_HELD_NS 1000000000ULL /* a place is its connection's for so long after an answer: the first repetitions (RFC 6298) */

/* The place of a namespace among PF_OPENING counts; numbers of the node begin at 1 << 31. */
static __always_inline __u64 pf_place(__u32 slot)
{
	__u64 place = slot ^ slot >> 23;

	/* In one register of 64 bits: 6.1 learns no bound from an exclusive or. */
	asm volatile("" : "+r"(place));
	return place & (PF_OPENING - 1);
}

static __always_inline void pf_count_flow(struct pf_control *control, __u32 slot)
{
	__sync_fetch_and_add(&control->flows[pf_place(slot)], 1);
	__sync_fetch_and_add(&control->flows_all, 1);
}

/* Whether a new flow would be beyond its namespace's share. */
static __always_inline int pf_share_full(struct pf_control *control, __u32 slot)
{
	__s64 left = (__s64)control->flows_room - *(volatile __s32 *)&control->flows_all;
	__s64 mine = *(volatile __s32 *)&control->flows[pf_place(slot)];

	return mine >= PF_SHARE_LEAST && mine >= PF_SHARE_TIMES * left;
}

static __always_inline __u64 pf_hash(struct pf_key *key)
{
	const __u32 *word = (const __u32 *)key;
	__u64 hash = 0xcbf29ce484222325ULL;

#pragma unroll
	for (int i = 0; i < (int)(sizeof(*key) / sizeof(*word)); i++)
		hash = (hash ^ word[i]) * 0x9e3779b97f4a7c15ULL;
	return hash ^ hash >> 32;
}

/* Whether the payload's first 12 bytes are those of an answer that ends an exchange; `number` tells
 * it from others. */
static __always_inline int pf_is_answer(const __u8 *head, struct pf_packet *p, int dir, __u32 *number)
{
	if (p->key.proto == IPPROTO_UDP) {
		*number = head[0] << 8 | head[1];
		/* QR is set, OPCODE is QUERY, and there is one question. */
		return (dir == PF_EGRESS ? p->key.local_port : p->key.remote_port) == 53 && (head[2] & 0xf8) == 0x80 && !head[4] &&
		       head[5] == 1;
	}
	*number = p->seq;
	return head[0] == 'H' && head[1] == 'T' && head[2] == 'T' && head[3] == 'P' && head[4] == '/' && head[5] == '1' &&
	       head[6] == '.' && (head[7] == '0' || head[7] == '1') && head[8] == ' ' && head[9] >= '2' && head[9] <= '5';
}

/* The place of a connection's newest answer: its own, else one that nobody holds, else that of a
 * connection that is over; 0: there is none. */
static __always_inline struct pf_answer *pf_answer_place(__u64 hash, __u64 now)
{
	struct pf_answer *answer, *free = 0, *over = 0;

#pragma unroll
	for (__u32 way = 0; way < PF_ANSWER_WAYS; way++) {
		__u32 place = (hash ^ way) & (PF_ANSWERS - 1);

		answer = bpf_map_lookup_elem(&pilotfish_answers, &place);
		if (!answer)
			return 0;
		if (answer->flow == hash)
			return answer;
		if (!free && (!answer->flow || now - answer->at_ns >= PF_ANSWER_HELD_NS))
			free = answer;
		else if (answer->over)
			over = answer;
	}
	return free ? free : over;
}

/* The place that a connection has; 0: none. */
static __always_inline struct pf_answer *pf_answer_of(__u64 hash)
{
	struct pf_answer *answer;

#pragma unroll
	for (__u32 way = 0; way < PF_ANSWER_WAYS; way++) {
		__u32 place = (hash ^ way) & (PF_ANSWERS - 1);

		answer = bpf_map_lookup_elem(&pilotfish_answers, &place);
		if (!answer)
			return 0;
		if (answer->flow == hash)
			return answer;
	}
	return 0;
}

/* Whether `number` lies before `end`, or there, by no more than what may be sent again. */
static __always_inline int pf_is_again(__u32 number, __u32 end)
{
	return end - number < PF_ANSWER_AGAIN;
}

static __always_inline int pf_is_near(__u32 number, __u32 newest)
{
	return number - newest + PF_ANSWER_NEAR < 2 * PF_ANSWER_NEAR;
}

/* A packet with payload would begin a flow, cpu->fresh, amid its connection: true when all of it was sent again of what
 * was told without one. Else what comes before it is none of the flow: what it acknowledges, and what was told. A
 * function of its own, so that it is verified once. */
__noinline int pf_told(struct __sk_buff *skb, struct pf_cpu *cpu, struct pf_control *control, int dir)
{
	struct pf_answer *answer;
	struct pf_flow *fresh;
	struct pf_packet *p;
	__u32 number, other, end;
	__u8 head[12];
	int answers;

	if (!cpu || !control)
		return 0;
	dir &= 1;
	p = &cpu->packet;
	fresh = &cpu->fresh;
	if (p->key.proto == IPPROTO_TCP) {
		fresh->seq_known = PF_KNOWN_ISN(!dir);
		fresh->isn[!dir] = p->ack - 1;
	}
	if (!(control->answers[0] + control->answers[1]))
		return 0;
	answer = pf_answer_of(pf_hash(&p->key));
	if (!answer)
		return 0;
	answers = dir == (answer->dir & 1);
	if (p->key.proto == IPPROTO_UDP)
		/* An answer, or the query that it was to. */
		return p->held >= sizeof(head) && !bpf_skb_load_bytes(skb, p->payload_at, head, sizeof(head)) &&
		       ((__u32)head[0] << 8 | head[1]) == answer->number;
	end = p->seq + p->payload;
	number = answers ? answer->end : answer->asked;
	other = answers ? answer->asked : answer->end;
	/* Of a connection that is over; or of one that came after it, which may begin with any numbers. */
	if (answer->over && !(pf_is_near(p->seq, number) && pf_is_near(p->ack, other)))
		return 0;
	if (pf_is_again(end, number))
		return 1;
	if (pf_ahead(p->seq, number) >= 0 || pf_is_again(p->seq, number)) {
		fresh->seq_known |= PF_KNOWN_ISN(dir);
		fresh->isn[dir] = number - 1;
		if (answers) {
			fresh->flags |= PF_FLOW_TOLD;
			fresh->turn_dir = dir;
		}
	}
	if (pf_is_again(p->ack, other))
		fresh->isn[!dir] = other - 1;
	return 0;
}

/* A packet without payload of a connection without a flow, with a FIN or a RST: who asked has the
 * answer and ends the connection, or who answered gives it up (RFC 9293 3.6, 3.5.2). What is sent
 * again after that is rare, and found in its place while no other needs it. A function of its own,
 * so that it is verified once. Returns nothing of use. */
__noinline int pf_answer_over(struct pf_cpu *cpu, int dir)
{
	struct pf_answer *answer;
	struct pf_packet *p;

	if (!cpu)
		return 0;
	dir &= 1;
	p = &cpu->packet;
	answer = pf_answer_of(pf_hash(&p->key));
	if (!answer)
		return 0;
	if (dir == answer->dir)
		answer->over |= p->tcp_flags & PF_TCP_RST && pf_ahead(p->seq, answer->number) > 0;
	else
		answer->over |= p->tcp_flags & PF_TCP_ACK && pf_ahead(p->ack, answer->number) > 0;
	return 0;
}

/* A packet with payload got no flow for want of room. A function of its own, so that it is verified
 * once. Returns nothing of use. */
__noinline int pf_refused(struct __sk_buff *skb, struct pf_cpu *cpu, struct pf_control *control, int dir)
{
	struct pf_answer *answer;
	struct pf_ports *ports;
	struct pf_packet *p;
	__u32 zero = 0, number;
	__u8 head[12], marks;
	__u64 hash;

	if (!cpu || !control)
		return 0;
	dir &= 1;
	p = &cpu->packet;
	ports = bpf_map_lookup_elem(&pilotfish_ports, &zero);
	if (!ports || p->held < sizeof(head))
		return 0;
	marks = ports->marks[p->key.local_port] | ports->marks[p->key.remote_port];
	if ((marks & (PF_PORT_EXCLUDED | PF_PORT_INCLUDED)) != PF_PORT_INCLUDED)
		return 0;
	if (bpf_skb_load_bytes(skb, p->payload_at, head, sizeof(head)) || !pf_is_answer(head, p, dir, &number))
		return 0;
	hash = pf_hash(&p->key);
	answer = pf_answer_place(hash, cpu->before.now);
	if (!answer) {
		cpu->stats.count[PF_STAT_ANSWERS_FULL]++;
		return 0;
	}
	if (answer->flow != hash) {
		answer->flow = hash;
	} else if (p->key.proto == IPPROTO_UDP || answer->over) {
		/* Any other number is another answer; of a connection that is over, that of one that came after it. */
		if (answer->number == number)
			return 0;
	} else if (pf_is_again(number, answer->number)) {
		return 0;
	}
	answer->number = number;
	answer->end = p->seq + p->payload;
	answer->asked = p->ack;
	answer->dir = dir;
	answer->over = 0;
	answer->at_ns = cpu->before.now;
	__sync_fetch_and_add(&control->answers[dir], 1);
	return 0;
}

#endif
