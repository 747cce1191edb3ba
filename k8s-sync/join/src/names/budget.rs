//! Bytes a second over all streams: so many agents that come back at once take no more of the
//! companion's network than it may use.

use std::time::Duration;

/// A token bucket that goes into debt: a message is sent whole, and the next one waits.
#[derive(Debug)]
pub struct Budget {
    per_second: f64,
    free: f64,
    at: Duration,
    bytes: u64,
    waits: u64,
}

impl Budget {
    /// With a second's bytes free.
    #[must_use]
    pub fn new(per_second: u64) -> Budget {
        let per_second = per_second.max(1) as f64;
        Budget { per_second, free: per_second, at: Duration::ZERO, bytes: 0, waits: 0 }
    }

    /// Books so many bytes; to be sent after the time that it returns.
    pub fn take(&mut self, now: Duration, bytes: usize) -> Duration {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.free = (self.free + passed * self.per_second).min(self.per_second);
        let wait = if self.free < 0.0 { Duration::from_secs_f64(-self.free / self.per_second) } else { Duration::ZERO };
        self.free -= bytes as f64;
        self.bytes += bytes as u64;
        self.waits += u64::from(!wait.is_zero());
        wait
    }

    /// Bytes that were booked, and messages that waited.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.bytes, self.waits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever is asked for, and whenever: within any span no more is sent than the rate, a
        /// second's worth and one message.
        #[test]
        fn no_span_has_more_than_its_share(asked in proptest::collection::vec((0u64..500, 1usize..5_000), 1..200)) {
            let (rate, mut budget) = (10_000u64, Budget::new(10_000));
            let (mut now, mut sent) = (0, Vec::new());
            for (pause, bytes) in asked {
                now += pause;
                let at = Duration::from_millis(now);
                sent.push((at + budget.take(at, bytes), bytes as u64));
            }
            for from in 0..sent.len() {
                let mut sum = 0;
                for (at, bytes) in &sent[from..] {
                    sum += bytes;
                    let span = at.saturating_sub(sent[from].0).as_secs_f64();
                    prop_assert!(sum as f64 <= rate as f64 * (span + 1.001) + 5_000.0);
                }
            }
        }
    }
}
