//! What the containerd side shows of itself, read from memory.

use crate::container::LinkId;
use crate::counts::{Counts, LinkCounts, TaskGauges};
use crate::registry::{Registry, TaskView};
use parking_lot::{Mutex, MutexGuard};
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Notify;

/// Everything that `pilotfish status` and the metrics show of the containerd side.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The connections, in the order of [`Config::sockets`](crate::Config).
    pub links: Vec<LinkStatus>,
    /// Tasks by state, now.
    pub tasks: TaskGauges,
    /// What the registry counted since the start.
    pub counts: Counts,
}

/// One connection and what came over it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LinkStatus {
    /// Where it leads.
    pub socket: PathBuf,
    /// How far the connection is.
    pub connection: Connection,
    /// As containerd says it, while connected.
    pub version: Option<String>,
    /// Its tasks that are followed. Those of one that is away are kept until their processes end.
    pub tasks: usize,
    /// What came over it since the start, over all connections.
    pub counts: LinkCounts,
    /// Why the last attempt to connect, subscribe or list failed.
    pub last_failure: Option<String>,
    /// When the last event of a task came.
    #[serde(skip)]
    pub last_event: Option<Instant>,
    /// When the registry equalled a list last.
    #[serde(skip)]
    pub last_reconcile: Option<Instant>,
}

/// How far a connection is. Serialized with its name as `state`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Connection {
    /// The socket does not exist. Looked for about once a second.
    #[default]
    Searching,
    /// The socket is that of another link, by another path: that one is used.
    Same {
        /// The other path.
        socket: PathBuf,
    },
    /// Connected; the subscription or the first list is not there yet.
    Syncing,
    /// Subscribed and listed.
    Live,
    /// The socket exists and does not answer, or the connection was lost.
    Down {
        /// Of the last failure, with all its causes on one line.
        reason: String,
    },
}

#[derive(Debug)]
pub(crate) struct SharedStatus {
    pub registry: Mutex<Registry>,
    /// A namespace was attached early: the registry wants ticks.
    pub early: Notify,
    links: Vec<Mutex<LinkStatus>>,
}

impl SharedStatus {
    pub fn new(registry: Registry, sockets: &[PathBuf]) -> SharedStatus {
        let link = |socket: &PathBuf| Mutex::new(LinkStatus { socket: socket.clone(), ..LinkStatus::default() });
        SharedStatus { registry: Mutex::new(registry), early: Notify::new(), links: sockets.iter().map(link).collect() }
    }

    /// Ids are given out by who made this; each has its place.
    pub fn link(&self, id: LinkId) -> MutexGuard<'_, LinkStatus> {
        self.links[usize::from(id.0)].lock()
    }

    /// Ids of all links.
    pub fn ids(&self) -> impl Iterator<Item = LinkId> {
        (0..self.links.len()).filter_map(|place| u16::try_from(place).ok()).map(LinkId)
    }
}

/// Reads the state from any thread, at any time: memory only, nothing is asked of containerd.
#[derive(Clone, Debug)]
pub struct StatusReader(pub(crate) Arc<SharedStatus>);

impl StatusReader {
    /// The state now.
    #[must_use]
    pub fn read(&self) -> Status {
        let mut links: Vec<LinkStatus> = self.0.ids().map(|id| self.0.link(id).clone()).collect();
        let registry = self.0.registry.lock();
        for task in registry.tasks.values() {
            if let Some(link) = links.get_mut(usize::from(task.container.link.0)) {
                link.tasks += 1;
            }
        }
        Status { links, tasks: registry.gauges(), counts: *registry.counts() }
    }

    /// Every task with its state, oldest first. At most `Limits::tasks`.
    #[must_use]
    pub fn tasks(&self) -> Vec<TaskView> {
        self.0.registry.lock().tasks().collect()
    }
}
