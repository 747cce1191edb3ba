//! One TCP connection from captured segments: puts them in order for the conversation that they carry.

use crate::asked::Counted;
use crate::conversation::{Conversation, Fed, Kept};
use crate::dissector::Begun;
use crate::input::{Bytes, Cause, Hole};
use crate::protocols::Wire;
use crate::stream::{HeldPiece, Place, Stream};
use crate::{Interest, Limits, MessageEnd, Out, Piece, Walked};
use flow_model::{Close, Direction, Role, Ts};

/// One TCP connection: puts captured pieces in order, finds out what protocol it carries, and reports its exchanges.
///
/// The caller hands over everything of one connection in the order in which it was observed:
/// `message_ended` with the summary that came with the first piece of a message, then `piece`;
/// `closed` at the end. Nothing here depends on how long any of it takes.
#[derive(Debug)]
pub struct Tcp {
    streams: [Stream; 2],
    conversation: Conversation,
    counters: Counters,
}

/// What a connection could not keep, since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Holes that were given up: their bytes never came.
    pub gaps: u32,
    /// Those of them that were given up because a bound of `Limits` was reached.
    pub bounded: u32,
}

impl Tcp {
    /// A connection of which nothing was seen yet. `role` is what the local end is, as far as it is
    /// known; bytes that are recognised know better.
    #[must_use]
    pub fn new(limits: &Limits, role: Role) -> Tcp {
        Tcp {
            streams: [Stream::default(), Stream::default()],
            conversation: Conversation::new(limits, role),
            counters: Counters::default(),
        }
    }

    /// The handshake told which sequence number the first payload byte of `dir` has. Without it,
    /// bytes that are missing at the very beginning of a direction go unnoticed.
    pub fn starts_at(&mut self, dir: Direction, seq: u32) {
        self.seen_to_begin();
        self.streams[dir.index()].expect(seq);
    }

    /// Its handshake was seen: nothing was said before message 1.
    pub fn seen_to_begin(&mut self) {
        self.conversation.from_start = true;
    }

    /// From the next request on, `Limits::keep_strings` is this.
    pub fn keep_strings(&mut self, keep: bool) {
        self.conversation.limits.keep_strings = keep;
    }

    /// Takes the captured payload of one packet.
    pub fn piece<O: Out>(&mut self, piece: &Piece<'_>, out: &mut O) {
        if self.conversation.is_opaque() {
            return;
        }
        if piece.walked.skipped > 0 {
            return self.walked(piece, out);
        }
        if piece.payload.is_empty() && piece.wire_len == 0 {
            return;
        }
        let captured = u32::try_from(piece.payload.len()).unwrap_or(u32::MAX);
        let piece = &Piece { wire_len: piece.wire_len.max(captured), ..*piece };
        let start = piece.turn > self.conversation.turn();
        let mut headless = false;
        if piece.turn > self.streams[piece.dir.index()].turn {
            if !start {
                // All of this message has been counted as lost. But it tells which way messages go.
                self.conversation.goes(piece.turn, piece.dir);
                return;
            }
            if !self.is_first(piece) {
                self.without_first(piece, out);
                if !self.conversation.reads_on() {
                    return;
                }
                headless = true;
            }
        }
        if start {
            self.begin_message(piece, out);
        } else {
            self.counted_later(piece, out);
        }
        let stream = &mut self.streams[piece.dir.index()];
        // Only messages of this direction account for bytes of it. Where none is missing but of the other one, the
        // hole is the rest of the message before.
        let missed = stream.missed || headless;
        if headless {
            // Where it has begun is not known; not after what is missing, so its count tells of no byte too many.
            stream.begin(piece.turn);
        }
        let begins = start && !headless;
        match stream.place(piece) {
            Place::Next(from) => {
                if begins {
                    stream.begin(piece.turn);
                }
                self.take(piece, from, start, out);
                if self.streams[piece.dir.index()].holds() {
                    self.drain(piece.dir, false, out);
                }
            }
            Place::After(missing) => {
                if start && (missed || !stream.counted) {
                    let cause = if missed { Cause::Messages } else { Cause::Unknown };
                    // Nobody knows when the last of the missing bytes passed; what follows may be hours younger.
                    let at = Ts::default();
                    let hole = Hole { bytes: u64::from(missing), at, turn: piece.turn, before_start: true, cause };
                    self.give_up(piece.dir, hole, out);
                    if begins {
                        self.streams[piece.dir.index()].begin(piece.turn);
                    }
                    self.take(piece, 0, true, out);
                } else {
                    if start {
                        // All of the message before was counted: what is missing is the beginning of this one.
                        stream.begin(piece.turn);
                    }
                    self.hold(piece, start, out);
                }
            }
            Place::Old => {
                if begins {
                    stream.begin(piece.turn);
                }
            }
        }
    }

    /// What a source that follows frames left out before the piece is no hole to wait for.
    #[cold]
    fn walked<O: Out>(&mut self, piece: &Piece<'_>, out: &mut O) {
        let skipped = piece.walked.skipped;
        let (seq, walked) = (piece.seq.wrapping_sub(skipped), Walked { frames: true, ..Walked::default() });
        self.piece(&Piece { seq, wire_len: skipped, payload: &[], walked, ..*piece }, out);
        // Where the piece begins a message, what was left out has begun it.
        let walked = Walked { skipped: 0, ..piece.walked };
        self.piece(&Piece { first: false, walked, ..*piece }, out);
    }

    /// The sequence number of each direction's next header, as far as it is known: with it a source that
    /// has lost its way goes on following frames. By [`Direction::index`].
    #[must_use]
    pub fn headers(&self) -> [Option<u32>; 2] {
        [Direction::Ingress, Direction::Egress]
            .map(|dir| self.streams[dir.index()].after(self.conversation.header_in(dir)?))
    }

    /// The kernel's final count of a message. Call it before the first piece of the next one.
    pub fn message_ended<O: Out>(&mut self, end: &MessageEnd, out: &mut O) {
        let Some(dir) = self.conversation.direction_of(end.turn) else { return };
        let stream = &mut self.streams[dir.index()];
        if stream.turn != end.turn || stream.counted {
            return;
        }
        if stream.holds() {
            stream.late = Some(Box::new(*end));
            return;
        }
        stream.counted = true;
        let bytes = stream.uncaptured(end.bytes);
        if bytes > 0 {
            let (turn, cause) = (end.turn + 1, Cause::Counted);
            self.skip(dir, Hole { bytes, at: end.last, turn, before_start: true, cause }, out);
        }
        self.conversation.message_ended(dir, end, out);
    }

    /// Takes a sample of the message under way, of a connection that is `waiting_for_end`: a
    /// response whose last byte is known to have passed is complete, whenever the next message
    /// comes.
    pub fn progress<O: Out>(&mut self, so_far: &MessageEnd, now: Ts, out: &mut O) {
        let Some(dir) = self.conversation.direction_of(so_far.turn) else { return };
        let stream = &mut self.streams[dir.index()];
        let newest = so_far.turn == self.conversation.turn() && stream.turn == so_far.turn;
        if !newest || stream.counted || stream.holds() {
            return;
        }
        let unseen = stream.uncaptured(so_far.bytes);
        if unseen > 0 && self.conversation.progress(dir, so_far, unseen, now, out) {
            stream.advance(unseen);
        }
    }

    /// The kernel counted `turns` messages, and all pieces of them that it could keep were handed
    /// over: those not seen are lost. For connections that fell idle; `closed` does the same.
    pub fn sampled_turns<O: Out>(&mut self, turns: u32, out: &mut O) {
        if !self.conversation.is_opaque() {
            self.missing(turns, Ts::default(), out);
        }
    }

    /// The same of requests, where the kernel has counted them; after `sampled_turns`.
    pub fn sampled_requests<O: Out>(&mut self, so_far: &MessageEnd, out: &mut O) {
        if let Some(asked) = so_far.asked
            && !self.streams.iter().any(Stream::holds)
            && let Some(dir) = self.conversation.direction_of(so_far.turn)
        {
            self.conversation.counted(dir, asked, Counted::Last, out);
        }
    }

    /// The connection is over. `last` is the count of its last message and `turns` their number,
    /// where the source knows.
    pub fn closed<O: Out>(&mut self, at: Ts, close: Close, last: Option<&MessageEnd>, turns: u32, out: &mut O) {
        for dir in [Direction::Ingress, Direction::Egress] {
            self.give_up_all(dir, out);
        }
        self.sampled_turns(turns, out);
        if let Some(last) = last {
            self.message_ended(last, out);
            self.sampled_requests(last, out);
        }
        self.conversation.closed(at, close, out);
        self.forget_if_opaque();
    }

    /// Gives up on DNS queries that have waited too long. HTTP/1 has no such bound.
    pub fn expire<O: Out>(&mut self, now: Ts, out: &mut O) {
        self.conversation.expire(now, out);
    }

    /// When [`expire`](Self::expire) has something to do next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Ts> {
        self.conversation.next_deadline()
    }

    /// How much of the connection has to be captured from here on.
    #[must_use]
    pub fn interest(&self) -> Interest {
        self.conversation.interest()
    }

    /// What the local end is: as told, until bytes say better.
    #[must_use]
    pub fn role(&self) -> Role {
        self.conversation.role()
    }

    /// What a handshake or a seed told of the connection; bytes that were recognised know better.
    pub fn set_role(&mut self, role: Role) {
        self.conversation.set_role(role);
    }

    /// What the connection speaks, once it has shown.
    #[must_use]
    pub fn wire(&self) -> Option<Wire> {
        self.conversation.wire()
    }

    /// Whether it speaks what is not to be read ([`Limits::wires`]).
    #[must_use]
    pub fn is_left_out(&self) -> bool {
        self.conversation.is_left_out()
    }

    /// Payload bytes that are kept: out of order, or of heads that are not whole.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.conversation.buffered() + self.streams.iter().map(Stream::held_bytes).sum::<usize>()
    }

    /// Bytes that it holds on to: those, and what is known of open exchanges. It may walk over them,
    /// so ask seldom.
    #[must_use]
    pub fn held(&self) -> usize {
        self.conversation.held() + self.streams.iter().map(Stream::held_bytes).sum::<usize>()
    }

    /// Lets go of what is held: exchanges that wait for their ends are lost to a limit.
    pub fn shed<O: Out>(&mut self, out: &mut O) {
        for dir in [Direction::Ingress, Direction::Egress] {
            self.counters.bounded += u32::from(self.streams[dir.index()].holds());
            self.give_up_all(dir, out);
        }
        self.conversation.shed(out);
    }

    /// Whether samples of the message under way (`progress`) could complete a response.
    #[must_use]
    pub fn waiting_for_end(&self) -> bool {
        self.conversation.waits_for_end()
    }

    /// What it could not keep, since it began.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Takes whole pairs of lost heads off [`unsettled`](Self::unsettled) and says how many: the
    /// caller has counted them as lost exchanges, so they are not counted again when the protocol
    /// shows.
    pub fn take_unsettled_pairs(&mut self) -> u32 {
        self.conversation.take_unsettled_pairs()
    }

    /// Messages whose heads were lost on a connection whose protocol never showed: if it was one of
    /// ours, each pair was an exchange.
    #[must_use]
    pub fn unsettled(&self) -> u32 {
        let [ingress, egress] = self.conversation.unsettled();
        ingress.saturating_add(egress)
    }

    /// Whether a piece is the first of its message: as it says, or since it follows all of the message before.
    fn is_first(&mut self, piece: &Piece<'_>) -> bool {
        let stream = &mut self.streams[piece.dir.index()];
        piece.first || stream.counted && !stream.missed && stream.place(piece) == Place::Next(0)
    }

    /// The first piece of a message was lost, and with it the heads that it began with: all of it counts as
    /// lost, since nobody knows what in its other pieces is a head, but for protocols that find out.
    #[cold]
    fn without_first<O: Out>(&mut self, piece: &Piece<'_>, out: &mut O) {
        self.conversation.goes(piece.turn, piece.dir);
        self.give_up_before_message(piece.dir, piece.turn, out);
        self.missing(piece.turn, piece.at, out);
        self.counted_later(piece, out);
    }

    /// How often the client had asked by then, of which something may not have been handed over.
    fn counted_later<O: Out>(&mut self, piece: &Piece<'_>, out: &mut O) {
        if let Some(asked) = piece.walked.asked
            && !self.streams.iter().any(Stream::holds)
        {
            self.conversation.counted(piece.dir, asked, Counted::Later, out);
        }
    }

    /// A message has come back since: nothing fills an older hole of this direction any more.
    fn give_up_before_message<O: Out>(&mut self, dir: Direction, turn: u32, out: &mut O) {
        while self.streams[dir.index()].hole().is_some_and(|(_, of, _)| of < turn) {
            self.give_up_first(dir, out);
        }
    }

    /// Message `piece.turn` begins.
    fn begin_message<O: Out>(&mut self, piece: &Piece<'_>, out: &mut O) {
        self.conversation.goes(piece.turn, piece.dir);
        self.give_up_before_message(piece.dir, piece.turn, out);
        self.missing(piece.turn - 1, piece.at, out);
        self.counted_later(piece, out);
        let missed = matches!(self.streams[piece.dir.index()].place(piece), Place::After(_));
        let other = &self.streams[piece.dir.reverse().index()];
        let unsure = other.holds() || piece.acked.is_some_and(|acked| other.lacks(acked));
        self.conversation.message_begins(piece.dir, Begun { turn: piece.turn, at: piece.at, unsure, missed }, out);
    }

    /// The heads of all messages up to `to` were lost, if there are any that were not told of.
    fn missing<O: Out>(&mut self, to: u32, at: Ts, out: &mut O) {
        if to > self.conversation.turn() {
            self.all_missing(to, at, out);
        }
    }

    #[cold]
    fn all_missing<O: Out>(&mut self, to: u32, at: Ts, out: &mut O) {
        let before = self.conversation.turn();
        // Two in a row are of both directions.
        for turn in before + 1..=to.min(before.saturating_add(2)) {
            if let Some(dir) = self.conversation.direction_of(turn) {
                self.give_up_before_message(dir, turn, out);
                self.streams[dir.index()].missed = true;
            }
        }
        self.conversation.missing(to, at, out);
    }

    /// Takes a piece of which the bytes from `from` on are next.
    fn take<O: Out>(&mut self, piece: &Piece<'_>, from: usize, start: bool, out: &mut O) {
        let Piece { dir, at, turn, wire_len, payload, walked, .. } = *piece;
        let fresh = u64::from(wire_len).saturating_sub(from as u64);
        let bytes = payload.get(from..).unwrap_or_default();
        match walked.asked {
            Some(asked) if from == 0 => self.conversation.counted(dir, asked, Counted::Here, out),
            None if piece.first => self.conversation.uncounted(dir, out),
            _ => {}
        }
        self.streams[dir.index()].advance(fresh);
        if !bytes.is_empty() {
            self.feed(dir, Bytes { at, turn, start, tail: walked.tail, bytes }, out);
        }
        let cut = fresh - bytes.len() as u64;
        if cut > 0 {
            let cause = if walked.frames { Cause::Skipped } else { Cause::Counted };
            let hole = Hole { bytes: cut, at, turn: turn + 1, before_start: false, cause };
            self.pass(dir, hole, out);
        }
    }

    /// Keeps a piece that is ahead of its place; gives up the oldest holes where the bounds ask for it.
    fn hold<O: Out>(&mut self, piece: &Piece<'_>, start: bool, out: &mut O) {
        let index = piece.dir.index();
        let Limits { reassembly_bytes, gaps, .. } = self.conversation.limits;
        while !self.streams[index].hold(piece, start, reassembly_bytes, gaps) {
            self.counters.bounded += 1;
            if self.streams[index].holds() {
                self.give_up_first(piece.dir, out);
            } else if let Place::After(missing) = self.streams[index].place(piece) {
                self.give_up_before(piece.dir, missing, piece.turn, piece.at, out);
            }
            if let Place::Next(from) = self.streams[index].place(piece) {
                self.take(piece, from, start, out);
                return self.drain(piece.dir, false, out);
            } else if self.streams[index].place(piece) == Place::Old {
                return;
            }
        }
    }

    /// Takes the held pieces that have become next. A piece that began a message still does when
    /// what was missing before it will not come.
    fn drain<O: Out>(&mut self, dir: Direction, mut after_gap: bool, out: &mut O) {
        while let Some(held) = self.streams[dir.index()].ready() {
            let HeldPiece { seq, at, turn, start, wire_len, walked, payload } = held;
            let piece = Piece { dir, at, seq, turn, first: start, wire_len, payload: &payload, acked: None, walked };
            if let Place::Next(from) = self.streams[dir.index()].place(&piece) {
                self.take(&piece, from, start && after_gap, out);
            }
            after_gap = false;
        }
        let stream = &mut self.streams[dir.index()];
        if !stream.holds()
            && let Some(end) = stream.late.take()
        {
            self.message_ended(&end, out);
        }
    }

    /// The oldest hole of a direction will not be filled.
    fn give_up_first<O: Out>(&mut self, dir: Direction, out: &mut O) {
        if let Some((missing, turn, at)) = self.streams[dir.index()].hole() {
            self.give_up_before(dir, missing, turn, at, out);
            self.drain(dir, true, out);
        }
    }

    fn give_up_all<O: Out>(&mut self, dir: Direction, out: &mut O) {
        while self.streams[dir.index()].holds() {
            self.give_up_first(dir, out);
        }
    }

    /// `missing` bytes before what came in message `turn` will not come.
    fn give_up_before<O: Out>(&mut self, dir: Direction, missing: u32, turn: u32, at: Ts, out: &mut O) {
        let before_start = self.streams[dir.index()].at_start();
        let hole = Hole { bytes: u64::from(missing), at, turn, before_start, cause: Cause::Unknown };
        self.give_up(dir, hole, out);
    }

    fn give_up<O: Out>(&mut self, dir: Direction, hole: Hole, out: &mut O) {
        if hole.bytes > 0 {
            self.counters.gaps += 1;
            self.skip(dir, hole, out);
        }
    }

    fn skip<O: Out>(&mut self, dir: Direction, hole: Hole, out: &mut O) {
        self.streams[dir.index()].advance(hole.bytes);
        self.pass(dir, hole, out);
    }

    /// Tells the conversation of bytes that were not captured.
    fn pass<O: Out>(&mut self, dir: Direction, hole: Hole, out: &mut O) {
        if let Some(kept) = self.conversation.before_hole(dir, out) {
            self.feed_kept(&kept, None, out);
        }
        self.conversation.hole(dir, hole, out);
        self.forget_if_opaque();
    }

    fn feed<O: Out>(&mut self, dir: Direction, mut data: Bytes<'_>, out: &mut O) {
        let other = dir.reverse();
        let mut kept = None;
        loop {
            if self.conversation.needs_other(dir) && self.streams[other.index()].holds() {
                // The peer answers what we wait for: it has it, and the capture will not.
                let wire = self.conversation.wire();
                self.give_up_all(other, out);
                if self.conversation.wire() != wire {
                    return;
                }
            }
            match self.conversation.bytes(dir, data, &mut kept, out) {
                Fed::All => return self.forget_if_opaque(),
                Fed::Part(used) => data = data.after(used),
                Fed::Recognised => return kept.iter().for_each(|kept| self.feed_kept(kept, Some(data), out)),
            }
        }
    }

    /// The protocol has shown: what was kept until then is read, and `newest`.
    fn feed_kept<O: Out>(&mut self, kept: &Kept, newest: Option<Bytes<'_>>, out: &mut O) {
        for (dir, bytes) in kept.pieces(newest).into_iter().flatten() {
            self.feed(dir, bytes, out);
        }
    }

    /// Nothing that is held is wanted any more.
    fn forget_if_opaque(&mut self) {
        if self.conversation.is_opaque() {
            self.streams.iter_mut().for_each(Stream::forget);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_protocol_makes_no_connection_larger() {
        assert_eq!(size_of::<Tcp>(), 184);
    }
}
