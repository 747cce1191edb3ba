/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The maps that both programs share. */
#ifndef PILOTFISH_MAPS_H
#define PILOTFISH_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "wire.h"

/* A plain hash: an LRU map drops live flows without telling, and takes all its memory at start. When this one
 * is full, new flows are refused and counted. User space sets the size and removes closed and idle flows. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct pf_key);
	__type(value, struct pf_flow);
} pilotfish_flows SEC(".maps");

/* Flows of which user space wants more or less than the configured head of each message. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct pf_key);
	__type(value, struct pf_override);
} pilotfish_override SEC(".maps");

/* Where the walker stands, of flows that are walked. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct pf_key);
	__type(value, struct pf_walk);
} pilotfish_walks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PF_PROTOCOLS);
	__type(key, __u32);
	__type(value, struct pf_frames);
} pilotfish_frames SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8388608);
} pilotfish_events SEC(".maps");

/* Ends that the ring refused and that nothing else would tell of: their flows' places are other connections' by then.
 * User space sets the size. */
struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 4096);
	__type(value, struct pf_closed);
} pilotfish_aside SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pf_control);
} pilotfish_control SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pf_ports);
} pilotfish_ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PF_ANSWERS);
	__type(key, __u32);
	__type(value, struct pf_answer);
} pilotfish_answers SEC(".maps");

/* Packets by namespace that interfaces handed to us. Only whether it moves is asked: it wraps, and
 * two namespaces may have a place in common. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, PF_PLACES);
	__type(key, __u32);
	__type(value, __u64);
} pilotfish_seen SEC(".maps");

/* Found out before the flow's lock is taken, because helpers may not be called under it. */
struct pf_before {
	__u64 now;
	__u64 tail; /* the payload's last 8 bytes, the last one in the highest byte */
	__u32 override;
	__u8 overridden : 1;
	__u8 crowded : 1; /* half of the ring is in use: no more than heads, of what is copied because it may be wanted */
	__u8 tail_read;
	__u8 frames; /* of the override */
	__u8 walked; /* pf_cpu.walking is of this packet */
};

/* To be done after the lock is released. */
struct pf_after {
	__u64 flow_id;
	__u32 skip;
	__u32 copy; /* 0: no segment */
	__u32 turn;
	__u32 flow_flags;
	__u8 start;
	__u8 closed; /* pf_cpu.closed is filled */
	__u8 dir;
	__u8 seg; /* PF_SEG_* of the walker */
	__u8 tail; /* pf_cpu.payload has the last bytes of a message of rows, to be told first */
	__u8 tail_dir;
	__u8 open; /* what the packet has behind the last range is told later */
	__u32 ranges; /* 0, or how many of pf_cpu.walking.ranges are to be told, instead of `copy` bytes */
	__u32 skipped; /* before the first of them */
	__u32 tail_seq;
	__u32 tail_turn;
	__u32 tail_skipped;
	__u64 tail_ns;
	struct pf_message prev; /* valid when `start` */
};

/* Bytes of a packet's payload that are told. */
struct pf_range {
	__u32 at;
	__u32 length;
};
#define PF_RANGES 64

/* What the walker found in a packet, before the lock. */
struct pf_walking {
	struct pf_way was; /* where the direction stood */
	struct pf_way is; /* and stands behind the packet, if it still stood there under the lock */
	__u32 next; /* the direction's next number then */
	__u32 count; /* of `ranges` */
	__u32 frames; /* that were followed */
	__u32 keep; /* PF_FORM_PACKETS: bytes of the packet that are copied */
	__u32 counted; /* of `frames`, those that count among `most` */
	__u32 window; /* bytes of the payload that are in `pf_cpu.payload`: from here, so many */
	__u32 loaded;
	__u8 tail_read;
	__u8 form;
	__u8 small; /* the frame before was a small one of a run */
	__u8 pad;
	__u8 head[2 * PF_HEADER];
	struct pf_range ranges[PF_RANGES];
	__u8 tail[PF_TAIL];
};

/* What was counted of a packet, before the lock: see lines.h. */
struct pf_lines {
	__u32 was; /* the flow's word then */
	__u32 from; /* before what is new, */
	__u32 is; /* and behind the packet, if the direction still stood there under the lock */
	__u32 next; /* the direction's next number then */
	__u32 at; /* so much of the payload was looked at */
	__u32 end; /* of what is looked at, in `pf_cpu.payload` */
	__u32 count;
	__u32 known;
};

/* A packet as parsed. */
struct pf_packet {
	struct pf_key key;
	__u32 seq; /* of the header; from the handling of a SYN on, of the first payload byte */
	__u32 ack; /* valid with PF_TCP_ACK */
	__u32 payload_at; /* offset of the payload in the skb */
	__u32 payload; /* payload bytes as the headers tell */
	__u32 held; /* of these, bytes that the skb holds */
	__u32 ip_bytes;
	__u16 window;
	__u8 tcp_flags;
	__u8 untold; /* valid where the flow is PF_FLOW_TOLD: another message begins */
};

/* The counters and, so that one lookup gets both, what one packet needs while it is handled. That
 * is here and not on the stack because the verifier follows each value on the stack through every
 * path (a million steps were not enough), but not what lies in a map. At interfaces the program
 * runs with bottom halves off and is not nested on one CPU: it has the first area. Packets of the
 * node's own sockets have the others (`host.h`). */
struct pf_cpu {
	struct pf_stats stats;
	__u32 areas; /* of the CPU's first one: bit per area that is in use */
	__u32 pad;
	struct pf_packet packet;
	__u64 tick; /* in jiffies */
	__u64 tick_ns; /* the time then */
	struct pf_before before;
	struct pf_after after;
	struct pf_flow fresh; /* a new flow */
	struct pf_closed closed;
	struct pf_walking walking;
	struct pf_lines lines;
	struct pf_segment segment;
	__u8 payload[PF_CHUNK]; /* directly behind the segment: they leave as one record */
};
_Static_assert(sizeof(struct pf_cpu) == PF_CPU_BYTES, "user space reads it with this size");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, PF_AREAS);
	__type(key, __u32);
	__type(value, struct pf_cpu);
} pilotfish_stats SEC(".maps");

/* Filled by user space with the program that the stubs tail-call. The kernel empties it when the
 * agent is gone. One map each: all programs of an array are of one type. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} pilotfish_progs SEC(".maps"), pilotfish_hosts SEC(".maps");

#endif
