//! How workers are woken: those who may take what was queued, and nobody else.

#![forbid(unsafe_code)]

use super::queue::{Awaited, Priority, Serves};
use parking_lot::{Condvar, MutexGuard};
use std::time::Duration;

/// What the workers wait for: that something for them was queued, or that the end came. Where several
/// wait at one condition variable, the lock goes from one to the next as each gets a processor, and the
/// worker of first looks, which runs before others, would wait for them.
#[derive(Debug, Default)]
pub(super) struct Bells {
    new: Condvar,
    urgent: Condvar,
    all: Condvar,
}

impl Bells {
    /// Something of this priority was queued. Each worker who takes such: which of them may is known when it
    /// looks. Who is woken while the lock is held waits for it.
    pub fn ring(&self, whom: Awaited, priority: Priority) {
        if whom == Awaited::FirstLooks {
            self.new.notify_one();
            return;
        }
        self.all.notify_all();
        if priority != Priority::Background {
            self.urgent.notify_all();
        }
    }

    pub fn ring_all(&self) {
        for bell in [&self.new, &self.urgent, &self.all] {
            bell.notify_all();
        }
    }

    pub fn wait<T>(&self, serves: Serves, guard: &mut MutexGuard<'_, T>) {
        self.of(serves).wait(guard);
    }

    pub fn wait_for<T>(&self, serves: Serves, guard: &mut MutexGuard<'_, T>, time: Duration) {
        self.of(serves).wait_for(guard, time);
    }

    fn of(&self, serves: Serves) -> &Condvar {
        match serves {
            Serves::New => &self.new,
            Serves::Urgent => &self.urgent,
            Serves::All => &self.all,
        }
    }
}
