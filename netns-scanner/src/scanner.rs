//! The handle of the scan's thread: queue a namespace, forget it, let new containers go first.

use crate::config::ScannerConfig;
use crate::deadline::Deadlines;
use crate::queue::{Progress, SharedQueue};
use crate::target::{Seeded, Target};
use crate::worker::Worker;
use flow_model::Slot;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

/// The background scan: one thread, asleep while there is nothing to look at.
#[derive(Debug)]
pub struct Scanner {
    shared: Arc<SharedQueue>,
    most_waiting: usize,
    thread: Option<JoinHandle<()>>,
}

impl Scanner {
    /// Starts the thread. `found` is called on it, once for each target that was read and not
    /// forgotten meanwhile. It must not wait: what it has no room for it gives back, and it is
    /// asked again until `config.patience` is over.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(
        config: ScannerConfig,
        deadlines: Deadlines,
        found: impl FnMut(Seeded) -> Result<(), Seeded> + Send + 'static,
    ) -> io::Result<Scanner> {
        let shared = Arc::new(SharedQueue::default());
        shared.queue.lock().released = config.released;
        let most_waiting = config.queue;
        let worker = Worker::new(config, deadlines, Arc::clone(&shared), found);
        let thread = thread::Builder::new().name("scan".to_owned()).spawn(move || worker.run())?;
        Ok(Scanner { shared, most_waiting, thread: Some(thread) })
    }

    /// Work may begin.
    pub fn release(&self) {
        self.shared.queue.lock().released = true;
        self.shared.changed.notify_one();
    }

    /// A new container is about to be attached: no new item is begun until [`Scanner::attached`]
    /// was called as often, or half a second went by (an answer that never comes must not end the
    /// scan).
    pub fn attaching(&self) {
        self.shared.queue.lock().urgent += 1;
    }

    /// The counterpart of [`Scanner::attaching`], well or not.
    pub fn attached(&self) {
        let mut queue = self.shared.queue.lock();
        queue.urgent = queue.urgent.saturating_sub(1);
        drop(queue);
        self.shared.changed.notify_one();
    }

    /// Queues a namespace; returns at once. Newest first, sweeps last.
    pub fn enqueue(&self, target: Target) {
        let mut queue = self.shared.queue.lock();
        if target.want.is_sweep() {
            // Without room it is left out: the next sweep asks again.
            if queue.waiting.len() < self.most_waiting {
                queue.progress.sweeping += 1;
                queue.waiting.push_front(target);
                drop(queue);
                self.shared.changed.notify_one();
            }
            return;
        }
        queue.progress.total += 1;
        if queue.waiting.len() >= self.most_waiting {
            queue.progress.refused += 1;
            queue.progress.done += 1;
            return;
        }
        queue.waiting.push_back(target);
        drop(queue);
        self.shared.changed.notify_one();
    }

    /// The namespace is gone: it is not looked at any more, nothing of it is handed on after this
    /// call, and its handle is closed.
    pub fn forget(&self, slot: Slot) {
        self.shared.queue.lock().forget(slot);
    }

    /// How far it is now, in counts since the start.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.shared.queue.lock().progress
    }
}

impl Drop for Scanner {
    fn drop(&mut self) {
        self.shared.queue.lock().stop = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic of the worker has been printed by its hook; there is nothing left to save.
            let _ = thread.join();
        }
    }
}
