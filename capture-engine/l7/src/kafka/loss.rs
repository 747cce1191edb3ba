//! What is counted as lost, and what may be paired afterwards.

use super::side::Event;
use super::{Kafka, lose};
use crate::{Limits, Out};
use flow_model::{Close, Direction, LossReason, Notes, Outcome, Ts};

impl Kafka {
    /// Nobody knows where frames of `dir` begin. `bad`: what was seen there made no sense. `turn`: the message
    /// of the client in which it may have been, or the one that follows.
    pub(super) fn lost<O: Out>(&mut self, dir: Direction, reason: LossReason, bad: bool, turn: u32, out: &mut O) {
        self.strange = self.strange.saturating_add(u8::from(bad));
        if dir == self.client {
            // Its number was seen, and is none of those that are missing.
            lose(reason, u32::from(self.asking.take().is_some()), out);
            self.gaps.certain(turn, reason, &self.ids);
            self.doubt(reason, out);
        } else {
            self.unheard(reason, turn, out);
        }
    }

    /// A whole message of `dir` was counted, and nothing of it seen.
    pub(super) fn message_missing<O: Out>(&mut self, dir: Direction, turn: u32, out: &mut O) {
        if dir == self.client {
            self.cut_request(turn, out);
            let amid = !self.alternates && self.sides[dir.index()].is_amid();
            self.newest = turn;
            self.gaps.message(amid, turn, LossReason::RingFull, &self.ids);
            self.doubt(LossReason::RingFull, out);
        } else {
            self.unheard(LossReason::RingFull, turn, out);
        }
    }

    /// Bytes of the server were missed: what was asked before message `turn` may have been answered there.
    pub(super) fn unheard<O: Out>(&mut self, reason: LossReason, turn: u32, out: &mut O) {
        self.unheard.get_or_insert(reason);
        self.unheard_turn = self.unheard_turn.max(turn);
        for open in self.open.iter_mut().filter(|open| open.turn < turn) {
            open.doubt = true;
        }
        self.doubt(reason, out);
    }

    /// Something was missed.
    pub(super) fn doubt<O: Out>(&mut self, reason: LossReason, out: &mut O) {
        self.doubted = match self.doubted {
            None | Some(LossReason::JoinedMidway) => Some(reason),
            known => known,
        };
        if self.ids.are_refuted() {
            self.go_blind(reason, out);
        }
    }

    /// The client gives several requests one number, and something was missed: nothing is paired any more.
    pub(super) fn go_blind<O: Out>(&mut self, reason: LossReason, out: &mut O) {
        if self.blind.is_none() {
            self.settle(reason, out);
            self.blind = Some(reason);
        }
    }

    /// All that waits is lost.
    pub(super) fn settle<O: Out>(&mut self, reason: LossReason, out: &mut O) {
        let trial = std::mem::take(&mut self.trial).len();
        let waiting = self.open.len() + usize::from(self.answering.take().is_some());
        self.open.clear();
        self.settled = self.ids.newest();
        lose(reason, u32::try_from(trial + waiting).unwrap_or(u32::MAX), out);
    }

    /// It is none of Kafka's connections after all.
    pub(super) fn give_up<O: Out>(&mut self, reason: LossReason, out: &mut O) {
        let asking = u32::from(self.asking.take().is_some());
        lose(reason, asking, out);
        self.settle(reason, out);
        if let Some((reason, count)) = self.gaps.end(self.alternates) {
            lose(reason, count, out);
        }
    }

    /// Request number `place` of those that wait is answered: those before it were answered earlier, where
    /// anything of the server was missed. Else a server has its own order.
    pub(super) fn passed_over<O: Out>(&mut self, place: usize, out: &mut O) {
        let missed = self.unheard;
        let (mut count, mut at) = (0, 0);
        self.open.retain(|open| {
            let over = at < place && (missed.is_some() || open.doubt);
            at += 1;
            count += u32::from(over);
            !over
        });
        lose(missed.unwrap_or(LossReason::Gap), count, out);
    }

    /// The request under way began before message `turn`, and no more of its beginning is seen.
    pub(super) fn cut_request<O: Out>(&mut self, turn: u32, out: &mut O) {
        let client = self.client;
        let began = self.sides[client.index()].turn;
        if began >= turn {
            return;
        }
        match self.side(client).cut() {
            Some(Event::Head { head, body, length, .. }) => self.asks(head, &body, length, true, out),
            Some(_) => self.lost(client, LossReason::Gap, false, began, out),
            None => {}
        }
    }

    /// An answer to what nobody was seen to ask, in message `turn`.
    pub(super) fn unknown<O: Out>(&mut self, id: i32, turn: u32, out: &mut O) {
        if let Some((open, _)) = self.asking.take_if(|(open, one_way)| open.turn < turn && !*one_way) {
            // It was answered before all of it was sent, or the rest is missing.
            self.open.push_back(open);
        }
        if self.ids.is_newer(id) && self.gaps.is_open() {
            let waiting = self.open.len();
            self.passed_over(waiting, out);
            if let Some((reason, count)) = self.gaps.answered_newer(id, &self.ids) {
                lose(reason, count, out);
            }
            self.ids.infer(id);
            self.gaps.passed(id);
        } else if let Some((reason, count)) = self.gaps.answered(id, &self.ids) {
            let older = self.open.iter().take_while(|open| id.wrapping_sub(open.id) > 0).count();
            self.passed_over(older, out);
            lose(reason, count, out);
        } else if self.settled.is_some_and(|settled| id.wrapping_sub(settled) <= 0) {
            // Counted as lost before.
        } else if self.midway && self.first.is_none_or(|first| first.wrapping_sub(id) > 0) {
            out.lost(LossReason::JoinedMidway, 1);
        } else if self.midway && self.doubted == Some(LossReason::JoinedMidway) {
            // It was asked before, by a client that gives its numbers more than once.
            out.lost(LossReason::JoinedMidway, 1);
            self.ids.refute();
            self.go_blind(LossReason::JoinedMidway, out);
        } else if !matches!(self.doubted, None | Some(LossReason::JoinedMidway)) {
            // What it answers is counted with what was missed.
        } else {
            self.strange = self.strange.saturating_add(1);
            out.unasked(1);
        }
    }

    pub(super) fn close<O: Out>(&mut self, at: Ts, close: Close, limits: &Limits, out: &mut O) {
        let told = close != Close::Gone || limits.report_partial;
        if !self.raw {
            self.cut_request(u32::MAX, out);
        }
        let mut unfinished = 0;
        if let Some((open, mut answer)) = self.answering.take() {
            if told {
                answer.notes.add(Notes::END_ASSUMED);
                let record = open.answered(answer);
                self.report(record, out);
            } else {
                unfinished += 1;
            }
        }
        if let Some((open, one_way)) = self.asking.take() {
            match self.blind {
                Some(reason) => out.lost(reason, 1),
                // It did not get as far as to be sent.
                None if one_way => out.lost(LossReason::Unfinished, 1),
                None => self.open.push_back(open),
            }
        }
        let mut doubtful = 0;
        for open in std::mem::take(&mut self.open) {
            if open.doubt || open.turn < self.unheard_turn {
                doubtful += 1;
            } else if told {
                out.record(open.unanswered(Outcome::Unanswered, at));
            } else {
                unfinished += 1;
            }
        }
        lose(self.unheard.unwrap_or(LossReason::Gap), doubtful, out);
        lose(LossReason::Unfinished, unfinished, out);
        if let Some((reason, count)) = self.gaps.end(self.alternates) {
            lose(reason, count, out);
        }
        let trial = std::mem::take(&mut self.trial);
        match self.doubted {
            // Nothing speaks against what was seen.
            None | Some(LossReason::JoinedMidway) => trial.into_iter().for_each(|record| out.record(record)),
            Some(reason) => lose(reason, u32::try_from(trial.len()).unwrap_or(u32::MAX), out),
        }
    }
}
