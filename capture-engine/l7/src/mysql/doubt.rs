//! What is counted while nothing is paired. As many exchanges are lost as were asked or answered,
//! whichever is more: where all of one direction was seen, that is exact. Packets are numbered from the
//! command on, so the first one of an answer shows by its number.

use super::command::{self, Answers, Command};
use crate::Out;
use flow_model::{LossReason, Ts};

/// What is counted and not paired, since something was lost.
#[derive(Debug)]
pub(super) struct Doubt {
    reason: LossReason,
    /// Exchanges that were seen to be asked and to be answered since nothing was under way, and how many of
    /// them have been counted as lost.
    pub(super) asked: u32,
    pub(super) answered: u32,
    counted: u32,
    /// By sender: something that was not seen may have been one.
    pub(super) missing: [bool; 2],
    /// Bytes of the client were not seen: more was asked, perhaps.
    pub(super) hidden: bool,
    /// What was read of a message of which the beginning may be missing.
    trial: Option<Trial>,
}

/// Commands that are none where a packet of another kind follows them in their message, or where its end is
/// not that of a packet: what is found behind a hole may be the rest of a packet. Nothing but lengths and
/// numbers shows that it is not, and few of them do in data, which are full of small numbers. Data may hold
/// whole commands, too; but a client that waits says nothing behind a command that is answered.
#[derive(Clone, Copy, Debug, Default)]
struct Trial {
    asked: u32,
    /// There were some that have no answer.
    untold: bool,
    /// Code of the last one that has an answer.
    last: Option<u8>,
    /// A client that quits says nothing more.
    over: bool,
}

/// Rows of the answer under way were left out: its end shows in the last bytes of its message.
#[derive(Debug, Default)]
pub(super) struct Hidden {
    pub(super) tail: Vec<u8>,
    pub(super) last: Ts,
}

impl Trial {
    fn may_be_followed_by(&self, it: &Command, waits: bool) -> bool {
        let follows = match self.last {
            // Clients of MariaDB execute what they prepare in one go.
            Some(command::PREPARE) => it.executes(),
            Some(_) => false,
            None => true,
        };
        it.fits && !self.over && (follows || !waits)
    }
}

impl Doubt {
    pub(super) fn new(reason: LossReason) -> Doubt {
        Doubt {
            reason,
            asked: 0,
            answered: 0,
            counted: 0,
            missing: [false; 2],
            hidden: reason == LossReason::JoinedMidway,
            trial: None,
        }
    }

    /// A message of the client is read of which the beginning may be missing.
    pub(super) fn try_message(&mut self) {
        self.trial = Some(Trial::default());
    }

    pub(super) fn tries(&self) -> bool {
        self.trial.is_some()
    }

    /// What comes next in such a message; `waits`: the client was not seen to ask before it has all answers.
    /// False where it is no command that may stand there: the message has none, then.
    pub(super) fn try_command(&mut self, command: Option<&Command>, waits: bool) -> bool {
        let both = self.trial.as_mut().zip(command).filter(|(trial, it)| trial.may_be_followed_by(it, waits));
        let Some((trial, it)) = both else {
            self.trial = None;
            return false;
        };
        if it.answers == Answers::Never {
            trial.untold = true;
        } else {
            trial.asked = trial.asked.saturating_add(1);
            trial.last = Some(it.code);
        }
        trial.over = it.code == command::QUIT;
        true
    }

    /// The message is over, or the rest of it is missing: it `holds` commands, or none.
    pub(super) fn judge<O: Out>(&mut self, holds: bool, out: &mut O) {
        if let Some(trial) = self.trial.take().filter(|_| holds) {
            self.ask(trial.asked, out);
            // Of a packet whose rest looks like some of them: never more than there are.
            let ends = trial.over || trial.last.is_some();
            self.lose(u32::from(trial.untold && ends), out);
        }
    }

    pub(super) fn ask<O: Out>(&mut self, count: u32, out: &mut O) {
        self.asked = self.asked.saturating_add(count);
        self.count(out);
    }

    /// Exchanges of which the answer would not be told from the rest of another one, logins, and those that have none.
    pub(super) fn lose<O: Out>(&self, count: u32, out: &mut O) {
        if count > 0 {
            out.lost(self.reason, u64::from(count));
        }
    }

    pub(super) fn answer<O: Out>(&mut self, out: &mut O) {
        self.answered = self.answered.saturating_add(1);
        self.count(out);
    }

    fn count<O: Out>(&mut self, out: &mut O) {
        let known = self.asked.max(self.answered);
        if known > self.counted {
            out.lost(self.reason, u64::from(known - self.counted));
            self.counted = known;
        }
    }

    /// What was asked so far is over.
    pub(super) fn fold<O: Out>(&mut self, out: &mut O) {
        if self.missing == [true; 2] && self.asked.max(self.answered) == 0 {
            // A request and its response, of which nothing was seen.
            out.lost(self.reason, 1);
        }
        (self.asked, self.answered, self.counted, self.missing) = (0, 0, 0, [false; 2]);
    }
}
