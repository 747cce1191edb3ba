//! A connection whose bytes come in order: plaintext from inside a program, which has no sequence numbers.

use crate::conversation::Conversation;
use crate::dissector::Begun;
use crate::input::{Bytes, Cause, Hole};
use crate::protocols::Wire;
use crate::{Interest, Limits, MessageEnd, Out};
use flow_model::{Close, Direction, Role, Ts};

/// One connection of which each direction is told in order, as [`Tcp`](crate::Tcp) is of captured segments.
///
/// The caller hands over what each direction said, cut as it came, in the order in which it was
/// observed: `bytes` for what was copied and `gap` for what was not, `closed` at the end. Messages
/// need no numbers: one ends where the other direction speaks.
#[derive(Debug)]
pub struct Ordered {
    conversation: Conversation,
    /// The message under way: its bytes, and when the last of them passed.
    bytes: u64,
    last: Ts,
}

impl Ordered {
    /// A connection of which nothing was said yet. `role` is what the local end is, as far as it is
    /// known; bytes that are recognised know better.
    #[must_use]
    pub fn new(limits: &Limits, role: Role) -> Ordered {
        Ordered { conversation: Conversation::new(limits, role), bytes: 0, last: Ts::default() }
    }

    /// Nothing was said before what is handed over first.
    pub fn seen_to_begin(&mut self) {
        self.conversation.from_start = true;
    }

    /// The next bytes of a direction.
    pub fn bytes<O: Out>(&mut self, dir: Direction, at: Ts, bytes: &[u8], out: &mut O) {
        if bytes.is_empty() || self.conversation.is_opaque() {
            return;
        }
        let start = self.advance(dir, at, bytes.len() as u64, out);
        let turn = self.conversation.turn();
        self.conversation.feed(dir, Bytes { at, turn, start, tail: false, bytes }, out);
    }

    /// The next bytes of a direction were not copied: so many, or nobody knows how many. `at`: when the
    /// last of them passed.
    pub fn gap<O: Out>(&mut self, dir: Direction, at: Ts, length: Option<u64>, out: &mut O) {
        if length == Some(0) || self.conversation.is_opaque() {
            return;
        }
        self.advance(dir, at, length.unwrap_or(0), out);
        let (bytes, cause) = match length {
            Some(length) => (length, Cause::Counted),
            None => (Hole::UNKNOWN, Cause::Unknown),
        };
        let turn = self.conversation.turn().saturating_add(1);
        self.conversation.pass(dir, Hole { bytes, at, turn, before_start: false, cause }, out);
    }

    /// The connection is over.
    pub fn closed<O: Out>(&mut self, at: Ts, close: Close, out: &mut O) {
        self.end_message(out);
        self.conversation.closed(at, close, out);
    }

    /// Gives up on what has waited too long, where the protocol has such a bound.
    pub fn expire<O: Out>(&mut self, now: Ts, out: &mut O) {
        self.conversation.expire(now, out);
    }

    /// When [`expire`](Self::expire) has something to do next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Ts> {
        self.conversation.next_deadline()
    }

    /// How much of the connection is worth handing over from here on.
    #[must_use]
    pub fn interest(&self) -> Interest {
        self.conversation.interest()
    }

    /// What the local end is: as told, until bytes say better.
    #[must_use]
    pub fn role(&self) -> Role {
        self.conversation.role()
    }

    /// What the connection speaks, once it has shown.
    #[must_use]
    pub fn wire(&self) -> Option<Wire> {
        self.conversation.wire()
    }

    /// Bytes that are kept, of heads that are not whole.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.conversation.buffered()
    }

    /// `bytes` of `dir` pass; true when they begin a message.
    fn advance<O: Out>(&mut self, dir: Direction, at: Ts, bytes: u64, out: &mut O) -> bool {
        let turn = self.conversation.turn();
        let start = turn == 0 || self.conversation.direction_of(turn) != Some(dir);
        if start {
            self.end_message(out);
            let turn = turn.wrapping_add(1);
            self.conversation.goes(turn, dir);
            self.conversation.message_begins(dir, Begun { turn, at, unsure: false, missed: false }, out);
            self.bytes = 0;
        }
        self.bytes = self.bytes.saturating_add(bytes);
        self.last = at;
        start
    }

    fn end_message<O: Out>(&mut self, out: &mut O) {
        let turn = self.conversation.turn();
        if let Some(dir) = self.conversation.direction_of(turn).filter(|_| turn > 0) {
            let end = MessageEnd { turn, bytes: self.bytes, last: self.last, ..MessageEnd::default() };
            self.conversation.message_ended(dir, &end, out);
        }
    }
}
