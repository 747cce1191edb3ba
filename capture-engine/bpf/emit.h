/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Into the ring, without a wakeup unless the reader asked for it. What fits into a record of a few
 * fixed sizes is copied once, from the skb into the ring; only larger pieces go through per-CPU
 * memory.
 *
 * A part of the ring is kept for the news of ends, which has the flow's totals: with it user space
 * knows what was refused of the flow. So it comes as long as the ring is read at all, however full
 * payload makes it, and behind all that was told of its flow, as ever.
 *
 * An end that finds no room even so is found in the flow table, unless its place is another
 * connection's by then: such an end goes aside. */
#ifndef PILOTFISH_EMIT_H
#define PILOTFISH_EMIT_H

#include "maps.h"
#include "packet.h"

/* One GSO packet has 64 KiB of payload at most, but for BIG TCP, whose rest is marked as cut. */
#define PF_MAX_CHUNKS 8

#define PF_RECORD_HEAD 8 /* BPF_RINGBUF_HDR_SZ: what the kernel puts before each record */

/* Bytes in the ring that were not read yet. */
static __always_inline __u64 pf_unread(void)
{
	return bpf_ringbuf_query(&pilotfish_events, BPF_RB_AVAIL_DATA);
}

/* Whether a record of payload of so many bytes leaves the ends' part of the ring alone. */
static __always_inline int pf_may_fill(struct pf_control *control, __u64 unread, __u64 size)
{
	return unread + size + PF_RECORD_HEAD <= control->data_bytes;
}

/* Whether what is copied only because it may be wanted has had its part of the ring. */
static __always_inline int pf_is_crowded(struct pf_control *control)
{
	return pf_unread() > control->data_bytes / 2;
}

static __always_inline __u64 pf_wakeup(struct pf_control *control, __u64 unread)
{
	__u32 reader = *(volatile __u32 *)&control->reader;

	if (reader == PF_READER_AWAKE)
		return BPF_RB_NO_WAKEUP;
	if (reader == PF_READER_NAPPING && unread < control->wake_bytes)
		return BPF_RB_NO_WAKEUP;
	*(volatile __u32 *)&control->reader = PF_READER_AWAKE;
	return BPF_RB_FORCE_WAKEUP;
}

/* A reader that fell asleep between the look at its flag and the commit is woken by a record of its
 * own: the commit is a full barrier, so either it saw the record or we see its flag. */
static __always_inline void pf_committed(struct pf_control *control, struct pf_cpu *cpu)
{
	cpu->stats.count[PF_STAT_EVENTS]++;
	if (*(volatile __u32 *)&control->reader == PF_READER_ASLEEP) {
		__u32 wake[2] = { PF_EVENT_WAKE, 0 };

		*(volatile __u32 *)&control->reader = PF_READER_AWAKE;
		bpf_ringbuf_output(&pilotfish_events, wake, sizeof(wake), BPF_RB_FORCE_WAKEUP);
	}
}

/* 0 when the record is in the ring; `end`: it may fill all of it. */
static __always_inline long pf_output(struct pf_control *control, struct pf_cpu *cpu, void *record, __u64 size, const int end)
{
	__u64 unread = pf_unread();

	if ((!end && !pf_may_fill(control, unread, size)) ||
	    bpf_ringbuf_output(&pilotfish_events, record, size, pf_wakeup(control, unread))) {
		cpu->stats.count[PF_STAT_RING_FULL]++;
		return -1;
	}
	pf_committed(control, cpu);
	return 0;
}

/* All of the segment but `captured`, `seq`, `payload`, and `prev` where it means nothing: that
 * keeps whatever was in the ring. */
static __always_inline void pf_fill_segment(struct pf_segment *segment, struct pf_cpu *cpu)
{
	struct pf_packet *p = &cpu->packet;

	segment->kind = p->key.proto == IPPROTO_TCP ? PF_EVENT_SEGMENT : PF_EVENT_DATAGRAM;
	segment->key = p->key;
	segment->dir = cpu->after.dir;
	segment->flags = cpu->after.seg;
	segment->tcp_flags = p->tcp_flags;
	segment->pad = 0;
	segment->flow_id = cpu->after.flow_id;
	segment->at_ns = cpu->before.now;
	segment->seq = 0;
	segment->turn = cpu->after.turn;
	segment->flow_flags = cpu->after.flow_flags;
	if (cpu->after.start) {
		segment->flags |= PF_SEG_MESSAGE_START;
		segment->prev = cpu->after.prev;
	}
	segment->prev.skipped = cpu->after.skipped;
}

/* One record with room for `room` bytes of payload, a constant, of which `captured` says how many count. */
static __always_inline __u32 pf_emit_at_once(struct __sk_buff *skb, struct pf_cpu *cpu, struct pf_control *control, const __u64 room)
{
	struct pf_packet *p = &cpu->packet;
	__u64 size = cpu->after.copy, unread = pf_unread();
	struct pf_segment *segment = 0;

	if (pf_may_fill(control, unread, sizeof(*segment) + room))
		segment = bpf_ringbuf_reserve(&pilotfish_events, sizeof(*segment) + room, 0);
	if (!segment) {
		cpu->stats.count[PF_STAT_RING_FULL]++;
		return 1;
	}
	/* 1 to `room`, in words that 6.1 understands, which learns no lower bound from a comparison with 0. */
	size--;
	asm volatile("" : "+r"(size));
	if (size > room - 1)
		size = room - 1;
	asm volatile("" : "+r"(size));
	size++;
	if (bpf_skb_load_bytes(skb, p->payload_at + cpu->after.skip, segment + 1, size)) {
		bpf_ringbuf_discard(segment, BPF_RB_NO_WAKEUP);
		return 0;
	}
	pf_fill_segment(segment, cpu);
	segment->captured = size;
	segment->payload = p->payload - cpu->after.skip;
	if (p->key.proto == IPPROTO_TCP)
		segment->seq = p->seq + cpu->after.skip;
	if (cpu->after.skip + size < p->payload)
		segment->flags |= PF_SEG_CUT;
	bpf_ringbuf_submit(segment, pf_wakeup(control, unread));
	pf_committed(control, cpu);
	return 0;
}

struct pf_pieces {
	struct __sk_buff *skb;
	struct pf_cpu *cpu;
	struct pf_control *control;
	__u32 skip;
	__u32 copy;
	__u32 lost;
};

/* One piece; 1 ends the loop. */
static long pf_emit_piece(__u32 index, void *context)
{
	struct pf_pieces *rest = context;
	struct pf_cpu *cpu = rest->cpu;
	struct pf_segment *segment = &cpu->segment;
	struct pf_packet *p = &cpu->packet;
	__u64 size = rest->copy < PF_CHUNK ? rest->copy : PF_CHUNK;

	if (!rest->copy)
		return 1;
	/* 1 to PF_CHUNK, in words that 6.1 understands: it learns no lower bound from a comparison with 0, and loses the upper
	 * one where the compiler moves between 32 and 64 bits. */
	asm volatile("" : "+r"(size));
	size = ((size - 1) & (PF_CHUNK - 1)) + 1;
	if (bpf_skb_load_bytes(rest->skb, p->payload_at + rest->skip, cpu->payload, size))
		return 1;
	rest->copy -= size;
	segment->captured = size;
	segment->payload = p->payload - rest->skip;
	if (p->key.proto == IPPROTO_TCP)
		segment->seq = p->seq + rest->skip;
	rest->skip += size;
	if ((!rest->copy || index == PF_MAX_CHUNKS - 1) && rest->skip < p->payload)
		segment->flags |= PF_SEG_CUT;
	if (pf_output(rest->control, cpu, segment, sizeof(*segment) + size, 0))
		rest->lost++;
	else
		segment->flags &= ~PF_SEG_MESSAGE_START;
	segment->flags &= ~PF_SEG_LINES;
	segment->prev.skipped = 0;
	return 0;
}

/* Any length, in pieces. Returns the number of records that found no room. */
static __always_inline __u32 pf_emit_pieces(struct __sk_buff *skb, struct pf_cpu *cpu, struct pf_control *control)
{
	struct pf_pieces rest = { skb, cpu, control, cpu->after.skip, cpu->after.copy, 0 };

	pf_fill_segment(&cpu->segment, cpu);
	bpf_loop(PF_MAX_CHUNKS, pf_emit_piece, &rest, 0);
	return rest.lost;
}

/* after.copy bytes of the payload from after.skip on. Returns the number of records that found no
 * room. The sizes: a request or a short answer; an answer; a full packet of an Ethernet; a head of
 * the default length. */
static __always_inline __u32 pf_emit_segment(struct __sk_buff *skb, struct pf_cpu *cpu, struct pf_control *control)
{
	__u32 copy = cpu->after.copy;

	if (copy <= 256)
		return pf_emit_at_once(skb, cpu, control, 256);
	if (copy <= 1024)
		return pf_emit_at_once(skb, cpu, control, 1024);
	if (copy <= 1536)
		return pf_emit_at_once(skb, cpu, control, 1536);
	if (copy <= 4096)
		return pf_emit_at_once(skb, cpu, control, 4096);
	return pf_emit_pieces(skb, cpu, control);
}

/* cpu->closed; 0 when it is in the ring. */
static __always_inline long pf_emit_closed(struct pf_cpu *cpu, struct pf_control *control)
{
	cpu->closed.kind = PF_EVENT_CLOSED;
	cpu->closed.key = cpu->packet.key;
	return pf_output(control, cpu, &cpu->closed, sizeof(cpu->closed), 1);
}

/* cpu->closed, which the ring refused and nothing else tells of; 0 when there was room aside. 6.1 takes a queue's value
 * from a map or the stack, which has no room for it here, and not from memory that a function was given: so the area is
 * looked up anew. A function of its own, so that it is verified once. */
__noinline int pf_put_aside(struct pf_cpu *cpu, struct pf_control *control)
{
	long refused = -1;

	if (!cpu || !control)
		return -1;
	for (__u32 i = 0; i < PF_AREAS; i++) {
		__u32 place = i;
		struct pf_cpu *area = bpf_map_lookup_elem(&pilotfish_stats, &place);

		if (area && area == cpu)
			refused = bpf_map_push_elem(&pilotfish_aside, &area->closed, 0);
	}
	if (refused) {
		cpu->stats.count[PF_STAT_REPLACED_FULL]++;
		return -1;
	}
	cpu->stats.count[PF_STAT_ASIDE]++;
	__sync_fetch_and_add(&control->aside, 1);
	return 0;
}

struct pf_ranges {
	struct __sk_buff *skb;
	struct pf_cpu *cpu;
	struct pf_control *control;
	__u32 range;
	__u32 done; /* bytes of it */
	__u32 lost;
};

/* One range of a walked packet, or a part of a long one; 1 ends the loop. */
static long pf_emit_range(__u32 index, void *context)
{
	struct pf_ranges *rest = context;
	struct pf_cpu *cpu = rest->cpu;
	struct pf_walking *walking = &cpu->walking;
	struct pf_segment *segment = &cpu->segment;
	struct pf_packet *p = &cpu->packet;
	struct pf_range *range = &walking->ranges[rest->range & (PF_RANGES - 1)];
	__u32 at = range->at + rest->done, left = range->length - rest->done, next = p->payload;
	__u64 size = left < PF_CHUNK ? left : PF_CHUNK;

	(void)index;
	if (rest->range >= cpu->after.ranges)
		return 1;
	segment->captured = size;
	if (size) {
		asm volatile("" : "+r"(size));
		size = ((size - 1) & (PF_CHUNK - 1)) + 1;
		if (bpf_skb_load_bytes(rest->skb, p->payload_at + at, cpu->payload, size))
			return 1;
	}
	if (size < left) {
		rest->done += size;
		next = at + size;
	} else {
		rest->done = 0;
		rest->range++;
		if (rest->range < cpu->after.ranges)
			next = walking->ranges[rest->range & (PF_RANGES - 1)].at;
		else if (cpu->after.open)
			next = at + size;
	}
	segment->seq = p->seq + at;
	segment->payload = next - at;
	segment->flags &= ~PF_SEG_CUT;
	if (size < segment->payload)
		segment->flags |= PF_SEG_CUT;
	size &= 2 * PF_CHUNK - 1;
	if (size > PF_CHUNK)
		size = PF_CHUNK;
	if (pf_output(rest->control, cpu, segment, sizeof(*segment) + size, 0))
		rest->lost++;
	else
		segment->flags &= ~PF_SEG_MESSAGE_START;
	segment->prev.skipped = 0;
	return 0;
}

/* The ranges that the walker found; the number of records that found no room. */
static __always_inline __u32 pf_emit_ranges(struct __sk_buff *skb, struct pf_cpu *cpu, struct pf_control *control)
{
	struct pf_ranges rest = { skb, cpu, control, 0, 0, 0 };

	pf_fill_segment(&cpu->segment, cpu);
	bpf_loop(PF_RANGES + PF_MAX_CHUNKS, pf_emit_range, &rest, 0);
	return rest.lost;
}

/* The last bytes of a message of rows, which are in `cpu->payload`. */
static __always_inline __u32 pf_emit_tail(struct pf_cpu *cpu, struct pf_control *control)
{
	struct pf_segment *segment = &cpu->segment;
	struct pf_after *after = &cpu->after;
	__u8 start = after->start;

	after->start = 0;
	pf_fill_segment(segment, cpu);
	after->start = start;
	segment->flags = PF_SEG_WALKED | PF_SEG_TAIL;
	segment->dir = after->tail_dir;
	segment->turn = after->tail_turn;
	segment->at_ns = after->tail_ns;
	segment->seq = after->tail_seq;
	segment->captured = segment->payload = PF_TAIL;
	segment->prev.skipped = after->tail_skipped;
	return pf_output(control, cpu, segment, sizeof(*segment) + PF_TAIL, 0) ? 1 : 0;
}

#endif
