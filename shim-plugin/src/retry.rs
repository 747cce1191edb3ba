//! When opening a namespace is tried again. Attaching is retried by whoever attaches, by the same
//! waits.

use std::time::{Duration, Instant};

/// An action that is given up as unanswered; a worker that hangs must not hold its turn for ever.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(30);
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// Reasons are shown, not parsed: a longer one is cut.
const REASON_BYTES: usize = 200;

/// Why something failed and when it is tried again: after 1 s, then twice as long each time up to 60 s.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub reason: String,
    pub retry_at: Instant,
}

impl Failure {
    /// The `attempts`th in a row.
    pub fn after(attempts: u32, mut reason: String, now: Instant) -> Failure {
        let doublings = attempts.saturating_sub(1);
        let wait = FIRST.saturating_mul(1u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(LONGEST);
        if reason.len() > REASON_BYTES {
            reason.truncate(reason.floor_char_boundary(REASON_BYTES));
        }
        Failure { reason, retry_at: now + wait }
    }
}
