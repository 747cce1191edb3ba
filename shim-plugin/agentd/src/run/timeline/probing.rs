//! What became of each probe of this node's pods, by container: a few minutes of it. Pure.

use super::probes::ProbeSeen;
use agent_api::{ProbeRow, ProbedRow};
use doctor::Thresholds;
use doctor::history::{ProbeSpec, Probed};
use flow_model::Ts;
use golden_metrics::{End, Loss, Losses};
use k8s_sync::cluster::PodProbes;
use k8s_sync::cluster::object::{Probe, ProbeKind, Uid};
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// Probes of this node's containers: 110 pods with three each, and some that are gone.
const MOST: usize = 512;
/// Times of one probe that are remembered: five minutes at 5 s, more than that at the usual 10 s.
const MOST_SEEN: usize = 64;
/// Times before an exit that are told with it.
const BEFORE_EXIT: usize = 16;
/// A probe that was not seen for so long is no more.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// One container's probe of one kind. A container has one of each.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    pod: Uid,
    container: Box<str>,
    kind: Kind,
}

/// As `doctor` calls it.
type Kind = doctor::history::ProbeKind;

fn kind(kind: ProbeKind) -> Kind {
    match kind {
        ProbeKind::Readiness => Kind::Readiness,
        ProbeKind::Liveness => Kind::Liveness,
        ProbeKind::Startup => Kind::Startup,
    }
}

#[derive(Debug)]
struct Track {
    /// As its containers call the pod, where that is another uid.
    static_uid: Option<Uid>,
    pod: String,
    probe: Probe,
    of: End,
    /// The most that asked for the same at a time.
    asked_by: u32,
    /// Of a startup probe: it succeeded, and is not asked again before the container begins anew.
    is_over: bool,
    /// Of this run of the container; what is older is of the one before.
    run_since: Ts,
    seen: VecDeque<Probed>,
}

#[derive(Debug)]
pub struct Probing {
    tracks: HashMap<Key, Track>,
    thresholds: Thresholds,
    full: Loss,
}

impl Probing {
    pub fn new(losses: &Losses) -> Probing {
        let full = losses.place("probes", "probes_full", "probes of containers beyond those that are followed");
        Probing { tracks: HashMap::new(), thresholds: Thresholds::default(), full }
    }

    /// Takes in a probe that `pod` was asked. What none of its probes asks for is nobody's.
    pub fn seen(&mut self, seen: ProbeSeen, pod: &PodProbes) {
        let asks = |probe: &&Probe| probe.port == seen.server.port && *probe.path == *seen.target;
        let (startup, others): (Vec<&Probe>, Vec<&Probe>) =
            pod.probes.iter().filter(asks).partition(|probe| probe.kind == ProbeKind::Startup);
        // Until a startup probe has succeeded the kubelet asks for nothing else.
        let starting = startup.iter().any(|probe| self.tracks.get(&key(pod, probe)).is_none_or(|track| !track.is_over));
        let asked = if starting { startup } else { others };
        let asked_by = u32::try_from(asked.len()).unwrap_or(u32::MAX);
        let probed = Probed { at: seen.at, took: seen.took, good: seen.good };
        for probe in asked {
            let key = key(pod, probe);
            if !self.tracks.contains_key(&key) && self.tracks.len() >= MOST {
                self.full.add(1);
                continue;
            }
            let track = self.tracks.entry(key).or_insert_with(|| Track {
                static_uid: pod.static_uid,
                pod: pod.pod.clone(),
                probe: probe.clone(),
                of: seen.of.clone(),
                asked_by,
                is_over: false,
                run_since: Ts::default(),
                seen: VecDeque::new(),
            });
            track.of = seen.of.clone();
            track.asked_by = track.asked_by.max(asked_by);
            track.is_over |= probe.kind == ProbeKind::Startup && !probed.failed(&spec(track, Kind::Startup));
            if track.seen.len() >= MOST_SEEN {
                track.seen.pop_front();
            }
            // An unanswered one is told when it is given up: it may have begun before the last one.
            let place = track.seen.partition_point(|before| before.at <= probed.at);
            track.seen.insert(place, probed);
        }
    }

    /// Probes that are slow or fail, by pod and container. `times` are milliseconds of the wall clock.
    pub fn suspects(&self, now: Ts, times: impl Fn(Ts) -> u64) -> Vec<(Uid, ProbeRow)> {
        let window = self.thresholds.probe_window;
        let suspect = |(key, track): (&Key, &Track)| {
            let spec = spec(track, key.kind);
            let recent = || track.seen.iter().filter(|probed| now.since(probed.at) <= window);
            let limit = spec.timeout.mul_f64(self.thresholds.probe_share);
            let is_suspect = |probed: &Probed| probed.failed(&spec) || probed.took.is_none_or(|took| took > limit);
            recent().any(is_suspect).then(|| (uid(key, track), row(key, track, recent(), &times)))
        };
        let mut rows: Vec<_> = self.tracks.iter().filter_map(suspect).collect();
        rows.sort_by(|(_, a), (_, b)| {
            (&a.namespace, &a.pod, &a.container, &a.probe).cmp(&(&b.namespace, &b.pod, &b.container, &b.probe))
        });
        rows
    }

    /// A container of this pod ended at `at`: what begins later is of its next run. Returns since when
    /// it ran, as far as that is known.
    pub fn exit(&mut self, pod: Uid, container: &str, at: Ts) -> Ts {
        let mut since = Ts::default();
        for (_, track) in self.tracks.iter_mut().filter(|(key, track)| is_of(key, track, pod, container)) {
            since = since.max(std::mem::replace(&mut track.run_since, at));
            track.is_over = false;
        }
        since
    }

    /// The probes by which the kubelet may have ended a container that ran from `since` to `at`.
    pub fn before_exit(
        &self,
        (pod, container): (Uid, &str),
        (since, at): (Ts, Ts),
        times: impl Fn(Ts) -> u64,
    ) -> Vec<ProbeRow> {
        let its = |(key, track): &(&Key, &Track)| is_of(key, track, pod, container) && key.kind != Kind::Readiness;
        let rows = self.tracks.iter().filter(its).map(|(key, track)| {
            let of_run = track.seen.iter().filter(|probed| probed.at >= since && probed.at <= at);
            let skipped = of_run.clone().count().saturating_sub(BEFORE_EXIT);
            row(key, track, of_run.skip(skipped), &times)
        });
        let mut rows: Vec<ProbeRow> = rows.collect();
        rows.sort_by(|a, b| a.probe.cmp(&b.probe));
        rows
    }

    pub fn forget(&mut self, now: Ts) {
        self.tracks.retain(|_, track| track.seen.back().is_some_and(|last| now.since(last.at) < FORGOTTEN));
    }
}

fn is_of(key: &Key, track: &Track, pod: Uid, container: &str) -> bool {
    (key.pod == pod || track.static_uid == Some(pod)) && *key.container == *container
}

fn key(pod: &PodProbes, probe: &Probe) -> Key {
    Key { pod: pod.uid, container: probe.container.as_str().into(), kind: kind(probe.kind) }
}

/// As the containers call it.
fn uid(key: &Key, track: &Track) -> Uid {
    track.static_uid.unwrap_or(key.pod)
}

fn spec(track: &Track, kind: Kind) -> ProbeSpec {
    let Probe { path, timeout_s, failures, .. } = &track.probe;
    ProbeSpec {
        kind,
        path: path.clone(),
        timeout: Duration::from_secs(u64::from(*timeout_s)),
        failure_threshold: *failures,
        asked_by: track.asked_by,
    }
}

fn row<'a>(key: &Key, track: &Track, seen: impl Iterator<Item = &'a Probed>, times: &impl Fn(Ts) -> u64) -> ProbeRow {
    let Track { pod, probe, of, asked_by, .. } = track;
    let Probe { container, kind: _, path, port, timeout_s, failures, grace_s } = probe;
    let probed = |probed: &Probed| ProbedRow {
        at_ms: times(probed.at),
        took_us: probed.took.map(|took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX)),
        good: probed.good,
    };
    ProbeRow {
        namespace: of.namespace.to_string(),
        workload: of.workload.to_string(),
        pod: pod.clone(),
        container: container.clone(),
        probe: key.kind.as_str().to_owned(),
        // Whatever a query holds, nobody needs it to know the probe.
        path: path.split('?').next().unwrap_or_default().to_owned(),
        port: *port,
        timeout_ms: u64::from(*timeout_s) * 1000,
        failure_threshold: *failures,
        grace_ms: u64::from(*grace_s) * 1000,
        asked_by: *asked_by,
        throttled: None,
        seen: seen.map(probed).collect(),
    }
}

#[cfg(test)]
mod tests;
