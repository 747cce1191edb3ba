//! The reading side.

use crate::cluster::object::Uid;
use crate::cluster::writer::Moment;
use crate::figures::Figure;
use flow_model::{Endpoint, Identity, Ts, Unknown, Workload};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// What is known of an address, for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// With the pod's name where a pod holds it.
    pub who: Arc<Workload>,
    /// None: all ports.
    pub port: Option<u16>,
    pub node: Option<Arc<str>>,
    pub service: Option<Arc<str>>,
    pub since: Option<SystemTime>,
    /// None: now.
    pub until: Option<SystemTime>,
    /// From a snapshot, and not yet confirmed by a list.
    pub stale: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Shared {
    version: AtomicU64,
}

/// Names of the cluster as readers ask for them: memory reads only, never waits, never blocks. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct ClusterNames {
    pub(crate) shared: Arc<Shared>,
}

impl ClusterNames {
    /// Whose pod this is, also for a while after it is gone.
    #[must_use]
    pub fn pod(&self, _uid: Uid) -> Option<Arc<Workload>> {
        None
    }

    /// Who held `endpoint` at `at`.
    #[must_use]
    pub fn holder(&self, _endpoint: Endpoint, _at: Ts) -> Identity {
        Identity::Unknown(Unknown::NotFound)
    }

    /// Name of the Service by which clients reach `endpoint` at `at`.
    #[must_use]
    pub fn service(&self, _endpoint: Endpoint, _at: Ts) -> Option<Arc<str>> {
        None
    }

    /// The Service that a DNS name stands for: `<service>.<namespace>.svc...`, or the name that an ExternalName Service points to.
    #[must_use]
    pub fn named_service(&self, _dns_name: &str) -> Option<Arc<Workload>> {
        None
    }

    /// All that is known of an address, newest first.
    #[must_use]
    pub fn explain(&self, _ip: IpAddr, _port: Option<u16>, _now: Moment) -> Vec<Holding> {
        Vec::new()
    }

    /// Moves whenever some answer could change.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.shared.version.load(Ordering::Acquire)
    }

    /// Sizes and what did not fit, for the agent's own metrics.
    #[must_use]
    pub fn figures(&self) -> Vec<Figure> {
        Vec::new()
    }
}
