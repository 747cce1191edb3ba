//! The targets that wait for the scan, and how far it is.

use crate::target::{Source, Target};
use flow_model::Slot;
use parking_lot::{Condvar, Mutex};
use std::collections::{HashSet, VecDeque};
use std::time::Duration;

/// How far the scan is; a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Targets done (found, failed or forgotten) of all that were ever queued.
    pub done: u64,
    /// Targets ever queued, the refused among them.
    pub total: u64,
    /// Targets given up: namespace or process gone, every source refused.
    pub failed: u64,
    /// Targets that found the queue full.
    pub refused: u64,
    /// Connections handed on.
    pub seeds: u64,
    /// Connections that found no room at the receiver.
    pub seeds_lost: u64,
    /// Of the connections handed on, those whose local end is taken for the server by their ports alone.
    pub guessed: u64,
    /// Targets of [`Want::Ended`](crate::Want::Ended) that wait or are being looked at.
    pub sweeping: usize,
    /// Time that all of this took, rests left out.
    pub busy: Duration,
    /// Namespaces that the iterator's pass left to sock_diag, because connections waited there for their `accept(2)`.
    pub looked_twice: u64,
    /// The kernel or our capabilities do not allow the iterator; the log says why.
    pub iterator_refused: bool,
    /// The source used last.
    pub source: Option<Source>,
}

/// What the scan has before it, and what it has done.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// Newest last; taken from the back.
    pub waiting: VecDeque<Target>,
    /// Being looked at, and whether that is a sweep. What is forgotten meanwhile is not handed on.
    pub current: HashSet<(Slot, bool)>,
    pub progress: Progress,
    pub released: bool,
    /// New containers whose attach is under way.
    pub urgent: usize,
    pub stop: bool,
}

impl Queue {
    /// It is being looked at from now on; false when the same is already.
    pub fn begin(&mut self, target: &Target) -> bool {
        let begun = self.current.insert(target.key());
        if !begun {
            self.count_done(target.want.is_sweep());
        }
        begun
    }

    /// False when it was forgotten meanwhile.
    pub fn is_current(&self, target: &Target) -> bool {
        self.current.contains(&target.key())
    }

    /// It waits once more, unless it was forgotten meanwhile.
    pub fn again(&mut self, target: Target) {
        if self.current.remove(&target.key()) {
            self.waiting.push_back(target);
        }
    }

    /// It has been looked at, well or not; false when it was forgotten meanwhile.
    pub fn done(&mut self, target: &Target) -> bool {
        let was_current = self.current.remove(&target.key());
        if was_current {
            self.count_done(target.want.is_sweep());
        }
        was_current
    }

    /// Nothing of the namespace is handed on from now on.
    pub fn forget(&mut self, slot: Slot) {
        let (gone, kept): (VecDeque<Target>, VecDeque<Target>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|target| target.slot == slot);
        self.waiting = kept;
        gone.iter().for_each(|target| self.count_done(target.want.is_sweep()));
        for sweep in [false, true] {
            if self.current.remove(&(slot, sweep)) {
                self.count_done(sweep);
            }
        }
    }

    fn count_done(&mut self, sweep: bool) {
        match sweep {
            true => self.progress.sweeping = self.progress.sweeping.saturating_sub(1),
            false => self.progress.done += 1,
        }
    }
}

/// Between the scan's thread and who queues targets.
#[derive(Debug, Default)]
pub(crate) struct SharedQueue {
    pub queue: Mutex<Queue>,
    pub changed: Condvar,
}
