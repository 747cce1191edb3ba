//! Exchanges as they end, for whoever listens: records of single exchanges, filtered, in a bounded
//! queue for each reader.
//!
//! A tap is an observer like any other and changes nothing of what is counted. While nobody listens
//! there is none: a turn of the pipeline then costs two loads, and an exchange nothing.

mod path;
mod query;
mod queue;
mod tapped;

pub use query::TapQuery;
pub use queue::{Gap, Told};
pub use tapped::Tapped;

use crate::losses::{Loss, Losses};
use crate::observers::Observer;
use crate::series::Edge;
use flow_model::{FlowInfo, L7Record, LossReason};
use parking_lot::Mutex;
use queue::Queue;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

/// Readers at a time: a person or two and their tools. Each costs the pipeline a filter for every
/// exchange, and at most 2 MiB.
pub const MOST_TAPS: usize = 4;

/// All taps of an agent. A handle: clones are the same taps.
#[derive(Clone, Debug)]
pub struct Taps(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Opened and not yet taken by the pipeline.
    opened: Mutex<Vec<Tap>>,
    has_opened: AtomicBool,
    readers: AtomicUsize,
    /// Of them, those that the pipeline tells.
    told_to: AtomicUsize,
    with_paths: AtomicUsize,
    told: AtomicU64,
    full: Loss,
}

/// Nobody can be let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyTaps;

impl Taps {
    /// None is open yet. What finds no room in a reader's queue is counted in `losses`.
    #[must_use]
    pub fn new(losses: &Losses) -> Taps {
        Taps(Arc::new(Shared {
            opened: Mutex::default(),
            has_opened: AtomicBool::new(false),
            readers: AtomicUsize::new(0),
            told_to: AtomicUsize::new(0),
            with_paths: AtomicUsize::new(0),
            told: AtomicU64::new(0),
            full: losses.place("tap", "queue_full", "records that a tap's reader had no room for"),
        }))
    }

    /// Opens one. It ends when its reader is dropped.
    ///
    /// # Errors
    /// `MOST_TAPS` are open.
    pub fn open(&self, query: TapQuery) -> Result<TapReader, TooManyTaps> {
        let Shared { opened, has_opened, readers, with_paths, .. } = &*self.0;
        let more = |count: usize| (count < MOST_TAPS).then_some(count + 1);
        readers.fetch_update(Relaxed, Relaxed, more).map_err(|_| TooManyTaps)?;
        let has_paths = query.may_have_paths();
        with_paths.fetch_add(usize::from(has_paths), Relaxed);
        let queue = Arc::new(Mutex::new(Queue::new(query.limit())));
        let reader = TapReader { queue: queue.clone(), shared: self.0.clone(), has_paths };
        opened.lock().push(Tap { query, queue, shared: self.0.clone(), is_taken: false });
        has_opened.store(true, Release);
        Ok(reader)
    }

    /// Those that were opened since the last question, to be told of exchanges from now on.
    #[must_use]
    pub fn take_opened(&self) -> Vec<Tap> {
        let Shared { opened, has_opened, told_to, .. } = &*self.0;
        if !has_opened.load(Relaxed) || !has_opened.swap(false, Acquire) {
            return Vec::new();
        }
        let mut taken = std::mem::take(&mut *opened.lock());
        taken.iter_mut().for_each(|tap| tap.is_taken = true);
        told_to.fetch_add(taken.len(), Relaxed);
        taken
    }

    /// Whether anybody reads what may have a path.
    #[must_use]
    pub fn want_paths(&self) -> bool {
        self.0.with_paths.load(Relaxed) > 0
    }

    /// How many are open.
    #[must_use]
    pub fn readers(&self) -> usize {
        self.0.readers.load(Relaxed)
    }

    /// How many the pipeline tells of exchanges: a moment later than they open and close.
    #[must_use]
    pub fn told_to(&self) -> usize {
        self.0.told_to.load(Relaxed)
    }

    /// Records that were put into a reader's queue.
    #[must_use]
    pub fn told(&self) -> u64 {
        self.0.told.load(Relaxed)
    }
}

/// The pipeline's end of one tap.
#[derive(Debug)]
pub struct Tap {
    query: TapQuery,
    queue: Arc<Mutex<Queue>>,
    shared: Arc<Shared>,
    is_taken: bool,
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.shared.told_to.fetch_sub(usize::from(self.is_taken), Relaxed);
    }
}

impl Observer for Tap {
    fn exchange(&mut self, edge: &Edge, flow: &FlowInfo, record: &L7Record) {
        if !self.query.wants(edge, record) {
            return;
        }
        let mut queue = self.queue.lock();
        if queue.is_over() {
            return;
        }
        if queue.push(Tapped::new(edge, flow, record)) {
            self.shared.told.fetch_add(1, Relaxed);
        } else {
            self.shared.full.add(1);
        }
    }

    fn lost(&mut self, edge: &Edge, _: &FlowInfo, reason: LossReason, count: u64) {
        if self.query.wants_ends(edge) {
            self.queue.lock().unseen(reason, count);
        }
    }

    fn is_over(&self) -> bool {
        self.queue.lock().is_over()
    }
}

/// The reader's end of one tap.
#[derive(Debug)]
pub struct TapReader {
    queue: Arc<Mutex<Queue>>,
    shared: Arc<Shared>,
    has_paths: bool,
}

impl TapReader {
    /// What it is told next, at most so much; nothing where nothing happened. Never waits.
    #[must_use]
    pub fn take(&self, most: usize) -> Vec<Told> {
        self.queue.lock().take(most)
    }
}

impl Drop for TapReader {
    fn drop(&mut self) {
        let Shared { opened, readers, with_paths, .. } = &*self.shared;
        self.queue.lock().close();
        // Where no pipeline runs yet, nobody else takes it away.
        opened.lock().retain(|tap| !Arc::ptr_eq(&tap.queue, &self.queue));
        with_paths.fetch_sub(usize::from(self.has_paths), Relaxed);
        readers.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests;
