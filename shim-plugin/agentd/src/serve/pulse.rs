//! The pipeline thread's heartbeat, as liveness, watchdog and readiness read it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Older than this, and the pipeline counts as stalled. It beats some hundred times a second; a
/// turn over a full ring and a large flow table takes tens of milliseconds.
pub const STALLED: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Pulse {
    origin: Instant,
    /// Milliseconds after `origin`.
    last: AtomicU64,
}

impl Pulse {
    #[must_use]
    pub fn new(now: Instant) -> Pulse {
        Pulse { origin: now, last: AtomicU64::new(0) }
    }

    pub fn beat(&self, now: Instant) {
        let millis = u64::try_from(now.saturating_duration_since(self.origin).as_millis()).unwrap_or(u64::MAX);
        self.last.store(millis, Ordering::Relaxed);
    }

    /// Time since the last beat, or since the start where there was none.
    #[must_use]
    pub fn age(&self, now: Instant) -> Duration {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        now.saturating_duration_since(self.origin).saturating_sub(last)
    }

    #[must_use]
    pub fn alive(&self, now: Instant) -> bool {
        self.age(now) < STALLED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heart_that_stops_is_noticed() {
        let start = Instant::now();
        let pulse = Pulse::new(start);
        assert!(pulse.alive(start + STALLED / 2));
        assert!(!pulse.alive(start + STALLED));
        pulse.beat(start + STALLED);
        assert!(pulse.alive(start + STALLED));
        assert_eq!(pulse.age(start + STALLED + Duration::from_secs(3)), Duration::from_secs(3));
    }
}
