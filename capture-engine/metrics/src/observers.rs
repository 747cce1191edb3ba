//! Who else is told of each exchange, with the names of its ends: exporters, taps, the lines of a
//! replay.
//!
//! Observers are called on the pipeline's thread. One that works elsewhere, or may wait, takes what
//! it needs and puts it into a `Feed`.

use crate::losses::{Loss, Losses};
use crate::series::Edge;
use flow_model::{FlowInfo, L7Record, LossReason};
use std::fmt::Debug;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

/// Told of every exchange after it was counted, and of those that were lost. Must not block, lock for long, or do I/O.
pub trait Observer: Debug + Send {
    /// One exchange was counted on `edge`. `flow` is as seen by the end that reports.
    fn exchange(&mut self, edge: &Edge, flow: &FlowInfo, record: &L7Record);

    /// So many were lost on `edge`: they took place, and nothing more is known of them.
    fn lost(&mut self, _edge: &Edge, _flow: &FlowInfo, _reason: LossReason, _count: u64) {}

    /// Nobody wants to hear of more: it is dropped before long.
    fn is_over(&self) -> bool {
        false
    }
}

/// All observers of a `Golden`. Without one, an exchange costs a comparison more.
#[derive(Debug, Default)]
pub(crate) struct Observers(Vec<Box<dyn Observer>>);

impl Observers {
    pub(crate) fn add(&mut self, observer: Box<dyn Observer>) {
        self.0.push(observer);
    }

    pub(crate) fn exchange(&mut self, edge: &Edge, flow: &FlowInfo, record: &L7Record) {
        for observer in &mut self.0 {
            observer.exchange(edge, flow, record);
        }
    }

    pub(crate) fn lost(&mut self, edge: &Edge, flow: &FlowInfo, reason: LossReason, count: u64) {
        for observer in &mut self.0 {
            observer.lost(edge, flow, reason, count);
        }
    }

    pub(crate) fn sweep(&mut self) {
        self.0.retain(|observer| !observer.is_over());
    }
}

/// The way from an observer to another thread: bounded, and what does not fit is counted.
#[derive(Clone, Debug)]
pub struct Feed<T> {
    queue: SyncSender<T>,
    full: Loss,
    over: bool,
}

impl<T> Feed<T> {
    /// Puts an item in; never waits.
    pub fn push(&mut self, item: T) {
        match self.queue.try_send(item) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => self.full.add(1),
            Err(TrySendError::Disconnected(_)) => self.over = true,
        }
    }

    /// The other end is gone, as the last `push` found.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// A queue of at most `cap` items. What does not fit is lost at `stage`, for `queue_full`, in
    /// `unit` ("records").
    pub fn new(stage: &'static str, unit: &'static str, cap: usize, losses: &Losses) -> (Feed<T>, Receiver<T>) {
        let (queue, receiver) = sync_channel(cap);
        (Feed { queue, full: losses.place(stage, QUEUE_FULL, unit), over: false }, receiver)
    }
}

const QUEUE_FULL: &str = "queue_full";
