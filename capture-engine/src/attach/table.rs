//! What is attached, what waits and what is due: the state that the attacher and its threads share.

#![forbid(unsafe_code)]

use super::bells::Bells;
use super::inside::Held;
use super::queue::{Awaited, Priority, Queue};
use super::state::Attachment;
use super::words::{AttachConfig, AttachCounters, AttachEvent, AttachStatus, Interface};
use crate::kernel::Programs;
use flow_model::Slot;
use netns::{IfAddress, LinkWatch, Netns, NetnsId, Own};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Instant;

/// Looks for a first interface that go before all other work, for each namespace: who may make news
/// without end shall not take a processor by it.
const HURRIES: u8 = 8;

/// What the attacher and its threads share.
pub(super) struct Core {
    pub config: AttachConfig,
    pub programs: Arc<dyn Programs>,
    pub events: Box<dyn Fn(AttachEvent) + Send + Sync>,
    pub table: Mutex<Table>,
    pub work: Bells,
    /// An entry or a thread went away.
    pub fewer: Condvar,
    pub epoll: Epoll,
    /// Wakes the watcher: a new time to wait for, or the end.
    pub alarm: EventFd,
}

/// Everything that changes.
#[derive(Default)]
pub(super) struct Table {
    pub slots: HashMap<Slot, Entry>,
    pub queue: Queue,
    /// When slots want to be looked at again; mirrors each machine's `retry_at`.
    pub due: BTreeSet<(Instant, Slot)>,
    pub counters: AttachCounters,
    /// Namespaces that a worker is in. One worker each: a slot's detach must not cross the attach
    /// of the next.
    pub busy: HashSet<NetnsId>,
    /// Slots that wait for a busy namespace, as they stood in the queue.
    pub parked: Vec<(Slot, Priority)>,
    /// Takes no new namespaces.
    pub leaving: bool,
    /// Threads end.
    pub stopping: bool,
    pub threads: usize,
}

/// What a look saw of a namespace.
#[derive(Debug)]
pub(super) struct View {
    pub interfaces: Arc<[Interface]>,
    pub addresses: Arc<[IfAddress]>,
    pub own: Arc<Own>,
    /// Links with their masters.
    pub shape: BTreeMap<u32, u32>,
    /// Where a packet may be counted more than once.
    pub doubts: Arc<[String]>,
}

impl Default for View {
    fn default() -> View {
        let (interfaces, addresses, doubts) = (Arc::new([]), Arc::new([]), Arc::new([]));
        View { interfaces, addresses, own: Arc::default(), shape: BTreeMap::new(), doubts }
    }
}

/// One namespace that was taken.
pub(super) struct Entry {
    pub machine: Attachment,
    pub netns: Arc<Netns>,
    /// Taken out by the worker that is at it.
    pub held: Option<Held>,
    pub watch: Option<Arc<LinkWatch>>,
    /// What the last look saw. As large as the namespace is: it is made, compared and dropped where
    /// nobody waits for the table.
    pub view: Arc<View>,
    /// Packets of its interfaces before our programs were there, that were not told of yet.
    pub before: u64,
    /// What is left of `HURRIES`.
    pub hurries: u8,
    pub asked_at: Instant,
    pub attached_at: Option<Instant>,
    /// When a worker looked last.
    pub looked_at: Instant,
    /// The time under which it stands in `Table::due`.
    scheduled: Option<Instant>,
}

impl Core {
    pub fn new(
        config: AttachConfig,
        programs: Arc<dyn Programs>,
        events: Box<dyn Fn(AttachEvent) + Send + Sync>,
    ) -> io::Result<Core> {
        Ok(Core {
            config,
            programs,
            events,
            table: Mutex::new(Table::default()),
            work: Bells::default(),
            fewer: Condvar::new(),
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            alarm: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
        })
    }

    /// Has the alarm wake who waits at `epoll`, with this number.
    pub fn hear_alarm(&self, number: u64) -> io::Result<()> {
        Ok(self.epoll.add(&self.alarm, EpollEvent::new(EpollFlags::EPOLLIN, number))?)
    }

    pub fn push(&self, table: &mut Table, slot: Slot, priority: Priority) {
        table.queue.push(slot, priority);
        self.work.ring(table.queue.for_whom(priority), priority);
    }

    /// What leaves does not wait where it stood.
    pub fn hasten(&self, table: &mut Table, slot: Slot) {
        for (_, priority) in table.parked.iter_mut().filter(|(parked, _)| *parked == slot) {
            *priority = Priority::Urgent;
        }
        if table.queue.hasten(slot) {
            self.work.ring(Awaited::Others, Priority::Urgent);
        }
    }

    /// Those that wait for their sockets wait no longer.
    pub fn make_room(&self, table: &mut Table, now: Instant) {
        let all: Vec<Slot> = table.lingering().map(|(slot, _)| slot).collect();
        for slot in all {
            if table.slots.get_mut(&slot).is_some_and(|entry| entry.machine.make_room(now)) {
                self.push(table, slot, Priority::Urgent);
            }
            table.reschedule(slot);
        }
    }

    /// Whoever waits for sockets in this namespace leaves it to somebody else.
    pub fn pass_on(&self, table: &mut Table, netns: NetnsId) {
        let all: Vec<Slot> = table.lingering().filter(|(_, of)| *of == netns).map(|(slot, _)| slot).collect();
        for slot in all {
            if table.slots.get_mut(&slot).is_some_and(|entry| entry.machine.detach()) {
                self.push(table, slot, Priority::Urgent);
            }
            table.reschedule(slot);
        }
    }

    /// A worker is out of this namespace.
    pub fn leave(&self, table: &mut Table, netns: NetnsId) {
        table.busy.remove(&netns);
        for (slot, priority) in std::mem::take(&mut table.parked) {
            self.push(table, slot, priority);
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

    /// Queues those that were not looked at for long: what sits on an interface is believed no longer than that.
    pub fn look_again(&self, now: Instant) {
        let mut guard = self.table.lock();
        let table = &mut *guard;
        let old = |entry: &Entry| now.saturating_duration_since(entry.looked_at) >= self.config.look_every;
        for (slot, entry) in table.slots.iter_mut().filter(|(_, entry)| old(entry)) {
            if entry.machine.look_again() {
                table.queue.push(*slot, Priority::Background);
            }
        }
        self.work.ring(Awaited::Others, Priority::Background);
    }

    /// Wakes the watching thread. A full counter means that it is about to wake anyway.
    pub fn ring_alarm(&self) {
        let _ = self.alarm.write(1);
    }

    pub fn stop(&self, table: &mut Table) {
        table.leaving = true;
        table.stopping = true;
        self.work.ring_all();
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

    /// Those that wait for their sockets.
    pub fn lingering(&self) -> impl Iterator<Item = (Slot, NetnsId)> {
        let all = self.slots.iter().filter(|(_, entry)| entry.machine.lingers().is_some());
        all.map(|(slot, entry)| (*slot, entry.netns.id()))
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
    pub fn new(netns: Arc<Netns>, now: Instant) -> Entry {
        Entry {
            machine: Attachment::new(now),
            netns,
            held: Some(Held::default()),
            watch: None,
            view: Arc::default(),
            before: 0,
            hurries: HURRIES,
            asked_at: now,
            attached_at: None,
            looked_at: now,
            scheduled: None,
        }
    }

    pub fn status(&self, slot: Slot) -> AttachStatus {
        AttachStatus {
            slot,
            state: self.machine.state(),
            interfaces: self.view.interfaces.clone(),
            attached_at: self.attached_at,
            took: self.attached_at.map(|at| at.saturating_duration_since(self.asked_at)),
            failures: self.machine.failures(),
            doubts: self.view.doubts.clone(),
        }
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.table.lock();
        f.debug_struct("Core").field("config", &self.config).field("slots", &table.slots.len()).finish_non_exhaustive()
    }
}
