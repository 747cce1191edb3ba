use std::time::Duration;

/// A point in time in nanoseconds. Live traffic counts from the kernel's monotonic clock (`bpf_ktime_get_ns`),
/// a replayed capture from the Unix epoch. Only differences mean anything across the crates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ts(pub u64);

impl Ts {
    /// Time from `earlier` to `self`; zero when the clock went backwards (captures do that).
    #[must_use]
    pub fn since(self, earlier: Ts) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// `self` moved on by `by`, saturating.
    #[must_use]
    pub fn plus(self, by: Duration) -> Ts {
        Ts(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}
