//! When attaching is tried again: the one back-off of namespaces and cgroups.

#![forbid(unsafe_code)]

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// Failures in a row, and the waits between them: 1 s, 2 s, 4 s .. 60 s. No jitter: nobody outside
/// this machine is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retries(u32);

impl Retries {
    /// One more failure; returns how long to wait before the next try.
    #[must_use]
    pub fn failed(&mut self) -> Duration {
        let wait = FIRST.saturating_mul(1u32.checked_shl(self.0).unwrap_or(u32::MAX)).min(LONGEST);
        self.0 = self.0.saturating_add(1);
        wait
    }

    /// Failures since the last success.
    #[must_use]
    pub fn failures(self) -> u32 {
        self.0
    }
}
