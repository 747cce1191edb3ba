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
    /// The connection to containerd.
    pub link: LinkStatus,
    /// Seconds since the last event of a task; absent before the first.
    pub last_event_age_s: Option<f64>,
    /// Seconds since the registry last equalled a list; absent before the first.
    pub last_reconcile_age_s: Option<f64>,
    /// Tasks by state, now.
    pub tasks: TaskGauges,
    /// What the registry counted since the start.
    pub counts: Counts,
}

/// The connection and what came over it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LinkStatus {
    /// How far the connection is.
    pub connection: Connection,
    /// As containerd says it, while connected.
    pub version: Option<String>,
    /// What came over it since the start, over all connections.
    pub counts: LinkCounts,
    /// Why the last attempt to connect, subscribe or list failed.
    pub last_failure: Option<String>,
    #[serde(skip)]
    pub(crate) last_event: Option<Instant>,
    #[serde(skip)]
    pub(crate) last_reconcile: Option<Instant>,
}

/// How far the connection to containerd is. Serialized with its name as `state`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Connection {
    /// None of the configured sockets exists. Looked for about once a second.
    #[default]
    Searching,
    /// Connected; the subscription or the first list is not there yet.
    Syncing {
        /// The one that answered.
        socket: PathBuf,
    },
    /// Subscribed and listed.
    Live {
        /// The one that answered.
        socket: PathBuf,
    },
    /// A socket exists and does not answer, or the connection was lost.
    Down {
        /// Of the last failure, with all its causes on one line.
        reason: String,
    },
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
    /// The state now; ages are counted back from `now`.
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
