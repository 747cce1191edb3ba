//! What a source of packets tells the pipeline. The kernel programs and a replayed capture produce
//! the same events, so that everything behind them is one code path.

use flow_model::{Close, Direction, FiveTuple, Role, Slot, Transport, Ts};

/// Names a flow within a source: where it was seen and between whom. With `FlowId`, unique over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    pub slot: Slot,
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
    pub key: FlowKey,
    pub id: FlowId,
    pub role: Role,
    pub joined_midway: bool,
    pub transport: Transport,
    pub dir: Direction,
    pub at: Ts,
    /// TCP sequence number of `payload[0]`; 0 for UDP.
    pub seq: u32,
    /// Message number (`l7::Piece::turn`); for UDP the number of the datagram in this flow.
    pub turn: u32,
    pub wire_len: u32,
    /// The message that ended before this one began; given with the first piece of each message.
    pub prev: Option<l7::MessageEnd>,
    pub payload: &'a [u8],
}

/// Counters of a flow since it began. Indexed by `Direction::index`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub packets: [u64; 2],
    pub bytes: [u64; 2],
    pub retransmits: [u32; 2],
    pub zero_windows: [u32; 2],
    pub rtt_ns: Option<u64>,
}

/// The state of a flow at some time: taken when it closed, or by sampling the kernel's table.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub key: FlowKey,
    pub id: FlowId,
    pub at: Ts,
    pub role: Role,
    pub joined_midway: bool,
    /// The handshake was seen, or the flow was joined midway.
    pub established: bool,
    pub counters: Counters,
    /// Number of messages so far; heads missing below it were lost.
    pub turns: u32,
    /// The message under way, as far as it got.
    pub message: Option<l7::MessageEnd>,
    pub closed: Option<Close>,
    /// The local end has said that it sends no more, the remote end has not.
    pub half_closed: bool,
}

#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    Segment(Segment<'a>),
    /// The flow's final state.
    Closed(Sample),
}
