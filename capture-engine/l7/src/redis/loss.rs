//! What is counted as lost, and what is known of the order of commands and replies afterwards.

use super::Redis;
use super::command::Ask;
use crate::order::{GivenUp, Unheard};
use crate::{Limits, Out};
use flow_model::{Close, LossReason, Notes, Outcome, Ts};

impl Redis {
    /// A message of the client begins.
    pub(super) fn client_speaks(&mut self, turn: u32, at: Ts, unheard: Unheard) {
        let unsure = unheard.unsure;
        if self.requests.is_amid() {
            // It goes on with a command.
            return;
        }
        if std::mem::take(&mut self.blurred) {
            self.order.requests_blurred();
        }
        self.spoke = turn;
        let clear = !unsure && self.replies.is_clear();
        let waits = self.open.front().is_some_and(|open| open.turn < turn);
        if waits && !unsure && !self.replies.is_lost() {
            self.order.overlaps();
        }
        self.order.client_speaks(at, self.open.len(), clear, unheard);
    }

    pub(super) fn request_missing<O: Out>(&mut self, turn: u32, at: Ts, out: &mut O) {
        // The reply before it has no end: its summary came with the head that is missing.
        if self.replies.is_amid() {
            self.replies.lose();
        }
        if self.replies.is_lost() {
            self.lose_before(turn, LossReason::RingFull, false, out);
        }
        if self.requests.drop_partial() {
            self.order.lost_request(LossReason::RingFull, true, out);
        }
        self.settle_trial(true, out);
        self.client_speaks(turn, at, Unheard { unsure: true, missed: false, dropped: false });
        self.requests.lost = true;
        self.order.lost_request(LossReason::RingFull, false, out);
    }

    pub(super) fn reply_missing<O: Out>(&mut self, turn: u32, out: &mut O) {
        if self.requests.drop_partial() {
            self.order.lost_request(LossReason::RingFull, true, out);
        }
        let certain = self.replies.is_clear();
        self.replies.lose();
        self.settle_trial(true, out);
        self.lose_before(turn, LossReason::RingFull, certain, out);
    }

    /// Gives up the open commands that came before message `turn`: their replies were lost. `certain`: one
    /// of them at least. Of a client that overlaps, later ones may have been answered there, too.
    pub(super) fn lose_before<O: Out>(&mut self, turn: u32, reason: LossReason, certain: bool, out: &mut O) {
        let mut count = GivenUp::default();
        self.given_up = self.given_up.max(turn);
        let all = self.order.is_overlapping() && self.open.front().is_some_and(|open| open.turn < turn);
        while self.open.front().is_some_and(|open| all || open.turn < turn) {
            self.open.pop().iter().for_each(|open| count.add(open.turn, self.spoke));
        }
        self.order.lost_responses(reason, count, certain, out);
    }

    /// What was found of a connection that was joined in the middle is told if nothing else was under
    /// way: every command that was seen has been answered, and no other was. `over`: nothing more shows it.
    pub(super) fn settle_trial<O: Out>(&mut self, over: bool, out: &mut O) {
        let Some(trial) = &self.trial else { return };
        if trial.records.is_empty() && trial.strange == 0 && self.open.is_empty() && !over {
            return;
        }
        let clean = trial.strange == 0 && self.open.is_empty() && !self.replies.is_amid();
        let Some(trial) = self.trial.take() else { return };
        if clean {
            return trial.records.into_iter().for_each(|record| out.record(record));
        }
        let mut count = GivenUp::default();
        while let Some(open) = self.open.pop() {
            count.add(open.turn, self.spoke);
        }
        let found = trial.records.len() as u64;
        if found > 0 {
            out.lost(LossReason::JoinedMidway, found);
        }
        self.order.pipelined();
        if count != GivenUp::default() {
            self.order.lost_responses(LossReason::JoinedMidway, count, false, out);
        } else if !over {
            // It may still be so.
            self.trial = Some(Box::default());
        }
    }

    pub(super) fn close<O: Out>(&mut self, close: Close, limits: &Limits, out: &mut O) {
        let told = close != Close::Gone || limits.report_partial;
        if told && self.replies.has_begun() {
            let last = self.replies.last();
            self.replied(last, Notes::END_ASSUMED, limits, out);
        }
        if self.trial.as_ref().is_some_and(|trial| !trial.records.is_empty() || trial.strange > 0) {
            self.settle_trial(true, out);
        }
        let mut unfinished = 0;
        while let Some(mut open) = self.open.pop() {
            if told {
                if open.ask == Ask::Waits {
                    open.notes.add(Notes::WAITED);
                }
                out.record(open.unanswered(Outcome::Unanswered, self.database.as_ref()));
            } else {
                unfinished += 1;
            }
        }
        if unfinished > 0 {
            out.lost(LossReason::Unfinished, unfinished);
        }
    }
}
