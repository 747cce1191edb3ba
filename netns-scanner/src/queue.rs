//! The targets that wait for the scan, and how far it is.

use crate::target::{Source, Target};
use flow_model::Slot;
use parking_lot::{Condvar, Mutex};
use std::collections::{HashSet, VecDeque};

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
    /// Being looked at. What is forgotten meanwhile is not handed on.
    pub current: HashSet<Slot>,
    pub progress: Progress,
    pub released: bool,
    /// New containers whose attach is under way.
    pub urgent: usize,
    pub stop: bool,
}

/// Between the scan's thread and who queues targets.
#[derive(Debug, Default)]
pub(crate) struct SharedQueue {
    pub queue: Mutex<Queue>,
    pub changed: Condvar,
}
