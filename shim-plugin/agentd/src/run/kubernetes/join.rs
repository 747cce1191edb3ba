//! The task that starts the watches, tells everybody of them, and hears of their end.

use super::{Lookup, Watches, Who, start};
use crate::config::Config;
use crate::run::parts::Ends;
use crate::run::pipeline_thread::Order;
use crate::serve::board::Board;
use k8s_sync::{Holders, NamesReader};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use tokio_util::sync::CancellationToken;

#[derive(Debug)]
pub struct Join {
    pub config: Config,
    pub who: Who,
    pub board: Arc<Board>,
    pub pipeline: Sender<Order>,
    /// For the command line; the pipeline has a reader of its own.
    pub names: NamesReader,
    pub holders: Holders,
    pub ends: Ends,
}

impl Join {
    /// Runs until the watches have ended, which they do when `stop` says so and the cluster's names are kept for the next start.
    #[tracing::instrument(name = "kubernetes", skip_all)]
    pub async fn run(self, stop: CancellationToken) {
        let Join { config, who, board, pipeline, names, holders, ends } = self;
        let begin = {
            let (config, stop) = (config.clone(), stop.clone());
            // Reads and takes in what the last run kept: some 10 MiB in a large cluster.
            move || start(&config, &who, stop)
        };
        let started = match tokio::task::spawn_blocking(begin).await {
            Ok(started) => started,
            Err(error) => return ends.watch("kubernetes").fail(format!("it did not start: {error}")),
        };
        let mut handle = match started {
            Ok(Some(handle)) => handle,
            Ok(None) => {
                let _ = board.lookup.set(Lookup { names, holders, cluster: None, pipeline });
                return;
            }
            Err(error) => return ends.watch("kubernetes").fail(format!("start its thread: {error}")),
        };
        let cluster = handle.names();
        // The pipeline is gone only when the agent is about to be.
        let _ = pipeline.send(Order::Cluster(cluster.clone()));
        let _ = board.kubernetes.set(Watches::new(handle.reporter(), &config.kubernetes));
        let names = names.with_cluster(cluster.clone());
        let _ = board.lookup.set(Lookup { names, holders, cluster: Some(cluster), pipeline });
        if handle.ended().await.is_err() {
            ends.watch("kubernetes").fail("the thread of the watches panicked".to_owned());
        } else if !stop.is_cancelled() {
            drop(ends.watch("kubernetes"));
        }
    }
}
