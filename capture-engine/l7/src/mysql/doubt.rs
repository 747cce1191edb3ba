//! What is counted while nothing is paired. As many exchanges are lost as were asked or answered,
//! whichever is more: where all of one direction was seen, that is exact. Packets are numbered from the
//! command on, so the first one of an answer shows by its number.

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
}

/// Rows of the answer under way were left out: its end shows in the last bytes of its message.
#[derive(Debug, Default)]
pub(super) struct Hidden {
    pub(super) tail: Vec<u8>,
    pub(super) last: Ts,
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
        }
    }

    pub(super) fn ask<O: Out>(&mut self, count: u32, out: &mut O) {
        self.asked = self.asked.saturating_add(count);
        self.count(out);
    }

    /// Exchanges of which the answer would not be told from the rest of another one: logins.
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
