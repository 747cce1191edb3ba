//! The thread of the scan: takes targets, reads their sockets by the source that fits, hands on
//! what came of it, and rests.

use crate::config::ScannerConfig;
use crate::deadline::Deadlines;
use crate::queue::{Queue, SharedQueue};
use crate::target::{Looked, Seeded, Source, Target, Want};
use crate::{Socket, SocketIterator, WorkLimiter, diag, procfs_source, seeds};
use parking_lot::MutexGuard;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest wait for new containers that are being attached.
const YIELD: Duration = Duration::from_millis(500);
/// Between two offers to a receiver that has no room.
const OFFER_AGAIN: Duration = Duration::from_millis(5);
/// A namespace of a node with 40,000 sockets takes procfs some 30 ms.
const PROCFS_PATIENCE: Duration = Duration::from_secs(2);

pub(crate) struct Worker<F> {
    config: ScannerConfig,
    shared: Arc<SharedQueue>,
    deadlines: Deadlines,
    /// Once refused, the iterator is not tried again: the kernel and our capabilities do not change.
    iterator_refused: bool,
    found: F,
}

impl<F: FnMut(Seeded) -> Result<(), Seeded>> Worker<F> {
    pub fn new(config: ScannerConfig, deadlines: Deadlines, shared: Arc<SharedQueue>, found: F) -> Worker<F> {
        Worker { config, shared, deadlines, iterator_refused: false, found }
    }

    pub fn run(mut self) {
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

    /// Sleeps until something waits and nothing goes before it; `None` at the end of the process.
    fn wait(&self) -> Option<Waiting> {
        let mut queue = self.shared.queue.lock();
        while !queue.stop && (!queue.released || queue.waiting.is_empty()) {
            self.shared.changed.wait(&mut queue);
        }
        self.let_new_ones_pass(&mut queue);
        let owners = queue.waiting.iter().any(|target| target.want == Want::Sockets);
        (!queue.stop).then_some(Waiting { targets: queue.waiting.len(), owners })
    }

    fn let_new_ones_pass(&self, queue: &mut MutexGuard<'_, Queue>) {
        let until = Instant::now() + YIELD;
        while queue.urgent > 0 && !queue.stop && !self.shared.changed.wait_until(queue, until).timed_out() {}
    }

    fn next(&self) -> Option<Target> {
        let mut queue = self.shared.queue.lock();
        self.let_new_ones_pass(&mut queue);
        if queue.stop {
            return None;
        }
        let target = queue.waiting.pop_back()?;
        queue.current.insert(target.slot);
        Some(target)
    }

    /// Rests, but wakes at once when the scanner is dropped.
    fn rest(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut queue = self.shared.queue.lock();
        while !queue.stop && !self.shared.changed.wait_until(&mut queue, until).timed_out() {}
    }

    fn wants_iterator(&self, waiting: Waiting) -> bool {
        !self.iterator_refused
            && match self.config.source {
                None => waiting.targets > self.config.few || waiting.owners,
                Some(source) => source == Source::Iterator,
            }
    }

    fn refuse_iterator(&mut self) {
        self.iterator_refused = true;
        self.shared.queue.lock().progress.iterator_refused = true;
    }

    /// One pass over the node for everything that waits when it begins. `None` when the iterator
    /// can't be used: nothing was lost.
    fn pass(&mut self) -> Option<()> {
        let began = Instant::now();
        let mut iterator = match SocketIterator::open() {
            Ok(iterator) => iterator,
            Err(error) => {
                tracing::warn!(%error, "the socket iterator is not available; sockets are read namespace by namespace");
                self.refuse_iterator();
                return None;
            }
        };
        self.rest(began.elapsed().saturating_mul(self.config.rest_factor).min(Duration::from_secs(1)));
        let read_at = Instant::now();
        let targets: Vec<Target> = {
            let mut queue = self.shared.queue.lock();
            let targets: Vec<Target> = queue.waiting.drain(..).collect();
            queue.current.extend(targets.iter().map(|target| target.slot));
            targets
        };
        let mut by_netns: HashMap<u64, Vec<Socket>> =
            targets.iter().map(|target| (target.netns.id().ino, Vec::new())).collect();
        // An item is one read of the iterator: some 25 microseconds for each 1,000 sockets.
        let mut limiter = WorkLimiter::new(self.config.turn, self.config.rest_factor);
        let mut more = true;
        while more && !self.shared.queue.lock().stop {
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
                        self.refuse_iterator();
                        let mut queue = self.shared.queue.lock();
                        let kept: Vec<Target> =
                            targets.into_iter().filter(|target| queue.current.remove(&target.slot)).collect();
                        queue.waiting.extend(kept);
                        return None;
                    }
                };
            }
            let rest = limiter.done(done, began.elapsed());
            if more {
                self.rest(rest);
                self.let_new_ones_pass(&mut self.shared.queue.lock());
            }
        }
        drop(iterator);
        for target in targets.into_iter().rev() {
            let sockets = by_netns.remove(&target.netns.id().ino).unwrap_or_default();
            // A connection that waits for its accept(2) has no file, and a pass over files does not
            // see it. It is open all the same.
            if target.want == Want::Seeds && sockets.iter().any(|socket| socket.waiting > 0) {
                self.also_without_file(&target, sockets, read_at);
            } else {
                self.deliver(&target, sockets, Source::Iterator, read_at);
            }
        }
        Some(())
    }

    /// What the pass found, and what sock_diag sees beside it. The first of two records of a socket
    /// counts: the one with a pid.
    fn also_without_file(&mut self, target: &Target, mut sockets: Vec<Socket>, read_at: Instant) {
        self.shared.queue.lock().progress.looked_twice += 1;
        match target.netns.run(diag::dump) {
            Ok(Ok(all)) => sockets.extend(all),
            Ok(Err(error)) => {
                tracing::debug!(slot = target.slot.0, %error, "sock_diag failed; waiting connections are left out")
            }
            Err(error) => tracing::debug!(slot = target.slot.0, %error, "the namespace can't be entered"),
        }
        self.deliver(target, sockets, Source::Iterator, read_at);
    }

    fn single(&mut self, target: &Target) {
        let (ino, read_at) = (target.netns.id().ino, Instant::now());
        if self.config.source != Some(Source::Procfs) {
            match target.netns.run(diag::dump) {
                Ok(Ok(sockets)) => return self.deliver(target, sockets, Source::SockDiag, read_at),
                Ok(Err(error)) => tracing::debug!(slot = target.slot.0, %error, "sock_diag failed; trying procfs"),
                Err(error) => {
                    tracing::debug!(slot = target.slot.0, %error, "the namespace can't be entered; trying procfs");
                }
            }
        }
        let (file, pid) = (format!("/proc/{}/net", target.pid), target.pid);
        let read = self.deadlines.read("sockets", &file, PROCFS_PATIENCE, move || procfs_source::dump(pid, ino));
        let failed = match read {
            Ok(Ok(sockets)) => return self.deliver(target, sockets, Source::Procfs, read_at),
            Ok(Err(error)) => error.to_string(),
            Err(late) => late.to_string(),
        };
        tracing::debug!(slot = target.slot.0, error = failed, "a namespace could not be scanned");
        let mut queue = self.shared.queue.lock();
        if queue.current.remove(&target.slot) {
            queue.progress.failed += 1;
            queue.progress.done += 1;
        }
    }

    /// Offers until there is room. Under the lock, so that nothing is handed on after `forget` has returned.
    fn deliver(&mut self, target: &Target, sockets: Vec<Socket>, source: Source, read_at: Instant) {
        let mut guessed = 0;
        let found = match target.want {
            Want::Sockets => Looked::Sockets(sockets),
            Want::Seeds => {
                let mut found = seeds::find(target.slot, &sockets);
                if !self.config.include_loopback {
                    found.seeds = seeds::leaving(found.seeds);
                }
                guessed = found.seeds.iter().filter(|seed| found.guessed.contains(&seed.tuple)).count() as u64;
                Looked::Seeds(found.seeds)
            }
        };
        let count = match &found {
            Looked::Seeds(seeds) => seeds.len() as u64,
            Looked::Sockets(_) => 0,
        };
        let mut offered = Seeded { slot: target.slot, found, source, read_at };
        let until = Instant::now() + self.config.patience;
        loop {
            let mut queue = self.shared.queue.lock();
            if !queue.current.contains(&target.slot) {
                return;
            }
            let taken = match (self.found)(offered) {
                Ok(()) => true,
                Err(_) if queue.stop || Instant::now() >= until => false,
                Err(back) => {
                    offered = back;
                    self.shared.changed.wait_for(&mut queue, OFFER_AGAIN);
                    continue;
                }
            };
            queue.current.remove(&target.slot);
            queue.progress.done += 1;
            queue.progress.source = Some(source);
            queue.progress.guessed += if taken { guessed } else { 0 };
            *(if taken { &mut queue.progress.seeds } else { &mut queue.progress.seeds_lost }) += count;
            return;
        }
    }
}

/// What waits when a turn begins.
#[derive(Clone, Copy)]
struct Waiting {
    targets: usize,
    /// Somebody wants to know who holds sockets.
    owners: bool,
}
