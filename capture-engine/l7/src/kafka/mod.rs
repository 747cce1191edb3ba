//! Kafka's protocol: requests and responses from the two directions of one connection, of which bytes may
//! be missing.
//!
//! A response says the number of its request and no more, so the version of what was asked tells how to
//! read it. A broker answers one connection in the order of asking ("Kafka protocol guide", "Network"), so a
//! response also tells that all before it were answered. Where something was missed, numbers are believed
//! once the client has shown that it counts (`ids`); one that does not is not paired any more.

mod api;
mod begin;
mod error;
mod find;
mod gaps;
mod header;
mod ids;
mod loss;
mod names;
mod open;
mod schema;
mod side;
pub(crate) mod sign;

use crate::dissector::{Begun, Dissector, Next, Opening, Sign, Used};
use crate::input::{Bytes, Cause, Hole};
use crate::{Interest, Length, Limits, Out, Walk};
use flow_model::{Close, Direction, L7Record, LossReason, Notes, Outcome, Ts};
use gaps::Gaps;
use header::{HEAD, KEPT};
use ids::Ids;
use names::Names;
use open::{Answer, Open};
use side::{Event, Side};
use std::collections::VecDeque;

/// As a source follows it. A client goes on asking while a long answer passes, so a message of the flow
/// begins anywhere.
static WALK: Walk = Walk {
    length: Length::Fixed { at: 0, width: 4, big_endian: true },
    header: 4,
    uncounted: 4,
    kind: None,
    classes: &[],
    keep: [KEPT as u32; 4],
    most: 64,
    aligned: false,
    rows: false,
    runs: false,
};

/// What makes no sense, without a pair in between that does, before a connection is left alone.
const STRANGE: u8 = 8;

/// Records that wait for the client to show that it counts.
const ON_TRIAL: usize = 64;

#[derive(Debug)]
pub(crate) struct Kafka {
    client: Direction,
    sides: [Side; 2],
    /// In the order of asking.
    open: VecDeque<Open>,
    /// The request whose bytes are under way; whether it asks for no answer.
    asking: Option<(Open, bool)>,
    /// The answer whose bytes are under way.
    answering: Option<(Open, Answer)>,
    ids: Ids,
    gaps: Gaps,
    names: Names,
    /// What the client calls itself, as a hash.
    name: Option<u64>,
    /// Bytes of the server were missed, and why; requests of messages before this one may have been answered there.
    unheard: Option<LossReason>,
    unheard_turn: u32,
    /// Something was missed, or the connection was joined in the middle.
    doubted: Option<LossReason>,
    /// Nothing is paired any more.
    blind: Option<LossReason>,
    trial: Vec<L7Record>,
    /// It never asked more while it waited.
    alternates: bool,
    /// The first request that was seen of a connection that was joined in the middle.
    midway: bool,
    first: Option<i32>,
    /// All up to this request are accounted for, though they were not answered.
    settled: Option<i32>,
    /// What is said to log in has no headers (SaslHandshake of version 0).
    raw: bool,
    /// The newest message of the client, and whether the server had said more before it than is known.
    newest: u32,
    unsure: bool,
    /// So many bytes passed behind what was kept of a direction's first message, and when.
    beyond: [Option<(u64, Ts)>; 2],
    strange: u8,
}

impl Dissector for Kafka {
    /// No message shows it alone, and no other protocol waits for a second one: it is recognised from aside.
    fn recognise(_head: &[u8]) -> Sign {
        Sign::No
    }

    fn open<O: Out>(opening: &Opening<'_>, out: &mut O) -> Kafka {
        Kafka::recognised(opening, out)
    }

    fn bytes<O: Out>(&mut self, dir: Direction, data: Bytes<'_>, limits: &Limits, out: &mut O) -> Used {
        let mut rest = data.bytes;
        let next = |kafka: &Kafka| if kafka.strange >= STRANGE { Next::Opaque } else { Next::Same };
        if data.tail {
            self.side(dir).lose(false);
            self.lost(dir, LossReason::Gap, false, data.turn, out);
        }
        if dir == self.client {
            self.newest = self.newest.max(data.turn);
        }
        if self.sides[dir.index()].lost {
            let Some(kept) = self.look_for(dir, data, limits, out) else {
                return Used { bytes: data.bytes.len(), next: next(self) };
            };
            rest = rest.get(kept..).unwrap_or_default();
        }
        while !rest.is_empty() || self.sides[dir.index()].is_due() {
            let (used, event) = self.side(dir).take(rest, data.at, data.turn);
            rest = rest.get(used..).unwrap_or_default();
            let begins = matches!(event, Some(Event::Begins));
            if let Some(event) = event {
                self.event(dir, event, data.at, data.turn, limits, out);
            }
            if begins && !rest.is_empty() && self.needs_other(dir) {
                break;
            }
        }
        if rest.is_empty()
            && let Some((bytes, at)) = self.beyond[dir.index()].take()
        {
            let hole = Hole { bytes, at, turn: data.turn + 1, before_start: false, cause: Cause::Counted };
            self.hole(dir, hole, limits, out);
        }
        let next = next(self);
        if next == Next::Opaque {
            self.give_up(LossReason::Gap, out);
        }
        Used { bytes: data.bytes.len() - rest.len(), next }
    }

    fn hole<O: Out>(&mut self, dir: Direction, hole: Hole, limits: &Limits, out: &mut O) {
        let events = self.side(dir).skip(&hole);
        // A capture may not have the beginning of the message that follows; live, messages are counted.
        let after = dir != self.client || limits.report_partial && hole.before_start;
        let turn = if after { hole.turn } else { self.newest };
        let mut lost = false;
        for event in events.into_iter().flatten() {
            lost |= matches!(event, Event::Lost { .. });
            self.event(dir, event, hole.at, turn, limits, out);
        }
        if dir != self.client && self.sides[dir.index()].lost {
            self.unheard(LossReason::Gap, hole.turn, out);
        }
        if dir == self.client && hole.cause == Cause::Messages && !lost && !self.sides[dir.index()].lost {
            self.gaps.was_rest();
        }
    }

    fn missing<O: Out>(&mut self, dir: Direction, turn: u32, _at: Ts, _limits: &Limits, out: &mut O) {
        self.message_missing(dir, turn, out);
    }

    fn message_begins<O: Out>(&mut self, dir: Direction, begun: Begun, _limits: &Limits, _out: &mut O) {
        if dir == self.client {
            self.unsure = begun.unsure;
        }
    }

    fn closed<O: Out>(&mut self, at: Ts, close: Close, limits: &Limits, out: &mut O) {
        self.close(at, close, limits, out);
    }

    fn client(&self) -> Option<Direction> {
        Some(self.client)
    }

    fn interest(&self) -> Interest {
        Interest::Frames(&WALK)
    }

    fn header_in(&self, dir: Direction) -> Option<u64> {
        self.sides[dir.index()].header_in()
    }

    /// An answer to what nobody was seen to ask: the request may be among what is held back.
    fn needs_other(&self, dir: Direction) -> bool {
        if dir == self.client {
            return false;
        }
        let asked = |id| self.open.iter().any(|open| open.id == id);
        let side = &self.sides[dir.index()];
        side.lost || side.begun().is_some_and(|id| !asked(id))
    }

    fn reads_on(&self) -> bool {
        true
    }

    fn buffered(&self) -> usize {
        self.sides.iter().map(Side::buffered).sum()
    }

    fn shed<O: Out>(&mut self, _turn: u32, out: &mut O) {
        self.settle(LossReason::Limit, out);
        self.names = Names::default();
    }

    fn held(&self) -> usize {
        let trial = self.trial.capacity() * size_of::<L7Record>();
        self.buffered() + self.open.capacity() * size_of::<Open>() + trial + self.names.held()
    }
}

impl Kafka {
    fn side(&mut self, dir: Direction) -> &mut Side {
        &mut self.sides[dir.index()]
    }

    fn event<O: Out>(&mut self, dir: Direction, event: Event<'_>, at: Ts, turn: u32, limits: &Limits, out: &mut O) {
        let from_client = dir == self.client;
        match event {
            Event::Begins => {}
            Event::Head { head, body, length, cut } if from_client => self.asks(head, &body, length, cut, out),
            Event::Head { head, body, length, cut } => self.answers(head, &body, length, cut, out),
            Event::Ends { length } if from_client => self.asked(length, at, limits, out),
            Event::Ends { length } => self.answered(length, at, out),
            Event::Lost { bad } => self.lost(dir, LossReason::Gap, bad, turn, out),
        }
    }

    /// As much of a request is here as is read.
    fn asks<O: Out>(&mut self, head: [u8; HEAD], body: &[u8], length: u64, cut: bool, out: &mut O) {
        let (start, turn) = (self.sides[self.client.index()].first, self.sides[self.client.index()].turn);
        if cut && body.len() < 4 {
            // Its number was not seen.
            self.gaps.certain(turn, LossReason::Gap, &self.ids);
            return self.doubt(LossReason::Gap, out);
        }
        let asks = header::request(head, body, length, self.name);
        let known = |client| self.name.is_none_or(|name| name == client);
        let Some(asks) = asks.filter(|asks| !self.raw || known(asks.client)) else {
            if !self.raw {
                let client = self.client;
                self.side(client).lose(true);
                self.lost(client, LossReason::Gap, true, turn, out);
            }
            return;
        };
        self.set_raw(false);
        if asks.client != 0 {
            self.name = Some(asks.client);
        }
        let missed = self.gaps.is_open();
        if let Some((reason, count)) = self.gaps.close(asks.id, turn, &self.ids, self.alternates) {
            lose(reason, count, out);
        }
        let counted_by_one = self.ids.count_by_one();
        self.ids.see(asks.id, missed);
        if !counted_by_one && self.ids.count_by_one() {
            self.gaps.recount().for_each(|(reason, count)| lose(reason, count, out));
        }
        self.first.get_or_insert(asks.id);
        self.alternates &= self.unsure || !self.open.iter().any(|open| !open.doubt && open.turn >= self.unheard_turn);
        self.counts(out);
        let topic = match (asks.call.known(), asks.seen.topics, asks.seen.topic, asks.seen.topic_id) {
            (Some(_), 1, Some(topic), _) => self.names.share(topic),
            (Some(_), 1, None, Some(id)) => self.names.topic(id),
            _ => Default::default(),
        };
        let group = asks.seen.group.map(|group| self.names.share(group)).unwrap_or_default();
        let mut notes = Notes::default();
        let waits = asks.seen.max_wait.is_some_and(|wait| wait > 0) && asks.seen.min_bytes.is_some_and(|min| min > 0);
        if waits || asks.call.waits_for_others() {
            notes.add(Notes::WAITED);
        }
        if cut {
            notes.add(Notes::REQUEST_CUT);
        }
        // Whether a cut request wants an answer is not known, so the order of answers tells nothing.
        let unsure = asks.call.key == api::PRODUCE && asks.seen.acks.is_none();
        if unsure {
            self.doubt(LossReason::Gap, out);
        }
        let doubt = turn < self.unheard_turn || unsure;
        let (id, call) = (asks.id, asks.call);
        let open = Open { id, call, start, last: start, bytes: length, turn, topic, group, notes, doubt };
        self.asking = Some((open, asks.seen.acks == Some(0)));
    }

    /// All of a request has passed.
    fn asked<O: Out>(&mut self, length: u64, at: Ts, limits: &Limits, out: &mut O) {
        let Some((mut open, one_way)) = self.asking.take() else { return };
        (open.bytes, open.last) = (length, at.max(open.start));
        if one_way {
            let end = open.last;
            return out.record(open.unanswered(Outcome::OneWay, end));
        }
        self.wait_for(open, limits.open_exchanges, out);
    }

    fn wait_for<O: Out>(&mut self, open: Open, most: usize, out: &mut O) {
        if let Some(reason) = self.blind {
            return out.lost(reason, 1);
        }
        if self.open.len() >= most.max(1)
            && let Some(oldest) = self.open.pop_front()
        {
            // One that nobody answers any more, or whose answers are not seen.
            self.settled = Some(oldest.id);
            out.lost(LossReason::Limit, 1);
        }
        self.open.push_back(open);
    }

    /// As much of a response is here as is read.
    fn answers<O: Out>(&mut self, head: [u8; HEAD], body: &[u8], length: u64, cut: bool, out: &mut O) {
        let id = header::id(head);
        if self.blind.is_some() || self.raw {
            return;
        }
        if let Some((open, _)) = self.asking.take_if(|(open, one_way)| open.id == id && !*one_way) {
            // It was answered before all of it was sent.
            self.open.push_back(open);
        }
        // What was asked after it is not what it answers, though it has the number.
        let turn = self.sides[self.client.reverse().index()].turn;
        let is = |open: &Open| open.id == id && open.turn < turn;
        if !self.open.iter().any(is) {
            self.cut_request(turn, out);
            if let Some((open, _)) = self.asking.take_if(|(open, one_way)| open.id == id && !*one_way) {
                self.open.push_back(open);
            }
        }
        let Some(place) = self.open.iter().position(is) else { return self.unknown(id, turn, out) };
        if place > 0 {
            self.passed_over(place, out);
        }
        let place = self.open.iter().position(is).unwrap_or_default();
        let Some(open) = self.open.remove(place) else { return };
        if self.open.is_empty() && self.open.capacity() > 8 {
            self.open = VecDeque::new();
        }
        self.gaps.passed(id);
        self.strange = 0;
        let (_, seen) = header::response(open.call, body, length);
        let mut notes = Notes::default();
        if cut {
            notes.add(Notes::GAP);
        }
        if seen.codes == 0 && open.call.known().is_some_and(|api| !api.response.is_empty()) {
            let whole = !cut && body.len() as u64 + HEAD as u64 == length;
            // An answer of no topics has no code of one.
            if !whole {
                notes.add(Notes::RESPONSE_CUT);
            }
        }
        for (id, name) in &seen.named {
            self.names.learn(*id, name);
        }
        let code = error::name(seen.error);
        if open.call.key == api::SASL_HANDSHAKE && open.call.version == 0 && seen.error == 0 {
            self.set_raw(true);
        }
        let start = self.sides[self.client.reverse().index()].first;
        self.answering = Some((open, Answer { start, last: start, bytes: length, code, notes }));
    }

    fn set_raw(&mut self, raw: bool) {
        self.raw = raw;
        self.sides.iter_mut().for_each(|side| side.raw = raw);
    }

    /// All of a response has passed.
    fn answered<O: Out>(&mut self, length: u64, at: Ts, out: &mut O) {
        let Some((open, mut answer)) = self.answering.take() else { return };
        (answer.bytes, answer.last) = (length, at.max(answer.start));
        let record = open.answered(answer);
        self.report(record, out);
    }

    fn report<O: Out>(&mut self, record: L7Record, out: &mut O) {
        match self.doubted {
            Some(reason) if !self.ids.count() => {
                if self.trial.len() < ON_TRIAL {
                    self.trial.push(record);
                } else {
                    out.lost(reason, 1);
                }
            }
            _ => out.record(record),
        }
    }

    /// The client has asked once more: what that says of its numbers.
    fn counts<O: Out>(&mut self, out: &mut O) {
        if self.ids.are_refuted() {
            if let Some(reason) = self.doubted {
                self.go_blind(reason, out);
            }
        } else if self.ids.count() {
            std::mem::take(&mut self.trial).into_iter().for_each(|record| out.record(record));
        }
    }
}

fn lose<O: Out>(reason: LossReason, count: u32, out: &mut O) {
    if count > 0 {
        out.lost(reason, u64::from(count));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_a_connection_stays_small() {
        assert!(size_of::<Kafka>() <= 720, "{}", size_of::<Kafka>());
        assert!(size_of::<Open>() <= 96, "{}", size_of::<Open>());
    }
}
