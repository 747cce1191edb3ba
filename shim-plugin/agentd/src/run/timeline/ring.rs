//! The ring of events: what happened to containers, and the requests that each exit cut. Pure.

use super::cuts::{LATEST, OpenExit, Recent, SETTLED, add_row, millis};
use super::kept::Kept;
use super::totals::CutTotals;
use super::unanswered::Unanswered;
use crate::findings;
use agent_api::{self as api, ProbeRow, TimelineEvent};
use doctor::Thresholds;
use doctor::history::Exited;
use flow_model::Ts;
use golden_metrics::{Loss, Losses};
use shim_plugin::{ContainerRef, ExitStatus, LocalName, NameSource, Run, TaskId, TaskNews};
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, SystemTime};

/// All events together. A start or an exit takes some 450 bytes, and 200 more for each client that it
/// cut: about two thousand events, the last hours of a busy node and weeks of a quiet one.
const MOST_BYTES: usize = 1 << 20;
/// However small they are.
const MOST_EVENTS: usize = 4096;
/// Times in which no agent looked.
const MOST_BLIND: usize = 16;
/// Exits that requests may still belong to: more in 15 s are a node that falls over.
const MOST_OPEN: usize = 1024;
/// Kills for memory that are remembered for their exits.
const MOST_KILLED: usize = 256;
/// Kills for memory within this time belong to the exit that follows.
const OOM_BEFORE: Duration = Duration::from_secs(10);
/// As long as kills for memory of one container are counted.
const OOM_AGAIN: Duration = Duration::from_secs(600);
/// An event's own time is believed if it is not older than this.
const LATE_NEWS: Duration = Duration::from_secs(60);

/// One moment by both clocks: observations have the first, events of containerd the second.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub mono: Ts,
    pub wall: SystemTime,
}

impl Moment {
    pub fn wall_ms(self) -> u64 {
        millis(self.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
    }

    /// What the wall clock showed at `at`, if it was not set since.
    pub fn wall_ms_at(self, at: Ts) -> u64 {
        self.wall_ms().saturating_sub(millis(self.mono.since(at)))
    }

    /// `at` by both clocks, where it makes sense; else now.
    pub fn of(self, at: Option<SystemTime>) -> Moment {
        let age = at.and_then(|at| self.wall.duration_since(at).ok()).filter(|age| *age <= LATE_NEWS);
        let back = |age: Duration| Some((self.wall.checked_sub(age)?, u64::try_from(age.as_nanos()).ok()?));
        match age.and_then(back) {
            Some((wall, nanos)) => Moment { mono: Ts(self.mono.0.saturating_sub(nanos)), wall },
            None => self,
        }
    }
}

#[derive(Debug)]
pub struct Timeline {
    events: VecDeque<TimelineEvent>,
    /// What they take.
    bytes: usize,
    next: u64,
    from_ms: u64,
    blind_ms: VecDeque<(u64, u64)>,
    /// Exits that requests may still belong to, the latest last.
    open: VecDeque<OpenExit>,
    recent: Recent,
    /// Starts of runs that have no name yet.
    unnamed: HashMap<TaskId, u64>,
    /// When the kernel killed for memory last, by container.
    killed: VecDeque<(ContainerRef, Ts)>,
    totals: CutTotals,
    thresholds: Thresholds,
    forgotten: Loss,
}

impl Timeline {
    /// Goes on where the last agent ended, if it left anything.
    #[must_use]
    pub fn new(kept: Option<Kept>, now: Moment, losses: &Losses) -> Timeline {
        let mut timeline = Timeline {
            events: VecDeque::new(),
            bytes: 0,
            next: 1,
            from_ms: now.wall_ms(),
            blind_ms: VecDeque::new(),
            open: VecDeque::new(),
            recent: Recent::new(losses),
            unnamed: HashMap::new(),
            killed: VecDeque::new(),
            totals: CutTotals::new(losses),
            thresholds: Thresholds::default(),
            forgotten: losses.place("timeline", "events_full", "events of containers that made room for later ones"),
        };
        if let Some(Kept { until_ms, from_ms, blind_ms, events, cut, .. }) = kept {
            timeline.from_ms = from_ms.min(timeline.from_ms);
            timeline.blind_ms.extend(blind_ms);
            timeline.blind_ms.push_back((until_ms, now.wall_ms().max(until_ms)));
            timeline.totals.restore(cut);
            for event in events {
                timeline.next = timeline.next.max(event.seq.saturating_add(1));
                timeline.push(TimelineEvent { settled: true, ..event });
            }
            timeline.trim();
        }
        timeline
    }

    /// For the next agent.
    #[must_use]
    pub fn keep(&self, now: Moment) -> Kept {
        let api::Timeline { now_ms, from_ms, blind_ms, events, .. } = self.answer(None, now);
        Kept { until_ms: now_ms, from_ms, blind_ms, events, cut: self.totals.rows(), ..Kept::default() }
    }

    /// What is younger than `since`; all without it.
    #[must_use]
    pub fn answer(&self, since: Option<Duration>, now: Moment) -> api::Timeline {
        let now_ms = now.wall_ms();
        let first = since.map_or(0, |since| now_ms.saturating_sub(millis(since)));
        let mut events: Vec<TimelineEvent> = self.events.iter().filter(|event| event.at_ms >= first).cloned().collect();
        events.sort_by_key(|event| (event.at_ms, event.seq));
        let blind = self.blind_ms.iter().filter(|(_, to)| *to >= first);
        let blind_ms = blind.copied().collect();
        api::Timeline { now_ms, from_ms: self.from_ms, blind_ms, events, ..api::Timeline::default() }
    }

    #[must_use]
    pub fn totals(&self) -> &CutTotals {
        &self.totals
    }

    /// Takes in what a containerd told; the number of the event. `deleted_by` is when the pod of the run
    /// that ended was to be gone.
    pub fn news(&mut self, news: TaskNews, deleted_by: Option<SystemTime>, now: Moment) -> Option<u64> {
        Some(match news {
            TaskNews::Ended { run, exit } => self.ended(&run, exit, deleted_by, now),
            TaskNews::Began(run) => self.began(&run, now),
            TaskNews::Named { task, name } => {
                let seq = self.unnamed.remove(&task)?;
                self.rename(seq, &name);
                seq
            }
            TaskNews::OutOfMemory { container, run, at } => self.out_of_memory(container, run.as_ref(), now.of(at)),
        })
    }

    /// Somebody knows better whose that event is.
    pub fn rename(&mut self, seq: u64, name: &LocalName) {
        let Some(event) = place(&self.events, seq).and_then(|place| self.events.get_mut(place)) else { return };
        self.bytes = self.bytes.saturating_sub(weight(event));
        name_it(event, name);
        self.bytes += weight(event);
        self.trim();
    }

    /// Probes for which the kubelet may have ended the container of this exit, as far as they are
    /// known by now.
    pub fn probed(&mut self, seq: u64, probes: Vec<ProbeRow>) {
        let event = place(&self.events, seq).and_then(|place| self.events.get_mut(place));
        let Some(event) = event.filter(|event| !event.settled && event.probe.is_none()) else { return };
        let is_it = |row: &ProbeRow| findings::ended_by_probe(event, row, &self.thresholds).is_some();
        let Some(row) = probes.into_iter().find(is_it) else { return };
        self.bytes = self.bytes.saturating_sub(weight(event));
        event.probe = Some(Box::new(row));
        event.cause = "probe".to_owned();
        self.bytes += weight(event);
        self.trim();
    }

    fn began(&mut self, run: &Run, now: Moment) -> u64 {
        let mut event = self.event("start", &run.container, Some(run), now);
        let id = &event.container_id;
        let is_same = |before: &&TimelineEvent| {
            let same_place = (&before.namespace, &before.pod, &before.container);
            before.event == "exit"
                && (before.container_id == *id
                    || !event.pod.is_empty() && same_place == (&event.namespace, &event.pod, &event.container))
        };
        let last = self.events.iter().rev().find(is_same);
        event.down_ms = last.map(|before| event.at_ms.saturating_sub(before.at_ms));
        event.settled = true;
        if run.name.is_none() {
            self.unnamed.insert(run.task, event.seq);
        }
        let seq = event.seq;
        self.push(event);
        self.trim();
        seq
    }

    fn out_of_memory(&mut self, container: ContainerRef, run: Option<&Run>, at: Moment) -> u64 {
        let mut event = self.event("oom", &container, run, at);
        let is_again = |before: &&TimelineEvent| {
            before.event == "oom"
                && before.container_id == event.container_id
                && event.at_ms.saturating_sub(before.at_ms) <= millis(OOM_AGAIN)
        };
        event.times = 1 + self.events.iter().filter(is_again).count() as u64;
        if run.is_none() {
            // It came behind the exit that it caused.
            let is_its = |before: &&mut TimelineEvent| {
                before.event == "exit" && before.container_id == event.container_id && !before.settled
            };
            if let Some(exit) = self.events.iter_mut().rev().find(is_its) {
                event = TimelineEvent {
                    event: event.event,
                    seq: event.seq,
                    at_ms: event.at_ms.min(exit.at_ms),
                    times: event.times,
                    ..exit.clone()
                };
                (event.code, event.cause, event.cut_requests, event.streams, event.probe) = Default::default();
                event.cut.clear();
                exit.oom_ms = Some(exit.at_ms.saturating_sub(event.at_ms));
                exit.cause = "oom".to_owned();
                exit.probe = None;
            }
        }
        event.settled = true;
        self.killed.retain(|(_, then)| at.mono.since(*then) <= OOM_BEFORE);
        self.killed.push_back((container, at.mono));
        if self.killed.len() > MOST_KILLED {
            self.killed.pop_front();
        }
        let seq = event.seq;
        self.push(event);
        self.trim();
        seq
    }

    fn ended(&mut self, run: &Run, exit: Option<ExitStatus>, deleted_by: Option<SystemTime>, now: Moment) -> u64 {
        let at = now.of(exit.and_then(|exit| exit.at));
        let mut event = self.event("exit", &run.container, Some(run), at);
        event.code = exit.map(|exit| exit.code);
        let killed = self.killed.iter().filter(|(whose, _)| *whose == run.container);
        let oom = killed.map(|(_, then)| *then).filter(|then| at.mono.since(*then) <= OOM_BEFORE).min();
        event.oom_ms = oom.map(|then| millis(at.mono.since(then)));
        event.deleted_by_ms = deleted_by.map(|wall| Moment { wall, ..at }.wall_ms());
        let is_late = event.deleted_by_ms.is_some_and(|by| event.at_ms >= by);
        event.cause = match (oom, event.code) {
            (Some(_), _) => "oom",
            // It had its grace period, and did not end by itself.
            (None, Some(Exited::KILLED)) if is_late => "term",
            (None, _) => "exit",
        }
        .to_owned();
        event.likely = run.sharing > 1;
        self.unnamed.remove(&run.task);
        match run.slot.filter(|_| !event.sandbox) {
            None => event.settled = true,
            Some(slot) => {
                let killed = event.code == Some(Exited::KILLED);
                let mut open = OpenExit::new(event.seq, slot, at.mono, oom, killed, run.sharing, &self.thresholds);
                for cut in self.recent.take(|cut| open.has_cut(cut)) {
                    add_row(&mut event, &cut);
                    open.add(cut, &event, &mut self.totals);
                }
                self.open.push_back(open);
                if self.open.len() > MOST_OPEN
                    && let Some(mut oldest) = self.open.pop_front()
                {
                    settle(&mut oldest, &mut self.events, &mut self.totals);
                }
            }
        }
        let seq = event.seq;
        self.push(event);
        self.trim();
        seq
    }

    /// Takes in a request that got no whole answer.
    pub fn unanswered(&mut self, unanswered: Unanswered) {
        let Timeline { open, events, totals, recent, .. } = self;
        let Some(open) = open.iter_mut().rev().find(|open| open.has_cut(&unanswered)) else {
            return recent.add(unanswered);
        };
        let Some(event) = place(events, open.seq).and_then(|place| events.get_mut(place)) else {
            // So much happened since that it was forgotten; the counter remembers.
            return totals.add("exit", &unanswered, None);
        };
        self.bytes = self.bytes.saturating_sub(weight(event));
        add_row(event, &unanswered);
        self.bytes += weight(event);
        match event.settled {
            true => totals.add(&event.cause, &unanswered, Some(&*event)),
            false => open.add(unanswered, event, totals),
        }
        self.trim();
    }

    /// Time passed: nothing more is expected of some exits. Call some times a second.
    pub fn tick(&mut self, now: Ts) {
        let Timeline { open, events, totals, .. } = self;
        for open in open.iter_mut().filter(|open| !open.is_settled && now.since(open.at) >= SETTLED) {
            settle(open, events, totals);
        }
        while self.open.front().is_some_and(|open| now.since(open.at) >= LATEST) {
            self.open.pop_front();
        }
        self.recent.forget(now);
        self.trim();
    }

    fn event(&mut self, what: &str, container: &ContainerRef, run: Option<&Run>, at: Moment) -> TimelineEvent {
        let mut event = TimelineEvent {
            seq: self.next,
            at_ms: at.wall_ms(),
            event: what.to_owned(),
            namespace: container.namespace.to_string(),
            workload: container.id.to_string(),
            container_id: container.id.to_string(),
            pid: run.map_or(0, |run| run.pid),
            ..TimelineEvent::default()
        };
        self.next = self.next.saturating_add(1);
        if let Some(name) = run.and_then(|run| run.name.as_ref()) {
            name_it(&mut event, name);
        }
        event
    }

    fn push(&mut self, event: TimelineEvent) {
        self.bytes += weight(&event);
        self.events.push_back(event);
    }

    /// Forgets what there is no room for, the oldest first.
    fn trim(&mut self) {
        while self.blind_ms.len() > MOST_BLIND {
            self.blind_ms.pop_front();
        }
        while self.bytes > MOST_BYTES || self.events.len() > MOST_EVENTS {
            let Some(oldest) = self.events.pop_front() else { return };
            self.bytes = self.bytes.saturating_sub(weight(&oldest));
            self.from_ms = self.from_ms.max(oldest.at_ms);
            self.unnamed.retain(|_, seq| *seq > oldest.seq);
            self.forgotten.add(1);
        }
    }
}

fn settle(open: &mut OpenExit, events: &mut VecDeque<TimelineEvent>, totals: &mut CutTotals) {
    open.is_settled = true;
    let event = place(events, open.seq).and_then(|place| events.get_mut(place));
    let cause = event.as_ref().map_or("exit", |event| &event.cause);
    open.cuts.drain(..).for_each(|cut| totals.add(cause, &cut, event.as_deref()));
    if let Some(event) = event {
        event.settled = true;
    }
}

/// They are in the order of their numbers.
fn place(events: &VecDeque<TimelineEvent>, seq: u64) -> Option<usize> {
    events.binary_search_by_key(&seq, |event| event.seq).ok()
}

fn name_it(event: &mut TimelineEvent, name: &LocalName) {
    let LocalName { workload, pod_uid: _, container, source, observe: _ } = name;
    event.namespace = workload.namespace.to_string();
    event.workload = workload.name.to_string();
    event.kind = workload.kind.as_str().to_owned();
    event.pod = workload.pod.to_string();
    event.container = container.to_string();
    event.sandbox = *source == NameSource::Sandbox;
}

/// Bytes that it takes here, about.
fn weight(event: &TimelineEvent) -> usize {
    let TimelineEvent { namespace, workload, kind, pod, container, container_id, cut, probe, .. } = event;
    let probe = probe.as_deref().map_or(0, |row| {
        let ProbeRow { namespace, workload, pod, container, probe, path, seen, .. } = row;
        let texts = [namespace, workload, pod, container, probe, path];
        size_of_val(row) + texts.map(|text| text.len()).iter().sum::<usize>() + size_of_val(seen.as_slice())
    });
    let texts = [namespace, workload, kind, pod, container, container_id];
    let rows = cut.iter().map(|row| {
        let texts = [&row.client_namespace, &row.client, &row.client_kind, &row.what];
        size_of_val(row) + texts.map(|text| text.len()).iter().sum::<usize>() + row.waited_ms.len() * size_of::<u64>()
    });
    size_of_val(event) + texts.map(|text| text.len()).iter().sum::<usize>() + rows.sum::<usize>() + probe
}

#[cfg(test)]
mod tests;
