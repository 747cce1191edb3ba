use crate::Socket;
use crate::deadline::Deadlines;
use crate::worker::Worker;
use flow_model::{FlowSeed, Slot};
use netns::Netns;
use parking_lot::{Condvar, Mutex};
use std::collections::{HashSet, VecDeque};
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
    pub want: Want,
}

/// What is wanted of a namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Want {
    /// Its open connections.
    #[default]
    Seeds,
    /// Its sockets with their owners, to name them. Only the iterator knows owners.
    Sockets,
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
    /// Also hand on connections that never leave their namespace.
    pub include_loopback: bool,
    /// Start with work at once, and not with [`Scanner::release`].
    pub released: bool,
    /// How long one target waits for room at the receiver before its seeds count as lost.
    pub patience: Duration,
}

impl Default for ScannerConfig {
    fn default() -> Self {
        // 2 ms of work, 58 ms of rest: a thirtieth of a core, a third of what an agent with a tenth of one has. 20,000: as many namespaces as
        // descriptors allow.
        ScannerConfig {
            source: None,
            few: 3,
            turn: Duration::from_millis(2),
            rest_factor: 29,
            queue: 20_000,
            include_loopback: true,
            released: true,
            patience: Duration::from_secs(2),
        }
    }
}

/// What came of one target.
#[derive(Debug)]
pub struct Seeded {
    pub slot: Slot,
    pub found: Looked,
    pub source: Source,
    /// Just before the sockets were read: what happened later is not in them.
    pub read_at: Instant,
}

#[derive(Debug)]
pub enum Looked {
    Seeds(Vec<FlowSeed>),
    Sockets(Vec<Socket>),
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
    /// Connections that found no room at the receiver.
    pub seeds_lost: u64,
    /// Namespaces that the iterator's pass left to sock_diag, because connections waited there for their `accept(2)`.
    pub looked_twice: u64,
    /// The kernel or our capabilities do not allow the iterator; the log says why.
    pub iterator_refused: bool,
    /// The source used last.
    pub source: Option<Source>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
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

#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub state: Mutex<State>,
    pub changed: Condvar,
}

/// The background scan: one thread, asleep while there is nothing to look at.
#[derive(Debug)]
pub struct Scanner {
    shared: Arc<Shared>,
    queue: usize,
    thread: Option<JoinHandle<()>>,
}

impl Scanner {
    /// Starts the thread. `found` is called on it, once for each target that was read and not forgotten meanwhile. It must not wait: what it has
    /// no room for it gives back, and it is asked again until `config.patience` is over.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(
        config: ScannerConfig,
        deadlines: Deadlines,
        found: impl FnMut(Seeded) -> Result<(), Seeded> + Send + 'static,
    ) -> io::Result<Scanner> {
        let shared = Arc::new(Shared::default());
        shared.state.lock().released = config.released;
        let worker = Worker::new(config, deadlines, Arc::clone(&shared), found);
        let thread = thread::Builder::new().name("scan".to_owned()).spawn(move || worker.run())?;
        Ok(Scanner { shared, queue: config.queue, thread: Some(thread) })
    }

    /// Work may begin.
    pub fn release(&self) {
        self.shared.state.lock().released = true;
        self.shared.changed.notify_one();
    }

    /// A new container is about to be attached: no new item is begun until [`Scanner::attached`] was called as often, or half a second went by
    /// (an answer that never comes must not end the scan).
    pub fn attaching(&self) {
        self.shared.state.lock().urgent += 1;
    }

    pub fn attached(&self) {
        let mut state = self.shared.state.lock();
        state.urgent = state.urgent.saturating_sub(1);
        drop(state);
        self.shared.changed.notify_one();
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

    /// The namespace is gone: it is not looked at any more, nothing of it is handed on after this call, and its handle is closed.
    pub fn forget(&self, slot: Slot) {
        let mut state = self.shared.state.lock();
        let before = state.waiting.len();
        state.waiting.retain(|target| target.slot != slot);
        let removed = before - state.waiting.len() + usize::from(state.current.remove(&slot));
        state.progress.done += removed as u64;
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
