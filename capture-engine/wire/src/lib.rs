//! The bytes that the kernel programs and user space exchange: `bpf/wire.h` in Rust. No logic;
//! sizes asserted at compile time.
#![forbid(unsafe_code)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub const INGRESS: u8 = 0;
pub const EGRESS: u8 = 1;

pub const EVENT_SEGMENT: u32 = 1;
pub const EVENT_DATAGRAM: u32 = 2;
pub const EVENT_CLOSED: u32 = 3;
pub const EVENT_WAKE: u32 = 4;

pub const SEG_MESSAGE_START: u8 = 1;
pub const SEG_CUT: u8 = 2;

pub const FLOW_LOCAL_CLIENT: u32 = 1;
pub const FLOW_LOCAL_SERVER: u32 = 2;
pub const FLOW_ESTABLISHED: u32 = 4;
pub const FLOW_MIDWAY: u32 = 8;
pub const FLOW_FIN_IN: u32 = 16;
pub const FLOW_FIN_OUT: u32 = 32;
pub const FLOW_RST: u32 = 64;
pub const FLOW_CLOSED: u32 = 128;
pub const FLOW_CLOSE_REPORTED: u32 = 256;
pub const FLOW_NOT_COPIED: u32 = 512;

pub const BUDGET_NOTHING: u32 = 0;
pub const BUDGET_EVERYTHING: u32 = u32::MAX;

/// Most payload bytes of one event.
pub const CHUNK: usize = 8192;

/// Marks of a port in `pilotfish_ports`.
pub const PORT_EXCLUDED: u8 = 1;
pub const PORT_INCLUDED: u8 = 2;
pub const PORTS: usize = 65536;

/// What the reader of the ring does ([`Control::reader`]).
pub const READER_AWAKE: u32 = 0;
pub const READER_NAPPING: u32 = 1;
pub const READER_ASLEEP: u32 = 2;

/// Key of `pilotfish_flows`. IPv4 is v4-mapped; ports are in host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Key {
    pub slot: u32,
    pub local_ip: [u8; 16],
    pub remote_ip: [u8; 16],
    pub local_port: u16,
    pub remote_port: u16,
    pub proto: u8,
    pub pad: [u8; 3],
}

/// All payload that travels one way until payload travels the other way. Times in nanoseconds of `bpf_ktime_get_ns`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Message {
    pub first_ns: u64,
    pub last_ns: u64,
    pub bytes: u64,
    pub packets: u32,
    pub turn: u32,
    pub tail: [u8; 8],
    pub tail_len: u8,
    pub dir: u8,
    pub pad: [u8; 6],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Counters {
    pub packets: [u64; 2],
    pub bytes: [u64; 2],
    pub retransmits: [u32; 2],
    pub zero_windows: [u32; 2],
    pub rtt_ns: u64,
}

/// Header of `EVENT_SEGMENT` and `EVENT_DATAGRAM`; `captured` payload bytes follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Segment {
    pub kind: u32,
    pub captured: u32,
    pub key: Key,
    pub dir: u8,
    pub flags: u8,
    pub tcp_flags: u8,
    pub pad: u8,
    pub flow_id: u64,
    pub at_ns: u64,
    pub seq: u32,
    pub payload: u32,
    pub turn: u32,
    pub flow_flags: u32,
    pub prev: Message,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Closed {
    pub kind: u32,
    pub flow_flags: u32,
    pub key: Key,
    pub turn: u32,
    pub flow_id: u64,
    pub at_ns: u64,
    pub counters: Counters,
    pub last: Message,
}

/// Value of `pilotfish_flows`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Flow {
    pub lock: u32,
    pub flags: u32,
    pub seq_known: u8,
    pub turn_dir: u8,
    pub zero_window: u8,
    pub pad: u8,
    pub turn: u32,
    pub last_ns: u64,
    pub counters: Counters,
    pub next_seq: [u32; 2],
    pub hole_start: [u32; 2],
    pub hole_end: [u32; 2],
    pub turn_seq: [u32; 2],
    pub head_bytes: u32,
    pub lost_events: u32,
    pub flow_id: u64,
    pub message: Message,
    pub syn_ns: u64,
    pub isn: u32,
    pub pad2: u32,
}

/// Value of `pilotfish_control`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Control {
    pub head_bytes: u32,
    pub udp_datagrams: u32,
    pub overrides: u32,
    pub wake_bytes: u32,
    pub loopback: u32,
    pub pad: [u8; 44],
    pub reader: u32,
    pub pad2: [u8; 60],
}

/// Indices of `Stats::count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Stat {
    Packets = 0,
    Events,
    RingFull,
    FlowsFull,
    Unparsed,
    Fragments,
    Other,
    Stray,
    Replaced,
    Unlocked,
    Nested,
}

pub const STAT_MAX: usize = 11;

/// Entries of `pilotfish_stats`.
pub const AREAS: u32 = 3;

/// Size of one CPU's value in `pilotfish_stats`: [`Stats`], then what the programs work with.
pub const CPU_BYTES: usize = 8984;

/// Value of `pilotfish_stats` on one CPU.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Stats {
    pub count: [u64; STAT_MAX],
}

const _: () = {
    assert!(size_of::<Key>() == 44);
    assert!(size_of::<Message>() == 48);
    assert!(size_of::<Counters>() == 56);
    assert!(size_of::<Segment>() == 136);
    assert!(size_of::<Closed>() == 176);
    assert!(size_of::<Flow>() == 192);
    assert!(size_of::<Control>() == 128);
    assert!(size_of::<Stats>() == 88);
};
