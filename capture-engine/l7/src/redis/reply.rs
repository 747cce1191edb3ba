//! The direction of the server: replies, and what is told without having been asked.

use super::command::{Ask, Mode, Word};
use super::open::Answer;
use super::scan::{Extent, Scan, Step};
use super::side::{Part, Replies, Reply, Said, State};
use super::{Redis, sign};
use crate::dissector::Next;
use crate::input::{Bytes, Cause, Hole};
use crate::{Limits, Out};
use flow_model::{LossReason, Notes, Ts};
use std::sync::Arc;

impl Redis {
    /// Reads replies until the bytes end or all commands are answered, whichever is first; how many bytes that were.
    pub(super) fn reply_bytes<O: Out>(&mut self, data: Bytes<'_>, limits: &Limits, out: &mut O) -> usize {
        let Bytes { at, turn, mut start, bytes, .. } = data;
        let waiting = !self.open.is_empty();
        self.order.passed(at);
        let mut rest = bytes;
        while !rest.is_empty() && self.next == Next::Same && !(waiting && self.open.is_empty()) {
            let synced = rest.first() == Some(&b'$') && self.is_synced(turn);
            let used = match (self.replies.state, &mut self.replies.under_way) {
                (State::Unframed, Some(reply)) => {
                    reply.bytes = reply.bytes.saturating_add(rest.len() as u64);
                    reply.last = reply.last.max(at);
                    rest.len()
                }
                // What was asked before the message to which this is the answer was answered in what
                // did not make sense.
                (State::Lost, _) if start && sign::reply_begins(rest) => {
                    self.lose_before(turn.saturating_sub(1), LossReason::Gap, false, out);
                    self.replies = Replies::default();
                    0
                }
                (State::Lost | State::Unframed, _) => rest.len(),
                (State::Known, None) if matches!(rest.first(), Some(b'\r' | b'\n')) => 1,
                (State::Known, None) if synced => {
                    self.reply_begins(at, turn);
                    self.replied(at, Notes::default(), limits, out);
                    rest.len()
                }
                (State::Known, _) => self.reply_step(at, turn, rest, limits, out),
            };
            start &= used == 0;
            rest = rest.get(used..).unwrap_or_default();
        }
        bytes.len() - rest.len()
    }

    /// What follows is a copy of the server's data, and then a stream.
    fn is_synced(&self, turn: u32) -> bool {
        self.open.front().is_some_and(|open| open.ask == Ask::Sync && open.turn < turn)
    }

    fn reply_begins(&mut self, at: Ts, turn: u32) -> &mut Reply {
        self.replies.under_way.get_or_insert_with(|| Reply {
            turn,
            start: at,
            last: at,
            bytes: 0,
            notes: Notes::default(),
            part: Part::Head,
            kind: 0,
            said: Said::Other,
            word: Word::Nothing,
            code: Box::default(),
        })
    }

    /// Reads to the end of a line or a value; how many bytes that took.
    fn reply_step<O: Out>(&mut self, at: Ts, turn: u32, rest: &[u8], limits: &Limits, out: &mut O) -> usize {
        let before = self.replies.scan.left();
        let (used, step) = self.replies.scan.feed(rest);
        let long = self.replies.scan.left().filter(|_| before.is_none());
        let reply = self.reply_begins(at, turn);
        reply.bytes = reply.bytes.saturating_add(used as u64);
        reply.last = reply.last.max(at);
        self.value(long, step);
        if step != Step::More {
            self.reply_element(step, at, Notes::default(), limits, out);
        }
        used
    }

    fn reply_element<O: Out>(&mut self, step: Step, at: Ts, notes: Notes, limits: &Limits, out: &mut O) {
        if !self.replies.element(step) {
            self.replies.lose();
            self.order.responses_unread();
        } else if self.replies.extent.is_whole() {
            self.replied(at, notes, limits, out);
        }
    }

    /// The rest of the reply under way, `bytes` of its last value, passed uncaptured.
    pub(super) fn reply_unseen<O: Out>(&mut self, bytes: u64, at: Ts, limits: &Limits, out: &mut O) {
        if let (Some(reply), Some(step)) = (&mut self.replies.under_way, self.replies.scan.pass(bytes)) {
            reply.bytes = reply.bytes.saturating_add(bytes);
            reply.last = reply.last.max(at);
            reply.notes.add(Notes::BODY_SKIPPED);
            if step != Step::More {
                self.reply_element(step, at, Notes::default(), limits, out);
            }
        }
    }

    pub(super) fn reply_hole<O: Out>(&mut self, hole: Hole, limits: &Limits, out: &mut O) {
        let (counted, exact) = (hole.counted(), hole.cause == Cause::Counted);
        match (self.replies.state, &mut self.replies.under_way) {
            (State::Lost, _) => {
                if hole.may_hold_reply() {
                    self.lose_before(hole.turn, LossReason::Gap, false, out);
                }
            }
            (State::Unframed, Some(reply)) => {
                reply.bytes = reply.bytes.saturating_add(counted);
                reply.last = reply.last.max(hole.at);
            }
            (State::Known, Some(reply)) => {
                reply.bytes = reply.bytes.saturating_add(counted);
                reply.last = reply.last.max(hole.at);
                reply.notes.add(Notes::BODY_SKIPPED);
                match self.replies.scan.pass(hole.bytes) {
                    Some(Step::More) => {}
                    Some(step) => {
                        let notes = if exact { Notes::default() } else { Notes::END_ASSUMED };
                        self.reply_element(step, hole.at, notes, limits, out);
                    }
                    // It ends with its message, if nothing else is in that.
                    None if reply.part != Part::Head && self.open.len() == 1 && exact => {
                        self.replies.state = State::Unframed;
                    }
                    None => self.replies_lost(&hole, limits, out),
                }
            }
            (State::Known | State::Unframed, None) => {
                if hole.may_hold_reply() {
                    self.replies_lost(&hole, limits, out);
                }
            }
        }
    }

    /// A hole in which a reply ended or began.
    fn replies_lost<O: Out>(&mut self, hole: &Hole, limits: &Limits, out: &mut O) {
        self.replies.lose();
        // Where the source counts messages, what is missing before one belongs to the one before it.
        let certain = hole.turn > self.spoke && (!hole.before_start || limits.report_partial);
        self.lose_before(hole.turn, LossReason::Gap, certain, out);
    }

    /// The message of a reply whose end could not be seen is over.
    pub(super) fn end_unframed<O: Out>(&mut self, turn: u32, limits: &Limits, out: &mut O) {
        if self.replies.state == State::Unframed {
            let last = self.replies.last();
            self.replied(last, Notes::default(), limits, out);
            // Replies to more of a pipeline may have come behind it.
            self.lose_before(turn, LossReason::Gap, false, out);
        }
    }

    /// The reply under way ends, if it is one.
    pub(super) fn replied<O: Out>(&mut self, end: Ts, notes: Notes, limits: &Limits, out: &mut O) {
        let Some(reply) = self.replies.under_way.take() else { return };
        if self.replies.state != State::Known {
            (self.replies.scan, self.replies.state) = (Scan::default(), State::Known);
        }
        self.replies.extent = Extent::default();
        let asked = self.open.front().filter(|open| open.turn < reply.turn);
        let pushed = reply.kind == b'>';
        match reply.word {
            Word::Message if pushed || self.listens || asked.is_none() => return,
            Word::Confirms(name)
                if (pushed || self.listens || asked.is_none())
                    && (self.confirms > 0 || asked.is_none_or(|open| open.name != name)) =>
            {
                self.confirms = self.confirms.saturating_sub(1);
                return;
            }
            Word::Confirms(name) if asked.is_some_and(|open| open.name == name) => {}
            _ if pushed || self.monitors && reply.said == Said::Seen => return,
            _ => {}
        }
        if asked.is_none() {
            self.request_answered(reply.turn, limits, out);
        }
        if self.open.front().is_none_or(|open| open.turn >= reply.turn) {
            return self.answers_nothing(reply.turn, limits, out);
        }
        let Some(mut open) = self.open.pop() else { return };
        self.answered(open.ask, &reply);
        if open.ask == Ask::Waits && reply.said != Said::Queued {
            open.notes.add(Notes::WAITED);
        }
        let Reply { start, last, bytes, code, notes: more, .. } = reply;
        let answer = Answer { start, end: end.max(last), bytes, code, notes: Notes(notes.0 | more.0) };
        let record = open.answered(answer, self.database.as_ref());
        self.report(record, out);
    }

    /// What a command does once it has been answered.
    fn answered(&mut self, ask: Ask, reply: &Reply) {
        if !reply.code.is_empty() {
            return;
        }
        match ask {
            Ask::Reply | Ask::Waits | Ask::Replies(_) => {}
            Ask::Subscribe(channels) => {
                self.listens = reply.kind == b'*';
                self.confirms = channels.saturating_sub(1);
            }
            Ask::Select(database) if reply.said == Said::Queued => self.queued = Some(database),
            Ask::Select(database) => self.select(database),
            Ask::Exec => {
                if let Some(database) = self.queued.take().filter(|_| reply.said != Said::Null) {
                    self.select(database);
                }
            }
            Ask::Discard => self.queued = None,
            Ask::Monitor => self.monitors = reply.said == Said::Ok,
            Ask::Sync => self.next = Next::Opaque,
            Ask::Reset => {
                self.select(0);
                self.queued = None;
                self.mode = Mode::On;
                (self.listens, self.monitors) = (false, false);
            }
        }
    }

    fn select(&mut self, database: u32) {
        self.database = Some(Arc::from(database.to_string()));
    }

    /// A reply to none of the commands that are open.
    fn answers_nothing<O: Out>(&mut self, turn: u32, limits: &Limits, out: &mut O) {
        if turn < self.spoke && self.order.is_settled(limits.report_partial) || self.order.response(out) {
            // Counted there.
        } else if self.beyond > 0 {
            self.beyond -= 1;
        } else if let Some(trial) = &mut self.trial {
            trial.strange += 1;
            if !limits.report_partial {
                out.lost(LossReason::JoinedMidway, 1);
            }
        } else if turn < self.spoke {
            // As above, of a client that pipelines.
        } else if self.blurred || self.requests.lost {
            out.lost(LossReason::Gap, 1);
        } else {
            self.mode = Mode::On;
            out.unasked(1);
        }
    }
}

impl Hole {
    /// Between two messages: whether there may have been another one, or part of one, that is not accounted for.
    pub(super) fn may_hold_reply(&self) -> bool {
        match self.cause {
            Cause::Counted | Cause::Unknown => self.bytes > 0,
            Cause::Skipped | Cause::Messages => false,
        }
    }
}
