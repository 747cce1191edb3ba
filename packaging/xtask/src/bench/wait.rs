//! Lets time pass, unless somebody wants an end.

use anyhow::{Result, ensure};
use std::thread;
use std::time::{Duration, Instant};
use testbed::signals;

/// Waits; a signal ends it with an error.
pub(super) fn pass(length: Duration) -> Result<()> {
    let until = Instant::now() + length;
    while Instant::now() < until {
        ensure!(!signals::interrupted(), "interrupted");
        thread::sleep(Duration::from_millis(100).min(until.saturating_duration_since(Instant::now())));
    }
    Ok(())
}
