/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* How often a client of HTTP/1 has asked, where user space wants to know: of clients that keep several requests under
 * way, so that it is known how many there were in what the ring refused (decision 0072).
 *
 * Counted are ends of request lines, " HTTP/1.", a digit, CR and LF (RFC 9112 3), in the bytes of the client's
 * direction that are new. A space only begins such an end, so what of one has come is told by a number: of the bytes
 * that have matched. With the count and the number of the run it is one word (PF_LINES_*).
 *
 * As a walk it is done before the flow's lock, since bytes can be had only there, and counts if under the lock the
 * direction still stands where it began. Where bytes were jumped over, another CPU came in between, or a message is too
 * long, the run ends: from its last word on the count is a lower bound. */
#ifndef PILOTFISH_LINES_H
#define PILOTFISH_LINES_H

#include "handshake.h"
#include "maps.h"
#include "packet.h"

/* Of the payload, so much is looked at in one piece, behind the bytes before it. */
#define PF_LINES_BEFORE 16
#define PF_LINES_PIECE 4080
#define PF_LINES_PIECES 17 /* 68 KiB: a GSO packet, but for BIG TCP */
#define PF_LINES_BLOCK 32 /* bytes of one turn */

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define PF_LINES_TOKEN 0x2e312f5054544820ULL /* " HTTP/1." */
#define PF_LINES_SPACE(place) (0x20ULL << (place) * 8)
#define PF_LINES_FIRST(word, count) ((word) << (8 - (count)) * 8) /* the first bytes become the last */
#define PF_LINES_LAST(word, count) ((word) >> (8 - (count)) * 8) /* and the other way around */
#define PF_LINES_H(place) (0x48ULL << (place) * 8)
#define PF_LINES_9 0x312e312f50545448ULL /* "HTTP/1.1" */
#define PF_LINES_10 0x0d312e312f505454ULL /* "TTP/1.1\r" */
#else
#define PF_LINES_TOKEN 0x20485454502f312eULL
#define PF_LINES_SPACE(place) (0x20ULL << (7 - (place)) * 8)
#define PF_LINES_FIRST(word, count) ((word) >> (8 - (count)) * 8)
#define PF_LINES_LAST(word, count) ((word) << (8 - (count)) * 8)
#define PF_LINES_H(place) (0x48ULL << (7 - (place)) * 8)
#define PF_LINES_9 0x485454502f312e31ULL
#define PF_LINES_10 0x5454502f312e310dULL
#endif

static __always_inline __u64 *pf_lines_at(struct pf_cpu *cpu, __u64 at)
{
	asm volatile("" : "+r"(at));
	return (__u64 *)(cpu->payload + (at & (PF_CHUNK / 2 - 1)));
}

/* A line feed lies at `at` of what is looked at. A function of its own, so that it is verified once. Returns nothing of
 * use. */
__noinline int pf_line_feed(struct pf_cpu *cpu, __u32 at)
{
	__u8 *digit;

	if (!cpu)
		return 0;
	if (at >= cpu->lines.end || at < PF_LINES_BEFORE || *pf_lines_at(cpu, at - 10) != PF_LINES_TOKEN)
		return 0;
	digit = (__u8 *)pf_lines_at(cpu, at - 2);
	if (digit[0] >= '0' && digit[0] <= '9' && digit[1] == '\r')
		cpu->lines.count++;
	return 0;
}

static __always_inline int pf_has_feed(__u64 word)
{
	__u64 other = word ^ 0x0a0a0a0a0a0a0a0aULL;

	return ((other - 0x0101010101010101ULL) & ~other & 0x8080808080808080ULL) != 0;
}

struct pf_lining {
	struct __sk_buff *skb;
	struct pf_cpu *cpu;
};

/* Some bytes of a piece; 1 ends the loop. */
static long pf_lines_block(__u32 index, void *context)
{
	struct pf_lining *lining = context;
	struct pf_cpu *cpu = lining->cpu;
	__u32 at = PF_LINES_BEFORE + index * PF_LINES_BLOCK;

	if (at >= cpu->lines.end)
		return 1;
#pragma unroll
	for (__u32 word = 0; word < PF_LINES_BLOCK; word += 8) {
		if (!pf_has_feed(*pf_lines_at(cpu, at + word)))
			continue;
#pragma unroll
		for (__u32 byte = word; byte < word + 8; byte++) {
			if (*(__u8 *)pf_lines_at(cpu, at + byte) == '\n')
				pf_line_feed(cpu, at + byte);
		}
	}
	return 0;
}

/* A piece of the payload; 1 ends the loop. */
static long pf_lines_piece(__u32 index, void *context)
{
	struct pf_lining *lining = context;
	struct pf_cpu *cpu = lining->cpu;
	struct pf_packet *p = &cpu->packet;
	__u32 at = cpu->lines.at;
	__u64 size = p->payload - at;

	(void)index;
	if (at >= p->payload)
		return 1;
	/* 1 to PF_LINES_PIECE, in words that 6.1 understands. */
	size--;
	asm volatile("" : "+r"(size));
	if (size > PF_LINES_PIECE - 1)
		size = PF_LINES_PIECE - 1;
	asm volatile("" : "+r"(size));
	size++;
	if (bpf_skb_load_bytes(lining->skb, p->payload_at + at, cpu->payload + PF_LINES_BEFORE, size))
		return 1;
	cpu->lines.at = at + size;
	cpu->lines.end = PF_LINES_BEFORE + size;
	bpf_loop(PF_LINES_PIECE / PF_LINES_BLOCK + 1, pf_lines_block, lining, 0);
	/* What comes next is behind the last bytes of this. */
	((__u64 *)cpu->payload)[0] = *pf_lines_at(cpu, size);
	((__u64 *)cpu->payload)[1] = *pf_lines_at(cpu, size + 8);
	return 0;
}

/* The last bytes before what is looked at are those of an end of which so many have matched. */
static __always_inline void pf_lines_before(struct pf_cpu *cpu, __u32 matched)
{
	__u64 *before = (__u64 *)cpu->payload;

	before[0] = before[1] = 0;
	if (matched >= 1 && matched <= 8) {
		before[1] = PF_LINES_FIRST(PF_LINES_TOKEN, matched);
	} else if (matched == 9) {
		before[0] = PF_LINES_SPACE(7);
		before[1] = PF_LINES_9;
	} else if (matched == 10) {
		before[0] = PF_LINES_SPACE(6) | PF_LINES_H(7);
		before[1] = PF_LINES_10;
	}
}

/* How many of the last bytes have matched. */
static __always_inline __u32 pf_lines_matched(struct pf_cpu *cpu)
{
	__u64 last = ((__u64 *)cpu->payload)[1];
	const __u8 *bytes = cpu->payload;
	__u32 matched = 0;

	if (bytes[15] == '\n')
		return 0; /* as nearly always */
#pragma unroll
	for (__u32 count = 1; count <= 8; count++) {
		if (PF_LINES_LAST(last, count) == PF_LINES_LAST(PF_LINES_FIRST(PF_LINES_TOKEN, count), count))
			matched = count;
	}
	if (*pf_lines_at(cpu, 7) == PF_LINES_TOKEN && bytes[15] >= '0' && bytes[15] <= '9')
		matched = 9;
	if (*pf_lines_at(cpu, 6) == PF_LINES_TOKEN && bytes[14] >= '0' && bytes[14] <= '9' && bytes[15] == '\r')
		matched = 10;
	return matched;
}

/* The run is over; the next one begins with a message of the client. */
static __always_inline __u32 pf_lines_break(__u32 word)
{
	if ((word & PF_LINES_MATCHED) == PF_LINES_BROKEN)
		return word;
	return (word & PF_LINES_COUNT) | ((word + PF_LINES_RUN_ONE) & PF_LINES_RUN) | PF_LINES_BROKEN;
}

/* Before the lock. A function of its own, so that it is verified once. Returns nothing of use. */
__noinline int pf_lines(struct __sk_buff *skb, struct pf_flow *flow, struct pf_cpu *cpu, int dir)
{
	struct pf_lining lining = { skb, cpu };
	struct pf_lines *lines;
	struct pf_packet *p;
	__u32 word, new;
	int starts;

	if (!flow || !cpu)
		return 0;
	dir &= 1;
	p = &cpu->packet;
	lines = &cpu->lines;
	lines->known = 0;
	starts = !flow->turn || flow->turn_dir != dir;
	if (!p->payload || !(starts ? cpu->before.frames == PF_FRAMES_LINES(dir) : flow->flags & PF_FLOW_LINES(dir)))
		return 0;
	word = flow->message.skipped;
	lines->was = word;
	lines->next = flow->seq_known & PF_KNOWN_SEQ(dir) ? flow->next_seq[dir] : p->seq;
	new = lines->next - p->seq;
	if (new >= p->payload || p->held != p->payload || p->payload - new > PF_LINES_PIECE * PF_LINES_PIECES)
		return 0;
	if ((word & PF_LINES_MATCHED) == PF_LINES_BROKEN || !(flow->flags & PF_FLOW_LINES(dir))) {
		if (!starts)
			return 0;
		word = (word & PF_LINES_COUNT) | ((word + PF_LINES_RUN_ONE) & PF_LINES_RUN);
	} else if (!starts && flow->message.bytes > PF_EVERYTHING_MOST) {
		return 0;
	}
	lines->from = word;
	lines->at = new;
	lines->count = 0;
	pf_lines_before(cpu, word & PF_LINES_MATCHED);
	bpf_loop(PF_LINES_PIECES, pf_lines_piece, &lining, 0);
	if (lines->at < p->payload)
		return 0;
	lines->is = ((word & ~PF_LINES_MATCHED) + lines->count * PF_LINES_ONE) | pf_lines_matched(cpu);
	lines->known = 1;
	return 0;
}

/* Under the lock: the packet, which brings something new, goes on from `next`. A function of its own: see pf_find_l3.
 * Returns nothing of use. */
__noinline int pf_lined(struct pf_flow *flow, int dir, struct pf_cpu *cpu, __u32 next)
{
	struct pf_lines *lines;
	struct pf_after *after;
	__u32 word;

	if (!flow || !cpu)
		return 0;
	lines = &cpu->lines;
	after = &cpu->after;
	word = flow->message.skipped;
	if (!(flow->flags & PF_FLOW_LINES(dir & 1))) {
		/* The server's. */
		after->seg = PF_SEG_LINES;
		after->skipped = word;
		return 0;
	}
	if (!lines->known || lines->next != next || lines->was != word) {
		flow->message.skipped = pf_lines_break(word);
		return 0;
	}
	flow->message.skipped = lines->is;
	if (cpu->packet.seq != next)
		return 0;
	after->seg = PF_SEG_LINES;
	after->skipped = lines->from;
	return 0;
}

#endif
