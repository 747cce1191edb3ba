use super::inside::Held;
use super::queue::{Priority, Queue};
use super::state::Attachment;
use super::{AttachConfig, AttachCounters, AttachEvent, AttachStatus, Interface, watcher, worker};
use crate::kernel::Programs;
use flow_model::Slot;
use netns::{IfAddress, LinkWatch, Netns, NetnsId};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Two: the kernel serialises most of the work under rtnl anyway. The first serves only urgent slots, so that a new container waits for
/// no backlog.
const WORKERS: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    #[error("all {0} attachments are in use (max_namespaces)")]
    Full(usize),
    #[error("slot {} is attached already", .0.0)]
    Known(Slot),
    /// Two programs of ours would count each packet twice.
    #[error("its namespace is attached as slot {} already", .0.0)]
    SameNamespace(Slot),
    #[error("shutting down")]
    Stopping,
}

/// Keeps programs on the interfaces of the namespaces that it was given. Two worker threads and one that watches all namespaces.
///
/// Dropping it without [`Attacher::shutdown`] ends the threads and leaves clsact filters behind.
#[derive(Debug)]
pub struct Attacher {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub config: AttachConfig,
    pub programs: Arc<dyn Programs>,
    pub events: Box<dyn Fn(AttachEvent) + Send + Sync>,
    pub table: Mutex<Table>,
    /// Work was queued, or the end came.
    pub work: Condvar,
    /// An entry or a thread went away.
    pub fewer: Condvar,
    pub epoll: Epoll,
    /// Wakes the watcher: a new time to wait for, or the end.
    pub alarm: EventFd,
}

#[derive(Default)]
pub(super) struct Table {
    pub slots: HashMap<Slot, Entry>,
    pub queue: Queue,
    /// When slots want to be looked at again; mirrors each machine's `retry_at`.
    pub due: BTreeSet<(Instant, Slot)>,
    pub counters: AttachCounters,
    /// Namespaces that a worker is in. One worker each: a slot's detach must not cross the attach of the next.
    pub busy: HashSet<NetnsId>,
    /// Slots that wait for a busy namespace.
    pub parked: Vec<Slot>,
    /// Takes no new namespaces.
    pub leaving: bool,
    /// Threads end.
    pub stopping: bool,
    pub threads: usize,
}

pub(super) struct Entry {
    pub machine: Attachment,
    pub netns: Arc<Netns>,
    /// Taken out by the worker that is at it.
    pub held: Option<Held>,
    pub watch: Option<Arc<LinkWatch>>,
    pub interfaces: Vec<Interface>,
    pub addresses: Vec<IfAddress>,
    pub asked_at: Instant,
    pub attached_at: Option<Instant>,
    /// The time under which it stands in `Table::due`.
    scheduled: Option<Instant>,
}

impl Attacher {
    /// Starts the threads. `events` is called from them: it must neither block for long nor panic.
    ///
    /// # Errors
    /// No thread or descriptor left.
    pub fn start(
        config: AttachConfig,
        programs: Arc<dyn Programs>,
        events: impl Fn(AttachEvent) + Send + Sync + 'static,
    ) -> io::Result<Attacher> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let alarm = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        epoll.add(&alarm, EpollEvent::new(EpollFlags::EPOLLIN, watcher::ALARM))?;
        let shared = Arc::new(Shared {
            config,
            programs,
            events: Box::new(events),
            table: Mutex::new(Table::default()),
            work: Condvar::new(),
            fewer: Condvar::new(),
            epoll,
            alarm,
        });
        let attacher = Attacher { shared };
        attacher.spawn("pf-link-watch", watcher::run)?;
        for number in 0..WORKERS {
            attacher.spawn(&format!("pf-attach-{number}"), move |shared| worker::run(shared, number == 0))?;
        }
        Ok(attacher)
    }

    fn spawn(&self, name: &str, run: impl FnOnce(&Shared) + Send + 'static) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        self.shared.table.lock().threads += 1;
        let spawned = thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _ends = ThreadEnds(&shared);
            run(&shared);
        });
        if spawned.is_err() {
            self.shared.table.lock().threads -= 1;
        }
        spawned.map(|_| ())
    }

    /// Attaches to every interface of `netns`, now and later, until `detach`. The outcome comes as events.
    ///
    /// A namespace whose detach is still under way may be attached anew, under another slot.
    ///
    /// # Errors
    /// No room, a slot or a namespace that is known, or the end is near.
    pub fn attach(&self, slot: Slot, netns: Arc<Netns>, priority: Priority) -> Result<(), AttachError> {
        let now = Instant::now();
        let mut table = self.shared.table.lock();
        if table.leaving {
            return Err(AttachError::Stopping);
        }
        if table.slots.contains_key(&slot) {
            return Err(AttachError::Known(slot));
        }
        if let Some(other) = table.stays_in(netns.id()) {
            return Err(AttachError::SameNamespace(other));
        }
        if table.slots.len() >= self.shared.config.max_namespaces {
            return Err(AttachError::Full(self.shared.config.max_namespaces));
        }
        table.slots.insert(
            slot,
            Entry {
                machine: Attachment::new(now),
                netns,
                held: Some(Held::default()),
                watch: None,
                interfaces: Vec::new(),
                addresses: Vec::new(),
                asked_at: now,
                attached_at: None,
                scheduled: None,
            },
        );
        self.shared.push(&mut table, slot, priority);
        Ok(())
    }

    /// Takes our programs out of the namespace and closes its descriptors; `AttachEvent::Detached` tells when. An unknown slot is ignored.
    pub fn detach(&self, slot: Slot) {
        let mut table = self.shared.table.lock();
        if table.slots.get_mut(&slot).is_some_and(|entry| entry.machine.detach()) {
            self.shared.push(&mut table, slot, Priority::Urgent);
        }
        table.reschedule(slot);
    }

    /// Looks at a namespace again, and repairs what is missing: for a slow reconcile. An unknown slot is ignored.
    pub fn recheck(&self, slot: Slot) {
        self.shared.changed(slot, Instant::now(), Priority::Background);
    }

    /// Queues what is due for another try. The watching thread does this by itself; calling it is harmless.
    pub fn retry_due(&self, now: Instant) {
        self.shared.retry_due(now);
    }

    /// One status per namespace, by slot.
    #[must_use]
    pub fn snapshot(&self) -> Vec<AttachStatus> {
        let table = self.shared.table.lock();
        let mut all: Vec<AttachStatus> = table.slots.iter().map(|(slot, entry)| entry.status(*slot)).collect();
        drop(table);
        all.sort_unstable_by_key(|status| status.slot);
        all
    }

    #[must_use]
    pub fn counters(&self) -> AttachCounters {
        self.shared.table.lock().counters
    }

    /// Slots that wait for a worker.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.shared.table.lock().queue.len()
    }

    /// Detaches everything and ends the threads; returns the number of namespaces that were not done within `grace`.
    #[must_use]
    pub fn shutdown(self, grace: Duration) -> usize {
        let deadline = Instant::now() + grace;
        let mut table = self.shared.table.lock();
        table.leaving = true;
        let slots: Vec<Slot> = table.slots.keys().copied().collect();
        for slot in slots {
            if table.slots.get_mut(&slot).is_some_and(|entry| entry.machine.detach()) {
                self.shared.push(&mut table, slot, Priority::Urgent);
            }
            table.reschedule(slot);
        }
        while !table.slots.is_empty() && !self.shared.fewer.wait_until(&mut table, deadline).timed_out() {}
        let left = table.slots.len();
        self.shared.stop(&mut table);
        // A thread that the kernel holds must not hold us.
        while table.threads > 0 && !self.shared.fewer.wait_until(&mut table, deadline + THREADS_END).timed_out() {}
        left
    }
}

/// For threads that have nothing left to do but return.
const THREADS_END: Duration = Duration::from_millis(500);

impl Drop for Attacher {
    fn drop(&mut self) {
        let mut table = self.shared.table.lock();
        self.shared.stop(&mut table);
    }
}

struct ThreadEnds<'a>(&'a Shared);

impl Drop for ThreadEnds<'_> {
    fn drop(&mut self) {
        self.0.table.lock().threads -= 1;
        self.0.fewer.notify_all();
    }
}

impl Shared {
    pub fn push(&self, table: &mut Table, slot: Slot, priority: Priority) {
        table.queue.push(slot, priority);
        // All: the worker that is woken may be the one that takes only urgent work.
        self.work.notify_all();
    }

    /// A worker is out of this namespace.
    pub fn leave(&self, table: &mut Table, netns: NetnsId) {
        table.busy.remove(&netns);
        for slot in std::mem::take(&mut table.parked) {
            self.push(table, slot, Priority::Urgent);
        }
    }

    /// News of a namespace.
    pub fn changed(&self, slot: Slot, now: Instant, priority: Priority) {
        let mut table = self.table.lock();
        if table.slots.get_mut(&slot).is_some_and(|entry| entry.machine.changed(now)) {
            self.push(&mut table, slot, priority);
        }
        table.reschedule(slot);
    }

    /// Queues what is due, and says when something will be due next.
    pub fn retry_due(&self, now: Instant) -> Option<Instant> {
        let mut table = self.table.lock();
        while let Some((at, slot)) = table.due.first().copied().filter(|(at, _)| *at <= now) {
            table.due.remove(&(at, slot));
            let Some(entry) = table.slots.get_mut(&slot) else { continue };
            entry.scheduled = None;
            if entry.machine.due(now) {
                self.push(&mut table, slot, Priority::Background);
            }
        }
        table.due.first().map(|(at, _)| *at)
    }

    /// Wakes the watching thread. A full counter means that it is about to wake anyway.
    pub fn ring_alarm(&self) {
        let _ = self.alarm.write(1);
    }

    fn stop(&self, table: &mut Table) {
        table.leaving = true;
        table.stopping = true;
        self.work.notify_all();
        self.ring_alarm();
    }
}

impl Table {
    /// Brings `due` in line with the slot's machine.
    pub fn reschedule(&mut self, slot: Slot) {
        let Some(entry) = self.slots.get_mut(&slot) else { return };
        let wanted = entry.machine.retry_at();
        if entry.scheduled == wanted {
            return;
        }
        if let Some(at) = entry.scheduled.take() {
            self.due.remove(&(at, slot));
        }
        if let Some(at) = wanted {
            self.due.insert((at, slot));
            entry.scheduled = Some(at);
        }
    }

    /// The slot that is attached to this namespace and was not asked to leave.
    pub fn stays_in(&self, netns: NetnsId) -> Option<Slot> {
        let mut all = self.slots.iter();
        all.find(|(_, entry)| entry.netns.id() == netns && !entry.machine.is_leaving()).map(|(slot, _)| *slot)
    }

    pub fn remove(&mut self, slot: Slot) {
        if let Some(entry) = self.slots.remove(&slot)
            && let Some(at) = entry.scheduled
        {
            self.due.remove(&(at, slot));
        }
    }
}

impl Entry {
    fn status(&self, slot: Slot) -> AttachStatus {
        AttachStatus {
            slot,
            state: self.machine.state().clone(),
            interfaces: self.interfaces.clone(),
            attached_at: self.attached_at,
            took: self.attached_at.map(|at| at.saturating_duration_since(self.asked_at)),
            failures: self.machine.failures(),
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.table.lock();
        f.debug_struct("Shared")
            .field("config", &self.config)
            .field("slots", &table.slots.len())
            .finish_non_exhaustive()
    }
}
