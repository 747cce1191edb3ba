//! What a source of packets tells the pipeline. The kernel programs and a replayed capture produce
//! the same events, so that everything behind them is one code path.

use flow_model::{Close, Direction, FiveTuple, Role, Slot, Transport, Ts};

/// Names a flow within a source: where it was seen and between whom. With `FlowId`, unique over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// The namespace or cgroup at which it was seen.
    pub slot: Slot,
    /// Seen from there: `local` is the end inside.
    pub tuple: FiveTuple,
}

impl FlowKey {
    pub(crate) fn is_udp(&self) -> bool {
        self.tuple.transport == Transport::Udp
    }
}

/// Start of the flow in the source's own count; tells apart two flows that had the same key one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowId(pub u64);

/// Captured payload of one packet.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// The flow's key.
    pub key: FlowKey,
    /// Which of the flows that had this key.
    pub id: FlowId,
    /// Of the local end, as far as it was known when the packet passed.
    pub role: Role,
    /// The flow's first packet seen was no SYN.
    pub joined_midway: bool,
    /// As in `key.tuple`.
    pub transport: Transport,
    /// Which way the packet went, seen from the local end.
    pub dir: Direction,
    /// When the packet passed: CLOCK_MONOTONIC from the kernel, the capture's time from a file.
    pub at: Ts,
    /// TCP sequence number of `payload[0]`; 0 for UDP.
    pub seq: u32,
    /// Message number (`l7::Piece::turn`); for UDP the number of the datagram in this flow.
    pub turn: u32,
    /// Payload bytes that the packet had from `seq` on; more than `payload` has where the rest was
    /// not copied.
    pub wire_len: u32,
    /// It is the first piece of its message.
    pub first: bool,
    /// The message that ended before this one began; given with the first piece of each message.
    pub prev: Option<l7::MessageEnd>,
    /// The bytes that were copied, from `seq` on.
    pub payload: &'a [u8],
    /// `l7::Piece::acked`.
    pub acked: Option<u32>,
    /// Where the source follows frames.
    pub walked: l7::Walked,
}

/// Counters of a flow since it began. Indexed by `Direction::index`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// As the interface hands them over: one GSO packet is one.
    pub packets: [u64; 2],
    /// IP bytes, headers and payload.
    pub bytes: [u64; 2],
    /// TCP segments whose bytes had been sent before; SYNs too.
    pub retransmits: [u32; 2],
    /// TCP packets that announced a window of 0 and were sent in this direction.
    pub zero_windows: [u32; 2],
    /// Round trip of the handshake in nanoseconds: SYN to SYN-ACK at the client, SYN-ACK to ACK at
    /// the server. None when that was not seen.
    pub rtt_ns: Option<u64>,
}

/// The state of a flow at some time: taken when it closed, or by sampling the kernel's table.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// The flow's key.
    pub key: FlowKey,
    /// Which of the flows that had this key.
    pub id: FlowId,
    /// When it closed; of a sampled flow the time of its last packet.
    pub at: Ts,
    /// Of the local end.
    pub role: Role,
    /// The flow's first packet seen was no SYN.
    pub joined_midway: bool,
    /// The handshake was seen, or the flow was joined midway.
    pub established: bool,
    /// Since the flow began.
    pub counters: Counters,
    /// Number of messages so far; heads missing below it were lost.
    pub turns: u32,
    /// The message under way, as far as it got.
    pub message: Option<l7::MessageEnd>,
    /// How it ended; None while it is open.
    pub closed: Option<Close>,
    /// The local end has said that it sends no more, the remote end has not.
    pub half_closed: bool,
}

/// Something that a source has to tell, in the order of its ring or file.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// Payload was copied.
    Segment(Segment<'a>),
    /// The flow's final state.
    Closed(Sample),
}
