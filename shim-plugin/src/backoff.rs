use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Waits that double from 100 ms to 10 s, each jittered to 50-100 % of itself so that many agents
/// do not return together.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    most: Duration,
    random: RandomState,
    drawn: u64,
}

pub const SHORTEST: Duration = Duration::from_millis(100);
pub const LONGEST: Duration = Duration::from_secs(10);

impl Backoff {
    pub fn new() -> Backoff {
        Backoff { next: SHORTEST, most: LONGEST, random: RandomState::new(), drawn: 0 }
    }

    pub fn reset(&mut self) {
        self.next = SHORTEST;
    }

    /// The next wait, never longer than `cap`.
    pub fn wait(&mut self, cap: Duration) -> Duration {
        let full = self.next.min(cap);
        self.next = (self.next * 2).min(self.most);
        full.mul_f64(0.5 + 0.5 * self.unit())
    }

    /// `period` moved by up to a tenth either way.
    pub fn around(&mut self, period: Duration) -> Duration {
        period.mul_f64(0.9 + 0.2 * self.unit())
    }

    /// In 0..1. `RandomState` is keyed per process: enough to spread agents, no secret is made of it.
    fn unit(&mut self) -> f64 {
        self.drawn = self.drawn.wrapping_add(1);
        (self.random.hash_one(self.drawn) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_are_jittered_and_end_at_the_cap() {
        let mut backoff = Backoff::new();
        let waits: Vec<Duration> = (0..12).map(|_| backoff.wait(LONGEST)).collect();
        for (n, wait) in waits.iter().enumerate() {
            let full = (SHORTEST * 2u32.pow(n.min(20) as u32)).min(LONGEST);
            assert!(*wait >= full / 2 && *wait <= full, "wait {n} is {wait:?}, full {full:?}");
        }
        backoff.reset();
        assert!(backoff.wait(LONGEST) <= SHORTEST);
        assert!((0..100).map(|_| backoff.wait(Duration::from_secs(1))).all(|wait| wait <= Duration::from_secs(1)));
    }
}
