//! What writer and readers share.

use crate::cluster::hold::Hold;
use crate::cluster::object::{Resource, Uid};
use crate::cluster::record::{At, Key, Pod, Service, Slice};
use crate::cluster::rows::{Row, Rows};
use foldhash::fast::FixedState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// With 100,000 pods some 50 rows each: a write copies 3 KiB.
const SHARDS: usize = 2_048;

#[derive(Clone, Debug)]
pub(super) struct PodRow(pub(super) Arc<Pod>);

impl Row for PodRow {
    type Key = u64;

    fn key(&self) -> u64 {
        self.0.fold()
    }
}

/// A static pod by what its containers call it.
#[derive(Clone, Debug)]
pub(super) struct StaticRow {
    pub(super) uid: Uid,
    pub(super) pod: Uid,
}

impl Row for StaticRow {
    type Key = Uid;

    fn key(&self) -> Uid {
        self.uid
    }
}

/// An address in an EndpointSlice. It belongs to the Service for as long as the pod has the address, so it has no beginning.
#[derive(Clone, Debug)]
pub(super) struct EndpointRow {
    pub(super) key: Key,
    /// `Uid::fold` of the pod that is meant; 0 where none is named.
    pub(super) pod: u64,
    /// Exclusive.
    pub(super) until: At,
    pub(super) slice: Arc<Slice>,
}

impl Row for EndpointRow {
    type Key = Key;

    fn key(&self) -> Key {
        self.key
    }
}

/// A Service by a hash of its name, or of the one that it stands for.
#[derive(Clone, Debug)]
pub(super) struct NameRow {
    pub(super) hash: u64,
    /// `spec.externalName`, lower case.
    pub(super) external: Option<Arc<str>>,
    pub(super) service: Arc<Service>,
}

impl Row for NameRow {
    type Key = u64;

    fn key(&self) -> u64 {
        self.hash
    }
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
    pub(super) pods: Rows<PodRow>,
    pub(super) statics: Rows<StaticRow>,
    pub(super) holds: Rows<Hold>,
    pub(super) endpoints: Rows<EndpointRow>,
    pub(super) names: Rows<NameRow>,
    version: AtomicU64,
    /// By `Resource`: from a snapshot, and no list has ended since.
    stale: [AtomicBool; 5],
    pub(super) stats: Stats,
}

impl Shared {
    pub(super) fn new() -> Shared {
        Shared {
            pods: Rows::new(SHARDS),
            statics: Rows::new(64),
            holds: Rows::new(SHARDS),
            endpoints: Rows::new(SHARDS),
            names: Rows::new(256),
            version: AtomicU64::new(0),
            stale: Default::default(),
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

    pub(super) fn is_stale(&self, resource: Resource) -> bool {
        self.stale[resource as usize].load(Ordering::Relaxed)
    }

    pub(super) fn set_stale(&self, resource: Resource, stale: bool) {
        self.stale[resource as usize].store(stale, Ordering::Relaxed);
    }

    /// The pod, whether it still exists or not.
    pub(super) fn pod(&self, uid: Uid) -> Option<Arc<Pod>> {
        self.pods.read(&uid.fold(), |rows| rows.iter().find(|row| row.0.uid() == uid).map(|row| row.0.clone()))
    }

    pub(super) fn pod_by_fold(&self, fold: u64) -> Option<Arc<Pod>> {
        self.pods.read(&fold, |rows| rows.last().map(|row| row.0.clone()))
    }
}
