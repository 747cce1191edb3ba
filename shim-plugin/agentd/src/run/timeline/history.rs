//! The timeline as the agent holds it: fed by the containers task, read by whoever asks.

use super::api::ToldApi;
use super::cuts::SETTLED;
use super::gauge::FindingGauge;
use super::kept::Kept;
use super::probes::ProbeSeen;
use super::probing::Probing;
use super::renames::{Renames, by_cluster, workload};
use super::retries::ToldRetries;
use super::ring::{Moment, Timeline};
use super::searches::Told;
use super::storms::ToldStorms;
use super::throttling::Throttling;
use super::unanswered::Unanswered;
use crate::clock;
use agent_api as api;
use doctor::decide::cpu_throttled;
use doctor::history::Periods;
use doctor::node::{NodeLook, NodeReading, NodeWatch};
use doctor::{Finding, Subject};
use flow_model::{Ts, Workload};
use golden_metrics::{Loss, Losses, SelfMetric};
use k8s_sync::cluster::ClusterNames;
use k8s_sync::cluster::object::Uid;
use parking_lot::Mutex;
use shim_plugin::{LocalName, TaskId, TaskNews};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

#[derive(Debug)]
pub struct History {
    inner: Mutex<Inner>,
    /// Set once there is a cluster: it knows which pods are to be gone.
    cluster: OnceLock<ClusterNames>,
}

#[derive(Debug)]
struct Inner {
    timeline: Timeline,
    unanswered: Receiver<Unanswered>,
    gauge: FindingGauge,
    searches: Told,
    retries: ToldRetries,
    storms: ToldStorms,
    api: ToldApi,
    node: NodeWatch,
    /// What the last look at the node's files said.
    looked: NodeLook,
    /// A window of the pipeline that ended earlier says nothing of now.
    stale: Duration,
    probed: Receiver<ProbeSeen>,
    probing: Probing,
    throttling: Throttling,
    exits: Vec<ProbedExit>,
    exits_full: Loss,
    renames: Renames,
}

/// What the pipeline tells.
#[derive(Debug)]
pub struct Heard {
    pub unanswered: Receiver<Unanswered>,
    pub searches: Told,
    pub retries: ToldRetries,
    pub storms: ToldStorms,
    pub api: ToldApi,
    pub probed: Receiver<ProbeSeen>,
}

/// Windows after which one that is over says nothing of now: nothing has happened since.
const STALE_AFTER: u32 = 4;

impl Inner {
    /// What the pipeline told comes first: an exit is told after the connections that it closed.
    fn up_to_date(&mut self) -> &mut Timeline {
        let Inner { timeline, unanswered, .. } = self;
        unanswered.try_iter().for_each(|unanswered| timeline.unanswered(unanswered));
        timeline
    }
}

impl Inner {
    fn answer(&mut self, since: Option<Duration>, now: Moment, cluster: Option<&ClusterNames>) -> api::Timeline {
        self.take_probes(cluster);
        let timeline = self.up_to_date().answer(since, now);
        let stale = self.stale;
        let searches = fresh(&self.searches.lock(), now.mono, stale);
        let retries = fresh(&self.retries.lock(), now.mono, stale);
        let storms = fresh(&self.storms.lock(), now.mono, stale);
        let api = fresh(&self.api.lock(), now.mono, stale);
        let probes = cluster.is_some_and(ClusterNames::knows_probes).then(|| self.probes(now));
        api::Timeline { searches, retries, storms, api, probes, ..timeline }
    }

    /// Before an exit is told that they caused.
    fn take_probes(&mut self, cluster: Option<&ClusterNames>) {
        let Inner { probed, probing, .. } = self;
        for seen in probed.try_iter() {
            if let Some(pod) = cluster.and_then(|cluster| cluster.probes_at(seen.server)) {
                probing.seen(seen, &pod);
            }
        }
    }

    fn probes(&self, now: Moment) -> Vec<api::ProbeRow> {
        let Inner { probing, throttling, .. } = self;
        let suspects = probing.suspects(now.mono, |at| now.wall_ms_at(at)).into_iter();
        let row = |(pod, row): (Uid, api::ProbeRow)| {
            let throttled = throttling.of(pod, &row.container, now.mono).map(throttled);
            api::ProbeRow { throttled, ..row }
        };
        suspects.map(row).collect()
    }

    /// Containers that their CPU limit stops, of those that somebody looked at.
    fn throttled(&self, now: Moment, cluster: Option<&ClusterNames>) -> Vec<Finding> {
        let found = self.throttling.all(now.mono).filter_map(|(name, periods, window)| {
            let Workload { namespace, name, .. } = &*workload(name, cluster);
            let (namespace, name) = (namespace.to_string(), name.to_string());
            let of = Subject { namespace, kind: "Workload".to_owned(), name };
            cpu_throttled(&of, periods, window, self.gauge.thresholds())
        });
        found.collect()
    }

    /// Tells exits that are not settled of the probes before them: the connections of those without
    /// an answer close with the container, some of them after its exit was told.
    fn probes_of_exits(&mut self, now: Moment) {
        let Inner { timeline, probing, exits, .. } = self;
        exits.retain(|exit| now.mono.since(exit.at) <= SETTLED);
        for ProbedExit { seq, pod, container, since, at, throttled } in exits {
            let mut rows = probing.before_exit((*pod, container), (*since, *at), |at| now.wall_ms_at(at));
            rows.iter_mut().for_each(|row| row.throttled = *throttled);
            timeline.probed(*seq, rows);
        }
    }
}

/// What the last window that is over told, unless that is long ago.
fn fresh<T: Clone>((at, rows): &(Ts, Vec<T>), now: Ts, stale: Duration) -> Option<Vec<T>> {
    Some(if now.since(*at) < stale { rows.clone() } else { Vec::new() })
}

/// An exit that probes may explain.
#[derive(Debug)]
struct ProbedExit {
    seq: u64,
    pod: Uid,
    container: Box<str>,
    /// It ran from then on, as far as that is known.
    since: Ts,
    at: Ts,
    throttled: Option<api::Throttled>,
}

/// Exits of 3 s. More are a node that falls over, and of those the first are explained.
const MOST_EXITS: usize = 256;

fn throttled(periods: Periods) -> api::Throttled {
    let Periods { all, throttled } = periods;
    api::Throttled { periods: all, throttled }
}

/// By both clocks.
#[must_use]
pub fn now() -> Moment {
    Moment { mono: clock::now(), wall: SystemTime::now() }
}

impl History {
    #[must_use]
    pub fn new(timeline: Timeline, heard: Heard, window: Duration, losses: &Losses) -> History {
        let Heard { unanswered, searches, retries, storms, api, probed } = heard;
        let (gauge, probing) = (FindingGauge::new(window, losses), Probing::new(losses));
        let (node, looked, stale) = (NodeWatch::default(), NodeLook::default(), window * STALE_AFTER);
        let (throttling, exits) = (Throttling::new(losses), Vec::new());
        let exits_full = losses.place("probes", "exits_full", "exits that probes do not explain");
        let inner = Inner {
            timeline,
            unanswered,
            gauge,
            searches,
            retries,
            storms,
            api,
            node,
            looked,
            stale,
            probed,
            probing,
            throttling,
            exits,
            exits_full,
            renames: Renames::default(),
        };
        History { inner: Mutex::new(inner), cluster: OnceLock::new() }
    }

    pub fn news(&self, news: TaskNews) {
        let pod = match &news {
            TaskNews::Ended { run, .. } => run.name.as_ref().and_then(|name| Uid::parse(&name.pod_uid)),
            _ => None,
        };
        let (mut inner, now, cluster) = (self.inner.lock(), now(), self.cluster.get());
        inner.take_probes(cluster);
        let deleted_by = pod.and_then(|pod| cluster?.deleted_by(pod));
        let (news, awaited) = by_cluster(news, cluster);
        let TaskNews::Ended { run, exit } = &news else {
            inner.throttling.news(&news);
            let seq = inner.up_to_date().news(news, deleted_by, now);
            inner.renames.add(seq, awaited, now.mono);
            return;
        };
        let at = now.of(exit.and_then(|exit| exit.at)).mono;
        let container: Box<str> = run.name.as_ref().map(|name| (*name.container).into()).unwrap_or_default();
        // A sandbox is asked for nothing.
        let of_pod = pod.filter(|_| !container.is_empty()).map(|pod| {
            let throttled = inner.throttling.of(pod, &container, now.mono).map(throttled);
            (pod, inner.probing.exit(pod, &container, at), throttled)
        });
        inner.throttling.ended(run.task);
        let seq = inner.up_to_date().news(news, deleted_by, now);
        inner.renames.add(seq, awaited, now.mono);
        if let (Some(seq), Some((pod, since, throttled))) = (seq, of_pod) {
            match inner.exits.len() < MOST_EXITS {
                true => inner.exits.push(ProbedExit { seq, pod, container, since, at, throttled }),
                false => inner.exits_full.add(1),
            }
        }
        inner.probes_of_exits(now);
    }

    /// Containers whose CPU periods are to be read now, with the pids of their first processes.
    #[must_use]
    pub fn throttling_due(&self) -> Vec<(TaskId, u32)> {
        let mut inner = self.inner.lock();
        let (now, cluster) = (now(), self.cluster.get());
        let suspects = inner.probing.suspects(now.mono, |at| now.wall_ms_at(at));
        let suspects: Vec<(Uid, &str)> = suspects.iter().map(|(pod, row)| (*pod, row.container.as_str())).collect();
        let ill = inner.gauge.ill();
        if suspects.is_empty() && ill.is_empty() {
            return Vec::new();
        }
        let is_ill = |name: &LocalName| {
            let Workload { namespace, name, .. } = &*workload(name, cluster);
            !ill.is_empty() && ill.contains(&(namespace.to_string(), name.to_string()))
        };
        inner.throttling.due(now.mono, &suspects, is_ill)
    }

    /// Takes in what the node says of itself.
    pub fn node(&self, reading: &NodeReading) {
        let mut inner = self.inner.lock();
        let Inner { node, looked, gauge, .. } = &mut *inner;
        *looked = node.look(reading, clock::now(), gauge.thresholds());
    }

    pub fn throttling(&self, task: TaskId, periods: Periods) {
        self.inner.lock().throttling.read(task, periods, clock::now());
    }

    /// Once, when the cluster is watched.
    pub fn set_cluster(&self, cluster: ClusterNames) {
        let _ = self.cluster.set(cluster);
    }

    /// To be called some times a second.
    pub fn tick(&self) {
        let mut inner = self.inner.lock();
        let now = now();
        inner.take_probes(self.cluster.get());
        inner.probing.forget(now.mono);
        let Inner { renames, timeline, .. } = &mut *inner;
        renames.known(self.cluster.get(), now.mono).into_iter().for_each(|(seq, name)| timeline.rename(seq, &name));
        // Before they are settled.
        inner.probes_of_exits(now);
        inner.up_to_date().tick(now.mono);
        if let Some(back) = inner.gauge.due(now.mono) {
            let cluster = self.cluster.get();
            let answer = inner.answer(Some(back), now, cluster);
            let throttled = inner.throttled(now, cluster);
            let Inner { gauge, looked, .. } = &mut *inner;
            gauge.window(&answer, looked, &throttled);
        }
    }

    #[must_use]
    pub fn answer(&self, since: Option<Duration>) -> api::Timeline {
        self.inner.lock().answer(since, now(), self.cluster.get())
    }

    /// The time in milliseconds, and all that is held for wrong now. `None`: nobody has looked yet.
    #[must_use]
    pub fn findings(&self) -> Option<(u64, Arc<[join::message::Finding]>)> {
        let found = self.inner.lock().gauge.details()?;
        Some((clock::now().0 / 1_000_000, found))
    }

    #[must_use]
    pub fn metrics(&self) -> Vec<SelfMetric> {
        let inner = self.inner.lock();
        inner.timeline.totals().metrics().into_iter().chain(inner.gauge.metrics()).collect()
    }

    #[must_use]
    pub fn keep(&self) -> Kept {
        self.inner.lock().up_to_date().keep(now())
    }
}
