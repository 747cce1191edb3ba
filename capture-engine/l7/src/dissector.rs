//! What a protocol implements to be read from a TCP connection, with defaults for what most need not do.

use crate::asked::{Asked, Counted};
use crate::before::Before;
use crate::head::Head;
use crate::input::{Bytes, Hole};
use crate::{Interest, Limits, MessageEnd, Out};
use flow_model::{Close, Direction, Ts};

/// One connection whose protocol is known.
///
/// It is told everything in the order in which it happened: bytes, holes between them, messages that
/// begin and end. It keeps bounded state and counts in `Out` each exchange that it cannot report.
/// Its methods must not panic on any bytes.
pub(crate) trait Dissector: Sized {
    /// What the first bytes of a message say. Asked once a message until one protocol is sure.
    fn recognise(head: &[u8]) -> Sign;

    /// As `recognise`, of the first message of a connection that was seen to begin. Asked before all others are.
    fn recognise_first(_head: &[u8]) -> Sign {
        Sign::No
    }

    /// As `recognise`, where more bytes of this head will not come.
    fn recognise_cut(_head: &[u8]) -> Sign {
        Sign::No
    }

    /// As `recognise`, of a message that is the answer to the connection's first one: what both say together.
    fn recognise_pair(_request: &[u8], _response: &[u8]) -> Sign {
        Sign::No
    }

    /// Which of two directions asks (0 or 1), where heads that both said `Sign::More` show together that it
    /// is this protocol: a connection that was joined in the middle.
    fn client_of(_heads: [&[u8]; 2]) -> Option<usize> {
        None
    }

    /// The protocol has shown. The bytes that showed it follow in `bytes`.
    fn open<O: Out>(opening: &Opening<'_>, out: &mut O) -> Self;

    /// Takes bytes that were captured.
    fn bytes<O: Out>(&mut self, dir: Direction, data: Bytes<'_>, limits: &Limits, out: &mut O) -> Used;

    /// Passes over bytes that were not captured.
    fn hole<O: Out>(&mut self, dir: Direction, hole: Hole, limits: &Limits, out: &mut O);

    /// No head of message `turn` was captured, though the message was counted. `at`: when this showed.
    fn missing<O: Out>(&mut self, dir: Direction, turn: u32, at: Ts, limits: &Limits, out: &mut O);

    /// The source has counted how often the client has asked.
    fn counted<O: Out>(&mut self, _dir: Direction, _asked: Asked, _counted: Counted, _out: &mut O) {}

    /// It does so no more.
    fn uncounted<O: Out>(&mut self, _dir: Direction, _out: &mut O) {}

    /// The connection is over.
    fn closed<O: Out>(&mut self, at: Ts, close: Close, limits: &Limits, out: &mut O);

    /// The direction of requests, as far as the bytes have told.
    fn client(&self) -> Option<Direction>;

    /// The first piece of a message has come; its bytes follow.
    fn message_begins<O: Out>(&mut self, _dir: Direction, _begun: Begun, _limits: &Limits, _out: &mut O) {}

    /// What was counted of the message of `dir` that began last; its uncaptured bytes went to `hole`.
    fn message_ended<O: Out>(&mut self, _dir: Direction, _end: &MessageEnd, _limits: &Limits, _out: &mut O) {}

    /// A sample of the message under way. True when the `unseen` bytes of it that were not captured
    /// ended an exchange, and count as passed.
    fn progress<O: Out>(
        &mut self,
        _dir: Direction,
        _so_far: &MessageEnd,
        _unseen: u64,
        _now: Ts,
        _limits: &Limits,
        _out: &mut O,
    ) -> bool {
        false
    }

    /// Time passed.
    fn expire<O: Out>(&mut self, _now: Ts, _out: &mut O) {}

    /// When `expire` has something to do next.
    fn next_deadline(&self) -> Option<Ts> {
        None
    }

    /// How much of the connection is to be copied. Where its frames say their lengths:
    /// `Interest::Frames` of a constant of the protocol.
    fn interest(&self) -> Interest {
        Interest::Heads
    }

    /// Bytes between what was handed over of `dir` and its next header, for a source that follows frames
    /// ([`Interest::Frames`]); `None` where nobody knows.
    fn header_in(&self, _dir: Direction) -> Option<u64> {
        None
    }

    /// Bytes of `dir` may be the answer to bytes of the other direction that are still held back
    /// because others are missing before them: those are to be given up first.
    fn needs_other(&self, _dir: Direction) -> bool {
        false
    }

    /// Whether it finds its place again anywhere in a message: what follows the lost beginning of one is then
    /// handed over, after `missing`. Else all of that message counts as lost.
    fn reads_on(&self) -> bool {
        false
    }

    /// Whether `progress` could end an exchange.
    fn waits_for_end(&self) -> bool {
        false
    }

    /// Bytes that are kept.
    fn buffered(&self) -> usize {
        0
    }

    /// Lets go of what is held, up to message `turn`, the newest: exchanges that wait for their ends are
    /// lost to a limit.
    fn shed<O: Out>(&mut self, turn: u32, out: &mut O);

    /// Bytes that it holds on to: those, and what it knows of open exchanges. May walk over them.
    fn held(&self) -> usize {
        self.buffered()
    }
}

/// A message that has begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun {
    /// Its number.
    pub turn: u32,
    pub at: Ts,
    /// Bytes of the other direction wait for what is missing before them: what it said last is not known yet.
    pub unsure: bool,
    /// Bytes of its own direction before it were not seen.
    pub missed: bool,
}

/// What the first bytes of a message say of one protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// A request begins after this many bytes.
    Request { after: usize },
    /// A response begins.
    Response,
    /// More bytes decide.
    More,
    /// It is not this protocol.
    No,
}

/// What is known of a connection when its protocol shows.
pub(crate) struct Opening<'a> {
    /// The direction whose bytes showed it, and the message they are in.
    pub dir: Direction,
    pub turn: u32,
    /// When those bytes came; `None` when a hole decided.
    pub at: Option<Ts>,
    pub client: Option<Direction>,
    pub before: &'a Before,
    /// The connection was seen to begin: nothing was said on it before message 1.
    pub from_start: bool,
    /// Heads that were kept, by direction.
    pub heads: [Option<&'a Head>; 2],
    /// The newest bytes of `dir`: all of its head where none was kept.
    pub newest: &'a [u8],
    pub limits: &'a Limits,
}

/// What became of bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Used {
    /// How many were taken. It may stop short to be asked `needs_other` again; 0 drops the rest.
    pub bytes: usize,
    pub next: Next,
}

/// What the connection carries from here on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Same,
    /// Anything may begin: a tunnel through a proxy.
    Search,
    /// HTTP/2, which HTTP/1 has agreed on.
    Http2,
    /// WebSocket, which HTTP/1 has agreed on.
    WebSocket,
    /// Nothing that is read.
    Opaque,
}
