//! A token bucket over everything that is ever sent to the API server: the last fence, for faults
//! that nobody thought of.

use std::time::{Duration, Instant};

/// Pure: time is passed in.
#[derive(Debug)]
pub struct Bucket {
    size: f64,
    per_second: f64,
    /// Below zero where requests wait for their turn.
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    /// `size` requests at once, `per_second` in the long run. Both above zero.
    #[must_use]
    pub fn new(size: u32, per_second: f64, now: Instant) -> Bucket {
        let per_second = if per_second.is_finite() { per_second.max(0.001) } else { 0.001 };
        Bucket { size: f64::from(size.max(1)), per_second, tokens: f64::from(size.max(1)), filled: now }
    }

    /// Takes the next request's token, and says how long that request has to wait. Zero as a rule.
    pub fn take(&mut self, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = self.filled.max(now);
        self.tokens = (self.tokens + passed * self.per_second).min(self.size) - 1.0;
        Duration::from_secs_f64((-self.tokens / self.per_second).clamp(0.0, 3_600.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_each_waits_its_turn() {
        let now = Instant::now();
        let mut bucket = Bucket::new(3, 2.0, now);
        let waits: Vec<u128> = (0..6).map(|_| bucket.take(now).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 500, 1_000, 1_500]);
        assert_eq!(bucket.take(now + Duration::from_secs(60)), Duration::ZERO);
    }

    #[test]
    fn it_never_holds_more_than_its_size() {
        let now = Instant::now();
        let mut bucket = Bucket::new(2, 5.0, now);
        let later = now + Duration::from_secs(86_400);
        let waits: Vec<u128> = (0..3).map(|_| bucket.take(later).as_millis()).collect();
        assert_eq!(waits, [0, 0, 200]);
    }

    #[test]
    fn a_clock_that_goes_back_gives_no_tokens() {
        let now = Instant::now();
        let later = now + Duration::from_secs(10);
        let mut bucket = Bucket::new(1, 1.0, later);
        assert_eq!(bucket.take(later), Duration::ZERO);
        assert_eq!(bucket.take(now), Duration::from_secs(1));
    }

    #[test]
    fn senseless_rates_stop_nobody_for_ever() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let now = Instant::now();
            let mut bucket = Bucket::new(0, rate, now);
            assert_eq!(bucket.take(now), Duration::ZERO);
            assert!(bucket.take(now) <= Duration::from_secs(3_600));
        }
    }
}
