/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Follows frames that say their length: of each, only its beginning is copied (decision 0021).
 *
 * Of each direction the number of the next header is kept, so what is lost or comes in another order
 * inside of a frame does no harm. A packet is walked before the flow's lock is taken, since its
 * bytes can be had only there; under the lock the result counts if the direction still stands where
 * the walk began. Where a header was jumped over, is no header, or another CPU came in between, the
 * direction is astray: it is copied within the budget, and user space, which puts bytes in order,
 * tells where the next header is. */
#ifndef PILOTFISH_WALK_H
#define PILOTFISH_WALK_H

#include "handshake.h"
#include "maps.h"
#include "packet.h"

/* Ranges with less between them are one: a record costs more than these bytes. */
#define PF_GAP 256

/* Whether an override wants the flow walked. */
static __always_inline int pf_walks(__u8 frames)
{
	return frames && frames < PF_FRAMES_LINES_IN;
}

#define PF_FRAME_SHORT 0 /* more bytes tell */
#define PF_FRAME_BROKEN 1 /* no frame */

/* Length of the frame whose first `have` bytes are in `head`. */
static __always_inline __u32 pf_frame_length(const struct pf_frames *frames, const __u8 *head, __u32 have)
{
	__u32 value = 0, at = frames->at, length;

	if (have < frames->header)
		return PF_FRAME_SHORT;
	if (frames->form == PF_FORM_FIXED) {
#pragma unroll
		for (__u32 i = 0; i < 4; i++) {
			__u32 byte = head[(at + i) & (PF_HEADER - 1)];

			if (i < frames->width)
				value = frames->big ? value << 8 | byte : value | byte << 8 * i;
		}
	} else if (frames->form == PF_FORM_VARINT) {
		__u32 more = 1;

#pragma unroll
		for (__u32 i = 0; i < 4; i++) {
			__u32 byte = head[(at + i) & (PF_HEADER - 1)];

			if (!more)
				continue;
			if (at + i >= have)
				return PF_FRAME_SHORT;
			value |= (byte & 127) << 7 * i;
			more = byte & 128;
			length = at + i + 1;
		}
		if (more)
			return PF_FRAME_BROKEN;
		value += length;
	} else {
		__u32 mask = head[1] & 128 ? 4 : 0;

		value = head[1] & 127;
		if (value < 126) {
			value += 2 + mask;
		} else if (value == 126) {
			if (have < 4)
				return PF_FRAME_SHORT;
			value = (head[2] << 8 | head[3]) + 4 + mask;
		} else {
			if (have < 10)
				return PF_FRAME_SHORT;
			if (head[2] | head[3] | head[4] | head[5])
				return PF_FRAME_BROKEN;
			value = (__u32)head[6] << 24 | head[7] << 16 | head[8] << 8 | head[9];
			if (value >= PF_FURTHEST)
				return PF_FRAME_BROKEN;
			value += 10 + mask;
		}
	}
	length = value + frames->add;
	/* Numbers that are further apart than a window can not be compared for long. */
	if (value >= PF_FURTHEST || length >= PF_FURTHEST || length < frames->header || length < 2)
		return PF_FRAME_BROKEN;
	return length;
}

static __always_inline __u32 pf_frame_class(const struct pf_frames *frames, const __u8 *head)
{
	__u32 kind = head[frames->kind_at & (PF_HEADER - 1)] & frames->kind_mask;

	return (frames->classes[(kind >> 2) & 63] >> (kind & 3) * 2) & (PF_CLASSES - 1);
}

/* Bytes [at, end) of the payload are to be told. */
static __always_inline void pf_add_range(struct pf_walking *walking, __u32 at, __u32 end)
{
	struct pf_range *last = &walking->ranges[(walking->count - 1) & (PF_RANGES - 1)];

	if (walking->count && (at - (last->at + last->length) <= PF_GAP || walking->count >= PF_RANGES)) {
		last->length = end - last->at;
		return;
	}
	last = &walking->ranges[walking->count & (PF_RANGES - 1)];
	last->at = at;
	last->length = end - at;
	walking->count++;
}

struct pf_walker {
	struct __sk_buff *skb;
	struct pf_cpu *cpu;
	struct pf_frames *frames;
};

/* Of small frames that follow one another the headers are read from a copy of the payload: a helper for each costs more
 * than all of it. */
#define PF_SMALL 256
#define PF_WINDOW 4096

/* Whether PF_HEADER bytes at `at` have been put into `walking->head`. */
static __always_inline int pf_head_in_window(struct __sk_buff *skb, struct pf_cpu *cpu, __u32 at, __u32 end)
{
	struct pf_walking *walking = &cpu->walking;
	__u64 off = at - walking->window, size = end - at;

	if (!walking->small || end - at < PF_HEADER)
		return 0;
	if (off + PF_HEADER > walking->loaded) {
		walking->loaded = 0;
		/* 1 to PF_WINDOW, in words that 6.1 understands. */
		size--;
		asm volatile("" : "+r"(size));
		if (size > PF_WINDOW - 1)
			size = PF_WINDOW - 1;
		asm volatile("" : "+r"(size));
		size++;
		if (bpf_skb_load_bytes(skb, cpu->packet.payload_at + at, cpu->payload, size))
			return 0;
		walking->window = at;
		walking->loaded = size;
		off = 0;
	}
	asm volatile("" : "+r"(off));
	off &= PF_WINDOW - 1;
	__builtin_memcpy(cpu->walking.head, cpu->payload + off, PF_HEADER);
	return 1;
}

/* One header; 1 ends the walk. What it goes on with is in a map, where the verifier does not follow it through each
 * turn. */
static long pf_walk_header(__u32 index, void *context)
{
	struct pf_walker *walker = context;
	struct __sk_buff *skb = walker->skb;
	struct pf_cpu *cpu = walker->cpu;
	struct pf_frames *frames = walker->frames;
	struct pf_walking *walking = &cpu->walking;
	struct pf_packet *p = &cpu->packet;
	struct pf_way *way = &walking->is;
	__u32 at = way->header + way->have - p->seq, end = p->payload, length, keep, class;
	__u64 have = way->have, size;
	int runs = frames->flags & PF_FRAMES_RUNS;

	if (at >= end)
		return 1;
	if (walking->counted >= frames->most || walking->counted >= PF_MOST_FRAMES || index >= PF_MOST_RUN) {
		/* Frames so small that following them costs more than it saves. */
		way->mode = frames->flags & PF_FRAMES_ROWS ? PF_WAY_ROWS : PF_WAY_ASTRAY;
		if (way->mode == PF_WAY_ASTRAY)
			pf_add_range(walking, at, end);
		return 1;
	}
	asm volatile("" : "+r"(have));
	have &= PF_HEADER - 1;
	size = end - at;
	/* 1 to PF_HEADER, in words that 6.1 understands. */
	size--;
	asm volatile("" : "+r"(size));
	if (size > PF_HEADER - 1)
		size = PF_HEADER - 1;
	asm volatile("" : "+r"(size));
	size++;
	if ((have || !pf_head_in_window(skb, cpu, at, end)) &&
	    bpf_skb_load_bytes(skb, p->payload_at + at, walking->head + have, size)) {
		way->mode = PF_WAY_ASTRAY;
		pf_add_range(walking, at, end);
		return 1;
	}
	length = pf_frame_length(frames, walking->head, have + size);
	if (length == PF_FRAME_SHORT && have + size < PF_HEADER) {
		way->have = have + size;
		__builtin_memcpy(way->head, walking->head, PF_HEADER);
		pf_add_range(walking, at, end);
		return 1;
	}
	if (length == PF_FRAME_SHORT || length == PF_FRAME_BROKEN) {
		way->mode = PF_WAY_ASTRAY;
		pf_add_range(walking, at, end);
		return 1;
	}
	walking->frames++;
	class = pf_frame_class(frames, walking->head);
	keep = frames->keep[class & (PF_CLASSES - 1)];
	if (keep > length)
		keep = length;
	runs = runs && class == PF_CLASS_RUN;
	walking->small = runs && length <= PF_SMALL;
	if (!runs) {
		walking->counted++;
		way->told_known &= ~PF_WAY_RUN;
	} else {
		/* Nothing but its length would be told, which what is left out says as well. */
		if (way->told_known & PF_WAY_RUN && !have && at + length <= end)
			keep = 0;
		way->told_known |= PF_WAY_RUN;
	}
	way->keep = way->header + keep;
	way->header += length;
	way->have = 0;
	keep = way->keep - p->seq;
	/* Less than nothing where all that is to be copied was in the packets before. */
	if ((__s32)keep > (__s32)end)
		keep = end;
	if ((__s32)keep > (__s32)at)
		pf_add_range(walking, at, keep);
	return 0;
}

/* All headers of the packet. A function of its own: see pf_find_l3. The loop in each way through pf_walk was four
 * fifths of the verifier's work. Returns nothing of use. */
__noinline int pf_walk_headers(struct __sk_buff *skb, struct pf_frames *frames, struct pf_cpu *cpu)
{
	struct pf_walker walker = { skb, cpu, frames };

	if (!frames || !cpu)
		return 0;
	cpu->walking.counted = cpu->walking.small = cpu->walking.window = cpu->walking.loaded = 0;
	bpf_loop(frames->flags & PF_FRAMES_RUNS ? PF_MOST_RUN + 1 : PF_MOST_FRAMES + 1, pf_walk_header, &walker, 0);
	return 0;
}

/* Looks at what another CPU is doing. What is lost is waited for once: then the direction is astray. */
#define PF_WAITS 4096

struct pf_wait {
	struct pf_way *way;
	__u32 seq;
};

static long pf_is_in_order(__u32 index, void *context)
{
	struct pf_wait *wait = context;
	__u32 header = *(volatile __u32 *)&wait->way->header + *(volatile __u8 *)&wait->way->have;

	(void)index;
	return pf_ahead(wait->seq, header) <= 0;
}

/* Where a direction's packets were queued by two CPUs, they come in the order in which these get to them: what is
 * before this one is most likely in the hands of the other. */
static __always_inline void pf_wait_for_others(struct pf_flow *flow, struct pf_walk *walk, struct pf_cpu *cpu, int dir)
{
	struct pf_wait wait = { &walk->way[dir], cpu->packet.seq };
	struct pf_walking *walking = &cpu->walking;

	bpf_loop(PF_WAITS, pf_is_in_order, &wait, 0);
	walking->was = walk->way[dir];
	walking->is = walking->was;
	walking->next = flow->next_seq[dir];
}

/* Before the lock. A function of its own, so that it is verified once. Returns nothing of use. */
__noinline int pf_walk(struct __sk_buff *skb, struct pf_flow *flow, struct pf_walk *walk, struct pf_cpu *cpu, int dir)
{
	struct pf_override *override;
	struct pf_control *control;
	struct pf_walking *walking;
	struct pf_frames *frames;
	struct pf_packet *p;
	struct pf_way *way;
	struct pf_key key;
	__u32 place = 0, end;
	int starts;

	if (!flow || !walk || !cpu)
		return 0;
	dir &= 1;
	p = &cpu->packet;
	walking = &cpu->walking;
	way = &walking->is;
	control = bpf_map_lookup_elem(&pilotfish_control, &place);
	place = walk->frames - 1;
	frames = bpf_map_lookup_elem(&pilotfish_frames, &place);
	if (!control || !frames || !p->payload)
		return 0;
	walking->form = frames->form;
	if (frames->form == PF_FORM_PACKETS) {
		walking->keep = frames->keep[0];
		cpu->before.walked = 1;
		return 0;
	}
	if (p->held != p->payload)
		return 0;
	walking->was = walk->way[dir];
	walking->is = walking->was;
	walking->next = flow->seq_known & PF_KNOWN_SEQ(dir) ? flow->next_seq[dir] : p->seq;
	walking->count = 0;
	walking->frames = 0;
	walking->tail_read = 0;
	cpu->before.walked = 1;
	end = p->seq + p->payload;
	if (pf_ahead(end, walking->next) <= 0)
		return 0; /* nothing new in it */
	if (walk->seen[dir] != control->commands) {
		/* User space has said something to a flow: perhaps to this one, that it knows where a header is. An
		 * atomic that returns a value is a full barrier: what the table says is not read before it, which
		 * would miss the command that is counted. */
		walk->seen[dir] = __sync_fetch_and_add(&control->commands, 0);
		key = p->key; /* 6.1 takes no key from here but from the stack */
		override = bpf_map_lookup_elem(&pilotfish_override, &key);
		if (override && override->flow_id == flow->flow_id && override->command != way->command) {
			way->command = override->command;
			/* In the past it says nothing: other headers have passed since. */
			if (override->straight & (1 << dir) && override->header[dir] - walking->next < PF_FURTHEST) {
				way->mode = PF_WAY_WALKS;
				way->header = way->keep = override->header[dir];
				way->have = 0;
				way->told_known &= ~PF_WAY_RUN;
			}
		}
	}
	starts = !flow->turn || flow->turn_dir != dir;
	if (starts && frames->flags & PF_FRAMES_ALIGNED) {
		way->mode = PF_WAY_WALKS;
		way->header = way->keep = walking->next;
		way->have = 0;
	}
	if (way->mode == PF_WAY_WALKS && pf_ahead(p->seq, way->header + way->have) > 0) {
		pf_wait_for_others(flow, walk, cpu, dir);
		starts = !flow->turn || flow->turn_dir != dir;
	}
	if (way->mode == PF_WAY_WALKS) {
		if (pf_ahead(p->seq, way->header + way->have) > 0) {
			way->mode = PF_WAY_ASTRAY;
			return 0;
		}
		if (way->have)
			__builtin_memcpy(walking->head, way->head, PF_HEADER);
		if (pf_ahead(way->keep, p->seq) > 0)
			pf_add_range(walking, 0, way->keep - p->seq < p->payload ? way->keep - p->seq : p->payload);
		pf_walk_headers(skb, frames, cpu);
		/* That a frame ends here is told, as is the first packet of a message. */
		if (!walking->count && way->mode == PF_WAY_WALKS && way->header == end)
			pf_add_range(walking, p->payload, p->payload);
	} else if (way->mode == PF_WAY_ROWS && p->payload < PF_TAIL) {
		pf_add_range(walking, 0, p->payload);
	}
	if (way->mode == PF_WAY_ROWS && p->payload >= PF_TAIL &&
	    !bpf_skb_load_bytes(skb, p->payload_at + p->payload - PF_TAIL, walking->tail, PF_TAIL))
		walking->tail_read = 1;
	if (starts && !walking->count)
		pf_add_range(walking, 0, 0);
	return 0;
}

/* Where nothing tells lengths: the packet's first bytes, however long its message is. Heads may be in
 * the rest. True where that is so. */
static __always_inline int pf_walked_packet(struct pf_cpu *cpu)
{
	struct pf_packet *p = &cpu->packet;
	__u32 keep = cpu->walking.keep;

	if (!cpu->before.walked || cpu->walking.form != PF_FORM_PACKETS)
		return 0;
	cpu->after.skip = 0;
	cpu->after.copy = p->held < keep ? p->held : keep;
	return 1;
}

/* The kept end of a message of rows is told before anything else. */
static __always_inline void pf_flush_tail(struct pf_walk *walk, struct pf_cpu *cpu)
{
	struct pf_after *after = &cpu->after;
	struct pf_way *way = &walk->way[walk->tail_dir & 1];
	__u32 from = walk->tail_end - PF_TAIL;

	if (!walk->tail_turn)
		return;
	after->tail = 1;
	after->tail_dir = walk->tail_dir & 1;
	after->tail_turn = walk->tail_turn;
	after->tail_ns = walk->tail_ns;
	after->tail_seq = from;
	after->tail_skipped = way->told_known & 1 && pf_ahead(from, way->told) > 0 ? from - way->told : 0;
	__builtin_memcpy(cpu->payload, walk->tail, PF_TAIL);
	way->told = walk->tail_end;
	walk->tail_turn = 0;
}

/* Under the lock: the packet, which brings something new, goes on from `next`. What the walk found is told if the
 * direction stood there. A function of its own: see pf_find_l3. Returns nothing of use. */
__noinline int pf_walked(struct pf_flow *flow, int dir, struct pf_walk *walk, struct pf_cpu *cpu, __u32 next)
{
	struct pf_walking *walking;
	struct pf_after *after;
	struct pf_packet *p;
	struct pf_way *way, *was;
	__u32 end, first, from;
	struct pf_range *last;
	int known = 1;

	if (!flow || !walk || !cpu)
		return 0;
	walking = &cpu->walking;
	after = &cpu->after;
	p = &cpu->packet;
	way = &walk->way[dir & 1];
	was = &walking->was;
	end = p->seq + p->payload;

	/* From where on nothing was told. What was to be copied and did not come is not left out, but lost. */
	from = way->told_known & 1 ? way->told : next;
	if (pf_ahead(p->seq, next) > 0 && pf_ahead(way->keep, next) > 0)
		from = pf_ahead(way->keep, p->seq) < 0 ? way->keep : p->seq;
	if (!cpu->before.walked || walking->next != next || way->header != was->header || way->keep != was->keep ||
	    way->told != was->told || way->mode != was->mode || way->have != was->have) {
		walking->is = *way;
		walking->is.mode = PF_WAY_ASTRAY;
		walking->is.have = 0;
		walking->tail_read = 0;
	}
	if (walking->is.mode == PF_WAY_ROWS && way->mode != PF_WAY_ROWS)
		cpu->stats.count[PF_STAT_ROWS]++;
	if (walk->tail_turn && !walking->tail_read) {
		pf_flush_tail(walk, cpu);
		from = way->told;
	}
	if (walking->is.mode == PF_WAY_ASTRAY) {
		cpu->stats.count[PF_STAT_ASTRAY]++;
		after->seg = PF_SEG_ASTRAY;
		/* Nothing but the frame that was followed until here is known to be left out. */
		known = way->mode == PF_WAY_ROWS || (way->mode == PF_WAY_WALKS && pf_ahead(p->seq, way->header) <= 0);
		first = p->seq + after->skip;
		walking->is.told = end;
	} else {
		after->seg = PF_SEG_WALKED;
		if (way->mode == PF_WAY_ROWS && walking->is.mode == PF_WAY_ROWS)
			after->seg |= PF_SEG_TAIL;
		after->copy = 0;
		after->ranges = walking->count;
		after->open = walking->tail_read;
		last = &walking->ranges[(walking->count - 1) & (PF_RANGES - 1)];
		first = walking->count ? p->seq + walking->ranges[0].at : from;
		walking->is.told = !walking->count ? from : walking->tail_read ? p->seq + last->at + last->length : end;
	}
	if (known && pf_ahead(first, from) > 0)
		after->skipped = first - from;
	*way = walking->is;
	way->told_known |= 1;
	if (walking->tail_read) {
		__builtin_memcpy(walk->tail, walking->tail, PF_TAIL);
		walk->tail_end = end;
		walk->tail_turn = flow->turn;
		walk->tail_dir = dir;
		walk->tail_ns = cpu->before.now;
	}
	return 0;
}

#endif
