use crate::counts::{Counts, LinkCounts, TaskGauges};
use crate::registry::{Registry, TaskView};
use parking_lot::Mutex;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// Everything that `pilotfish status` and the metrics show of the containerd side.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    pub link: LinkStatus,
    /// Seconds since the last event of a task; absent before the first.
    pub last_event_age_s: Option<f64>,
    /// Seconds since the registry last equalled a list; absent before the first.
    pub last_reconcile_age_s: Option<f64>,
    pub tasks: TaskGauges,
    pub counts: Counts,
}

/// The connection and what came over it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LinkStatus {
    pub connection: Connection,
    /// As containerd says it, while connected.
    pub version: Option<String>,
    pub counts: LinkCounts,
    /// Why the last attempt to connect, subscribe or list failed.
    pub last_failure: Option<String>,
    #[serde(skip)]
    pub(crate) last_event: Option<Instant>,
    #[serde(skip)]
    pub(crate) last_reconcile: Option<Instant>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Connection {
    /// None of the configured sockets exists. Looked for about once a second.
    #[default]
    Searching,
    /// Connected; the subscription or the first list is not there yet.
    Syncing { socket: PathBuf },
    /// Subscribed and listed.
    Live { socket: PathBuf },
    /// A socket exists and does not answer, or the connection was lost.
    Down { reason: String },
}

#[derive(Debug)]
pub(crate) struct SharedStatus {
    pub registry: Mutex<Registry>,
    pub link: Mutex<LinkStatus>,
}

/// Reads the state from any thread, at any time: memory only, nothing is asked of containerd.
#[derive(Clone, Debug)]
pub struct StatusReader(pub(crate) Arc<SharedStatus>);

impl StatusReader {
    #[must_use]
    pub fn read(&self, now: Instant) -> Status {
        let link = self.0.link.lock().clone();
        let age = |at: Option<Instant>| at.map(|at| now.saturating_duration_since(at).as_secs_f64());
        let (last_event_age_s, last_reconcile_age_s) = (age(link.last_event), age(link.last_reconcile));
        let registry = self.0.registry.lock();
        Status { link, last_event_age_s, last_reconcile_age_s, tasks: registry.gauges(), counts: *registry.counts() }
    }

    /// Every task with its state, oldest first. At most `Limits::tasks`.
    #[must_use]
    pub fn tasks(&self) -> Vec<TaskView> {
        self.0.registry.lock().tasks().collect()
    }
}
