//! How long a namespace is waited for whose last process has ended, and when it is looked at. Pure.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

/// Between the first look and the second; each later pause is twice as long, up to the longest. The
/// namespace lives on by its own sockets, and by us for no longer than a pause behind them.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// How long a namespace is waited for whose last process has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linger {
    until: Instant,
    pause: Duration,
    /// It had no room to wait, or gave it up.
    crowded: bool,
}

impl Linger {
    pub fn new(until: Instant) -> Linger {
        Linger { until, pause: FIRST_PAUSE, crowded: false }
    }

    /// One look and no more.
    pub fn crowded(now: Instant) -> Linger {
        Linger { crowded: true, ..Linger::new(now) }
    }

    pub fn make_room(&mut self, now: Instant) {
        (self.until, self.crowded) = (self.until.min(now), true);
    }

    pub fn is_crowded(&self) -> bool {
        self.crowded
    }

    /// No look has been taken yet that found something under way.
    pub fn is_first(&self) -> bool {
        self.pause == FIRST_PAUSE
    }

    pub fn is_over(&self, now: Instant) -> bool {
        now >= self.until
    }

    /// When it is looked at again.
    pub fn next(&mut self, now: Instant) -> Instant {
        let at = (now + self.pause).min(self.until).max(now);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_grow_rarer_and_the_last_one_is_when_its_time_is_over() {
        let start = Instant::now();
        let mut linger = Linger::new(start + Duration::from_secs(1));
        let (mut now, mut pauses) = (start, Vec::new());
        while !linger.is_over(now) {
            let next = linger.next(now);
            pauses.push((next - now).as_millis());
            now = next;
        }
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 250, 250, 185]);
        assert!(!linger.is_crowded() && Linger::crowded(start).is_over(start));
        let mut late = Linger::new(start);
        late.make_room(start + Duration::from_secs(1));
        assert_eq!(late.next(start + Duration::from_secs(2)), start + Duration::from_secs(2));
    }
}
