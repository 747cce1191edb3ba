//! The timeline as the agent holds it: fed by the containers task, read by whoever asks.

use super::gauge::FindingGauge;
use super::kept::Kept;
use super::ring::{Moment, Timeline};
use super::searches::Told;
use super::unanswered::Unanswered;
use crate::clock;
use agent_api as api;
use golden_metrics::{Losses, SelfMetric};
use k8s_sync::cluster::ClusterNames;
use k8s_sync::cluster::object::Uid;
use parking_lot::Mutex;
use shim_plugin::TaskNews;
use std::sync::OnceLock;
use std::sync::mpsc::Receiver;
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
}

/// A window that ended earlier says nothing of now: nobody has looked anything up since.
const STALE: Duration = Duration::from_secs(120);

impl Inner {
    /// What the pipeline told comes first: an exit is told after the connections that it closed.
    fn up_to_date(&mut self) -> &mut Timeline {
        let Inner { timeline, unanswered, .. } = self;
        unanswered.try_iter().for_each(|unanswered| timeline.unanswered(unanswered));
        timeline
    }
}

impl Inner {
    fn answer(&mut self, since: Option<Duration>, now: Moment) -> api::Timeline {
        let timeline = self.up_to_date().answer(since, now);
        let (at, rows) = &*self.searches.lock();
        let is_fresh = now.mono.since(*at) < STALE;
        api::Timeline { searches: Some(if is_fresh { rows.clone() } else { Vec::new() }), ..timeline }
    }
}

/// By both clocks.
#[must_use]
pub fn now() -> Moment {
    Moment { mono: clock::now(), wall: SystemTime::now() }
}

impl History {
    #[must_use]
    pub fn new(timeline: Timeline, unanswered: Receiver<Unanswered>, searches: Told, losses: &Losses) -> History {
        let gauge = FindingGauge::new(losses);
        History { inner: Mutex::new(Inner { timeline, unanswered, gauge, searches }), cluster: OnceLock::new() }
    }

    pub fn news(&self, news: TaskNews) {
        let pod = match &news {
            TaskNews::Ended { run, .. } => run.name.as_ref().and_then(|name| Uid::parse(&name.pod_uid)),
            _ => None,
        };
        let deleted_by = pod.and_then(|pod| self.cluster.get()?.deleted_by(pod));
        self.inner.lock().up_to_date().news(news, deleted_by, now());
    }

    /// Once, when the cluster is watched.
    pub fn set_cluster(&self, cluster: ClusterNames) {
        let _ = self.cluster.set(cluster);
    }

    /// To be called some times a second.
    pub fn tick(&self) {
        let mut inner = self.inner.lock();
        let now = now();
        inner.up_to_date().tick(now.mono);
        if let Some(back) = inner.gauge.due(now.mono) {
            let answer = inner.answer(Some(back), now);
            inner.gauge.window(&answer);
        }
    }

    #[must_use]
    pub fn answer(&self, since: Option<Duration>) -> api::Timeline {
        self.inner.lock().answer(since, now())
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
