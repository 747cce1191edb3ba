//! The bytes that the kernel programs and user space exchange: `bpf/wire.h` in Rust. No logic;
//! sizes asserted at compile time.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// To the pod: index 0 of every pair here.
pub const INGRESS: u8 = 0;
/// From the pod: index 1 of every pair here.
pub const EGRESS: u8 = 1;

/// First word of an event: a [`Segment`], then `captured` bytes of TCP payload.
pub const EVENT_SEGMENT: u32 = 1;
/// First word of an event: a [`Segment`], then `captured` bytes of UDP payload.
pub const EVENT_DATAGRAM: u32 = 2;
/// First word of an event: a [`Closed`].
pub const EVENT_CLOSED: u32 = 3;
/// First word of an event: nothing but it and a zero. Wakes a reader that fell asleep meanwhile.
pub const EVENT_WAKE: u32 = 4;

/// Bit of [`Segment::flags`]: first captured piece of a message, so that `prev` is valid.
pub const SEG_MESSAGE_START: u8 = 1;
/// Bit of [`Segment::flags`]: payload beyond the budget was not copied.
pub const SEG_CUT: u8 = 2;
/// Bit of [`Segment::flags`]: the walker chose what is copied; what is not, and `skipped`, lies
/// inside of frames.
pub const SEG_WALKED: u8 = 4;
/// Bit of [`Segment::flags`]: the walker does not know where the next header of this direction is.
pub const SEG_ASTRAY: u8 = 8;
/// Bit of [`Segment::flags`]: the last bytes of a message of more frames than were followed.
pub const SEG_TAIL: u8 = 16;
/// Bit of [`Segment::flags`]: `prev.skipped` is how often the client has asked, before `seq` where it is the client's,
/// else until then.
pub const SEG_LINES: u8 = 32;

/// Bit of [`Flow::flags`]: a SYN left the pod.
pub const FLOW_LOCAL_CLIENT: u32 = 1;
/// Bit of [`Flow::flags`]: a SYN came to the pod.
pub const FLOW_LOCAL_SERVER: u32 = 2;
/// Bit of [`Flow::flags`]: the handshake is complete.
pub const FLOW_ESTABLISHED: u32 = 4;
/// Bit of [`Flow::flags`]: the first packet seen was no SYN.
pub const FLOW_MIDWAY: u32 = 8;
/// Bit of [`Flow::flags`]: a FIN came to the pod.
pub const FLOW_FIN_IN: u32 = 16;
/// Bit of [`Flow::flags`]: a FIN left the pod.
pub const FLOW_FIN_OUT: u32 = 32;
/// Bit of [`Flow::flags`]: a RST went either way.
pub const FLOW_RST: u32 = 64;
/// Bit of [`Flow::flags`]: both FINs or a RST were seen.
pub const FLOW_CLOSED: u32 = 128;
/// Bit of [`Flow::flags`]: its [`Closed`] went into the ring.
pub const FLOW_CLOSE_REPORTED: u32 = 256;
/// Bit of [`Flow::flags`]: the port filter excludes it. Counters only, no messages.
pub const FLOW_NOT_COPIED: u32 = 512;
/// Bit of [`Flow::flags`]: a FIN came to the pod before all the bytes that it follows.
pub const FLOW_FIN_EARLY_IN: u32 = 1024;
/// Bit of [`Flow::flags`]: the same of one that left it.
pub const FLOW_FIN_EARLY_OUT: u32 = 2048;
/// Bit of [`Flow::flags`]: a SYN came to the pod that may begin another connection.
pub const FLOW_SYN_AGAIN_IN: u32 = 4096;
/// Bit of [`Flow::flags`]: the same of one that left it.
pub const FLOW_SYN_AGAIN_OUT: u32 = 8192;
/// Bit of [`Flow::flags`]: its frames are followed.
pub const FLOW_WALKED: u32 = 16384;
/// Bit of [`Flow::flags`]: all of it is copied until user space has said what it wants.
pub const FLOW_EAGER: u32 = 32768;
/// Bit of [`Flow::flags`]: the answer under way was told without a flow, and what follows of it is no message.
pub const FLOW_TOLD: u32 = 65536;
/// Its addresses and ports are another connection's, and there was no room to tell of its end: it is over, since
/// [`Flow::syn_ns`].
pub const FLOW_KEPT: u32 = 131_072;
/// Bit of [`Flow::flags`]: ends of request lines are counted that come to the pod, in its message's `skipped`.
pub const FLOW_LINES_IN: u32 = 262_144;
/// Bit of [`Flow::flags`]: the same of those that leave it.
pub const FLOW_LINES_OUT: u32 = 524_288;

/// Budget of a message, in [`Flow::head_bytes`] and `pilotfish_override`: copy no byte.
pub const BUDGET_NOTHING: u32 = 0;
/// Budget of a message, as above: copy every byte.
pub const BUDGET_EVERYTHING: u32 = u32::MAX;

/// Most bytes of one message that are copied, whatever the override.
pub const EVERYTHING_MOST: u32 = 1 << 20;

/// Most payload bytes of one event.
pub const CHUNK: usize = 8192;

/// Marks of a port in `pilotfish_ports`.
pub const PORT_EXCLUDED: u8 = 1;
/// As above: every port has it when there is no list of included ones.
pub const PORT_INCLUDED: u8 = 2;
/// Marks in `pilotfish_ports`, one byte for each port.
pub const PORTS: usize = 65536;

/// What the reader of the ring does ([`Control::reader`]).
pub const READER_AWAKE: u32 = 0;
/// A timer will wake it: wake it only past [`Control::wake_bytes`].
pub const READER_NAPPING: u32 = 1;
/// Wake it for any event.
pub const READER_ASLEEP: u32 = 2;

/// Key of `pilotfish_flows`. IPv4 is v4-mapped; ports are in host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Key {
    /// Number of the namespace or cgroup in which the packet was seen.
    pub slot: u32,
    /// The pod's address, in network byte order.
    pub local_ip: [u8; 16],
    /// The other end's address, in network byte order.
    pub remote_ip: [u8; 16],
    /// The pod's port.
    pub local_port: u16,
    /// The other end's port.
    pub remote_port: u16,
    /// `IPPROTO_TCP` (6) or `IPPROTO_UDP` (17).
    pub proto: u8,
    /// Zero: keys are compared byte by byte.
    pub pad: [u8; 3],
}

/// All payload that travels one way until payload travels the other way. Times in nanoseconds of `bpf_ktime_get_ns`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Message {
    /// First packet with new payload.
    pub first_ns: u64,
    /// Last packet with new payload.
    pub last_ns: u64,
    /// TCP payload, retransmissions not counted again.
    pub bytes: u64,
    /// As the interface hands them over: one GSO packet is one.
    pub packets: u32,
    /// Its number, from 1, both directions in one sequence. 0: there is no message.
    pub turn: u32,
    /// Last bytes of payload seen, right-aligned; only for messages longer than the budget.
    pub tail: [u8; 8],
    /// Bytes of `tail` that are valid, 0 to 8.
    pub tail_len: u8,
    /// [`INGRESS`] or [`EGRESS`].
    pub dir: u8,
    /// Explicit padding.
    pub pad: [u8; 2],
    /// In any [`Segment`]: so many bytes right before `seq` passed and were left out by the walker. Else, and with
    /// [`SEG_LINES`]: how often the client has asked, where `FLOW_LINES_*` is set (`PF_LINES_*` in `bpf/wire.h`).
    pub skipped: u32,
}

/// What is counted of a flow since its start (`pf_counters`), for each direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Counters {
    /// As the interface hands them over: one GSO packet is one.
    pub packets: [u64; 2],
    /// IP bytes, header and payload.
    pub bytes: [u64; 2],
    /// Segments whose sequence numbers had been seen in full before.
    pub retransmits: [u32; 2],
    /// Packets that advertised a receive window of 0.
    pub zero_windows: [u32; 2],
    /// Handshake, nanoseconds; 0: not known. At the client SYN to SYN-ACK, at the server SYN-ACK to
    /// ACK.
    pub rtt_ns: u64,
}

/// Header of `EVENT_SEGMENT` and `EVENT_DATAGRAM`; `captured` payload bytes follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Segment {
    /// [`EVENT_SEGMENT`] or [`EVENT_DATAGRAM`].
    pub kind: u32,
    /// Payload bytes that follow this header, at most [`CHUNK`].
    pub captured: u32,
    /// The flow.
    pub key: Key,
    /// [`INGRESS`] or [`EGRESS`].
    pub dir: u8,
    /// Set of `SEG_*`.
    pub flags: u8,
    /// Flags of the TCP header (RFC 9293 section 3.1): FIN is bit 0. For UDP without meaning.
    pub tcp_flags: u8,
    /// Explicit padding.
    pub pad: u8,
    /// Start time of the flow; tells apart two flows with the same key.
    pub flow_id: u64,
    /// When the packet was seen, nanoseconds of `bpf_ktime_get_ns`.
    pub at_ns: u64,
    /// TCP sequence number of the first captured byte, in host byte order; 0 for UDP.
    pub seq: u32,
    /// Payload bytes of the packet, counted from `seq`.
    pub payload: u32,
    /// Message number; for UDP the number among the flow's datagrams that were to be copied.
    pub turn: u32,
    /// [`Flow::flags`] at that time.
    pub flow_flags: u32,
    /// The message before this one, complete; valid with [`SEG_MESSAGE_START`]. Its `turn` is 0
    /// where there was none.
    pub prev: Message,
}

/// Event of a flow that is over (`pf_closed`): its last counts.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Closed {
    /// [`EVENT_CLOSED`].
    pub kind: u32,
    /// [`Flow::flags`] at the end.
    pub flow_flags: u32,
    /// The flow.
    pub key: Key,
    /// Number of its last message; 0: there was none.
    pub turn: u32,
    /// Start time of the flow, as in [`Segment::flow_id`].
    pub flow_id: u64,
    /// When its end was seen, nanoseconds of `bpf_ktime_get_ns`.
    pub at_ns: u64,
    /// Final counts.
    pub counters: Counters,
    /// The message that was under way.
    pub last: Message,
}

/// Value of `pilotfish_override`: the budget of one of the flows that have its key one after the other.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Override {
    /// [`Flow::flow_id`] of the one that is meant.
    pub flow_id: u64,
    /// A number of bytes, or `BUDGET_*`.
    pub budget: u32,
    /// 0: it is not walked; `FRAMES_LINES_*`; else one more than the place of its protocol in `pilotfish_frames`.
    pub frames: u8,
    /// Bit for each direction: `header` is valid.
    pub straight: u8,
    /// Another number than before: to be done.
    pub command: u8,
    /// Explicit padding.
    pub pad: u8,
    /// Sequence number at which a header of each direction begins.
    pub header: [u32; 2],
}

/// [`Override::frames`]: it is not walked, but ends of request lines are counted of what comes to the pod.
pub const FRAMES_LINES_IN: u8 = 254;
/// [`Override::frames`]: of what leaves it.
pub const FRAMES_LINES_OUT: u8 = 255;

/// Bytes of a header that matter, at most.
pub const HEADER: usize = 16;
/// Entries of `pilotfish_frames`.
pub const PROTOCOLS: usize = 32;
/// Most frames of a packet that are followed.
pub const MOST_FRAMES: u32 = 64;
/// Bytes that are kept of the end of a message of more frames than were followed.
pub const TAIL: usize = 256;

/// [`Frames::form`]: `width` bytes at `at`.
pub const FORM_FIXED: u8 = 0;
/// [`Frames::form`]: 7 bits a byte from `at` on.
pub const FORM_VARINT: u8 = 1;
/// [`Frames::form`]: RFC 6455 section 5.2.
pub const FORM_WEBSOCKET: u8 = 2;
/// [`Frames::form`]: no frames, `keep[0]` bytes of each packet.
pub const FORM_PACKETS: u8 = 3;

/// Bit of [`Frames::flags`]: a message begins with a header.
pub const FRAMES_ALIGNED: u8 = 1;
/// Bit of [`Frames::flags`]: beyond `most` frames in a packet, the rest of the message is rows.
pub const FRAMES_ROWS: u8 = 2;
/// Frames of class 3 are many: told are the first of those that follow one another and what goes on behind its packet.
pub const FRAMES_RUNS: u8 = 4;

/// Value of `pilotfish_frames`: how the frames of a protocol say their length, and how much of them
/// is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Frames {
    /// `FORM_*`.
    pub form: u8,
    /// Place of the length in the header.
    pub at: u8,
    /// Its bytes, 1 to 4.
    pub width: u8,
    /// Not 0: most significant byte first.
    pub big: u8,
    /// Place of the frame's kind.
    pub kind_at: u8,
    /// Bits of it that count; 0: all frames are of class 0.
    pub kind_mask: u8,
    /// Bytes of the header: no frame is shorter.
    pub header: u8,
    /// Set of `FRAMES_*`.
    pub flags: u8,
    /// Bytes of the frame that its length does not count.
    pub add: i32,
    /// Frames of a packet that are followed, [`MOST_FRAMES`] at most.
    pub most: u32,
    /// Bytes of a frame of each class that are copied.
    pub keep: [u32; 4],
    /// The class of each kind, two bits: kind 0 in the lowest of the first byte.
    pub classes: [u8; 64],
}

/// Where a direction of a walked flow stands. Numbers are sequence numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Way {
    /// Of the next header, or of the one under way.
    pub header: u32,
    /// What comes before it is copied.
    pub keep: u32,
    /// All before it was told.
    pub told: u32,
    /// 0: astray, 1: walks, 2: rows.
    pub mode: u8,
    /// Bytes of the header that came with earlier packets.
    pub have: u8,
    /// `told` is valid.
    pub told_known: u8,
    /// The last command that was done.
    pub command: u8,
    /// These bytes.
    pub head: [u8; HEADER],
}

/// Value of `pilotfish_walks`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Walk {
    /// [`Flow::flow_id`] of the one that is meant.
    pub flow_id: u64,
    /// By direction.
    pub way: [Way; 2],
    /// [`Control::commands`] when commands were last looked for.
    pub seen: [u32; 2],
    /// As in [`Override`].
    pub frames: u8,
    /// Direction of `tail`.
    pub tail_dir: u8,
    /// Explicit padding.
    pub pad: [u8; 2],
    /// Sequence number after its last byte.
    pub tail_end: u32,
    /// Its message; 0: there is none.
    pub tail_turn: u32,
    /// Explicit padding.
    pub pad2: u32,
    /// When it passed, nanoseconds.
    pub tail_ns: u64,
    /// The last bytes of a message of rows.
    pub tail: [u8; TAIL],
}

/// Value of `pilotfish_flows`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Flow {
    /// 0: free; else one more than the number of the CPU that has it.
    pub lock: u32,
    /// Set of `FLOW_*`.
    pub flags: u32,
    /// Bit for each direction: `next_seq` is valid; the two bits above: `isn` is.
    pub seq_known: u8,
    /// Direction of the current message.
    pub turn_dir: u8,
    /// Bit for each direction: the last packet that way advertised a window of 0.
    pub zero_window: u8,
    /// Bit for each direction: `acked` is valid.
    pub ack_known: u8,
    /// Number of the current message; 0 before the first.
    pub turn: u32,
    /// Time of the last packet, nanoseconds; for an ACK without payload as of the last tick.
    pub last_ns: u64,
    /// What the other side has acknowledged of each direction, also of what was not seen.
    pub acked: [u32; 2],
    /// Since the flow's start.
    pub counters: Counters,
    /// Next new sequence number of each direction, in host byte order.
    pub next_seq: [u32; 2],
    /// First sequence number that was jumped over, for each direction.
    pub hole_start: [u32; 2],
    /// First sequence number after the hole; equal to `hole_start`: there is none.
    pub hole_end: [u32; 2],
    /// Sequence number at which the newest message of each direction began.
    pub turn_seq: [u32; 2],
    /// Bytes of the current message's head to copy: a number, or `BUDGET_*`.
    pub head_bytes: u32,
    /// Events of this flow that found the ring full.
    pub lost_events: u32,
    /// Start time of the flow; tells apart two flows with the same key.
    pub flow_id: u64,
    /// The current one.
    pub message: Message,
    /// Packet whose answer gives the RTT, nanoseconds; 0: none, or it was sent twice (Karn, RFC
    /// 6298 section 3).
    pub syn_ns: u64,
    /// Sequence number of each direction's SYN, in host byte order; without one, before what is known to be new.
    pub isn: [u32; 2],
    /// Of each direction's FIN, once it was seen.
    pub fin_seq: [u32; 2],
    /// Of a SYN that may begin another connection; valid with `FLOW_SYN_AGAIN_*`.
    pub again_seq: u32,
    /// The number after that SYN and its payload.
    pub again_end: u32,
    /// So often was it sent.
    pub again_packets: u32,
    /// Explicit padding.
    pub pad: u32,
    /// IP bytes of these packets.
    pub again_bytes: u64,
    /// As `syn_ns`, of that SYN.
    pub again_ns: u64,
}

/// Value of `pilotfish_control`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Control {
    /// Bytes of each message's head to copy, where no override says otherwise.
    pub head_bytes: u32,
    /// Datagrams copied for each direction of a flow that is not DNS.
    pub udp_datagrams: u32,
    /// 0: `pilotfish_override` is empty, do not look.
    pub overrides: u32,
    /// Unread bytes in the ring at which a napping reader is woken.
    pub wake_bytes: u32,
    /// Not 0: look at packets of the node's own sockets that have a loopback address.
    pub loopback: u32,
    /// Half-open connections of one namespace that get a flow.
    pub opening_share: u32,
    /// The same of all namespaces: beyond it, each has a small part of its share.
    pub opening_room: u32,
    /// Half-open connections in the table.
    pub opening_all: i32,
    /// Entries of `pilotfish_flows`.
    pub flows_room: u32,
    /// Of these, how many are in use.
    pub flows_all: i32,
    /// Answers that were seen of flows without room, for each direction.
    pub answers: [u64; 2],
    /// Changed with each command to a walk.
    pub commands: u32,
    /// Slots with an override of their own, of whose flows no message is copied.
    pub quiet: u32,
    /// `READER_*`. It changes often: its cache line has only what each record needs, too.
    pub reader: u32,
    /// Unread bytes in the ring beyond which it takes no record of payload: the rest is for the news of ends.
    pub data_bytes: u32,
    /// Servers with an override of their own, whose new connections are copied whole.
    pub servers: u32,
    /// Ends that were put into `pilotfish_aside`: it wraps.
    pub aside: u32,
    /// Explicit padding.
    pub pad2: [u8; 48],
    /// Flows whose handshake is not complete, by namespace: see [`opening`].
    pub opening: [i32; OPENING],
    /// All flows, by namespace, at the same places.
    pub flows: [i32; OPENING],
}

/// A namespace has so many times the flows that are left free.
pub const SHARE_TIMES: u32 = 3;
/// Or so many, while there is any room.
pub const SHARE_LEAST: u32 = 16;

/// Entries of `pilotfish_seen`.
pub const PLACES: u32 = 2048;

/// Entries of [`Control::opening`] and [`Control::flows`].
pub const OPENING: usize = 512;

/// Place of a namespace in these two.
#[must_use]
pub const fn opening(slot: u32) -> usize {
    ((slot ^ (slot >> 23)) as usize) & (OPENING - 1)
}

/// Indices of `Stats::count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Stat {
    /// All packets seen.
    Packets = 0,
    /// Events put into the ring.
    Events,
    /// Events that found no room in the ring.
    RingFull,
    /// Packets whose flow found no room in the table.
    FlowsFull,
    /// IP packets whose headers could not be followed.
    Unparsed,
    /// Fragments other than the first; counted nowhere else.
    Fragments,
    /// Packets that are not IP, or neither TCP nor UDP.
    Other,
    /// Packets that belong to no flow in the table and begin none: without payload, or sent again of an exchange that
    /// was told without a flow.
    Stray,
    /// Flows that a SYN started afresh before their end was seen or could be reported.
    Replaced,
    /// Packets handled without their flow's lock.
    Unlocked,
    /// Packets of the node's own sockets that found every work area of their CPU in use; counted
    /// nowhere else.
    Nested,
    /// SYNs beyond their namespace's share of half-open connections: they got no flow.
    OpeningFull,
    /// Packets whose flow would have been beyond its namespace's share of the table.
    FlowsShare,
    /// Packets of walked flows that were copied because the place of the next header is not known.
    Astray,
    /// Messages of walked flows of which only the beginning and the last bytes were copied.
    Rows,
    /// Answers without a flow that found no place to be known by: their exchanges are counted nowhere else.
    AnswersFull,
    /// Ends that found no room in the ring nor aside: their flows keep their places.
    ReplacedFull,
    /// Ends that found no room in the ring and were put aside.
    Aside,
}

/// Number of [`Stat`]s.
pub const STAT_MAX: usize = 18;

/// Entries of `pilotfish_stats`.
pub const AREAS: u32 = 3;

/// Size of one CPU's value in `pilotfish_stats`: [`Stats`], then what the programs work with.
pub const CPU_BYTES: usize = 10048;

/// Value of `pilotfish_stats` on one CPU.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Stats {
    /// Indexed by [`Stat`], since the programs were loaded. To be added up over CPUs and areas.
    pub count: [u64; STAT_MAX],
}

const _: () = {
    assert!(size_of::<Key>() == 44);
    assert!(size_of::<Message>() == 48);
    assert!(size_of::<Counters>() == 56);
    assert!(size_of::<Segment>() == 136);
    assert!(size_of::<Closed>() == 176);
    assert!(size_of::<Flow>() == 240);
    assert!(size_of::<Override>() == 24);
    assert!(size_of::<Frames>() == 96);
    assert!(size_of::<Way>() == 32);
    assert!(size_of::<Walk>() == 360);
    assert!(size_of::<Control>() == 4224);
    assert!(size_of::<Stats>() == 144);
};
