//! What is known of a client whose requests the source counts.

use crate::asked::Asked;
use flow_model::LossReason;

/// Of a client whose requests the source counts (`counted`).
#[derive(Debug)]
pub(super) struct Ledger {
    /// Where its direction stands.
    pub at: Asked,
    /// Requests that no record will tell of, and that are not told as lost yet. Less than none: of requests that were
    /// told the lines' ends are still to come.
    pub owed: i64,
    /// Ends of lines in the head that is being collected.
    pub head: u32,
    /// Bytes have passed unseen that may have held requests, so many of which would have been told without a count.
    pub unseen: bool,
    pub inferred: u32,
    pub reason: LossReason,
}

impl Ledger {
    pub(super) fn new(at: Asked, head: u32) -> Ledger {
        Ledger { at, owed: 0, head, unseen: false, inferred: 0, reason: LossReason::RingFull }
    }

    pub(super) fn owe(&mut self, requests: i64) {
        self.owed = self.owed.saturating_add(requests);
    }
}
