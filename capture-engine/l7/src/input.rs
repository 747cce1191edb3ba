use crate::asked::Asked;
use crate::walk::{Walk, Walked};
use crate::wires::Wires;
use flow_model::{Direction, L7Record, LossReason, Ts};

/// Captured TCP payload of one packet: the part of it that was copied.
///
/// A *message* is all payload that travels one way until payload travels the other way; messages of
/// a flow are numbered from 1 in one sequence (`turn`), so odd and even numbers are the two
/// directions. Only the head of each message is sure to be captured.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// As the local end sees it.
    pub dir: Direction,
    /// When the packet passed the interface.
    pub at: Ts,
    /// TCP sequence number of `payload[0]`.
    pub seq: u32,
    /// Number of the message that it belongs to, from 1.
    pub turn: u32,
    /// The source says that it is the first of that message. Where none says so, the first one was lost.
    pub first: bool,
    /// Payload bytes of the packet on the wire, counted from `seq`; more than `payload.len()` when
    /// the rest was not copied.
    pub wire_len: u32,
    /// The bytes that were copied; may be empty.
    pub payload: &'a [u8],
    /// Sequence number of the other direction up to which its sender had all bytes, where the source
    /// tells: a capture that dropped packets shows by it what it does not have.
    pub acked: Option<u32>,
    /// Where the source follows frames.
    pub walked: Walked,
}

/// What was counted of a message, though its bytes may never have been copied: final when the next
/// message has begun or the flow has closed, a snapshot when the flow was sampled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageEnd {
    /// The message's number, from 1.
    pub turn: u32,
    /// Application bytes, retransmissions counted once.
    pub bytes: u64,
    /// With new payload, as the interface hands them over: one GSO packet is one.
    pub packets: u32,
    /// When the first packet with new payload passed.
    pub first: Ts,
    /// When the last packet with new payload passed.
    pub last: Ts,
    /// Last bytes of the message, right-aligned in the array, where it was longer than what was copied.
    pub tail: [u8; 8],
    /// How many bytes of `tail` are filled, 0 to 8; 0 where the source tells none.
    pub tail_len: u8,
    /// How often the client has asked until then, where the source counts that and the connection is over or was
    /// sampled.
    pub asked: Option<Asked>,
}

/// How much of the flow the dissector needs from here on; the capture engine tells the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interest {
    /// The head of each message, as configured.
    #[default]
    Heads,
    /// Every byte.
    Everything,
    /// Every byte, and how often the client has asked, which goes this way: it does not wait for answers.
    Pipeline(Direction),
    /// The beginning of each frame.
    Frames(&'static Walk),
    /// Nothing more: encrypted, unrecognised, switched to something opaque.
    Nothing,
}

/// Bounds of one connection. All sizes in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Out-of-order payload held per direction while waiting for a hole to fill.
    pub reassembly_bytes: usize,
    /// Holes held open per direction.
    pub gaps: usize,
    /// A message head being collected (HTTP/1 request line and fields).
    pub head_bytes: usize,
    /// Requests without a response yet.
    pub open_exchanges: usize,
    /// Keep targets, hosts and names in the records. Replay does; live traffic keeps DNS names only, and
    /// the others while somebody taps HTTP.
    pub keep_strings: bool,
    /// Tell the routes of HTTP requests.
    pub routes: bool,
    /// Report what was seen of only one side: a response without its request, a request whose flow
    /// was not seen to end. Replay does, because a capture may hold no more; in live traffic these
    /// are lost exchanges with a reason.
    pub report_partial: bool,
    /// What is read. Connections that speak anything else are counted as left out.
    pub wires: Wires,
}

impl Default for Limits {
    fn default() -> Self {
        // 64 KiB: one full GSO packet out of order. 16 KiB: nginx's and envoy's own bounds on heads
        // are 8-60 KiB; what is longer is parsed as far as it goes. 1024: the deepest pipelines
        // that were seen in captures.
        Limits {
            reassembly_bytes: 64 << 10,
            gaps: 16,
            head_bytes: 16 << 10,
            open_exchanges: 1024,
            keep_strings: false,
            routes: false,
            report_partial: false,
            wires: Wires::ALL,
        }
    }
}

/// Where a dissector puts what it found.
pub trait Out {
    /// One exchange is over. Handed over once for each.
    fn record(&mut self, record: L7Record);

    /// `count` exchanges took place on this connection that no record will tell of.
    fn lost(&mut self, reason: LossReason, count: u64);

    /// The server answered `count` times though nothing was asked (a 408 on an idle connection): no exchanges.
    fn unasked(&mut self, _count: u64) {}
}

/// Captured bytes at the place where their direction is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bytes<'a> {
    pub at: Ts,
    pub turn: u32,
    /// They are the first of their message.
    pub start: bool,
    /// They are the last of a message of many frames that were left out, and begin anywhere in one.
    pub tail: bool,
    pub bytes: &'a [u8],
}

/// Bytes that were on the wire but not captured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hole {
    /// How many; [`Hole::UNKNOWN`] where nobody knows.
    pub bytes: u64,
    /// When the last of them passed, as far as that is known.
    pub at: Ts,
    /// The message that follows; requests of earlier ones were answered inside the hole, if at all.
    pub turn: u32,
    /// What follows begins that message.
    pub before_start: bool,
    pub cause: Cause,
}

/// How it is known that bytes are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Counted by the source but not copied; `at` is exact.
    Counted,
    /// Left out by a source that follows frames: the rest of the frame under way, or of whole frames
    /// that are not wanted. What follows begins with a header, but for a `tail`.
    Skipped,
    /// The numbers of whole messages are missing, and the dissector was told by `missing`.
    Messages,
    /// Nobody told: dropped by the capture.
    Unknown,
}

impl<'a> Bytes<'a> {
    /// What follows the first `used` bytes.
    pub(crate) fn after(self, used: usize) -> Bytes<'a> {
        Bytes { start: false, bytes: self.bytes.get(used..).unwrap_or_default(), ..self }
    }
}

impl Hole {
    /// Longer than any message: it ends whatever it begins in.
    pub(crate) const UNKNOWN: u64 = u64::MAX;

    /// Nobody knows what was in it, and no dissector was told of it before.
    pub(crate) fn is_unseen(&self) -> bool {
        self.bytes > 0 && matches!(self.cause, Cause::Counted | Cause::Unknown)
    }

    /// Bytes to count as passed unseen; none where their number is not known.
    pub(crate) fn counted(&self) -> u64 {
        if self.bytes == Hole::UNKNOWN { 0 } else { self.bytes }
    }
}
