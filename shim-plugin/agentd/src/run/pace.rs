//! Background work beside a quota of the processor's time (docs/decisions/0034).
//!
//! A process that has used its quota runs no thread until the next period begins: probes and scrapes
//! wait as well. So what nobody waits for is paced to a share of the quota, by what the whole process
//! has used, and the rest is there for who asks.

use crate::clock;
use crate::run::budget::Budget;
use crate::run::quota::Quota;
use flow_model::Pace;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Asked by whoever does background work. Without a quota it costs a look at a flag.
#[derive(Debug, Default)]
pub struct Pacer {
    is_limited: AtomicBool,
    budget: Mutex<Option<Budget>>,
    waited_us: AtomicU64,
}

impl Pacer {
    #[must_use]
    pub fn new(quota: Option<Quota>) -> Arc<Pacer> {
        let pacer = Arc::new(Pacer::default());
        pacer.set(quota);
        pacer
    }

    /// The quota as it was found now. What was saved and owed stays where it is the same.
    pub fn set(&self, quota: Option<Quota>) {
        let mut budget = self.budget.lock();
        if budget.as_ref().map(|budget| budget.quota) == quota {
            return;
        }
        *budget = quota.map(|quota| Budget::new(quota, clock::of_this_process(), clock::now()));
        self.is_limited.store(quota.is_some(), Relaxed);
        drop(budget);
        match quota {
            Some(quota) => tracing::info!(%quota, "background work is paced to a share of the CPU quota"),
            None => tracing::debug!("no CPU quota: background work is not paced"),
        }
    }

    #[must_use]
    pub fn quota(&self) -> Option<Quota> {
        self.budget.lock().as_ref().map(|budget| budget.quota)
    }

    /// Whether there is a quota.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.is_limited.load(Relaxed)
    }

    /// How long pieces were told to wait, all together.
    #[must_use]
    pub fn waited(&self) -> Duration {
        Duration::from_micros(self.waited_us.load(Relaxed))
    }
}

impl Pace for Pacer {
    fn wait(&self, waited: Duration) -> Option<Duration> {
        if !self.is_limited() {
            return None;
        }
        let mut budget = self.budget.lock();
        let wait = budget.as_mut()?.wait(clock::of_this_process(), clock::now(), waited)?;
        self.waited_us.fetch_add(u64::try_from(wait.as_micros()).unwrap_or(u64::MAX), Relaxed);
        Some(wait)
    }
}

/// The same for tasks, one piece after the other.
#[derive(Clone, Debug)]
pub struct Turns {
    pacer: Arc<Pacer>,
    first: Arc<tokio::sync::Mutex<()>>,
}

impl Turns {
    #[must_use]
    pub fn new(pacer: Arc<Pacer>) -> Turns {
        Turns { pacer, first: Arc::default() }
    }

    /// Returns when the next piece may begin.
    pub async fn next(&self) {
        if !self.pacer.is_limited() {
            return;
        }
        let _first = self.first.lock().await;
        let since = tokio::time::Instant::now();
        while let Some(wait) = self.pacer.wait(since.elapsed()) {
            tokio::time::sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn without_a_quota_nothing_waits_and_with_another_one_it_is_asked_anew() {
        let tight = Quota { time: Duration::from_nanos(100), period: MS * 100 };
        let pacer = Pacer::new(None);
        assert_eq!((pacer.wait(Duration::ZERO), pacer.quota()), (None, None));
        pacer.set(Some(tight));
        let until = clock::of_this_process() + MS;
        while clock::of_this_process() < until {}
        assert!(pacer.wait(Duration::ZERO).is_some() && pacer.waited() >= MS);
        assert_eq!(pacer.wait(MS * 200), None);
        pacer.set(None);
        assert_eq!(pacer.wait(Duration::ZERO), None);
    }
}
