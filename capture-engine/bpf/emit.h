/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Into the ring: one copy from the skb to per-CPU memory, one into the ring, and no wakeup unless the reader asked for it. */
#ifndef PILOTFISH_EMIT_H
#define PILOTFISH_EMIT_H

#include "maps.h"
#include "packet.h"

/* One GSO packet has 64 KiB of payload at most, but for BIG TCP, whose rest is marked as cut. */
#define PF_MAX_CHUNKS 8

static __always_inline __u64 pf_wakeup(struct pf_control *control)
{
	__u32 reader = *(volatile __u32 *)&control->reader;

	if (reader == PF_READER_AWAKE)
		return BPF_RB_NO_WAKEUP;
	if (reader == PF_READER_NAPPING && bpf_ringbuf_query(&pilotfish_events, BPF_RB_AVAIL_DATA) < control->wake_bytes)
		return BPF_RB_NO_WAKEUP;
	*(volatile __u32 *)&control->reader = PF_READER_AWAKE;
	return BPF_RB_FORCE_WAKEUP;
}

/* 0 when the record is in the ring. A reader that fell asleep between the look at its flag and the commit is woken by a record of its
 * own: the commit is a full barrier, so either it saw the record or we see its flag. */
static __always_inline long pf_output(struct pf_control *control, struct pf_cpu *cpu, void *record, __u64 size)
{
	if (bpf_ringbuf_output(&pilotfish_events, record, size, pf_wakeup(control))) {
		cpu->stats.count[PF_STAT_RING_FULL]++;
		return -1;
	}
	cpu->stats.count[PF_STAT_EVENTS]++;
	if (*(volatile __u32 *)&control->reader == PF_READER_ASLEEP) {
		__u32 wake[2] = { PF_EVENT_WAKE, 0 };

		*(volatile __u32 *)&control->reader = PF_READER_AWAKE;
		bpf_ringbuf_output(&pilotfish_events, wake, sizeof(wake), BPF_RB_FORCE_WAKEUP);
	}
	return 0;
}

/* after.copy bytes of the payload from after.skip on, with cpu->segment filled but for what differs from piece to piece. Returns the
 * number of records that found no room. */
static __always_inline __u32 pf_emit_segment(struct __sk_buff *skb, struct pf_cpu *cpu, struct pf_control *control)
{
	struct pf_segment *segment = &cpu->segment;
	struct pf_packet *p = &cpu->packet;
	__u32 skip = cpu->after.skip, copy = cpu->after.copy, lost = 0;

	for (int i = 0; i < PF_MAX_CHUNKS; i++) {
		__u64 size = copy < PF_CHUNK ? copy : PF_CHUNK;

		if (!copy)
			break;
		/* 1 to PF_CHUNK, in words that 6.1 understands: it learns no lower bound from a comparison with 0, and loses the upper
		 * one where the compiler moves between 32 and 64 bits. */
		asm volatile("" : "+r"(size));
		size = ((size - 1) & (PF_CHUNK - 1)) + 1;
		if (bpf_skb_load_bytes(skb, p->payload_at + skip, cpu->payload, size))
			break;
		copy -= size;
		segment->captured = size;
		segment->payload = p->payload - skip;
		if (p->key.proto == IPPROTO_TCP)
			segment->seq = p->seq + skip;
		skip += size;
		if ((!copy || i == PF_MAX_CHUNKS - 1) && skip < p->payload)
			segment->flags |= PF_SEG_CUT;
		if (pf_output(control, cpu, segment, sizeof(*segment) + size))
			lost++;
		else
			segment->flags &= ~PF_SEG_MESSAGE_START;
	}
	return lost;
}

#endif
