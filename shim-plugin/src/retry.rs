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
    pub attempts: u32,
    pub retry_at: Instant,
}

impl Failure {
    pub fn after(attempts: u32, mut reason: String, now: Instant) -> Failure {
        let attempts = attempts.saturating_add(1);
        let wait = FIRST.saturating_mul(1u32.checked_shl(attempts - 1).unwrap_or(u32::MAX)).min(LONGEST);
        if reason.len() > REASON_BYTES {
            reason.truncate(reason.floor_char_boundary(REASON_BYTES));
        }
        Failure { reason, attempts, retry_at: now + wait }
    }
}
