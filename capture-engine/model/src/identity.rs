use crate::{Endpoint, Slot, Ts};
use std::net::IpAddr;
use std::sync::Arc;

/// What an address or a namespace is called, as its label values. Shared, because thousands of flows carry the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Workload {
    /// Kubernetes namespace, or containerd's for a plain container; empty for what has none.
    pub namespace: Arc<str>,
    /// Workload name where the owner is known, else the pod's, the container's, a DNS name or an address.
    pub name: Arc<str>,
    /// What `name` is the name of.
    pub kind: WorkloadKind,
    /// Pod name; empty where there is no pod.
    pub pod: Arc<str>,
}

/// What a workload is: an owner in Kubernetes, or what stands in for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WorkloadKind {
    /// Owner of the ReplicaSet of the pod.
    Deployment,
    /// Owner of the pod.
    StatefulSet,
    /// Owner of the pod.
    DaemonSet,
    /// Owner of the pod, where no CronJob is known to have made it.
    Job,
    /// Owner of the Job of the pod.
    CronJob,
    /// Owner of the pod that has no known owner itself, or a ReplicationController.
    ReplicaSet,
    /// A pod by itself, or pods of a controller that is none of the above: `name` is then the
    /// controller's.
    Pod,
    /// A container that is in no pod.
    Container,
    /// A Service, where no single workload is known to be behind its address.
    Service,
    /// An address of a node of the cluster.
    Node,
    /// A process of the node outside any container, or its unit.
    Process,
    /// Named by a DNS answer that this pod received.
    External,
    /// Nothing but the address's class is known.
    Address,
    /// Argo's, in the place of a Deployment: owner of the ReplicaSet of the pod.
    Rollout,
    /// OpenKruise's, in the place of a Deployment: owner of the pod.
    CloneSet,
}

impl WorkloadKind {
    /// Each kind once. Files of older versions know them by their place: new ones come last.
    pub const ALL: [WorkloadKind; 15] = [
        WorkloadKind::Deployment,
        WorkloadKind::StatefulSet,
        WorkloadKind::DaemonSet,
        WorkloadKind::Job,
        WorkloadKind::CronJob,
        WorkloadKind::ReplicaSet,
        WorkloadKind::Pod,
        WorkloadKind::Container,
        WorkloadKind::Service,
        WorkloadKind::Node,
        WorkloadKind::Process,
        WorkloadKind::External,
        WorkloadKind::Address,
        WorkloadKind::Rollout,
        WorkloadKind::CloneSet,
    ];

    /// The label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            WorkloadKind::Deployment => "Deployment",
            WorkloadKind::StatefulSet => "StatefulSet",
            WorkloadKind::DaemonSet => "DaemonSet",
            WorkloadKind::Job => "Job",
            WorkloadKind::CronJob => "CronJob",
            WorkloadKind::ReplicaSet => "ReplicaSet",
            WorkloadKind::Pod => "Pod",
            WorkloadKind::Container => "Container",
            WorkloadKind::Service => "Service",
            WorkloadKind::Node => "Node",
            WorkloadKind::Process => "Process",
            WorkloadKind::External => "External",
            WorkloadKind::Address => "Address",
            WorkloadKind::Rollout => "Rollout",
            WorkloadKind::CloneSet => "CloneSet",
        }
    }
}

/// Why an endpoint has no name (yet).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unknown {
    /// No source knows this address at this time.
    NotFound,
    /// The namespace was seen but its container's labels have not arrived.
    Pending,
    /// Two owners within the time span asked for: no guess is made.
    Ambiguous,
}

/// Who is at an end of a flow, as far as anybody says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Somebody has a name for it.
    Known(Arc<Workload>),
    /// Nobody has, for this reason.
    Unknown(Unknown),
}

/// Names as the hot path reads them: memory reads only, never blocks, never calls out.
pub trait Names {
    /// Who lives in this namespace. Exact: the packet was seen there.
    fn local(&self, slot: Slot) -> Identity;

    /// Who held `remote` at `at`, as seen from `slot` (DNS answers belong to the pod that received them).
    fn remote(&self, slot: Slot, remote: Endpoint, at: Ts) -> Identity;

    /// Name of the Service by which clients reach `server` at `at`: one of its own addresses, or an
    /// endpoint that one Service alone has. None where nobody knows, and where several could be
    /// meant.
    fn service(&self, server: Endpoint, at: Ts) -> Option<Arc<str>> {
        let _ = (server, at);
        None
    }

    /// Whether better news of `remote` at `at`, or of who lives in this namespace, may come within
    /// moments: where there is somebody who tells more, and has not told all of it.
    fn awaits(&self, slot: Slot, remote: Endpoint, at: Ts) -> bool {
        let _ = (slot, remote, at);
        false
    }

    /// Changes whenever an answer that was `Unknown` or an address's class could now be better.
    /// Callers that cached such an answer ask again when it moved.
    fn version(&self) -> u64;

    /// Moves when names that were missing were told all at once. Callers that cached an answer that
    /// could be better ask again then, however short ago they asked.
    fn whole(&self) -> u64 {
        0
    }

    /// A pod learnt that `name` is at `ips` for `ttl_s` seconds (from a DNS answer).
    fn dns_answer(&mut self, slot: Slot, name: &str, ips: &[IpAddr], ttl_s: u32, at: Ts);

    /// A pod's connection to `ip` that began at `since` asked for `name`, and the two ends agreed on keys
    /// at `at` (SNI of a TLS handshake). What an answer of DNS says goes first.
    fn server_name(&mut self, slot: Slot, name: &str, ip: IpAddr, since: Ts, at: Ts) {
        let _ = (slot, name, ip, since, at);
    }
}
