//! The reading side.

use crate::cluster::answer;
use crate::cluster::clock::{Moment, mono, wall_at};
use crate::cluster::explain::{self, ClusterHolder};
use crate::cluster::object::{Resource, Uid};
use crate::cluster::probes::PodProbes;
use crate::cluster::record::{At, Key, Service};
use crate::cluster::shared::{Shared, hash_of_external, hash_of_service};
use crate::cluster::standing::Standing;
use flow_model::{Endpoint, Identity, Ts, Workload};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

/// Names of the cluster as readers ask for them: memory reads only, never waits, never blocks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ClusterNames {
    pub(super) shared: Arc<Shared>,
}

impl Default for ClusterNames {
    /// Of no cluster: knows nothing.
    fn default() -> Self {
        ClusterNames { shared: Arc::new(Shared::new(0)) }
    }
}

fn asked(at: Ts) -> At {
    At::try_from(at.0).unwrap_or(At::MAX - 1)
}

impl ClusterNames {
    /// Whose pod this is, also for a while after it is gone. A static pod is found by either of its uids.
    #[must_use]
    pub fn pod(&self, uid: Uid) -> Option<Arc<Workload>> {
        let pod = self.shared.pod(uid).or_else(|| {
            let real = self.shared.statics.read(&uid, |pods| pods.last().copied())?;
            self.shared.pod(real)
        })?;
        Some(pod.workload())
    }

    /// By when this pod of this node is to be gone, its grace period included; None where nobody deleted
    /// it. It may be gone by now.
    #[must_use]
    pub fn deleted_by(&self, uid: Uid) -> Option<SystemTime> {
        self.shared.leaving.by(uid)
    }

    /// The probes of the pod of this node that is asked at this address and port.
    #[must_use]
    pub fn probes_at(&self, endpoint: Endpoint) -> Option<Arc<PodProbes>> {
        self.shared.probes.at(endpoint.ip, endpoint.port)
    }

    /// Whether anybody told of the probes of this node's pods.
    #[must_use]
    pub fn knows_probes(&self) -> bool {
        self.shared.probes.is_told()
    }

    /// Who held `endpoint` at `at`. An address of a Service is held by the workload behind it where
    /// all its endpoints are of one workload, else by the Service; a port of a node by the Service
    /// or the pod that has it, else by the node.
    #[must_use]
    pub fn holder(&self, endpoint: Endpoint, at: Ts) -> Identity {
        answer::holder(&self.shared, Key::of(endpoint.ip), endpoint.port, asked(at))
    }

    /// Name of the Service by which clients reach `endpoint` at `at`: the one whose address it is
    /// (its own, an external one, a node's port), or the one that has the pod's port among its
    /// endpoints. Of several such Services the only one that has an address of its own (a headless
    /// twin serves names, not traffic), else none.
    #[must_use]
    pub fn service(&self, endpoint: Endpoint, at: Ts) -> Option<Arc<str>> {
        answer::service(&self.shared, Key::of(endpoint.ip), Some(endpoint.port), asked(at))
    }

    /// The Service that a DNS name stands for: `<service>.<namespace>.svc...` (also with a pod's
    /// name in front), or the name that just one ExternalName Service points to.
    #[must_use]
    pub fn named_service(&self, dns_name: &str) -> Option<Arc<Workload>> {
        self.named_service_for(None, dns_name)
    }

    /// The same for whoever is in `namespace`: an ExternalName of another one says nothing there,
    /// or whoever may write one would name everybody's traffic to that host.
    #[must_use]
    pub fn named_service_for(&self, namespace: Option<&str>, dns_name: &str) -> Option<Arc<Workload>> {
        let is_heard = |service: &Service| namespace.is_none_or(|namespace| *service.namespace == *namespace);
        let name = dns_name.strip_suffix('.').unwrap_or(dns_name).to_ascii_lowercase();
        let labels: Vec<&str> = name.split('.').collect();
        let by_name = labels.windows(3).find(|three| three[2] == "svc").and_then(|three| {
            let (name, namespace) = (three[0], three[1]);
            self.shared.called.read(&hash_of_service(namespace, name), |rows| {
                let is_it = |row: &&_| is_service(row, namespace, name);
                rows.iter().find(is_it).map(|row| row.service.workload())
            })
        });
        by_name.or_else(|| {
            self.shared.called.read(&hash_of_external(&name), |rows| {
                let mut meant =
                    rows.iter().filter(|row| row.external.as_deref() == Some(&*name) && is_heard(&row.service));
                let only = meant.next().filter(|_| meant.next().is_none());
                only.map(|row| row.service.workload())
            })
        })
    }

    /// How the API stands now.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.shared.standing.get()
    }

    /// What the API says can count for more from now on, or for less.
    pub(crate) fn stand(&self, standing: Standing) {
        if self.shared.stand(standing) {
            self.shared.changed();
        }
    }

    /// Whether the API tells this pod's addresses, and `ip` is none of them.
    pub(crate) fn lacks(&self, uid: Uid, ip: IpAddr) -> bool {
        self.shared.pod(uid).is_some_and(|pod| pod.ips().next().is_some() && pod.ips().all(|key| key != Key::of(ip)))
    }

    /// All that is known of an address, newest first, with what it held of late.
    #[must_use]
    pub fn explain(&self, ip: IpAddr, port: Option<u16>, now: Moment) -> Vec<ClusterHolder> {
        explain::holders(&self.shared, Key::of(ip), port, mono(now), |then| wall_at(then, now))
    }

    /// Moves whenever some answer could change.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.shared.version()
    }

    /// Moves each time that everything was told, after a time without it.
    #[must_use]
    pub fn whole(&self) -> u64 {
        self.shared.whole()
    }

    /// How many of them are in the table.
    #[must_use]
    pub fn objects(&self, resource: Resource) -> usize {
        self.shared.stats.objects[resource as usize].load(Ordering::Relaxed) as usize
    }

    /// How many found no room.
    #[must_use]
    pub fn refused(&self, resource: Resource) -> u64 {
        self.shared.stats.refused[resource as usize].load(Ordering::Relaxed)
    }
}

fn is_service(row: &crate::cluster::shared::Called, namespace: &str, name: &str) -> bool {
    row.external.is_none() && *row.service.namespace == *namespace && *row.service.name == *name
}
