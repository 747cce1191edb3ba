//! Who gives way where another process like this one takes our place on an interface: each takes it
//! back at growing intervals, so that two that live do not fight, and one that was killed does not
//! keep the place. Pure: time is passed in.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(60);
/// After this long in peace the next one is the first again.
const PEACE: Duration = Duration::from_secs(600);

#[derive(Debug, Default)]
pub struct Rivals(BTreeMap<u32, Taken>);

#[derive(Debug)]
struct Taken {
    times: u32,
    last: Instant,
    until: Instant,
}

impl Rivals {
    /// Our place on an interface was taken. The first time it is taken back at once.
    pub fn took(&mut self, index: u32, now: Instant) {
        let taken = self.0.entry(index).or_insert(Taken { times: 0, last: now, until: now });
        if now.saturating_duration_since(taken.last) > PEACE {
            taken.times = 0;
        }
        let wait = match taken.times {
            0 => Duration::ZERO,
            times => FIRST.saturating_mul(1u32.checked_shl(times - 1).unwrap_or(u32::MAX)).min(LONGEST),
        };
        *taken = Taken { times: taken.times.saturating_add(1), last: now, until: now + wait };
    }

    /// It is the other's for now.
    #[must_use]
    pub fn have(&self, index: u32, now: Instant) -> bool {
        self.0.get(&index).is_some_and(|taken| now < taken.until)
    }

    /// Interfaces that are gone are forgotten.
    pub fn retain(&mut self, exists: impl Fn(u32) -> bool) {
        self.0.retain(|index, _| exists(*index));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_taken_back_at_once_and_then_at_growing_intervals() {
        let (mut rivals, mut now) = (Rivals::default(), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..8 {
            rivals.took(2, now);
            let mut waited = 0;
            while rivals.have(2, now) {
                now += Duration::from_secs(1);
                waited += 1;
            }
            waits.push(waited);
        }
        assert_eq!(waits, [0, 2, 4, 8, 16, 32, 60, 60]);
        assert!(!rivals.have(3, now), "each interface for itself");
        now += PEACE + Duration::from_secs(1);
        rivals.took(2, now);
        assert!(!rivals.have(2, now), "an upgrade long after is no fight");
        rivals.took(2, now);
        assert!(rivals.have(2, now));
        rivals.retain(|_| false);
        assert!(!rivals.have(2, now));
    }
}
