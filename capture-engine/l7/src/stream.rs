use crate::{MessageEnd, Piece, Walked};
use flow_model::Ts;
use std::collections::VecDeque;

/// One direction of a connection: the place of the next byte, and payload that came before its turn.
///
/// Payload in order is never copied. Of bytes that come twice the first ones count, as Linux does.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// Sequence number of the next byte.
    next: u32,
    /// Number of the last message that began in this direction; 0 before the first.
    pub turn: u32,
    known: bool,
    /// The kernel's count for the message `turn` has been taken over: what is missing now belongs to a later one.
    pub counted: bool,
    /// Messages after `turn` are missing in this direction.
    pub missed: bool,
    /// Bytes passed since the direction was first seen. 64 bits, where sequence numbers wrap.
    offset: u64,
    /// `offset` at which message `turn` began.
    message: u64,
    held: Option<Box<Held>>,
    /// The count of message `turn`, which came while pieces were held.
    pub late: Option<Box<MessageEnd>>,
}

#[derive(Debug, Default)]
struct Held {
    pieces: VecDeque<HeldPiece>,
    bytes: usize,
}

#[derive(Debug)]
pub(crate) struct HeldPiece {
    pub seq: u32,
    pub at: Ts,
    pub turn: u32,
    pub start: bool,
    pub wire_len: u32,
    pub walked: Walked,
    pub payload: Box<[u8]>,
}

/// What `Stream::place` says of a piece.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Its bytes from this index on are the next of the stream; more than the payload's length when
    /// the payload is old and only the uncopied rest is new.
    Next(usize),
    /// This many bytes are missing before it.
    After(u32),
    /// Everything in it was there before.
    Old,
}

impl Stream {
    /// The next byte's sequence number is known before it comes.
    pub(crate) fn expect(&mut self, seq: u32) {
        if !self.known {
            self.known = true;
            self.counted = true;
            self.next = seq;
        }
    }

    pub(crate) fn place(&mut self, piece: &Piece<'_>) -> Place {
        if !self.known {
            self.known = true;
            self.next = piece.seq;
        }
        let ahead = piece.seq.wrapping_sub(self.next);
        // Half of the sequence space is ahead, half behind (RFC 9293 section 3.4).
        if ahead == 0 {
            Place::Next(0)
        } else if ahead < 1 << 31 {
            Place::After(ahead)
        } else if ahead.wrapping_neg() < piece.wire_len {
            Place::Next(ahead.wrapping_neg() as usize)
        } else {
            Place::Old
        }
    }

    /// Sequence number of the byte after the next `bytes`, where no other is waited for.
    pub(crate) fn after(&self, bytes: u64) -> Option<u32> {
        (self.known && !self.holds()).then(|| self.next.wrapping_add(bytes as u32))
    }

    /// A message begins at the next byte.
    pub(crate) fn begin(&mut self, turn: u32) {
        self.turn = turn;
        self.message = self.offset;
        self.counted = false;
        self.missed = false;
        self.late = None;
    }

    /// Nothing of the message that began last has passed.
    pub(crate) fn at_start(&self) -> bool {
        self.message == self.offset
    }

    pub(crate) fn advance(&mut self, bytes: u64) {
        self.offset = self.offset.saturating_add(bytes);
        // Sequence numbers are the low 32 bits of the count.
        self.next = self.next.wrapping_add(bytes as u32);
    }

    /// Bytes between the next one and the end of a message that began at `begin` and has `bytes`.
    pub(crate) fn uncaptured(&self, bytes: u64) -> u64 {
        self.message.saturating_add(bytes).saturating_sub(self.offset)
    }

    /// Bytes up to the sequence number `to` have passed, and not all of them were seen.
    pub(crate) fn lacks(&self, to: u32) -> bool {
        self.known && (1..1 << 31).contains(&to.wrapping_sub(self.next))
    }

    pub(crate) fn holds(&self) -> bool {
        self.held.is_some()
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.bytes)
    }

    /// Keeps a copy of a piece that is not next. False when a bound says that the oldest hole has to be given up first.
    pub(crate) fn hold(&mut self, piece: &Piece<'_>, start: bool, max_bytes: usize, max_gaps: usize) -> bool {
        let next = self.next;
        let held = self.held.get_or_insert_default();
        let ahead = piece.seq.wrapping_sub(next);
        let at = held.pieces.partition_point(|other| other.seq.wrapping_sub(next) <= ahead);
        if let Some(before) = at.checked_sub(1).and_then(|at| held.pieces.get(at)) {
            let offset = piece.seq.wrapping_sub(before.seq);
            if u64::from(offset) + u64::from(piece.wire_len) <= u64::from(before.wire_len) {
                return true;
            }
        }
        // A piece costs its bytes and its record.
        let cost = piece.payload.len() + size_of::<HeldPiece>();
        if held.bytes + cost > max_bytes || held.holes(next) >= max_gaps.max(1) && !held.touches(piece) {
            if held.pieces.is_empty() {
                self.held = None;
            }
            return false;
        }
        held.bytes += cost;
        let &Piece { at: time, seq, turn, wire_len, payload, walked, .. } = piece;
        held.pieces.insert(at, HeldPiece { seq, at: time, turn, start, wire_len, walked, payload: payload.into() });
        true
    }

    /// Bytes missing before the first held piece, and that piece's message and time.
    pub(crate) fn hole(&self) -> Option<(u32, u32, Ts)> {
        let first = self.held.as_ref()?.pieces.front()?;
        let ahead = first.seq.wrapping_sub(self.next);
        Some((if ahead < 1 << 31 { ahead } else { 0 }, first.turn, first.at))
    }

    /// The next held piece that has nothing missing before it.
    pub(crate) fn ready(&mut self) -> Option<HeldPiece> {
        if self.hole()?.0 > 0 {
            return None;
        }
        let held = self.held.as_mut()?;
        let piece = held.pieces.pop_front()?;
        held.bytes = held.bytes.saturating_sub(piece.payload.len() + size_of::<HeldPiece>());
        if held.pieces.is_empty() {
            self.held = None;
        }
        Some(piece)
    }

    pub(crate) fn forget(&mut self) {
        self.held = None;
        self.late = None;
    }
}

impl Held {
    fn holes(&self, mut next: u32) -> usize {
        let mut holes = 0;
        for piece in &self.pieces {
            let ahead = piece.seq.wrapping_sub(next);
            if ahead != 0 && ahead < 1 << 31 {
                holes += 1;
            }
            let end = piece.seq.wrapping_add(piece.wire_len);
            if end.wrapping_sub(next) < 1 << 31 {
                next = end;
            }
        }
        holes
    }

    /// Whether a piece continues one that is held, so that it opens no new hole.
    fn touches(&self, piece: &Piece<'_>) -> bool {
        self.pieces.iter().any(|held| piece.seq.wrapping_sub(held.seq) <= held.wire_len)
    }
}
