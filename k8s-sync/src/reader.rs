//! Names as the pipeline asks for them.

use crate::class::Class;
use crate::cluster::{ClusterNames, Standing};
use crate::dns::{By, DnsNames};
use crate::history::{Origin, Span};
use crate::index::{IdentityIndex, Shared};
use flow_model::{Endpoint, Identity, Names, Slot, Ts, Unknown, Workload, WorkloadKind};
use std::cell::LazyCell;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What an address without a name is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Addresses {
    /// By its class (`private`, `public`, ...): a closed set, for labels of live traffic.
    #[default]
    ByClass,
    /// By itself: for a replayed capture, where the reader wants to see it and the file bounds how many there are.
    ByAddress,
}

/// The reading side of an `IdentityIndex`, with the names that pods learnt by DNS and, where there
/// is a cluster, those of its table. Owned by one pipeline thread; reads memory only.
#[derive(Debug)]
pub struct NamesReader {
    shared: Arc<Shared>,
    cluster: Option<ClusterNames>,
    dns: DnsNames,
    addresses: Addresses,
    classes: [Arc<Workload>; Class::ALL.len()],
}

impl IdentityIndex {
    /// A reader without a cluster's table and without names by DNS: it learns these itself.
    #[must_use]
    pub fn reader(&self, addresses: Addresses) -> NamesReader {
        let classes = Class::ALL.map(|class| address(class.as_str()));
        NamesReader { shared: self.shared(), cluster: None, dns: DnsNames::default(), addresses, classes }
    }
}

impl NamesReader {
    /// Also asks the table of the whole cluster.
    #[must_use]
    pub fn with_cluster(self, names: ClusterNames) -> NamesReader {
        NamesReader { cluster: Some(names), ..self }
    }

    /// The same for a reader that is in use: names are better from now on.
    pub fn set_cluster(&mut self, names: ClusterNames) {
        self.cluster = Some(names);
        self.dns.version += 1;
    }

    /// Who held an address by containerd and by the API. This node's containerd is first to know
    /// and exact in time; the API knows owners, and who is behind a port of the node.
    fn holder(&self, endpoint: Endpoint, at: Ts) -> Identity {
        let Endpoint { ip, port } = endpoint;
        let Some(cluster) = &self.cluster else { return self.shared.address(ip, port, at, |_| false) };
        let theirs = LazyCell::new(|| cluster.holder(endpoint, at));
        let local = self.shared.address(ip, port, at, |span| self.is_void(cluster, span, ip, &theirs));
        let ours = match &local {
            Identity::Unknown(Unknown::NotFound) => return theirs.clone(),
            Identity::Unknown(_) => return local,
            Identity::Known(ours) => ours,
        };
        if ours.pod.is_empty() && ours.kind != WorkloadKind::Node {
            return local;
        }
        match &*theirs {
            Identity::Known(theirs) if ours.kind == WorkloadKind::Node || is_same_pod(ours, theirs) => {
                Identity::Known(theirs.clone())
            }
            _ => local,
        }
    }

    /// Whether a fresh API gives the address to somebody else. Against an address that was given to
    /// the pod when it was made it counts only once the API tells which addresses the pod has: until
    /// then it may not have heard that the address has passed on.
    fn is_void(
        &self,
        cluster: &ClusterNames,
        span: &Span,
        ip: IpAddr,
        theirs: &LazyCell<Identity, impl FnOnce() -> Identity>,
    ) -> bool {
        let is_weak = || span.origin == Origin::Taken || span.pod.is_some_and(|pod| cluster.lacks(pod, ip));
        let is_void = cluster.standing() == Standing::Fresh
            && is_weak()
            && matches!(&**theirs, Identity::Known(theirs) if !is_same_pod(&span.who, theirs));
        if is_void {
            self.shared.contest(span);
        }
        is_void
    }
}

fn is_same_pod(a: &Workload, b: &Workload) -> bool {
    a.pod == b.pod && a.namespace == b.namespace
}

fn address(name: &str) -> Arc<Workload> {
    Arc::new(Workload { namespace: "".into(), name: name.into(), kind: WorkloadKind::Address, pod: "".into() })
}

impl NamesReader {
    pub(crate) fn dns(&self) -> &DnsNames {
        &self.dns
    }

    fn show_names(&self) {
        self.shared.stats.dns_names.store(self.dns.names, Ordering::Relaxed);
        self.shared.stats.dns_evicted.store(self.dns.evicted, Ordering::Relaxed);
    }
}

impl Names for NamesReader {
    /// The workload by the API where it knows the pod, else by containerd.
    fn local(&self, slot: Slot) -> Identity {
        if slot == Slot(0) {
            return Identity::Unknown(Unknown::NotFound);
        }
        let (identity, pod) = self.shared.slot(slot);
        let known = self.cluster.as_ref().zip(pod).and_then(|(cluster, pod)| cluster.pod(pod));
        known.map_or(identity, Identity::Known)
    }

    /// The holder by the tables, else the name by which the pod found the address (a Service where
    /// the cluster has it), else its class.
    fn remote(&self, slot: Slot, remote: Endpoint, at: Ts) -> Identity {
        let ip = remote.ip.to_canonical();
        match self.holder(Endpoint { ip, ..remote }, at) {
            Identity::Unknown(Unknown::NotFound) => {}
            found => return found,
        }
        if let Some((outside, by)) = self.dns.name(slot, ip, at) {
            // A pod may ask any server for the name of a Service.
            let cluster = self.cluster.as_ref().filter(|_| by == By::Dns);
            let service = cluster.and_then(|cluster| {
                let (asking, _) = self.shared.slot(slot);
                let namespace = match &asking {
                    Identity::Known(who) if !who.pod.is_empty() => Some(&*who.namespace),
                    _ => None,
                };
                cluster.named_service_for(namespace, &outside.name)
            });
            return Identity::Known(service.unwrap_or_else(|| outside.clone()));
        }
        Identity::Known(match self.addresses {
            Addresses::ByClass => self.classes[Class::of(ip) as usize].clone(),
            Addresses::ByAddress => address(&ip.to_string()),
        })
    }

    fn service(&self, server: Endpoint, at: Ts) -> Option<Arc<str>> {
        self.cluster.as_ref()?.service(server, at)
    }

    /// No for what this node knows by itself. While it looks at a namespace whose name or addresses
    /// are on their way, who lives there may get a name, and so may an address that nobody has; while
    /// the API is there, or on its way, so may an address that it does not know, and who lives in a
    /// pod that it has not told of.
    fn awaits(&self, slot: Slot, remote: Endpoint, at: Ts) -> bool {
        let ip = remote.ip.to_canonical();
        let is_coming = self.shared.coming.load(Ordering::Relaxed) > 0;
        let of_api = |cluster: &&ClusterNames| matches!(cluster.standing(), Standing::Coming | Standing::Fresh);
        let cluster = self.cluster.as_ref().filter(of_api);
        if !is_coming && cluster.is_none() {
            return false;
        }
        let held = || self.shared.address(ip, remote.port, at, |_| false);
        if Class::of(ip).may_be_a_pods() && held() == Identity::Unknown(Unknown::NotFound) {
            return true;
        }
        let (local, pod) = self.shared.slot(slot);
        let is_told = |cluster: &ClusterNames| pod.is_none_or(|pod| cluster.pod(pod).is_some());
        (is_coming && local == Identity::Unknown(Unknown::Pending)) || cluster.is_some_and(|cluster| !is_told(cluster))
    }

    fn version(&self) -> u64 {
        let cluster = self.cluster.as_ref().map_or(0, ClusterNames::version);
        self.shared.version().wrapping_add(self.dns.version).wrapping_add(cluster)
    }

    fn whole(&self) -> u64 {
        self.cluster.as_ref().map_or(0, ClusterNames::whole)
    }

    fn dns_answer(&mut self, slot: Slot, name: &str, ips: &[IpAddr], ttl_s: u32, at: Ts) {
        self.dns.learn(slot, name, ips, Duration::from_secs(u64::from(ttl_s)), at);
        self.show_names();
    }

    fn server_name(&mut self, slot: Slot, name: &str, ip: IpAddr, since: Ts, at: Ts) {
        self.dns.learn_by_tls(slot, name, ip, since, at);
        self.show_names();
    }
}
