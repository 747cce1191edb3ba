//! The agent's end of Kubernetes: starts the watches of `k8s-sync` once the agent is ready, hands their
//! names to whoever names traffic, and hears of their end.
//!
//! Nothing waits for it. Without a cluster, and while its API is away, containerd names the pods of
//! this node as before.

use crate::clock;
use crate::run::ends::Ends;
use crate::run::names;
use crate::run::orders::Order;
use crate::serve::board::Board;
use crate::serve::identity::Lookup;
use crate::serve::kubernetes::Watches;
use k8s_sync::cluster::{Limits, Moment};
use k8s_sync::watch::{self, Handle};
use k8s_sync::{HolderReader, NamesReader};
use std::io;
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;
use tokio_util::sync::CancellationToken;

/// What to watch, and how much of it to keep.
#[derive(Debug)]
pub struct Wanted {
    pub watches: watch::Config,
    pub limits: Limits,
    /// The operator said that there is an API server.
    pub is_expected: bool,
}

#[derive(Debug)]
pub struct Kubernetes {
    /// None: the operator does not want it.
    pub wanted: Option<Wanted>,
    pub board: Arc<Board>,
    pub pipeline: Sender<Order>,
    /// For the command line; the pipeline has a reader of its own.
    pub names: NamesReader,
    pub holders: HolderReader,
    /// Set when there is something to look at.
    pub lookup: Arc<OnceLock<Lookup>>,
    pub ends: Ends,
}

impl Kubernetes {
    /// Runs until the watches have ended, which they do when `stop` says so and the cluster's names
    /// are kept for the next start.
    #[tracing::instrument(name = "kubernetes", skip_all)]
    pub async fn run(self, stop: CancellationToken) {
        let Kubernetes { wanted, board, pipeline, names, holders, lookup, ends } = self;
        let Some(Wanted { watches, limits, is_expected }) = wanted else {
            tracing::info!("kubernetes.mode is off: names come from containerd only");
            let _ = lookup.set(Lookup { names, holders, cluster: None, pipeline });
            return;
        };
        let begin = {
            let stop = stop.clone();
            // Reads and takes in what the last run kept: some 10 MiB in a large cluster.
            move || -> io::Result<Handle> { watch::start(watches, limits, moment, stop) }
        };
        let started = match tokio::task::spawn_blocking(begin).await {
            Ok(started) => started,
            Err(error) => return ends.watch("kubernetes").fail(format!("it did not start: {error}")),
        };
        let mut handle = match started {
            Ok(handle) => handle,
            Err(error) => return ends.watch("kubernetes").fail(format!("start its thread: {error}")),
        };
        if let (Some(joining), Some(inlet)) = (board.companion.get(), handle.take_inlet()) {
            tokio::spawn(names::run(joining.clone(), inlet, stop.clone()));
        }
        let cluster = handle.names();
        // The pipeline is gone only when the agent is about to be.
        let _ = pipeline.send(Order::Cluster(cluster.clone()));
        let _ = board.kubernetes.set(Watches::new(handle.reporter(), is_expected));
        if let Some(history) = board.history.get() {
            history.set_cluster(cluster.clone());
        }
        let names = names.with_cluster(cluster.clone());
        let _ = lookup.set(Lookup { names, holders, cluster: Some(cluster), pipeline });
        if handle.ended().await.is_err() {
            ends.watch("kubernetes").fail("the thread of the watches panicked".to_owned());
        } else if !stop.is_cancelled() {
            drop(ends.watch("kubernetes"));
        }
    }
}

/// Both clocks, read one after the other.
fn moment() -> Moment {
    Moment { mono: clock::now(), wall: SystemTime::now() }
}
