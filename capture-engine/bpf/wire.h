/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What the kernel programs and user space exchange. `capture-engine/wire` holds the same in Rust and asserts the sizes.
 * Every struct has explicit padding and no pointer. Index 0 of a pair is ingress to the pod, 1 is egress from it. */
#ifndef PILOTFISH_WIRE_H
#define PILOTFISH_WIRE_H

#define PF_INGRESS 0
#define PF_EGRESS 1

/* pf_event.kind */
#define PF_EVENT_SEGMENT 1 /* struct pf_segment, then `captured` bytes of TCP payload */
#define PF_EVENT_DATAGRAM 2 /* struct pf_segment, then `captured` bytes of UDP payload */
#define PF_EVENT_CLOSED 3 /* struct pf_closed */
#define PF_EVENT_WAKE 4 /* nothing but the kind and a zero: wakes a reader that fell asleep meanwhile */

/* pf_segment.flags */
#define PF_SEG_MESSAGE_START 1 /* first captured piece of a message: `prev` is valid (prev.turn == 0: there was none) */
#define PF_SEG_CUT 2 /* this packet had payload beyond the budget that was not copied */
#define PF_SEG_WALKED 4 /* the walker chose what is copied: what is not, and `skipped`, lies inside of frames */
#define PF_SEG_ASTRAY 8 /* the walker does not know where the next header of this direction is: all is copied, within the budget */
#define PF_SEG_TAIL 16 /* the last bytes of a message of more frames than were followed */
#define PF_SEG_LINES 32 /* `prev.skipped` is PF_LINES_*: of the client before `seq`, of the server until then */

/* pf_flow.flags */
#define PF_FLOW_LOCAL_CLIENT 1 /* SYN left the pod */
#define PF_FLOW_LOCAL_SERVER 2 /* SYN came to the pod */
#define PF_FLOW_ESTABLISHED 4 /* handshake complete */
#define PF_FLOW_MIDWAY 8 /* first packet seen was no SYN */
#define PF_FLOW_FIN_IN 16
#define PF_FLOW_FIN_OUT 32
#define PF_FLOW_RST 64
#define PF_FLOW_CLOSED 128 /* both FINs or a RST */
#define PF_FLOW_CLOSE_REPORTED 256 /* pf_closed went into the ring */
#define PF_FLOW_NOT_COPIED 512 /* the port filter or its namespace's override excludes it: counters only, no messages */
#define PF_FLOW_FIN_EARLY_IN 1024 /* a FIN came before all the bytes that it follows: it acts when they have come */
#define PF_FLOW_FIN_EARLY_OUT 2048
#define PF_FLOW_SYN_AGAIN_IN 4096 /* a SYN that may begin another connection: `again_seq`; its SYN-ACK decides */
#define PF_FLOW_SYN_AGAIN_OUT 8192
#define PF_FLOW_WALKED 16384 /* user space wants it walked: look into `pilotfish_walks` */
#define PF_FLOW_TOLD 65536 /* the answer under way was told without a flow: what follows of it is no message */
#define PF_FLOW_KEPT 131072 /* its addresses and ports are another connection's, and there was no room to tell of its end: it is over, since `syn_ns` */
#define PF_FLOW_LINES_IN 262144 /* ends of request lines are counted that come in, in `message.skipped` */
#define PF_FLOW_LINES_OUT 524288 /* that go out */
#define PF_FLOW_EAGER 32768 /* user space wants more than heads of its server's connections: all is copied until its word on this one comes */

/* Budgets with a meaning of their own: of a message, in pf_flow and in map `pilotfish_override` */
#define PF_BUDGET_NOTHING 0
#define PF_BUDGET_EVERYTHING 0xffffffff

/* How often a client has asked since this was wanted: see lines.h. Within a run a difference is exact. */
#define PF_LINES_MATCHED 0xf /* bytes of the end of a request line that came last */
#define PF_LINES_BROKEN 0xf /* in their place: the run is over */
#define PF_LINES_RUN 0xff0 /* the run's number; it wraps */
#define PF_LINES_RUN_ONE 0x10
#define PF_LINES_COUNT 0xfffff000 /* the count; it wraps */
#define PF_LINES_ONE 0x1000

/* Most bytes of one message that are copied, whatever the override: one that is longer ends as any other does. */
#define PF_EVERYTHING_MOST (1 << 20)
/* Bytes of a message that begins unwalked after which it is looked again whether user space wants it walked. */
#define PF_LATE_LOOKS 4096

/* Most payload bytes of one event. What a packet has beyond it follows in further events with their own seq. */
#define PF_CHUNK 8192

/* One end is the pod (`local`). IPv4 is stored v4-mapped (::ffff:a.b.c.d). Ports in host byte order. */
struct pf_key {
	__u32 slot;
	__u8 local_ip[16];
	__u8 remote_ip[16];
	__u16 local_port;
	__u16 remote_port;
	__u8 proto; /* IPPROTO_TCP, IPPROTO_UDP */
	__u8 pad[3];
}; /* 44 */

/* A message: all payload that travels one way until payload travels the other way. Messages of a
 * flow are numbered from 1, both directions in one sequence, so that odd and even numbers are the
 * two directions. */
struct pf_message {
	__u64 first_ns; /* first and last packet with new payload, bpf_ktime_get_ns */
	__u64 last_ns;
	__u64 bytes; /* TCP payload, retransmissions not counted again */
	__u32 packets; /* as the interface hands them over: one GSO packet is one */
	__u32 turn; /* the message's number */
	__u8 tail[8]; /* the last bytes of payload seen, right-aligned: tail[7] is the last byte; only for messages longer than the budget */
	__u8 tail_len;
	__u8 dir; /* PF_INGRESS, PF_EGRESS */
	__u8 pad[2];
	__u32 skipped; /* in pf_segment: bytes right before `seq` that were left out; else, and with PF_SEG_LINES, PF_LINES_* */
}; /* 48 */

struct pf_counters {
	__u64 packets[2];
	__u64 bytes[2]; /* IP bytes, header and payload */
	__u32 retransmits[2];
	__u32 zero_windows[2];
	__u64 rtt_ns; /* 0: not known. Client side: SYN to SYN-ACK. Server side: SYN-ACK to ACK. */
}; /* 56 */

struct pf_segment {
	__u32 kind;
	__u32 captured; /* bytes that follow this struct */
	struct pf_key key;
	__u8 dir;
	__u8 flags;
	__u8 tcp_flags;
	__u8 pad;
	__u64 flow_id; /* start time of the flow; tells apart two flows with the same key */
	__u64 at_ns;
	__u32 seq; /* TCP sequence number of the first captured byte; 0 for UDP */
	__u32 payload; /* payload bytes of the packet, counted from `seq` */
	__u32 turn; /* message number; for UDP the number among the flow's datagrams that were to be copied */
	__u32 flow_flags;
	struct pf_message prev;
}; /* 136: with the ring's 8, payload begins at a multiple of 16, where copying is faster */

struct pf_closed {
	__u32 kind;
	__u32 flow_flags;
	struct pf_key key;
	__u32 turn;
	__u64 flow_id;
	__u64 at_ns;
	struct pf_counters counters;
	struct pf_message last; /* the message that was under way */
}; /* 176 */

/* Value of map `pilotfish_override` (key: pf_key): the budget of the flow that began at `flow_id`. One
 * that had the same key before or has it after is not meant. A key of a slot and zeros stands for all
 * flows of the slot, of which no message is then copied: nothing of its value matters. One whose slot and
 * client's end are zeros stands for the server: of connections to it that are seen to begin, wherever,
 * PF_EVERYTHING_MOST bytes of each direction are copied where nothing is said of them yet. */
struct pf_override {
	__u64 flow_id;
	__u32 budget;
	__u8 frames; /* 0: not walked; PF_FRAMES_LINES_*; else one more than its protocol's place in `pilotfish_frames` */
	__u8 straight; /* bit per direction: `header` is where a header begins */
	__u8 command; /* another number than before: to be done; 0: nothing is */
	__u8 pad;
	__u32 header[2];
}; /* 24 */

/* pf_override.frames: it is not walked, but ends of request lines are counted, of what comes in or goes out. */
#define PF_FRAMES_LINES_IN 254
#define PF_FRAMES_LINES_OUT 255

/* How the frames of a protocol say their length, and how much of them is copied: value of array
 * `pilotfish_frames`. A header has PF_HEADER bytes at most that matter. */
#define PF_HEADER 16
#define PF_PROTOCOLS 32
#define PF_CLASSES 4

/* pf_frames.form */
#define PF_FORM_FIXED 0 /* `width` bytes at `at`, least significant first or (`big`) last */
#define PF_FORM_VARINT 1 /* 7 bits a byte from `at` on, least significant first, four bytes at most */
#define PF_FORM_WEBSOCKET 2 /* RFC 6455 section 5.2 */
#define PF_FORM_PACKETS 3 /* no frames: `keep[0]` bytes of each packet */

/* pf_frames.flags */
#define PF_FRAMES_ALIGNED 1 /* a message begins with a header */
#define PF_FRAMES_ROWS 2 /* beyond `most` frames in a packet, the rest of the message is rows: its last bytes are kept */
/* Frames of class PF_CLASS_RUN are many: told are the first of those that follow one another and what goes on
 * behind its packet. They do not count among `most`. */
#define PF_FRAMES_RUNS 4
#define PF_CLASS_RUN 3

struct pf_frames {
	__u8 form;
	__u8 at;
	__u8 width; /* 1 to 4 */
	__u8 big;
	__u8 kind_at;
	__u8 kind_mask; /* 0: all frames are of class 0 */
	__u8 header; /* bytes of the header: no frame is shorter */
	__u8 flags;
	__s32 add; /* bytes of the frame that its length does not count */
	__u32 most; /* frames of a packet that are followed, PF_MOST_FRAMES at most */
	__u32 keep[PF_CLASSES]; /* bytes of a frame of the class that are copied, from its header on */
	__u8 classes[64]; /* of each kind, two bits: kind 0 in the lowest of the first byte */
}; /* 96 */

#define PF_MOST_FRAMES 64
#define PF_MOST_RUN 16384 /* frames of a packet in all; the shortest have 5 bytes */
#define PF_TAIL 256

/* pf_way.mode */
#define PF_WAY_ASTRAY 0
#define PF_WAY_WALKS 1
#define PF_WAY_ROWS 2 /* until the direction's next message */

#define PF_WAY_RUN 2

/* Where a direction stands. All numbers are sequence numbers. */
struct pf_way {
	__u32 header; /* of the next header, or of the one under way */
	__u32 keep; /* what comes before it is copied */
	__u32 told; /* all before it was told: copied, or as left out */
	__u8 mode;
	__u8 have; /* bytes of the header that came with earlier packets */
	__u8 told_known; /* and PF_WAY_RUN: the frame before was of the class of which there are many */
	__u8 command; /* the last one that was done */
	__u8 head[PF_HEADER]; /* these bytes */
}; /* 32 */

/* Value of map `pilotfish_walks` (key: pf_key), made by user space before it asks for the walk, and
 * from then on changed by the programs under the flow's lock. */
struct pf_walk {
	__u64 flow_id;
	struct pf_way way[2];
	__u32 seen[2]; /* pf_control.commands when commands were last looked for */
	__u8 frames; /* as in pf_override */
	__u8 tail_dir;
	__u8 pad[2];
	__u32 tail_end; /* sequence number after the last byte of `tail` */
	__u32 tail_turn; /* 0: there is none */
	__u32 pad2;
	__u64 tail_ns;
	__u8 tail[PF_TAIL];
}; /* 360 */

/* Value of map `pilotfish_flows` (key: pf_key). Changed under `lock`, but for what an ACK without
 * payload changes: `last_ns`, `acked`, `packets` and `bytes`. These and what decides about such an
 * ACK come first, next to each other. A hole is a range of sequence numbers that was jumped over; one per
 * direction is kept, and a second one widens it to cover both, so that a retransmission inside it
 * may pass for its filling. */
struct pf_flow {
	__u32 lock; /* 0: free; else one more than the number of the CPU that has it */
	__u32 flags;
	__u8 seq_known; /* bit per direction: `next_seq` is valid; the two bits above: `isn` is */
	__u8 turn_dir;
	__u8 zero_window; /* bit per direction: the last packet that way advertised a window of 0 */
	__u8 ack_known; /* bit per direction: `acked` is valid */
	__u32 turn; /* number of the current message, 0 before the first */
	__u64 last_ns; /* time of the last packet; for an ACK without payload as of the last tick */
	__u32 acked[2]; /* what the other side has acknowledged of each direction, also of what was not seen */
	struct pf_counters counters;
	__u32 next_seq[2]; /* next new sequence number per direction; valid when seq_known has the bit */
	__u32 hole_start[2];
	__u32 hole_end[2]; /* equal to hole_start: no hole */
	__u32 turn_seq[2]; /* sequence number at which the newest message of each direction began */
	__u32 head_bytes; /* bytes of each message's head to copy; from config or `pilotfish_override` at the message's start */
	__u32 lost_events; /* events that found the ring full */
	__u64 flow_id;
	struct pf_message message; /* the current one */
	__u64 syn_ns; /* time of the packet whose answer gives the RTT; 0: none, or it was sent twice (Karn) */
	__u32 isn[2]; /* sequence number of each direction's SYN; without one, before the first byte that is new, if known */
	__u32 fin_seq[2]; /* of each direction's FIN, once it was seen, early or not */
	__u32 again_seq; /* of a SYN that may begin another connection; valid with PF_FLOW_SYN_AGAIN_* */
	__u32 again_end; /* the number after it and its payload (RFC 7413) */
	__u32 again_packets; /* so often was it sent */
	__u32 pad;
	__u64 again_bytes; /* IP bytes of these */
	__u64 again_ns; /* as `syn_ns` */
}; /* 240 */

/* What the reader of the ring does, so that a commit knows whether to wake it. */
#define PF_READER_AWAKE 0
#define PF_READER_NAPPING 1 /* a timer will wake it: wake it only past `wake_bytes` */
#define PF_READER_ASLEEP 2 /* wake it for any event */

#define PF_OPENING 512 /* counts of half-open connections and of flows; with more namespaces, some have one in common */
#define PF_SHARE_TIMES 3 /* a namespace has so many times the flows that are left free */
#define PF_SHARE_LEAST 16 /* or so many, while there is any room */

#define PF_PLACES 2048 /* counts of packets by namespace */
#define PF_ANSWERS 16384 /* connections without a flow whose last answer is remembered */

/* Value of array `pilotfish_control` (one entry, mapped by user space). */
struct pf_control {
	__u32 head_bytes; /* bytes of each message's head */
	__u32 udp_datagrams; /* datagrams copied per direction of a flow that is not DNS */
	__u32 overrides; /* 0: `pilotfish_override` is empty, do not look */
	__u32 wake_bytes; /* unread bytes in the ring at which a napping reader is woken */
	__u32 loopback; /* whether packets of the node's own sockets are looked at that have an address of the loopback */
	__u32 opening_share; /* half-open connections of one namespace that get a flow */
	__u32 opening_room; /* of all namespaces: beyond it, each has a small part of its share */
	__s32 opening_all; /* how many there are */
	__u32 flows_room; /* entries of `pilotfish_flows` */
	__s32 flows_all; /* of these in use */
	__u64 answers[2]; /* answers that were seen of flows without room, by direction: see refused.h */
	__u32 commands; /* changed with each command to a walk: only then they are looked for */
	__u32 quiet; /* slots with an override of their own; 0: do not look */
	__u32 reader; /* PF_READER_*: it changes often, so this line has only what each record needs, too */
	__u32 data_bytes; /* of the ring that records of payload may fill: the rest is for the news of ends */
	__u32 servers; /* with an override of their own; 0: do not look */
	__u32 aside; /* ends that were put into `pilotfish_aside`: it wraps */
	__u8 pad2[48];
	/* Flows whose handshake is not complete, by namespace (pf_opening). The programs count up and down; user space, which
	 * removes flows, puts right what it finds in its rounds. */
	__s32 opening[PF_OPENING];
	/* All flows by namespace, and `flows_all`: the programs count up, user space down where it removes one. */
	__s32 flows[PF_OPENING];
}; /* 4224: user space maps its pages */

/* Value of array `pilotfish_answers`: the newest answer of a connection without a flow. */
struct pf_answer {
	__u64 flow; /* hash of its key */
	__u64 at_ns;
	__u32 number; /* TCP: sequence number; DNS: id */
	__u32 end; /* TCP: after the packet that it began */
	__u32 asked; /* TCP: what that packet acknowledged: what was asked until then */
	__u8 dir; /* whose end answered: PF_INGRESS, PF_EGRESS */
	__u8 over; /* the connection has ended since */
	__u8 pad[2];
}; /* 32 */

/* Value of array `pilotfish_ports` (one entry). A flow is copied when one of its ports is included
 * and none is excluded. */
#define PF_PORT_EXCLUDED 1
#define PF_PORT_INCLUDED 2 /* every port has it when there is no list of included ones */
struct pf_ports {
	__u8 marks[65536];
};

/* Value of array `pilotfish_stats` (per CPU, PF_AREAS entries whose counts are to be added up):
 * what the kernel side saw and could not keep. */
enum pf_stat {
	PF_STAT_PACKETS = 0, /* all packets seen */
	PF_STAT_EVENTS, /* events put into the ring */
	PF_STAT_RING_FULL, /* events that found no room */
	PF_STAT_FLOWS_FULL, /* packets whose flow found no room in the table */
	PF_STAT_UNPARSED, /* IP packets whose headers could not be followed */
	PF_STAT_FRAGMENTS, /* fragments other than the first: counted nowhere else */
	PF_STAT_OTHER, /* not IP, or neither TCP nor UDP */
	PF_STAT_STRAY, /* packets of no flow in the table, which begin none: without payload, or sent again of what was told without one */
	PF_STAT_REPLACED, /* flows that a SYN started afresh before their end was seen or could be reported */
	PF_STAT_UNLOCKED, /* packets handled without their flow's lock: its holder kept it for too long, or was interrupted by this packet */
	PF_STAT_NESTED, /* packets of the node's own sockets that found every work area of their CPU in use: counted nowhere else */
	PF_STAT_OPENING_FULL, /* SYNs beyond their namespace's share: no flow before the connection's first payload */
	PF_STAT_FLOWS_SHARE, /* packets whose flow would have been beyond its namespace's share of the table */
	PF_STAT_ASTRAY, /* packets of walked flows that were copied because the place of the next header is not known */
	PF_STAT_ROWS, /* messages of walked flows of which only the beginning and the last bytes were copied */
	PF_STAT_ANSWERS_FULL, /* answers without a flow that found no place to be known by: their exchanges are counted nowhere else */
	PF_STAT_REPLACED_FULL, /* ends that found no room in the ring nor aside: their flows keep their places, and the connections that would have them get none */
	PF_STAT_ASIDE, /* ends that found no room in the ring and were put aside */
	PF_STAT_MAX,
};

struct pf_stats {
	__u64 count[PF_STAT_MAX];
};

/* Work areas of a CPU: the first for interfaces, the others for the node's own sockets (a sender,
 * and who interrupts it). */
#define PF_HOST_AREAS 2
#define PF_AREAS (1 + PF_HOST_AREAS)

/* Size of one CPU's value in `pilotfish_stats`: pf_stats, then what the programs work with. */
#define PF_CPU_BYTES 10048

#endif
