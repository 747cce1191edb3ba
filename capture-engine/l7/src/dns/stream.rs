//! DNS over TCP: two bytes of length before each message (RFC 1035 section 4.2.2, RFC 7766 section 8).

use super::{Exchanges, looks_like_message};
use crate::dissector::{Dissector, Next, Opening, Sign, Used};
use crate::input::{Bytes, Cause, Hole};
use crate::{Interest, Limits, Out};
use flow_model::{Close, Direction, LossReason, Role, Ts};

/// Cuts the two directions into messages at their lengths.
#[derive(Debug)]
pub(crate) struct Stream {
    exchanges: Exchanges,
    sides: [Side; 2],
}

#[derive(Debug, Default)]
struct Side {
    /// Length and message so far, at most `KEPT` bytes of it.
    bytes: Vec<u8>,
    first: Ts,
    /// Bytes to come of a message of which enough was kept.
    rest: u64,
    /// The place of the next length is lost until a message of the flow with a higher number than this begins.
    lost: Option<u32>,
}

/// Bytes of a message that are kept: questions come first, and so do the addresses of all but zone transfers.
const KEPT: usize = 4096;

impl Dissector for Stream {
    /// A message of which only the beginning came in this piece counts, when that beginning holds the question.
    fn recognise(head: &[u8]) -> Sign {
        let whole = match head {
            &[high, low, ref message @ ..] => {
                let length = usize::from(u16::from_be_bytes([high, low]));
                length >= 12 && looks_like_message(message.get(..length).unwrap_or(message))
            }
            _ => false,
        };
        if whole {
            Sign::Either
        } else if head.len() < 14 && matches!(head, [0 | 1, ..]) {
            // The length may come in a segment of its own.
            Sign::More
        } else {
            Sign::No
        }
    }

    fn open<O: Out>(opening: &Opening<'_>, _out: &mut O) -> Stream {
        let mut exchanges = Exchanges::new(opening.limits);
        let [ingress, egress] = opening.before.missing;
        exchanges.missed(u64::from(ingress + egress), LossReason::RingFull, opening.at.unwrap_or_default());
        Stream { exchanges, sides: Default::default() }
    }

    fn bytes<O: Out>(&mut self, dir: Direction, data: Bytes<'_>, _limits: &Limits, out: &mut O) -> Used {
        let Bytes { at, turn, start, mut bytes } = data;
        let Stream { exchanges, sides } = self;
        let side = &mut sides[dir.index()];
        if start && side.lost.is_some_and(|lost| lost < turn) {
            side.lost = None;
        }
        while !bytes.is_empty() && side.lost.is_none() {
            let used = side.take(bytes, at);
            bytes = bytes.get(used..).unwrap_or_default();
            if side.rest == 0 && side.whole() {
                side.emit(dir, at, turn, exchanges, out);
            }
        }
        Used { bytes: data.bytes.len(), next: Next::Same }
    }

    fn hole<O: Out>(&mut self, dir: Direction, hole: Hole, _limits: &Limits, out: &mut O) {
        let Hole { bytes, at, turn, cause, .. } = hole;
        let Stream { exchanges, sides } = self;
        let side = &mut sides[dir.index()];
        if cause == Cause::Messages {
            // Counted by `missing`; what follows begins a message.
            *side = Side::default();
            return;
        }
        if side.lost.is_some() {
            return;
        }
        let left = side.left();
        if side.bytes.len() > 2 && bytes <= left {
            side.rest = left - bytes;
            if side.rest == 0 {
                side.emit(dir, at, turn, exchanges, out);
            }
            return;
        }
        if side.bytes.len() > 2 {
            side.emit(dir, at, turn, exchanges, out);
        }
        exchanges.missed(1, LossReason::Gap, at);
        *side = Side { lost: Some(turn), ..Side::default() };
    }

    fn missing<O: Out>(&mut self, _dir: Direction, _turn: u32, at: Ts, _out: &mut O) {
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
        Interest::Everything
    }

    fn buffered(&self) -> usize {
        self.sides.iter().map(|side| side.bytes.len()).sum()
    }
}

impl Side {
    /// Length of the message under way, its own two bytes included.
    fn length(&self) -> Option<usize> {
        let &[high, low] = self.bytes.get(..2)? else { return None };
        Some(2 + usize::from(u16::from_be_bytes([high, low])))
    }

    /// Bytes of the message under way that have not come.
    fn left(&self) -> u64 {
        match self.rest {
            0 => self.length().map_or(0, |length| length.saturating_sub(self.bytes.len()) as u64),
            rest => rest,
        }
    }

    fn whole(&self) -> bool {
        self.length().is_some_and(|length| self.bytes.len() >= length.min(KEPT))
    }

    /// Takes what belongs to the message under way; how much that was, at least one byte.
    fn take(&mut self, bytes: &[u8], at: Ts) -> usize {
        if self.rest > 0 {
            let here = usize::try_from(self.rest).unwrap_or(usize::MAX).min(bytes.len());
            self.rest -= here as u64;
            return here;
        }
        if self.bytes.is_empty() {
            self.first = at;
        }
        let want = self.length().unwrap_or(2);
        let here = want.min(KEPT).saturating_sub(self.bytes.len()).clamp(1, bytes.len());
        self.bytes.extend_from_slice(bytes.get(..here).unwrap_or_default());
        if let Some(length) = self.length().filter(|&length| length > KEPT && self.bytes.len() >= KEPT) {
            self.rest = (length - self.bytes.len()) as u64;
        }
        here
    }

    fn emit<O: Out>(&mut self, dir: Direction, last: Ts, turn: u32, exchanges: &mut Exchanges, out: &mut O) {
        let length = self.length().unwrap_or(0);
        let message = self.bytes.get(2..).unwrap_or_default();
        // A query begins with its first byte, a response ends with its last.
        let response = message.get(2).is_some_and(|flags| flags & 0x80 != 0);
        let at = if response { last } else { self.first };
        if length > 2 && !exchanges.captured(dir, at, true, length - 2, message, out) {
            // Its length is believed no more.
            self.lost = Some(turn);
        }
        self.bytes = Vec::new();
        self.rest = 0;
    }
}
