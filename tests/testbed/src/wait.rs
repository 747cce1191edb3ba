use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// How many times slower than a development machine this one is, where it says so: an emulated guest
/// does the same in ten times as long.
fn slowness() -> u32 {
    std::env::var("PILOTFISH_SLOWNESS").ok().and_then(|times| times.parse().ok()).unwrap_or(1)
}

/// Waits until `condition` holds; tells what was waited for when it does not within `patience`. A
/// signal ends the wait too.
pub fn until(what: &str, patience: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
    until_some(what, patience, || condition().then_some(()))
}

/// As [`until`], for a condition that yields a value.
pub fn until_some<T>(what: &str, patience: Duration, mut condition: impl FnMut() -> Option<T>) -> Result<T> {
    let (started, patience) = (Instant::now(), patience * slowness());
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
