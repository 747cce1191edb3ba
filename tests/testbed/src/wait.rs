use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// Waits until `condition` holds; tells what was waited for when it does not within `patience`. A
/// signal ends the wait too.
pub fn until(what: &str, patience: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
    until_some(what, patience, || condition().then_some(()))
}

/// As [`until`], for a condition that yields a value.
pub fn until_some<T>(what: &str, patience: Duration, mut condition: impl FnMut() -> Option<T>) -> Result<T> {
    let started = Instant::now();
    // Short at first, because most conditions hold at once; 20 ms later costs nothing beside what is measured.
    let mut pause = Duration::from_micros(500);
    loop {
        if let Some(value) = condition() {
            return Ok(value);
        }
        if crate::signals::interrupted() {
            bail!("interrupted while waiting for {what}");
        }
        if started.elapsed() >= patience {
            bail!("{what}: not within {patience:?}");
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}
