//! The threads that do the work: take a slot, enter its namespace, put down what came of it.

#![forbid(unsafe_code)]

use super::ending;
use super::inside::{self, EntryReport, Held, Ours};
use super::linger::Linger;
use super::queue::{Awaited, Priority, Serves};
use super::state::{Outcome, Work};
use super::table::{Core, View};
use super::watcher;
use super::words::{AttachCounters, AttachEvent, CutLists, Interface};
use super::{sweeping, sys};
use crate::kernel::class_of;
use flow_model::{Slot, in_full};
use netns::{Netns, NetnsId};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) fn run(core: &Core, serves: Serves) {
    if serves == Serves::New
        && let Err(errno) = sys::before_all_others()
    {
        tracing::debug!(%errno, "new namespaces are attached to at everybody's priority");
    }
    while let Some(task) = next(core, serves) {
        let hurries = serves != Serves::New && task.priority == Priority::New;
        // Without the right to it, it is done at everybody's priority.
        if hurries {
            sys::before_all_others().ok();
        }
        match task.work {
            Work::Attach => attach(core, task),
            Work::Leave(linger) => leave(core, task, linger),
            Work::Detach => detach(core, task),
        }
        if hurries {
            sys::as_all_others().ok();
        }
    }
}

struct Task {
    slot: Slot,
    work: Work,
    priority: Priority,
    netns: Arc<Netns>,
    held: Held,
    /// What the last look saw.
    view: Arc<View>,
}

fn next(core: &Core, serves: Serves) -> Option<Task> {
    let mut table = core.table.lock();
    let mut waits_since: Option<Instant> = None;
    loop {
        if table.stopping {
            return None;
        }
        // Whoever is new or urgent ends the wait.
        if serves == Serves::All
            && table.queue.is_backlog()
            && let Some(pace) = &core.config.pace
        {
            let waited = waits_since.map_or(Duration::ZERO, |since| since.elapsed());
            if let Some(wait) = pace.wait(waited) {
                waits_since.get_or_insert_with(Instant::now);
                core.work.wait_for(serves, &mut table, wait);
                continue;
            }
        }
        let Some((slot, priority)) = table.queue.pop(serves) else {
            core.work.wait(serves, &mut table);
            continue;
        };
        if serves == Serves::New && table.queue.has_more_first_looks() {
            core.work.ring(Awaited::Others, Priority::New);
        }
        let Some(id) = table.slots.get(&slot).map(|entry| entry.netns.id()) else { continue };
        if table.busy.contains(&id) {
            table.parked.push((slot, priority));
            continue;
        }
        let Some(entry) = table.slots.get_mut(&slot) else { continue };
        let Some(work) = entry.machine.begin() else { continue };
        let (netns, held) = (Arc::clone(&entry.netns), entry.held.take().unwrap_or_default());
        let view = Arc::clone(&entry.view);
        table.busy.insert(id);
        table.counters.entries += 1;
        table.reschedule(slot);
        return Some(Task { slot, work, priority, netns, held, view });
    }
}

fn attach(core: &Core, task: Task) {
    let Task { slot, work: _, priority, netns, mut held, view } = task;
    let begun = Instant::now();
    let load = |dir| core.programs.stub(slot, dir);
    let seen = || core.programs.seen(slot);
    let shared = core.programs.shared().zip(class_of(slot));
    let ours = Ours { load: &load, shared: shared.as_ref(), seen: &seen };
    // A panic in there leaves `held` as far as it got.
    let is_new = priority == Priority::New;
    let entered = netns.run(|inside| inside::attach(inside, &core.config, ours, &mut held, is_new, Instant::now()));
    let now = Instant::now();
    let (report, outcome) = match entered {
        Ok(Ok(report)) if report.failures.is_empty() => (Some(report), Outcome::Attached),
        Ok(Ok(report)) => {
            let reason = report.failures.join("; ");
            (Some(report), Outcome::Failed(reason))
        }
        Ok(Err(error)) => (None, Outcome::Failed(in_full(&error))),
        Err(error) => (None, Outcome::Failed(in_full(&error))),
    };
    let in_place = report.as_ref().and_then(|report| report.in_place).unwrap_or(now);
    let seen = Seen::of(&view, held.list(), report);
    drop(view);
    let (events, old) = put_down(core, slot, held, seen, outcome, now);
    if is_new {
        let [entered, put_down] = [in_place.saturating_duration_since(begun), now.elapsed()];
        tracing::debug!(slot = slot.0, ?entered, ?put_down, "a first look");
    }
    // What was seen before may be large, too.
    drop(old);
    for event in events {
        (core.events)(event);
    }
    release(core, slot, netns.id());
}

/// What a look brought, compared with the one before.
struct Seen {
    view: Arc<View>,
    more_interfaces: bool,
    more_addresses: bool,
    /// When the programs were there.
    in_place: Option<Instant>,
    counts: Counts,
}

/// What a look counted.
#[derive(Default)]
struct Counts {
    vanished: u64,
    swept: u64,
    over_limit: u64,
    unseen: u64,
    before: u64,
    cut: CutLists,
    messages: u64,
}

impl Seen {
    fn of(old: &View, interfaces: Arc<[Interface]>, report: Option<EntryReport>) -> Seen {
        let in_place = report.as_ref().and_then(|report| report.in_place);
        let (view, counts) = match report {
            Some(report) => {
                let EntryReport {
                    addresses,
                    failures: _,
                    vanished,
                    swept,
                    over_limit,
                    shape,
                    doubts,
                    unseen,
                    before,
                    own,
                    cut,
                    messages,
                    in_place: _,
                } = report;
                let (addresses, doubts) = (addresses.into(), doubts.into());
                let view = View { interfaces, addresses, own: Arc::new(own), shape, doubts };
                (view, Counts { vanished, swept, over_limit, unseen, before, cut, messages })
            }
            None => {
                let View { interfaces: _, addresses, own: _, shape, doubts } = old;
                let (addresses, doubts) = (Arc::clone(addresses), Arc::clone(doubts));
                // Without a look it is not known what is its own.
                (View { interfaces, addresses, own: Arc::default(), shape: shape.clone(), doubts }, Counts::default())
            }
        };
        Seen {
            more_interfaces: old.interfaces != view.interfaces,
            more_addresses: old.addresses != view.addresses || old.own != view.own,
            in_place,
            view: Arc::new(view),
            counts,
        }
    }
}

/// Notes the result, and returns what to tell about it, and what was seen before. Under the table's
/// lock: no work here that grows with the namespace.
fn put_down(
    core: &Core,
    slot: Slot,
    mut held: Held,
    seen: Seen,
    outcome: Outcome,
    now: Instant,
) -> (Vec<AttachEvent>, Option<Arc<View>>) {
    let Seen { view, more_interfaces, more_addresses, in_place, counts } = seen;
    let mut guard = core.table.lock();
    let table = &mut *guard;
    let Some(entry) = table.slots.get_mut(&slot) else { return (Vec::new(), None) };
    let mut events = Vec::new();
    if entry.watch.is_none()
        && let Some(watch) = &held.watch
        && watcher::add(core, slot, watch)
    {
        entry.watch = Some(Arc::clone(watch));
    }
    entry.looked_at = now;
    table.counters.removed_programs += std::mem::take(&mut held.removed);
    let first = entry.attached_at.is_none() || entry.machine.failures() > 0;
    entry.held = Some(held);
    let Counts { vanished, swept, over_limit, unseen, before, cut, messages } = counts;
    table.counters.vanished_interfaces += vanished;
    table.counters.swept_filters += swept;
    table.counters.over_limit += over_limit;
    table.counters.unseen_packets += unseen;
    table.counters.cut += cut;
    table.counters.messages += messages;
    entry.before += before;
    let (interfaces, addresses, own) =
        (Arc::clone(&view.interfaces), Arc::clone(&view.addresses), Arc::clone(&view.own));
    let old = std::mem::replace(&mut entry.view, view);
    match &outcome {
        Outcome::Attached if first => {
            let at = in_place.unwrap_or(now);
            entry.attached_at.get_or_insert(at);
            let took = at.saturating_duration_since(entry.asked_at);
            let before = std::mem::take(&mut entry.before);
            events.push(AttachEvent::Attached { slot, interfaces, addresses, own, took, before });
        }
        _ => {
            if entry.attached_at.is_some() {
                table.counters.late_packets += std::mem::take(&mut entry.before);
            }
            if more_interfaces {
                events.push(AttachEvent::Interfaces { slot, interfaces });
            }
            if more_addresses {
                events.push(AttachEvent::Addresses { slot, addresses, own });
            }
        }
    }
    if let Outcome::Failed(reason) = &outcome {
        table.counters.failures += 1;
        events.push(AttachEvent::Failed { slot, reason: reason.clone() });
    }
    entry.machine.finish(outcome, now);
    (events, Some(old))
}

fn release(core: &Core, slot: Slot, netns: NetnsId) {
    let mut table = core.table.lock();
    core.leave(&mut table, netns);
    let Some(entry) = table.slots.get_mut(&slot) else { return };
    let now = Instant::now();
    if entry.machine.release(now) {
        let is_restless = entry.machine.is_restless(now) && !entry.machine.is_leaving();
        let priority = if is_restless { Priority::Background } else { Priority::Urgent };
        core.push(&mut table, slot, priority);
    }
    table.reschedule(slot);
    let waits = !table.due.is_empty();
    drop(table);
    if waits {
        core.ring_alarm();
    }
}

/// Detaches, unless something is under way in the namespace, and it is not to be left before.
fn leave(core: &Core, task: Task, linger: Linger) {
    let had: Vec<u32> = task.held.interfaces.keys().copied().collect();
    let most_links = core.config.max_links;
    let has_more = match task.netns.run(|inside| ending::has_more_to_say(inside, &had, most_links)) {
        Ok(Ok(has_more)) => has_more,
        Ok(Err(error)) => untold(task.slot, &error),
        Err(error) => untold(task.slot, &error),
    };
    if !has_more {
        return detach(core, task);
    }
    let now = Instant::now();
    let mut table = core.table.lock();
    if linger.is_over(now) {
        let AttachCounters { ended_late, ended_full, .. } = &mut table.counters;
        *(if linger.is_crowded() { ended_full } else { ended_late }) += 1;
        drop(table);
        return detach(core, task);
    }
    let Task { slot, work: _, priority: _, netns, held, view: _ } = task;
    table.counters.lingered += u64::from(linger.is_first());
    if let Some(entry) = table.slots.get_mut(&slot) {
        entry.held = Some(held);
        entry.machine.finish(Outcome::Lingers, now);
    }
    drop(table);
    release(core, slot, netns.id());
}

/// What is not known is not waited for.
fn untold(slot: Slot, error: &(dyn std::error::Error + 'static)) -> bool {
    tracing::debug!(slot = slot.0, error, "whether a namespace has more to say could not be told");
    false
}

fn detach(core: &Core, task: Task) {
    let Task { slot, work: _, priority: _, netns, mut held, view } = task;
    drop(view);
    // TCX links end when they are closed, from anywhere. The watch goes before the sweep makes news.
    let watch = held.watch.clone();
    let mut gaps = std::mem::take(&mut held.gaps);
    let had: Vec<u32> = held.interfaces.keys().copied().collect();
    drop(held);
    if let Some(watch) = watch {
        watcher::remove(core, &watch);
    }
    // Attached anew meanwhile: what is there is the new slot's, whose attach sweeps (or swept) what this one leaves.
    let inherited = core.table.lock().stays_in(netns.id()).is_some();
    let (unseen, failed) = match (!inherited).then(|| netns.run(|inside| sweeping::leave(inside, &had, &mut gaps))) {
        None => (0, None),
        Some(Ok(Ok(unseen))) => (unseen, None),
        Some(Ok(Err(error))) => (0, Some(in_full(&error))),
        Some(Err(error)) => (0, Some(in_full(&error))),
    };
    if let Some(reason) = &failed {
        tracing::warn!(slot = slot.0, reason, "detach may have left a filter behind");
    }
    {
        let mut table = core.table.lock();
        table.counters.failed_detaches += u64::from(failed.is_some());
        table.counters.unseen_packets += unseen;
        if let Some(entry) = table.slots.get_mut(&slot) {
            entry.machine.finish(Outcome::Detached, Instant::now());
        }
        table.remove(slot);
        core.leave(&mut table, netns.id());
    }
    drop(netns);
    (core.events)(AttachEvent::Detached { slot });
    core.fewer.notify_all();
}
