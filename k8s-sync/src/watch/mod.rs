//! Watches of the Kubernetes API that cannot die, and cannot hurt the API server.
//!
//! One thread of its own holds everything: five supervisors (`supervisor`, around the pure `course`), one connection, and what they share of
//! the server: one back-off (`gate`), a token bucket, the turn to list (`slots`). They feed a table, which they alone write. Nothing here is
//! ever waited for by who reads names, and nothing is ever written to the API server: `server::Server::send` knows GET only.
//!
//! What was decided and measured is in `docs/decisions/0010-watches.md`. Leaves to others what a name is, and where figures are shown.

mod bucket;
mod chance;
mod config;
mod course;
mod decode;
mod gate;
mod look;
mod report;
mod request;
mod server;
mod slots;
mod snapshot;
mod supervisor;
mod thread;
mod transport;

pub use config::{Config, Scope, Timing};
pub use decode::Bad;
pub use gate::Backoff;
pub use look::{Look, Said, look};
pub use report::{Asked, Code, Link, Report, Requests, Verb, WatchReport, WatchState};
pub use thread::{Ended, Handle};
pub use transport::{Agent, INSTANCE_HEADER};

use crate::cluster::object::{Change, Resource};
use crate::cluster::{Cluster, ClusterNames, Limits, Moment};
use flow_model::Ts;
use std::io;
use tokio_util::sync::CancellationToken;

/// What the watches feed. `Cluster` in earnest.
pub trait Table: Send + 'static {
    fn apply(&mut self, change: Change, now: Moment);

    /// How many there are of it, where the table knows.
    fn objects(&self, resource: Resource) -> Option<usize>;

    /// Called every minute or so.
    fn forget(&mut self, now: Ts);

    fn save(&self, out: &mut Vec<u8>) -> io::Result<()>;
}

impl Table for Cluster {
    fn apply(&mut self, change: Change, now: Moment) {
        Cluster::apply(self, change, now);
    }

    fn objects(&self, resource: Resource) -> Option<usize> {
        Some(Cluster::objects(self, resource))
    }

    fn forget(&mut self, now: Ts) {
        Cluster::forget(self, now);
    }

    fn save(&self, out: &mut Vec<u8>) -> io::Result<()> {
        Cluster::save(self, out)
    }
}

/// Starts the thread. The table begins with the snapshot of `config.snapshot`, if there is one: it names what it knew at once. `clock` tells
/// the moment in the terms of the observations. Ends with `stop`, after it has saved a last snapshot.
pub fn start(config: Config, limits: Limits, clock: fn() -> Moment, stop: CancellationToken) -> io::Result<Handle> {
    let read = snapshot::read(config.snapshot.as_deref(), |bytes| Cluster::load(limits, bytes, clock()));
    let (cluster, kept) = match read {
        Ok(Some((cluster, kept))) => (cluster, kept),
        Ok(None) => (Cluster::new(limits), snapshot::Kept::default()),
        Err(reason) => {
            tracing::warn!(reason, "no names from before the start");
            (Cluster::new(limits), snapshot::Kept::default())
        }
    };
    let names = cluster.names();
    thread::start(config, cluster, kept, names, clock, stop)
}

/// As `start`, with another table and no snapshot read. For measuring and for tests.
pub fn start_with<T: Table>(
    config: Config,
    table: T,
    clock: fn() -> Moment,
    stop: CancellationToken,
) -> io::Result<Handle> {
    thread::start(config, table, snapshot::Kept::default(), ClusterNames::default(), clock, stop)
}
