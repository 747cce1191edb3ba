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
            self.pace();
            let began = Instant::now();
            let items = limiter.items();
            let mut done = 0;
            while done < items {
                let Some(target) = self.next() else { break };
                self.single(&target);
                done += 1;
            }
            let took = self.worked(began);
            self.rest(limiter.done(done, took));
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
        while let Some(target) = queue.waiting.pop_back() {
            if queue.begin(&target) {
                return Some(target);
            }
        }
        None
    }

    /// Adds up what was no rest.
    fn worked(&self, since: Instant) -> Duration {
        let took = since.elapsed();
        self.shared.queue.lock().progress.busy += took;
        took
    }

    /// Rests, but wakes at once when the scanner is dropped.
    fn rest(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut queue = self.shared.queue.lock();
        while !queue.stop && !self.shared.changed.wait_until(&mut queue, until).timed_out() {}
    }

    /// Rests for as long as somebody else needs the processor more.
    fn pace(&self) {
        let Some(pace) = &self.config.pace else { return };
        let since = Instant::now();
        while let Some(wait) = pace.wait(since.elapsed())
            && !self.shared.queue.lock().stop
        {
            self.rest(wait);
        }
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
        self.pace();
        let began = Instant::now();
        let mut iterator = match SocketIterator::open() {
            Ok(iterator) => iterator,
            Err(error) => {
                let error = flow_model::in_full(&error);
                tracing::warn!(%error, "the socket iterator is not available; sockets are read namespace by namespace");
                self.refuse_iterator();
                return None;
            }
        };
        let took = self.worked(began);
        self.rest(took.saturating_mul(self.config.rest_factor).min(Duration::from_secs(1)));
        let read_at = Instant::now();
        let targets: Vec<Target> = {
            let mut queue = self.shared.queue.lock();
            let waiting = std::mem::take(&mut queue.waiting);
            waiting.into_iter().filter(|target| queue.begin(target)).collect()
        };
        // Two may look into one namespace, each for something else.
        let mut by_netns: HashMap<u64, (usize, Vec<Socket>)> = HashMap::new();
        targets.iter().for_each(|target| by_netns.entry(target.netns.id().ino).or_default().0 += 1);
        // An item is one read of the iterator: some 25 microseconds for each 1,000 sockets.
        let mut limiter = WorkLimiter::new(self.config.turn, self.config.rest_factor);
        let mut more = true;
        while more && !self.shared.queue.lock().stop {
            self.pace();
            let began = Instant::now();
            let items = limiter.items();
            let mut done = 0;
            while more && done < items {
                done += 1;
                more = match iterator.read(|socket| {
                    if let Some((_, found)) = by_netns.get_mut(&socket.netns_ino) {
                        found.push(socket);
                    }
                }) {
                    Ok(more) => more,
                    Err(error) => {
                        tracing::warn!(%error, "a pass of the socket iterator broke off; its namespaces are read one by one");
                        self.refuse_iterator();
                        let mut queue = self.shared.queue.lock();
                        targets.into_iter().for_each(|target| queue.again(target));
                        return None;
                    }
                };
            }
            let took = self.worked(began);
            let rest = limiter.done(done, took);
            if more {
                self.rest(rest);
                self.let_new_ones_pass(&mut self.shared.queue.lock());
            }
        }
        drop(iterator);
        for target in targets.into_iter().rev() {
            self.pace();
            let began = Instant::now();
            let sockets = match by_netns.get_mut(&target.netns.id().ino) {
                Some((users @ 2.., found)) => {
                    *users -= 1;
                    found.clone()
                }
                Some((_, found)) => std::mem::take(found),
                None => Vec::new(),
            };
            // A connection that waits for its accept(2) has no file, and a pass over files does not
            // see it. It is open all the same.
            let incomplete = match &target.want {
                Want::Seeds => sockets.iter().any(|socket| socket.waiting > 0),
                Want::Ended(asked) => !seeds::ended(asked, &sockets).is_empty(),
                Want::Sockets => false,
            };
            if incomplete {
                self.also_without_file(&target, sockets, read_at);
            } else {
                self.deliver(&target, sockets, Source::Iterator, read_at);
            }
            self.worked(began);
        }
        Some(())
    }

    /// What the pass found, and what sock_diag sees beside it. The first of two records of a socket
    /// counts: the one with a pid.
    fn also_without_file(&mut self, target: &Target, mut sockets: Vec<Socket>, read_at: Instant) {
        self.shared.queue.lock().progress.looked_twice += u64::from(!target.want.is_sweep());
        match target.netns.run(diag::dump) {
            Ok(Ok(all)) => {
                return self.deliver(
                    target,
                    {
                        sockets.extend(all);
                        sockets
                    },
                    Source::Iterator,
                    read_at,
                );
            }
            Ok(Err(error)) => {
                tracing::debug!(slot = target.slot.0, %error, "sock_diag failed; waiting connections are left out")
            }
            Err(error) => tracing::debug!(slot = target.slot.0, %error, "the namespace can't be entered"),
        }
        // What was not seen may be there all the same.
        if target.want.is_sweep() {
            self.shared.queue.lock().done(target);
        } else {
            self.deliver(target, sockets, Source::Iterator, read_at);
        }
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
        if queue.done(target) && !target.want.is_sweep() {
            queue.progress.failed += 1;
        }
    }

    /// Offers until there is room. Under the lock, so that nothing is handed on after `forget` has returned.
    fn deliver(&mut self, target: &Target, sockets: Vec<Socket>, source: Source, read_at: Instant) {
        let mut guessed = 0;
        let found = match &target.want {
            Want::Sockets => Looked::Sockets(sockets),
            Want::Ended(asked) => Looked::Ended(seeds::ended(asked, &sockets)),
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
            Looked::Sockets(_) | Looked::Ended(_) => 0,
        };
        let mut offered = Seeded { slot: target.slot, found, source, read_at };
        let until = Instant::now() + self.config.patience;
        loop {
            let mut queue = self.shared.queue.lock();
            if !queue.is_current(target) {
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
            queue.done(target);
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
