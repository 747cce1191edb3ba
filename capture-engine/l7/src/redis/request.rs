//! The direction of the client: commands, in arrays of bulk strings or in lines.

use super::command::{Ask, Command, Mode};
use super::open::Open;
use super::scan::{Step, number};
use super::side::{Partial, Requests};
use super::{AFTER_PIPELINE, Redis, sign};
use crate::input::{Bytes, Hole};
use crate::{Limits, Out};
use flow_model::{LossReason, Notes, Outcome, Ts};

/// Arguments of a command that are believed; servers take a million (`1024 * 1024`).
const MOST_ARGUMENTS: u64 = 1 << 20;

impl Redis {
    pub(super) fn request_bytes<O: Out>(&mut self, data: Bytes<'_>, limits: &Limits, out: &mut O) {
        let Bytes { at, turn, mut start, bytes: mut rest, .. } = data;
        self.order.passed(at);
        while !rest.is_empty() {
            if self.requests.lost {
                if !start || !sign::command_begins(rest) {
                    self.blurred = true;
                    return;
                }
                self.requests = Requests::default();
            }
            let used = self.request_step(at, turn, rest, limits, out);
            start &= used == 0;
            rest = rest.get(used..).unwrap_or_default();
        }
    }

    /// Reads to the end of a line or an argument; how many bytes that took.
    fn request_step<O: Out>(&mut self, at: Ts, turn: u32, rest: &[u8], limits: &Limits, out: &mut O) -> usize {
        let Requests { scan, under_way, .. } = &mut self.requests;
        let (command, notes) = (Command::NONE, Notes::default());
        let fresh = Partial { start: at, last: at, turn, bytes: 0, command, left: None, notes, answered: false };
        let partial = under_way.get_or_insert(fresh);
        let before = scan.left();
        let (used, step) = scan.feed(rest);
        let long = scan.left().filter(|_| before.is_none());
        partial.bytes = partial.bytes.saturating_add(used as u64);
        partial.last = partial.last.max(at);
        match step {
            Step::More => {}
            Step::Broken => self.request_broken(out),
            Step::Line => match partial.left {
                Some(_) => self.request_broken(out),
                None => self.request_line(limits, out),
            },
            Step::Bulk { kind: b'$', cut } if partial.left.is_some() => self.request_argument(cut, limits, out),
            Step::Bulk { .. } => self.request_broken(out),
        }
        self.value(long, step);
        used
    }

    /// A line is whole where a command begins.
    fn request_line<O: Out>(&mut self, limits: &Limits, out: &mut O) {
        let Requests { scan, under_way: Some(partial), .. } = &mut self.requests else { return };
        match scan.text().split_first() {
            // An empty line is skipped, and so is an empty array.
            None | Some((b'*', b"0" | b"-1")) => self.requests.under_way = None,
            Some((b'*', count)) => match number(count) {
                Some(count) if count <= MOST_ARGUMENTS => partial.left = Some(count as u32),
                _ => self.request_broken(out),
            },
            Some(_) if partial.command.inline(scan.text()) => self.request_whole(limits, out),
            Some(_) => self.request_broken(out),
        }
    }

    fn request_argument<O: Out>(&mut self, cut: bool, limits: &Limits, out: &mut O) {
        let Requests { scan, under_way: Some(partial), .. } = &mut self.requests else { return };
        if cut && !partial.command.is_named() {
            // Which command it was nobody knows.
            return self.cut_request(limits, out);
        }
        partial.command.argument(scan.text());
        if cut {
            partial.notes.add(Notes::BODY_SKIPPED);
        }
        let left = partial.left.unwrap_or(1).saturating_sub(1);
        partial.left = Some(left);
        if left == 0 {
            self.request_whole(limits, out);
        }
    }

    /// What comes is no command. What has come of one was none.
    fn request_broken<O: Out>(&mut self, out: &mut O) {
        self.requests.drop_partial();
        self.blurred = true;
        if let Some(trial) = &mut self.trial {
            // It was joined amid a value that looks like commands.
            trial.strange += 1;
        }
        // The server says so, and ends the connection. Where something was lost before, it may be no beginning.
        if self.order.is_lost() {
            self.order.requests_unread();
        } else {
            self.order.lost_request(LossReason::Gap, false, out);
        }
    }

    fn request_whole<O: Out>(&mut self, limits: &Limits, out: &mut O) {
        let Some(partial) = self.requests.under_way.take().filter(|partial| !partial.answered) else { return };
        self.asked(partial, limits, out);
    }

    /// A reply has come to a command, in message `turn`, of which the end is missing: it was whole.
    pub(super) fn request_answered<O: Out>(&mut self, turn: u32, limits: &Limits, out: &mut O) {
        let under_way = self.requests.under_way.as_mut();
        let Some(partial) = under_way.filter(|partial| partial.turn < turn && !partial.answered) else { return };
        partial.answered = true;
        let cut = Partial { notes: Notes(partial.notes.0 | Notes::REQUEST_CUT.0), ..*partial };
        if cut.command.is_named() {
            self.asked(cut, limits, out);
        } else {
            self.order.lost_request(LossReason::Gap, false, out);
        }
    }

    fn asked<O: Out>(&mut self, partial: Partial, limits: &Limits, out: &mut O) {
        let Partial { start, last, turn, bytes, command: Command { name, ask, .. }, notes, .. } = partial;
        let silent = match (self.mode, ask) {
            (_, Ask::Replies(mode)) => {
                self.mode = mode;
                mode != Mode::On
            }
            (Mode::On, _) => false,
            (Mode::Off, _) => {
                if ask == Ask::Reset {
                    self.mode = Mode::On;
                }
                true
            }
            (Mode::Skip, _) => {
                self.mode = Mode::On;
                true
            }
        };
        if !matches!(ask, Ask::Subscribe(_)) && !matches!(name.as_str(), "PING" | "QUIT") {
            // With RESP2, who listens can ask nothing else.
            self.listens = false;
        }
        let open = Open { start, last, bytes, turn, name, notes, ask };
        if silent {
            return self.report(open.unanswered(Outcome::OneWay, self.database.as_ref()), out);
        }
        // In a capture that dropped packets: a command behind bytes of which nobody knows what they were may not
        // be the first that its message asks, and one that shows when the client has gone on may be answered.
        let unsure = limits.report_partial && (self.blurred || turn < self.spoke);
        if unsure || self.order.is_lost() || turn < self.given_up {
            return self.order.lost_request(LossReason::Gap, true, out);
        }
        if self.beyond > 0 || self.open.len() >= limits.open_exchanges.max(1) {
            self.beyond = self.beyond.saturating_add(1);
            return out.lost(LossReason::Limit, 1);
        }
        // What waits may have been answered by bytes that are held back.
        let pipelines = self.open.front().is_some_and(|open| open.turn == turn || !self.unsure);
        self.pipelined = if pipelines { AFTER_PIPELINE } else { self.pipelined.saturating_sub(1) };
        if pipelines {
            self.order.pipelined();
        }
        self.open.push(open);
    }

    pub(super) fn request_hole<O: Out>(&mut self, hole: Hole, limits: &Limits, out: &mut O) {
        if self.requests.lost {
            self.blurred = true;
            if self.order.is_lost() {
                self.order.requests_unread();
            }
            return;
        }
        let Requests { scan, under_way, .. } = &mut self.requests;
        let Some(partial) = under_way else {
            if hole.may_hold_reply() {
                self.requests.lost = true;
                self.order.lost_request(LossReason::Gap, false, out);
            }
            return;
        };
        partial.bytes = partial.bytes.saturating_add(hole.counted());
        partial.last = partial.last.max(hole.at);
        match scan.pass(hole.bytes) {
            Some(Step::Bulk { .. }) if partial.left.is_some() => self.request_argument(true, limits, out),
            Some(_) => partial.notes.add(Notes::BODY_SKIPPED),
            None => self.cut_request(limits, out),
        }
    }

    /// The rest of the command under way is not to be had, nor is it known where it ends.
    fn cut_request<O: Out>(&mut self, limits: &Limits, out: &mut O) {
        match &mut self.requests.under_way {
            Some(partial) if partial.command.is_named() => {
                partial.notes.add(Notes::REQUEST_CUT);
                self.request_whole(limits, out);
            }
            _ => {
                self.requests.under_way = None;
                self.order.lost_request(LossReason::Gap, false, out);
            }
        }
        // What is behind it in this message may be asked, too.
        self.requests.lost = true;
        self.blurred = true;
    }
}
