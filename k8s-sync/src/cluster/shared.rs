//! What writer and readers share.

use crate::cluster::hold::Hold;
use crate::cluster::leaving::Leaving;
use crate::cluster::object::{Resource, Uid};
use crate::cluster::probes::Probes;
use crate::cluster::record::{At, Pod, Service, Slice};
use crate::cluster::rows::{ByAddress, Rows};
use crate::cluster::standing::{AtomicStanding, Standing};
use foldhash::fast::FixedState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// So that a write copies 3 KiB in a table that is half full.
const PODS_PER_SHARD: usize = 100;

/// An address in an EndpointSlice. It belongs to the Service for as long as the pod has the
/// address, so it has no beginning.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    /// `Uid::fold` of the pod that is meant; 0 where none is named.
    pub(super) pod: u64,
    /// Exclusive.
    pub(super) until: At,
    pub(super) slice: Arc<Slice>,
}

/// A name that leads to a Service: its own, or the one that it stands for.
#[derive(Clone, Debug)]
pub(super) struct Called {
    /// `spec.externalName`, lower case.
    pub(super) external: Option<Arc<str>>,
    pub(super) service: Arc<Service>,
}

pub(super) fn hash_of_service(namespace: &str, name: &str) -> u64 {
    FixedState::default().hash_one((namespace, name))
}

pub(super) fn hash_of_external(name: &str) -> u64 {
    FixedState::default().hash_one(name)
}

#[derive(Debug, Default)]
pub(super) struct Stats {
    /// By `Resource`.
    pub(super) objects: [AtomicU64; 5],
    pub(super) refused: [AtomicU64; 5],
    pub(super) holds: AtomicU64,
    pub(super) holds_refused: AtomicU64,
    pub(super) holds_evicted: AtomicU64,
    pub(super) endpoints: AtomicU64,
    pub(super) workloads: AtomicU64,
}

#[derive(Debug)]
pub(super) struct Shared {
    /// By `bucket` of the uid.
    pods: Rows<u32, Arc<Pod>>,
    /// Static pods: the API's uid by the one that their containers carry.
    pub(super) statics: Rows<Uid, Uid>,
    pub(super) holds: ByAddress<Hold>,
    pub(super) endpoints: ByAddress<Listed>,
    /// By a hash of the name.
    pub(super) called: Rows<u64, Called>,
    version: AtomicU64,
    /// By `Resource`: from a snapshot, and no list has ended since.
    stale: [AtomicBool; 5],
    pub(super) standing: AtomicStanding,
    /// How often everything was told, after a time without it.
    whole: AtomicU64,
    pub(super) leaving: Leaving,
    pub(super) probes: Probes,
    pub(super) stats: Stats,
}

impl Shared {
    /// For as many pods, at most.
    pub(super) fn new(pods: usize) -> Shared {
        let shards = (pods / PODS_PER_SHARD).next_power_of_two().clamp(2, 4_096);
        Shared {
            pods: Rows::new(shards),
            statics: Rows::new(shards / 2),
            holds: ByAddress::new(shards),
            endpoints: ByAddress::new(shards),
            called: Rows::new(shards / 2),
            version: AtomicU64::new(0),
            stale: Default::default(),
            standing: AtomicStanding::default(),
            whole: AtomicU64::new(0),
            leaving: Leaving::default(),
            probes: Probes::default(),
            stats: Stats::default(),
        }
    }

    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// After what changed was stored: who sees the number sees the change.
    pub(super) fn changed(&self) {
        self.version.fetch_add(1, Ordering::Release);
    }

    pub(super) fn whole(&self) -> u64 {
        self.whole.load(Ordering::Relaxed)
    }

    /// How the API stands. Whether it is another way than before.
    pub(super) fn stand(&self, standing: Standing) -> bool {
        let is_news = self.standing.set(standing);
        if is_news && standing == Standing::Fresh {
            self.whole.fetch_add(1, Ordering::Release);
        }
        is_news
    }

    pub(super) fn is_stale(&self, resource: Resource) -> bool {
        self.stale[resource as usize].load(Ordering::Relaxed)
    }

    pub(super) fn set_stale(&self, resource: Resource, stale: bool) {
        self.stale[resource as usize].store(stale, Ordering::Relaxed);
    }

    /// The pod, whether it still exists or not.
    pub(super) fn pod(&self, uid: Uid) -> Option<Arc<Pod>> {
        let found = |pods: &[Arc<Pod>]| pods.iter().find(|pod| pod.uid() == uid).cloned();
        self.pods.read(&bucket(uid.fold()), found)
    }

    pub(super) fn pod_by_fold(&self, fold: u64) -> Option<Arc<Pod>> {
        let found = |pods: &[Arc<Pod>]| pods.iter().find(|pod| pod.fold() == fold).cloned();
        self.pods.read(&bucket(fold), found)
    }

    pub(super) fn put_pod(&self, uid: Uid, pod: Option<Arc<Pod>>) {
        let key = bucket(uid.fold());
        let of_others = |pods: &[Arc<Pod>]| pods.iter().filter(|pod| pod.uid() != uid).cloned().chain(pod).collect();
        self.pods.replace(&key, self.pods.read(&key, of_others));
    }

    pub(super) fn each_pod(&self, see: impl FnMut(&Arc<Pod>)) {
        self.pods.each(see);
    }
}

/// Pods by half of the bits that tell them apart: the other half is in what they lead to.
fn bucket(fold: u64) -> u32 {
    (fold >> 32) as u32
}
