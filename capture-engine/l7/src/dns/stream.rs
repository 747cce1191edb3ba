//! DNS over TCP: two bytes of length before each message (RFC 1035 section 4.2.2, RFC 7766 section 8).

use super::{Exchanges, sign};
use crate::dissector::{Dissector, Next, Opening, Sign, Used};
use crate::framing::{Frame, Frames, Framing};
use crate::input::{Bytes, Hole};
use crate::{Interest, Length, Limits, Out, Walk};
use flow_model::{Close, Direction, LossReason, Role, Ts};

/// Cuts the two directions into messages at their lengths.
#[derive(Debug)]
pub(crate) struct Stream {
    exchanges: Exchanges,
    sides: [Frames<Prefixed>; 2],
}

/// Messages over TCP, with their length before them.
#[derive(Debug)]
struct Prefixed;

/// As a source follows them. Queries may go on while a long answer passes, so a message of the flow
/// begins anywhere.
static WALK: Walk = Walk {
    length: Length::Fixed { at: 0, width: 2, big_endian: true },
    header: 2,
    uncounted: 2,
    kind: None,
    classes: &[],
    keep: [Prefixed::KEPT as u32; 4],
    most: 64,
    aligned: false,
    rows: false,
    runs: false,
};

impl Framing for Prefixed {
    const HEADER: usize = 2;
    /// Questions come first, and so do the addresses of all but zone transfers.
    const KEPT: usize = 4096;

    fn length(head: &[u8]) -> Option<usize> {
        let &[high, low] = head.get(..2)? else { return None };
        Some(2 + usize::from(u16::from_be_bytes([high, low])))
    }
}

impl Dissector for Stream {
    fn recognise(head: &[u8]) -> Sign {
        sign::recognise(head)
    }

    fn recognise_first(head: &[u8]) -> Sign {
        sign::recognise_first(head)
    }

    fn recognise_cut(head: &[u8]) -> Sign {
        sign::recognise_cut(head)
    }

    fn client_of(heads: [&[u8]; 2]) -> Option<usize> {
        sign::client_of(heads)
    }

    fn open<O: Out>(opening: &Opening<'_>, out: &mut O) -> Stream {
        let mut exchanges = Exchanges::new(opening.limits);
        let passed = opening.before.passed();
        let [ingress, egress] = passed.missing;
        if !opening.from_start && passed.began_midway.is_some_and(|dir| opening.client == Some(dir.reverse())) {
            // The answer to what was asked before.
            out.lost(LossReason::JoinedMidway, 1);
        }
        exchanges.missed(u64::from(ingress + egress), LossReason::RingFull, opening.at.unwrap_or_default());
        Stream { exchanges, sides: Default::default() }
    }

    fn bytes<O: Out>(&mut self, dir: Direction, data: Bytes<'_>, _limits: &Limits, out: &mut O) -> Used {
        let Stream { exchanges, sides } = self;
        sides[dir.index()].bytes(data, |frame| message(exchanges, dir, frame, out));
        Used { bytes: data.bytes.len(), next: Next::Same }
    }

    fn hole<O: Out>(&mut self, dir: Direction, hole: Hole, _limits: &Limits, out: &mut O) {
        let Stream { exchanges, sides } = self;
        if sides[dir.index()].hole(hole, |frame| message(exchanges, dir, frame, out)) {
            exchanges.missed(1, LossReason::Gap, hole.at);
        }
    }

    fn missing<O: Out>(&mut self, _dir: Direction, _turn: u32, at: Ts, _limits: &Limits, _out: &mut O) {
        self.exchanges.missed(1, LossReason::RingFull, at);
    }

    fn closed<O: Out>(&mut self, at: Ts, _close: Close, _limits: &Limits, out: &mut O) {
        self.exchanges.closed(at, out);
    }

    fn client(&self) -> Option<Direction> {
        match self.exchanges.role() {
            Role::Client => Some(Direction::Egress),
            Role::Server => Some(Direction::Ingress),
            Role::Unknown => None,
        }
    }

    fn expire<O: Out>(&mut self, now: Ts, out: &mut O) {
        self.exchanges.expire(now, out);
    }

    fn next_deadline(&self) -> Option<Ts> {
        self.exchanges.next_deadline()
    }

    fn interest(&self) -> Interest {
        Interest::Frames(&WALK)
    }

    fn header_in(&self, dir: Direction) -> Option<u64> {
        self.sides[dir.index()].header_in()
    }

    fn buffered(&self) -> usize {
        self.sides.iter().map(Frames::buffered).sum()
    }

    fn shed<O: Out>(&mut self, _turn: u32, out: &mut O) {
        self.exchanges.shed(out);
    }

    fn held(&self) -> usize {
        self.buffered() + self.exchanges.held()
    }
}

/// Reads a message; false when it makes no sense.
fn message<O: Out>(exchanges: &mut Exchanges, dir: Direction, frame: Frame<'_>, out: &mut O) -> bool {
    let message = frame.bytes.get(2..).unwrap_or_default();
    // A query begins with its first byte, a response ends with its last.
    let response = message.get(2).is_some_and(|flags| flags & 0x80 != 0);
    let at = if response { frame.last } else { frame.first };
    let length = frame.length.saturating_sub(2);
    length == 0 || exchanges.captured(dir, at, true, length, message, out)
}
