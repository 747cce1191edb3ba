//! Watches of the Kubernetes API that cannot die, and cannot hurt the API server.
//!
//! One thread of its own holds everything: five supervisors (`supervisor`, around the pure
//! `list_watch`), one connection, and what they share of the server: one back-off (`gate`), a token
//! bucket, the turn to list (`turns`). They feed a table, which they alone write. Nothing here is
//! ever waited for by who reads names, and no agent ever writes to the API server:
//! `server::Server::send` knows GET only. The companion changes one object (`single`).
//!
//! What was decided and measured is in `docs/decisions/0010-watches.md`. Leaves to others what a
//! name is, and where metrics are shown.

mod bucket;
mod check;
mod choice;
mod config;
mod decode;
mod follow;
mod gate;
mod inlet;
mod jitter;
mod list_watch;
mod report;
mod request;
mod server;
mod single;
mod snapshot;
mod supervisor;
mod table;
mod thread;
mod transport;
mod turns;

pub use check::{AccessCheck, ReadAnswer, check_access};
pub use config::{Agent, Config, Scope, Timing};
pub use decode::Bad;
pub use follow::{ApiServer, Follow, FollowCounts, FollowReport, Followed};
pub use gate::Backoff;
pub use inlet::{Inlet, Streamed};
pub use report::{Asked, Code, Link, Report, Requests, Verb, WatchReport, WatchState};
pub use single::Failed;
pub use table::Table;
pub use thread::{Ended, Handle};
pub use transport::INSTANCE_HEADER;

use crate::cluster::{Cluster, ClusterNames, Limits, Moment};
use std::io;
use tokio_util::sync::CancellationToken;

/// Starts the thread. The table begins with the snapshot of `config.snapshot`, if there is one: it
/// names what it knew at once. `clock` tells the moment in the terms of the observations. Ends with
/// `stop`, after it has saved a last snapshot.
///
/// # Errors
/// The runtime or its thread cannot be made. A snapshot that cannot be used is only logged.
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
    if let Some(node) = &config.node {
        cluster.follow_node(node);
    }
    let names = cluster.names();
    thread::start(config, cluster, kept, names, clock, stop)
}

/// As `start`, with another table and no snapshot read. For measuring and for tests.
///
/// # Errors
/// The runtime or its thread cannot be made.
pub fn start_with<T: Table>(
    config: Config,
    table: T,
    clock: fn() -> Moment,
    stop: CancellationToken,
) -> io::Result<Handle> {
    thread::start(config, table, snapshot::Kept::default(), ClusterNames::default(), clock, stop)
}
