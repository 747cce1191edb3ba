use std::time::Duration;

/// A single item that took long must not end the work for long.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// Decides how many items of background work one turn may do, so that a turn takes about `desired`,
/// and how long to rest after it.
///
/// It learns the cost of an item as it goes (the idea is that of quinn's work limiter); time is
/// passed in, so a test is exact.
#[derive(Clone, Copy, Debug)]
pub struct WorkLimiter {
    desired: Duration,
    /// Rest after a turn, in multiples of the time it took: 29 keeps the work at a thirtieth of a core.
    rest_factor: u32,
    /// Smoothed cost of one item in nanoseconds; 0 before the first.
    item_ns: u64,
}

impl WorkLimiter {
    /// A turn is to take `desired`, and the rest after it `rest_factor` times what it took, one
    /// second at most.
    #[must_use]
    pub fn new(desired: Duration, rest_factor: u32) -> Self {
        WorkLimiter { desired, rest_factor, item_ns: 0 }
    }

    /// Items that the next turn may do: at least one, or work would never end.
    #[must_use]
    pub fn items(&self) -> usize {
        if self.item_ns == 0 {
            return 1;
        }
        let budget = u64::try_from(self.desired.as_nanos()).unwrap_or(u64::MAX);
        usize::try_from(budget / self.item_ns).unwrap_or(usize::MAX).clamp(1, 4096)
    }

    /// A turn did `items` in `took`; says how long to rest now.
    pub fn done(&mut self, items: usize, took: Duration) -> Duration {
        if items > 0 {
            let now = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX) / items as u64;
            // An eighth of the news: a single slow item (a page fault, a preemption) must not stop the show.
            self.item_ns = if self.item_ns == 0 { now.max(1) } else { (self.item_ns * 7 / 8 + now / 8).max(1) };
        }
        took.saturating_mul(self.rest_factor).min(LONGEST_REST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_grows_to_its_budget_and_shrinks_when_items_get_dear() {
        let mut limiter = WorkLimiter::new(Duration::from_millis(2), 9);
        assert_eq!(limiter.items(), 1);
        limiter.done(1, Duration::from_micros(100));
        assert_eq!(limiter.items(), 20);
        for _ in 0..64 {
            limiter.done(1, Duration::from_millis(4));
        }
        assert_eq!(limiter.items(), 1);
    }

    #[test]
    fn the_rest_follows_the_work_and_is_bounded() {
        let mut limiter = WorkLimiter::new(Duration::from_millis(2), 9);
        assert_eq!(limiter.done(1, Duration::from_millis(1)), Duration::from_millis(9));
        assert_eq!(limiter.done(1, Duration::from_secs(9)), LONGEST_REST);
    }
}
