//! The one thread that hears the news of all namespaces, and wakes what is due for another try.

#![forbid(unsafe_code)]

use super::attacher::Shared;
use super::queue::Priority;
use flow_model::Slot;
use netns::{Change, LinkWatch};
use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollFlags, EpollTimeout};
use std::sync::Arc;
use std::time::Instant;

/// What the alarm carries in epoll; namespaces carry their slot, which has 32 bits.
pub(super) const ALARM: u64 = u64::MAX;
/// Namespaces served per wake; the others stay ready.
const READY: usize = 64;

/// Starts to listen. Only fails for want of kernel memory: then later interfaces are found by `Attacher::recheck` alone.
pub(super) fn add(shared: &Shared, slot: Slot, watch: &LinkWatch) -> bool {
    shared.epoll.add(watch, EpollEvent::new(EpollFlags::EPOLLIN, u64::from(slot.0))).is_ok()
}

pub(super) fn remove(shared: &Shared, watch: &LinkWatch) {
    // Not registered is as good as removed.
    let _ = shared.epoll.delete(watch);
}

pub(super) fn run(shared: &Shared) {
    let mut ready = [EpollEvent::empty(); READY];
    let mut changes = Vec::new();
    loop {
        let next = shared.retry_due(Instant::now());
        if shared.table.lock().stopping {
            return;
        }
        let count = match shared.epoll.wait(&mut ready, timeout(next)) {
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
                    let _ = shared.alarm.read();
                }
                data => {
                    if let Ok(number) = u32::try_from(data) {
                        hear(shared, Slot(number), &mut changes);
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

fn hear(shared: &Shared, slot: Slot, changes: &mut Vec<Change>) {
    let watch = shared.table.lock().slots.get(&slot).and_then(|entry| entry.watch.clone());
    let Some(watch) = watch else { return };
    changes.clear();
    let heard = watch.drain(changes);
    let mut table = shared.table.lock();
    table.counters.missed_news += changes.iter().filter(|change| **change == Change::Missed).count() as u64;
    let Some(entry) = table.slots.get_mut(&slot) else { return };
    let known = |index: u32| entry.interfaces.iter().any(|interface| interface.index == index);
    let include_loopback = shared.config.include_loopback;
    let matters = changes.iter().any(|change| match change {
        Change::Link(link) => !known(link.index) && (include_loopback || !link.loopback()),
        Change::LinkGone { index } => known(*index),
        Change::Address(_) | Change::AddressGone(_) | Change::Missed => true,
    });
    if let Err(error) = heard {
        tracing::warn!(slot = slot.0, %error, "subscription to a namespace's links broke; subscribing anew");
        let broken: Option<Arc<LinkWatch>> = entry.watch.take();
        if let Some(held) = &mut entry.held {
            held.watch = None;
        }
        if let Some(watch) = broken {
            remove(shared, &watch);
        }
    } else if !matters {
        return;
    }
    drop(table);
    shared.changed(slot, Instant::now(), Priority::Urgent);
}
