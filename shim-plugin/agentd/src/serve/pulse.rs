//! The pipeline thread's heartbeat, as liveness, watchdog and readiness read it: it beats while the
//! thread gets on, however slowly. What is slow for want of CPU would be slower after a restart.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Older than this, and the pipeline counts as stalled. It beats some hundred times a second, and
/// within a turn, too.
pub const STALLED: Duration = Duration::from_secs(10);
/// Events or flows between two beats of one turn. A turn over a full ring and a large flow table
/// takes tens of milliseconds, and a minute on a node that gives its thread no CPU.
const PIECES: u32 = 256;

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

/// A turn that is under way.
#[derive(Debug)]
pub struct Turn<'a> {
    pulse: &'a Pulse,
    pieces: u32,
}

impl<'a> Turn<'a> {
    #[must_use]
    pub fn new(pulse: &'a Pulse) -> Turn<'a> {
        Turn { pulse, pieces: 0 }
    }

    /// An event or a flow is dealt with.
    pub fn gets_on(&mut self) {
        self.pieces += 1;
        if self.pieces >= PIECES {
            self.pieces = 0;
            self.pulse.beat(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_that_gets_on_is_no_stall_however_long_it_takes() {
        let now = Instant::now();
        let Some(long_ago) = now.checked_sub(STALLED * 2) else { return };
        let pulse = Pulse::new(long_ago);
        let mut turn = Turn::new(&pulse);
        (1..PIECES).for_each(|_| turn.gets_on());
        assert!(!pulse.alive(now), "nothing is known yet");
        turn.gets_on();
        assert!(pulse.alive(now) && pulse.age(Instant::now()) < STALLED / 2);
        // One that has stopped is one.
        assert!(!pulse.alive(Instant::now() + STALLED));
    }

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
