//! The one thread that hears the news of all namespaces, and wakes what is due for another try.

#![forbid(unsafe_code)]

use super::queue::Priority;
use super::table::Core;
use flow_model::Slot;
use netns::{Change, LinkWatch};
use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollFlags, EpollTimeout};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the alarm carries in epoll; namespaces carry their slot, which has 32 bits.
pub(super) const ALARM: u64 = u64::MAX;
/// Between two looks for who was not looked at for long. Tells nothing where all news came.
const ROUND: Duration = Duration::from_secs(15);
/// Namespaces served per wake; the others stay ready.
const READY: usize = 64;

/// Starts to listen. Only fails for want of kernel memory: then later interfaces are found
/// by the slow round alone.
pub(super) fn add(core: &Core, slot: Slot, watch: &LinkWatch) -> bool {
    core.epoll.add(watch, EpollEvent::new(EpollFlags::EPOLLIN, u64::from(slot.0))).is_ok()
}

pub(super) fn remove(core: &Core, watch: &LinkWatch) {
    // Not registered is as good as removed.
    let _ = core.epoll.delete(watch);
}

pub(super) fn run(core: &Core) {
    let mut ready = [EpollEvent::empty(); READY];
    let mut changes = Vec::new();
    let every = ROUND.min(core.config.look_every);
    let mut round = Instant::now() + every;
    loop {
        let now = Instant::now();
        if now >= round {
            core.look_again(now);
            round = now + every;
        }
        let next = Some(core.retry_due(now).map_or(round, |due| due.min(round)));
        if core.table.lock().stopping {
            return;
        }
        let count = match core.epoll.wait(&mut ready, timeout(next)) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(errno) => {
                // Only a descriptor that is not epoll's could do this; without news there is nothing to do here.
                tracing::error!(%errno, "cannot wait for news of network namespaces");
                return;
            }
        };
        for event in ready.iter().take(count) {
            match event.data() {
                ALARM => {
                    let _ = core.alarm.read();
                }
                data => {
                    if let Ok(number) = u32::try_from(data) {
                        hear(core, Slot(number), &mut changes);
                    }
                }
            }
        }
    }
}

fn timeout(next: Option<Instant>) -> EpollTimeout {
    let Some(at) = next else { return EpollTimeout::NONE };
    // Rounded up: to wake a moment early would be to wake twice.
    let milliseconds = at.saturating_duration_since(Instant::now()).as_millis().saturating_add(1);
    EpollTimeout::try_from(milliseconds).unwrap_or(EpollTimeout::MAX)
}

fn hear(core: &Core, slot: Slot, changes: &mut Vec<Change>) {
    let watch = core.table.lock().slots.get(&slot).and_then(|entry| entry.watch.clone());
    let Some(watch) = watch else { return };
    changes.clear();
    let heard = watch.drain(changes);
    let missed = changes.iter().filter(|change| **change == Change::Missed).count() as u64;
    let view = core.table.lock().slots.get(&slot).map(|entry| Arc::clone(&entry.view));
    let Some(view) = view else { return };
    let known = |index: u32| view.interfaces.iter().any(|interface| interface.index == index);
    let include_loopback = core.config.include_loopback;
    let matters = changes.iter().any(|change| match change {
        // New, or a port of another one than before.
        Change::Link(link) => {
            view.shape.get(&link.index) != Some(&link.master) && (include_loopback || !link.loopback())
        }
        // Also our own removals of an earlier process' filters, once at most.
        Change::LinkGone { index } | Change::FilterGone { index } => known(*index),
        Change::Address(_) | Change::AddressGone(_) | Change::Missed => true,
    });
    drop(view);
    let mut table = core.table.lock();
    table.counters.missed_news += missed;
    let Some(entry) = table.slots.get_mut(&slot) else { return };
    if let Err(error) = heard {
        tracing::warn!(slot = slot.0, %error, "subscription to a namespace's links broke; subscribing anew");
        let broken: Option<Arc<LinkWatch>> = entry.watch.take();
        if let Some(held) = &mut entry.held {
            held.watch = None;
        }
        if let Some(watch) = broken {
            remove(core, &watch);
        }
    } else if !matters {
        return;
    }
    // Its network may be brought to it after it was met, as Docker does it.
    let now = Instant::now();
    let priority = match entry.machine.is_restless(now) {
        _ if entry.view.interfaces.is_empty() && entry.hurries > 0 => Priority::New,
        true => Priority::Background,
        false => Priority::Urgent,
    };
    entry.hurries = entry.hurries.saturating_sub(1);
    drop(table);
    core.changed(slot, now, priority);
}
