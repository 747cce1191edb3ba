//! What two ordered streams say: finds out the protocol, and hands its dissector bytes, holes and ends.

use crate::asked::{Asked, Counted};
use crate::dissector::{Begun, Next, Opening};
use crate::head::Head;
use crate::input::{Bytes, Hole};
use crate::protocols::{Spoken, Wire};
use crate::recognise::{Found, Look, Search};
use crate::tls;
use crate::{Interest, Limits, MessageEnd, Out};
use flow_model::{Close, Direction, Role, Ts};

/// The meaning of one connection. Its caller keeps the order: what is handed over is next in its
/// direction, or a hole.
#[derive(Debug)]
pub(crate) struct Conversation {
    pub limits: Limits,
    carried: Carried,
    /// Number of the newest message of either direction.
    turn: u32,
    /// The direction of messages with odd numbers.
    odd: Option<Direction>,
    role: Role,
    /// The connection was seen to begin.
    pub from_start: bool,
}

#[derive(Debug)]
enum Carried {
    Unknown(Search),
    Spoken(Spoken),
    Opaque,
    /// It speaks what is not to be read.
    LeftOut,
}

/// What became of bytes that were handed over. Small, as it is returned for each piece: heads that
/// were kept go another way.
pub(crate) enum Fed {
    All,
    /// This many were used. The rest is to be handed over again, after `needs_other` was asked.
    Part(usize),
    /// The protocol has shown: what was kept and these bytes are to be handed over again.
    Recognised,
}

/// Heads that were kept until the protocol showed.
pub(crate) struct Kept {
    /// The direction whose bytes showed it, and where in its message the protocol begins.
    dir: Direction,
    after: usize,
    /// In the order in which they are read: requests go first.
    heads: [(Direction, Option<Box<Head>>); 2],
}

/// Bytes of a message's beginning in which its protocol has to show.
const RECOGNISE_BYTES: usize = 4096;

impl Conversation {
    pub(crate) fn new(limits: &Limits, role: Role) -> Conversation {
        Conversation {
            limits: *limits,
            carried: Carried::Unknown(Search::default()),
            turn: 0,
            odd: None,
            role,
            from_start: false,
        }
    }

    pub(crate) fn turn(&self) -> u32 {
        self.turn
    }

    /// Message `turn` goes this way, and so do all with numbers like it, odd or even.
    pub(crate) fn goes(&mut self, turn: u32, dir: Direction) {
        self.odd.get_or_insert(if turn % 2 == 1 { dir } else { dir.reverse() });
    }

    pub(crate) fn direction_of(&self, turn: u32) -> Option<Direction> {
        let odd = self.odd?;
        Some(if turn % 2 == 1 { odd } else { odd.reverse() })
    }

    /// The first piece of a message has come.
    pub(crate) fn message_begins<O: Out>(&mut self, dir: Direction, begun: Begun, out: &mut O) {
        self.turn = begun.turn;
        if let Carried::Spoken(spoken) = &mut self.carried {
            spoken.message_begins(dir, begun, &self.limits, out);
        }
    }

    pub(crate) fn message_ended<O: Out>(&mut self, dir: Direction, end: &MessageEnd, out: &mut O) {
        if let Carried::Spoken(spoken) = &mut self.carried {
            spoken.message_ended(dir, end, &self.limits, out);
        }
    }

    /// The heads of all messages up to `to` were lost.
    pub(crate) fn missing<O: Out>(&mut self, to: u32, at: Ts, out: &mut O) {
        let from = self.turn.saturating_add(1);
        self.turn = to;
        // Tens of thousands are possible; more would be a broken counter.
        for turn in from..=to.min(from.saturating_add(1 << 20)) {
            let Some(dir) = self.direction_of(turn) else { return };
            match &mut self.carried {
                Carried::Unknown(search) => search.before.lost(dir, turn),
                Carried::Spoken(spoken) => spoken.missing(dir, turn, at, &self.limits, out),
                Carried::Opaque | Carried::LeftOut => {}
            }
        }
    }

    /// The source has counted how often the client has asked, and tells it with what `dir` says.
    pub(crate) fn counted<O: Out>(&mut self, dir: Direction, asked: Asked, counted: Counted, out: &mut O) {
        if let Carried::Spoken(spoken) = &mut self.carried {
            spoken.counted(dir, asked, counted, out);
        }
    }

    /// A message of `dir` begins without a count.
    pub(crate) fn uncounted<O: Out>(&mut self, dir: Direction, out: &mut O) {
        if let Carried::Spoken(spoken) = &mut self.carried {
            spoken.uncounted(dir, out);
        }
    }

    /// True when bytes of `dir` may answer what the other direction still holds back.
    pub(crate) fn needs_other(&self, dir: Direction) -> bool {
        matches!(&self.carried, Carried::Spoken(spoken) if spoken.needs_other(dir))
    }

    /// True when the rest of a message of which the beginning was lost can be read.
    pub(crate) fn reads_on(&self) -> bool {
        self.spoken().is_some_and(Spoken::reads_on)
    }

    /// Takes the next bytes of a direction. `kept` is filled where they are `Recognised`.
    #[inline]
    pub(crate) fn bytes<O: Out>(
        &mut self,
        dir: Direction,
        data: Bytes<'_>,
        kept: &mut Option<Kept>,
        out: &mut O,
    ) -> Fed {
        match &mut self.carried {
            Carried::Spoken(spoken) => {
                let used = spoken.bytes(dir, data, &self.limits, out);
                match used.next {
                    Next::Same if used.bytes > 0 && used.bytes < data.bytes.len() => return Fed::Part(used.bytes),
                    Next::Same => return Fed::All,
                    Next::Search => self.carried = Carried::Unknown(Search::default()),
                    Next::Http2 | Next::WebSocket => {
                        let to = if used.next == Next::Http2 { Wire::Http2 } else { Wire::WebSocket };
                        if !self.limits.wires.contains(to) {
                            self.carried = Carried::LeftOut;
                            return Fed::All;
                        }
                        spoken.upgrade(to);
                    }
                    Next::Opaque => self.carried = Carried::Opaque,
                }
                if used.next != Next::Opaque && used.bytes < data.bytes.len() {
                    // What is left is of what the connection carries now.
                    return Fed::Part(used.bytes);
                }
            }
            Carried::Unknown(search) => {
                let max = RECOGNISE_BYTES.min(self.limits.head_bytes);
                let look = search.bytes(dir, data, self.from_start, max);
                *kept = self.looked(dir, look, Some(data), out);
                if kept.is_some() {
                    return Fed::Recognised;
                }
            }
            Carried::Opaque | Carried::LeftOut => {}
        }
        Fed::All
    }

    /// Bytes are missing next. What was kept of a head is all there is of it, and may have to be read
    /// before the hole is passed.
    pub(crate) fn before_hole<O: Out>(&mut self, dir: Direction, out: &mut O) -> Option<Kept> {
        let Carried::Unknown(search) = &mut self.carried else { return None };
        let look = search.hole(dir);
        self.looked(dir, look, None, out)
    }

    pub(crate) fn hole<O: Out>(&mut self, dir: Direction, hole: Hole, out: &mut O) {
        match &mut self.carried {
            Carried::Spoken(spoken) => spoken.hole(dir, hole, &self.limits, out),
            Carried::Unknown(search) => search.before.hole(dir, hole),
            Carried::Opaque | Carried::LeftOut => {}
        }
    }

    /// Takes the next bytes where nothing is held back.
    pub(crate) fn feed<O: Out>(&mut self, dir: Direction, mut data: Bytes<'_>, out: &mut O) {
        let mut kept = None;
        loop {
            match self.bytes(dir, data, &mut kept, out) {
                Fed::All => return,
                Fed::Part(used) => data = data.after(used),
                Fed::Recognised => return kept.iter().for_each(|kept| self.feed_kept(kept, Some(data), out)),
            }
        }
    }

    /// Passes over a hole where nothing is held back.
    pub(crate) fn pass<O: Out>(&mut self, dir: Direction, hole: Hole, out: &mut O) {
        if let Some(kept) = self.before_hole(dir, out) {
            self.feed_kept(&kept, None, out);
        }
        self.hole(dir, hole, out);
    }

    fn feed_kept<O: Out>(&mut self, kept: &Kept, newest: Option<Bytes<'_>>, out: &mut O) {
        for (dir, bytes) in kept.pieces(newest).into_iter().flatten() {
            self.feed(dir, bytes, out);
        }
    }

    /// A sample of message `so_far.turn`. True when its `unseen` bytes, which were not captured, are settled.
    pub(crate) fn progress<O: Out>(
        &mut self,
        dir: Direction,
        so_far: &MessageEnd,
        unseen: u64,
        now: Ts,
        out: &mut O,
    ) -> bool {
        match &mut self.carried {
            Carried::Spoken(spoken) => spoken.progress(dir, so_far, unseen, now, &self.limits, out),
            Carried::Unknown(_) | Carried::Opaque | Carried::LeftOut => false,
        }
    }

    /// The connection is over; nothing is held back any more.
    pub(crate) fn closed<O: Out>(&mut self, at: Ts, close: Close, out: &mut O) {
        if let Carried::Unknown(_) = self.carried {
            // A request cut by the capture, and nothing after it.
            for dir in [Direction::Ingress, Direction::Egress] {
                if let Some(kept) = self.before_hole(dir, out) {
                    self.feed_kept(&kept, None, out);
                }
            }
        }
        if let Carried::Spoken(spoken) = &mut self.carried {
            spoken.closed(at, close, &self.limits, out);
        }
        if !self.is_left_out() {
            self.carried = Carried::Opaque;
        }
    }

    /// Lets go of what is held.
    pub(crate) fn shed<O: Out>(&mut self, out: &mut O) {
        match &mut self.carried {
            Carried::Unknown(search) => search.shed(),
            Carried::Spoken(spoken) => spoken.shed(self.turn, out),
            Carried::Opaque | Carried::LeftOut => {}
        }
    }

    pub(crate) fn expire<O: Out>(&mut self, now: Ts, out: &mut O) {
        if let Carried::Spoken(spoken) = &mut self.carried {
            spoken.expire(now, out);
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Ts> {
        self.spoken()?.next_deadline()
    }

    pub(crate) fn interest(&self) -> Interest {
        match &self.carried {
            Carried::Unknown(_) => Interest::Heads,
            Carried::Spoken(spoken) => spoken.interest(),
            Carried::Opaque | Carried::LeftOut => Interest::Nothing,
        }
    }

    /// Bytes until the next header of `dir`, where frames are followed.
    pub(crate) fn header_in(&self, dir: Direction) -> Option<u64> {
        self.spoken()?.header_in(dir)
    }

    pub(crate) fn role(&self) -> Role {
        self.role
    }

    pub(crate) fn set_role(&mut self, role: Role) {
        if self.spoken().is_none() {
            self.role = role;
        }
    }

    pub(crate) fn wire(&self) -> Option<Wire> {
        self.spoken().map(Spoken::wire)
    }

    pub(crate) fn is_opaque(&self) -> bool {
        matches!(self.carried, Carried::Opaque | Carried::LeftOut)
    }

    pub(crate) fn is_left_out(&self) -> bool {
        matches!(self.carried, Carried::LeftOut)
    }

    pub(crate) fn waits_for_end(&self) -> bool {
        self.spoken().is_some_and(Spoken::waits_for_end)
    }

    pub(crate) fn buffered(&self) -> usize {
        match &self.carried {
            Carried::Unknown(search) => search.buffered(),
            Carried::Spoken(spoken) => spoken.buffered(),
            Carried::Opaque | Carried::LeftOut => 0,
        }
    }

    /// Bytes that it holds on to: those, and what is known of open exchanges. May walk over them.
    pub(crate) fn held(&self) -> usize {
        self.spoken().map_or_else(|| self.buffered(), Spoken::held)
    }

    /// Heads that were lost, by direction, while the protocol has not shown.
    pub(crate) fn unsettled(&self) -> [u32; 2] {
        match &self.carried {
            Carried::Unknown(search) => search.before.missing(),
            Carried::Spoken(_) | Carried::Opaque | Carried::LeftOut => [0; 2],
        }
    }

    /// Takes whole pairs off `unsettled`; how many.
    pub(crate) fn take_unsettled_pairs(&mut self) -> u32 {
        let Carried::Unknown(search) = &mut self.carried else { return 0 };
        search.before.take_pairs()
    }

    fn spoken(&self) -> Option<&Spoken> {
        match &self.carried {
            Carried::Spoken(spoken) => Some(spoken),
            Carried::Unknown(_) | Carried::Opaque | Carried::LeftOut => None,
        }
    }

    /// Acts on what bytes of `dir` say of the protocol. `data` are the newest of them.
    #[cold]
    fn looked<O: Out>(&mut self, dir: Direction, look: Look, data: Option<Bytes<'_>>, out: &mut O) -> Option<Kept> {
        let Found { wire, client, after } = match look {
            Look::More | Look::Misfit => return None,
            Look::Midway { under_way } => {
                if !self.limits.wires.contains(Wire::Tls) {
                    self.carried = Carried::LeftOut;
                    return None;
                }
                if let Carried::Unknown(search) = &self.carried {
                    tls::joined(under_way, self.from_start, &search.before, out);
                }
                self.carried = Carried::Opaque;
                return None;
            }
            Look::Other => {
                self.carried = Carried::Opaque;
                return None;
            }
            Look::Found(Found { wire, .. }) if !self.limits.wires.contains(wire) => {
                self.carried = Carried::LeftOut;
                return None;
            }
            Look::Found(found) => found,
        };
        let Carried::Unknown(search) = &mut self.carried else { return None };
        let opening = Opening {
            dir,
            turn: data.map_or(self.turn, |data| data.turn),
            at: data.map(|data| data.at),
            client: Some(client),
            before: &search.before,
            from_start: self.from_start,
            heads: search.heads(),
            newest: data.map_or(&[], |data| data.bytes),
            limits: &self.limits,
        };
        let spoken = wire.open(&opening, out);
        let heads = [client, client.reverse()].map(|dir| (dir, search.take(dir)));
        let kept = Kept { dir, after, heads };
        self.role = match spoken.client() {
            Some(Direction::Egress) => Role::Client,
            Some(Direction::Ingress) => Role::Server,
            None => Role::Unknown,
        };
        self.carried = Carried::Spoken(spoken);
        Some(kept)
    }
}

impl Kept {
    /// What is to be read, in its order. `newest` are the bytes that showed the protocol: a head that
    /// was kept of their direction holds them, too.
    pub(crate) fn pieces<'a>(&'a self, mut newest: Option<Bytes<'a>>) -> [Option<(Direction, Bytes<'a>)>; 3] {
        let [first, second] = self.heads.each_ref().map(|(dir, head)| {
            let head = head.as_ref()?;
            let after = if *dir == self.dir && newest.take().is_some() { self.after } else { 0 };
            let data = Bytes { at: head.at, turn: head.turn, start: true, tail: false, bytes: &head.bytes };
            Some((*dir, Bytes { start: true, ..data.after(after) }))
        });
        let last = newest.map(|data| (self.dir, Bytes { start: true, ..data.after(self.after) }));
        [first, second, last]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_protocol_makes_no_connection_larger() {
        assert_eq!(size_of::<Conversation>(), 80);
    }
}
