//! Who is asked to attach and to detach: the face of the threads that do it.

use super::linger::Linger;
use super::queue::{Priority, Serves};
use super::state::Attachment;
use super::table::{Core, Entry, Table};
use super::watcher;
use super::words::{AttachConfig, AttachCounters, AttachEvent, AttachStatus};
use super::worker;
use crate::kernel::Programs;
use flow_model::Slot;
use netns::Netns;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// The kernel serialises most of the work under rtnl anyway. The first serves namespaces whose
/// container does not run yet, and is scheduled before whatever else the node computes; the others
/// take such a one only while the first is at work, and are scheduled like it until it is done. The
/// second serves only urgent slots, so that a container that starts waits for no backlog.
const WORKERS: [Serves; 3] = [Serves::New, Serves::Urgent, Serves::All];

/// Why a namespace was not taken. Nothing was changed in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    /// Holds the limit, `AttachConfig::max_namespaces`.
    #[error("all {0} attachments are in use (max_namespaces)")]
    Full(usize),
    /// This slot has a namespace, perhaps one that is being detached.
    #[error("slot {} is attached already", .0.0)]
    Known(Slot),
    /// Two programs of ours would count each packet twice.
    #[error("its namespace is attached as slot {} already", .0.0)]
    SameNamespace(Slot),
    /// [`Attacher::shutdown`] was called, or the attacher dropped.
    #[error("shutting down")]
    Stopping,
}

/// Keeps programs on the interfaces of the namespaces that it was given. Three worker threads and one
/// that watches all namespaces.
///
/// Dropping it without [`Attacher::shutdown`] ends the threads and leaves clsact filters behind.
#[derive(Debug)]
pub struct Attacher {
    core: Arc<Core>,
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
        let core = Arc::new(Core::new(config, programs, Box::new(events))?);
        core.hear_alarm(watcher::ALARM)?;
        let attacher = Attacher { core };
        attacher.spawn("pf-link-watch", watcher::run)?;
        for (number, serves) in WORKERS.into_iter().enumerate() {
            attacher.spawn(&format!("pf-attach-{number}"), move |core| worker::run(core, serves))?;
        }
        Ok(attacher)
    }

    fn spawn(&self, name: &str, run: impl FnOnce(&Core) + Send + 'static) -> io::Result<()> {
        let core = Arc::clone(&self.core);
        self.core.table.lock().threads += 1;
        let spawned = thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _ends = ThreadEnds(&core);
            run(&core);
        });
        if spawned.is_err() {
            self.core.table.lock().threads -= 1;
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
        self.taker().attach(slot, netns, priority)
    }

    /// For a thread of its own that gives namespaces, too.
    #[must_use]
    pub fn taker(&self) -> Taker {
        Taker(Arc::clone(&self.core))
    }

    /// Takes our programs out of the namespace and closes its descriptors; `AttachEvent::Detached`
    /// tells when. An unknown slot is ignored.
    pub fn detach(&self, slot: Slot) {
        self.go(&mut self.core.table.lock(), slot, Attachment::detach);
    }

    /// As `detach`, of a namespace whose last process has ended: first waits until what that left in
    /// its TCP sockets is over, as long as the interfaces are there. Not for longer than
    /// `AttachConfig::linger`, nor when there are `AttachConfig::max_lingering` such, nor when its
    /// namespace is attached anew, or it is told to `detach`, or the attacher ends.
    pub fn leave(&self, slot: Slot) {
        let now = Instant::now();
        let mut table = self.core.table.lock();
        let crowded = table.lingering().count() >= self.core.config.max_lingering;
        let linger = if crowded { Linger::crowded(now) } else { Linger::new(now + self.core.config.linger) };
        self.go(&mut table, slot, |machine| machine.leave(linger));
    }

    /// Others want the room of those that wait for their sockets: each is looked at once more, and left.
    pub fn make_room(&self) {
        self.core.make_room(&mut self.core.table.lock(), Instant::now());
    }

    fn go(&self, table: &mut Table, slot: Slot, how: impl FnOnce(&mut Attachment) -> bool) {
        if table.slots.get_mut(&slot).is_some_and(|entry| how(&mut entry.machine)) {
            self.core.push(table, slot, Priority::Urgent);
        } else {
            self.core.hasten(table, slot);
        }
        table.reschedule(slot);
    }

    /// Looks at a namespace again, and repairs what is missing: for a slow reconcile. An unknown slot is ignored.
    pub fn recheck(&self, slot: Slot) {
        self.core.changed(slot, Instant::now(), Priority::Background);
    }

    /// Queues what is due for another try. The watching thread does this by itself; calling it is harmless.
    pub fn retry_due(&self, now: Instant) {
        self.core.retry_due(now);
    }

    /// One status per namespace, by slot.
    #[must_use]
    pub fn snapshot(&self) -> Vec<AttachStatus> {
        let table = self.core.table.lock();
        let mut all: Vec<AttachStatus> = table.slots.iter().map(|(slot, entry)| entry.status(*slot)).collect();
        drop(table);
        all.sort_unstable_by_key(|status| status.slot);
        all
    }

    /// What happened since the start.
    #[must_use]
    pub fn counters(&self) -> AttachCounters {
        self.core.table.lock().counters
    }

    /// Slots that wait for a worker.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.core.table.lock().queue.len()
    }

    /// Detaches everything and ends the threads; returns the number of namespaces that were not done within `grace`.
    #[must_use]
    pub fn shutdown(self, grace: Duration) -> usize {
        let deadline = Instant::now() + grace;
        let mut table = self.core.table.lock();
        table.leaving = true;
        let slots: Vec<Slot> = table.slots.keys().copied().collect();
        for slot in slots {
            self.go(&mut table, slot, Attachment::detach);
        }
        while !table.slots.is_empty() && !self.core.fewer.wait_until(&mut table, deadline).timed_out() {}
        let left = table.slots.len();
        self.core.stop(&mut table);
        // A thread that the kernel holds must not hold us.
        while table.threads > 0 && !self.core.fewer.wait_until(&mut table, deadline + THREADS_END).timed_out() {}
        left
    }
}

/// Takes namespaces for an [`Attacher`], and none any more once that is shut down.
#[derive(Clone, Debug)]
pub struct Taker(Arc<Core>);

impl Taker {
    /// As [`Attacher::attach`].
    ///
    /// # Errors
    /// As there.
    pub fn attach(&self, slot: Slot, netns: Arc<Netns>, priority: Priority) -> Result<(), AttachError> {
        let now = Instant::now();
        let mut table = self.0.table.lock();
        if table.leaving {
            return Err(AttachError::Stopping);
        }
        if table.slots.contains_key(&slot) {
            return Err(AttachError::Known(slot));
        }
        if let Some(other) = table.stays_in(netns.id()) {
            return Err(AttachError::SameNamespace(other));
        }
        if table.slots.len() >= self.0.config.max_namespaces {
            self.0.make_room(&mut table, now);
            return Err(AttachError::Full(self.0.config.max_namespaces));
        }
        self.0.pass_on(&mut table, netns.id());
        table.slots.insert(slot, Entry::new(netns, now));
        table.queue.push(slot, priority);
        let whom = table.queue.for_whom(priority);
        // Who is woken while it is held waits for it behind all that wait already.
        drop(table);
        self.0.work.ring(whom, priority);
        Ok(())
    }
}

/// For threads that have nothing left to do but return.
const THREADS_END: Duration = Duration::from_millis(500);

impl Drop for Attacher {
    fn drop(&mut self) {
        let mut table = self.core.table.lock();
        self.core.stop(&mut table);
    }
}

struct ThreadEnds<'a>(&'a Core);

impl Drop for ThreadEnds<'_> {
    fn drop(&mut self) {
        self.0.table.lock().threads -= 1;
        self.0.fewer.notify_all();
    }
}
