use crate::{Socket, SocketIterator, WorkLimiter, diag, procfs_source, seeds};
use flow_model::{FlowSeed, Slot};
use netns::Netns;
use parking_lot::{Condvar, Mutex};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A namespace to look into. The handle keeps the namespace alive until its turn has come, or it is forgotten.
#[derive(Debug)]
pub struct Target {
    pub slot: Slot,
    pub netns: Arc<Netns>,
    /// A process inside, for the procfs source.
    pub pid: u32,
}

/// Where sockets are read from. Equal in result, not in price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// One pass of a BPF iterator over the whole node serves all waiting targets.
    Iterator,
    /// A netlink dump inside each namespace.
    SockDiag,
    /// `/proc/<pid>/net`, text.
    Procfs,
}

impl Source {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Iterator => "bpf_iterator",
            Source::SockDiag => "sock_diag",
            Source::Procfs => "procfs",
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct ScannerConfig {
    /// `None`: the iterator for more than `few` targets at once and sock_diag for fewer; each falls back to the next.
    pub source: Option<Source>,
    /// A dump inside one namespace costs about a quarter of a pass over the node, so up to this many it is the cheaper way.
    pub few: usize,
    /// Time that one turn of work should take.
    pub turn: Duration,
    /// Rest after each turn in multiples of its length.
    pub rest_factor: u32,
    /// Targets that may wait.
    pub queue: usize,
}

impl Default for ScannerConfig {
    fn default() -> Self {
        // 2 ms of work, 18 ms of rest: a tenth of a core at most. 20,000: as many namespaces as descriptors allow.
        ScannerConfig { source: None, few: 3, turn: Duration::from_millis(2), rest_factor: 9, queue: 20_000 }
    }
}

/// What came of one target.
#[derive(Debug)]
pub struct Seeded {
    pub slot: Slot,
    pub seeds: Vec<FlowSeed>,
    pub source: Source,
}

/// How far the scan is; a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Targets done (found, failed or forgotten) of all that were ever queued.
    pub done: u64,
    pub total: u64,
    /// Targets given up: namespace or process gone, every source refused.
    pub failed: u64,
    /// Targets that found the queue full.
    pub refused: u64,
    /// Connections handed on.
    pub seeds: u64,
    /// The source used last.
    pub source: Option<Source>,
}

#[derive(Debug, Default)]
struct State {
    /// Newest last; taken from the back.
    waiting: VecDeque<Target>,
    progress: Progress,
    stop: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// The background scan: one thread, asleep while there is nothing to look at.
#[derive(Debug)]
pub struct Scanner {
    shared: Arc<Shared>,
    queue: usize,
    thread: Option<JoinHandle<()>>,
}

impl Scanner {
    /// Starts the thread. `found` is called on it, once for each target that was read.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(config: ScannerConfig, found: impl FnMut(Seeded) + Send + 'static) -> io::Result<Scanner> {
        let shared = Arc::new(Shared::default());
        let worker = Worker { config, shared: Arc::clone(&shared), iterator_refused: false, found };
        let thread = thread::Builder::new().name("scan".to_owned()).spawn(move || worker.run())?;
        Ok(Scanner { shared, queue: config.queue, thread: Some(thread) })
    }

    /// Queues a namespace; returns at once. Newest first.
    pub fn enqueue(&self, target: Target) {
        let mut state = self.shared.state.lock();
        state.progress.total += 1;
        if state.waiting.len() >= self.queue {
            state.progress.refused += 1;
            state.progress.done += 1;
            return;
        }
        state.waiting.push_back(target);
        drop(state);
        self.shared.changed.notify_one();
    }

    /// The namespace is gone: it is not looked at any more, and its handle is closed.
    pub fn forget(&self, slot: Slot) {
        let mut state = self.shared.state.lock();
        let before = state.waiting.len();
        state.waiting.retain(|target| target.slot != slot);
        state.progress.done += (before - state.waiting.len()) as u64;
    }

    #[must_use]
    pub fn progress(&self) -> Progress {
        self.shared.state.lock().progress
    }
}

impl Drop for Scanner {
    fn drop(&mut self) {
        self.shared.state.lock().stop = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic of the worker has been printed by its hook; there is nothing left to save.
            let _ = thread.join();
        }
    }
}

struct Worker<F> {
    config: ScannerConfig,
    shared: Arc<Shared>,
    /// Once refused, the iterator is not tried again: the kernel and our capabilities do not change.
    iterator_refused: bool,
    found: F,
}

impl<F: FnMut(Seeded)> Worker<F> {
    fn run(mut self) {
        let mut limiter = WorkLimiter::new(self.config.turn, self.config.rest_factor);
        while let Some(waiting) = self.wait() {
            if self.wants_iterator(waiting) && self.pass().is_some() {
                continue;
            }
            let began = Instant::now();
            let items = limiter.items();
            let mut done = 0;
            while done < items {
                let Some(target) = self.next() else { break };
                self.single(&target);
                done += 1;
            }
            self.rest(limiter.done(done, began.elapsed()));
        }
    }

    /// Sleeps until something waits; `None` at the end of the process.
    fn wait(&self) -> Option<usize> {
        let mut state = self.shared.state.lock();
        loop {
            if state.stop {
                return None;
            }
            if !state.waiting.is_empty() {
                return Some(state.waiting.len());
            }
            self.shared.changed.wait(&mut state);
        }
    }

    fn next(&self) -> Option<Target> {
        self.shared.state.lock().waiting.pop_back()
    }

    /// Rests, but wakes at once when the scanner is dropped.
    fn rest(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut state = self.shared.state.lock();
        while !state.stop && !self.shared.changed.wait_until(&mut state, until).timed_out() {}
    }

    fn wants_iterator(&self, waiting: usize) -> bool {
        !self.iterator_refused
            && match self.config.source {
                None => waiting > self.config.few,
                Some(source) => source == Source::Iterator,
            }
    }

    /// One pass over the node for everything that waits when it begins. `None` when the iterator can't be used: nothing was lost.
    fn pass(&mut self) -> Option<()> {
        let mut iterator = match SocketIterator::open() {
            Ok(iterator) => iterator,
            Err(error) => {
                tracing::warn!(%error, "the socket iterator is not available; sockets are read namespace by namespace");
                self.iterator_refused = true;
                return None;
            }
        };
        let targets: Vec<Target> = self.shared.state.lock().waiting.drain(..).collect();
        let mut by_netns: HashMap<u64, Vec<Socket>> =
            targets.iter().map(|target| (target.netns.id().ino, Vec::new())).collect();
        // An item is one read of the iterator: some 25 microseconds for each 1,000 sockets.
        let mut limiter = WorkLimiter::new(self.config.turn, self.config.rest_factor);
        let mut more = true;
        while more && !self.shared.state.lock().stop {
            let began = Instant::now();
            let items = limiter.items();
            let mut done = 0;
            while more && done < items {
                done += 1;
                more = match iterator.read(|socket| {
                    if let Some(found) = by_netns.get_mut(&socket.netns_ino) {
                        found.push(socket);
                    }
                }) {
                    Ok(more) => more,
                    Err(error) => {
                        tracing::warn!(%error, "a pass of the socket iterator broke off; its namespaces are read one by one");
                        self.iterator_refused = true;
                        self.shared.state.lock().waiting.extend(targets);
                        return None;
                    }
                };
            }
            let rest = limiter.done(done, began.elapsed());
            if more {
                self.rest(rest);
            }
        }
        for target in targets.into_iter().rev() {
            let sockets = by_netns.get(&target.netns.id().ino).map_or(&[][..], Vec::as_slice);
            self.deliver(&target, sockets, Source::Iterator);
        }
        Some(())
    }

    fn single(&mut self, target: &Target) {
        let ino = target.netns.id().ino;
        if self.config.source != Some(Source::Procfs) {
            match target.netns.run(diag::dump) {
                Ok(Ok(sockets)) => return self.deliver(target, &sockets, Source::SockDiag),
                Ok(Err(error)) => tracing::debug!(slot = target.slot.0, %error, "sock_diag failed; trying procfs"),
                Err(error) => {
                    tracing::debug!(slot = target.slot.0, %error, "the namespace can't be entered; trying procfs")
                }
            }
        }
        match procfs_source::dump(target.pid, ino) {
            Ok(sockets) => self.deliver(target, &sockets, Source::Procfs),
            Err(error) => {
                tracing::debug!(slot = target.slot.0, %error, "a namespace could not be scanned");
                let mut state = self.shared.state.lock();
                state.progress.failed += 1;
                state.progress.done += 1;
            }
        }
    }

    fn deliver(&mut self, target: &Target, sockets: &[Socket], source: Source) {
        let seeds = seeds::seeds(target.slot, sockets);
        let count = seeds.len() as u64;
        (self.found)(Seeded { slot: target.slot, seeds, source });
        let mut state = self.shared.state.lock();
        state.progress.done += 1;
        state.progress.seeds += count;
        state.progress.source = Some(source);
    }
}
