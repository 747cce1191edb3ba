//! What others want of the pipeline thread.

use flow_model::{FlowSeed, Slot, Ts};
use k8s_sync::LearntName;
use k8s_sync::cluster::ClusterNames;
use netns_scanner::Silent;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use tokio::sync::oneshot;

#[derive(Debug)]
pub enum Order {
    /// The last container of this namespace ended at `at`: settle its flows.
    NamespaceGone { slot: Slot, at: Ts },
    /// Connections that were open before they were looked for.
    Seeds(Seeds),
    /// Which connections are known by a seed alone.
    Silent { answer: oneshot::Sender<Vec<Silent>> },
    /// These were no longer there at `at`.
    Ended { ended: Vec<Silent>, at: Ts },
    /// What is read of flows that begin from now on.
    Read(l7::Wires),
    /// Names of the cluster, from now on.
    Cluster(ClusterNames),
    /// Which pods know `ip` by a DNS name at `at`.
    LearntNames { ip: IpAddr, at: Ts, answer: SyncSender<Vec<LearntName>> },
    /// Read what is left and end.
    Finish,
}

/// Connections that existed before they were looked for, on their way to the flow table.
#[derive(Debug)]
pub struct Seeds {
    pub seeds: Vec<FlowSeed>,
    /// Their namespace's sockets were read just after this.
    pub at: Ts,
    under_way: Arc<AtomicUsize>,
}

impl Seeds {
    /// They count as `under_way` until they are dropped.
    #[must_use]
    pub fn new(seeds: Vec<FlowSeed>, at: Ts, under_way: Arc<AtomicUsize>) -> Seeds {
        under_way.fetch_add(seeds.len(), Ordering::AcqRel);
        Seeds { seeds, at, under_way }
    }
}

impl Drop for Seeds {
    fn drop(&mut self) {
        self.under_way.fetch_sub(self.seeds.len(), Ordering::AcqRel);
    }
}
