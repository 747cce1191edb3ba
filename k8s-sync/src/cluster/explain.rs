//! What is known of an address, put for a person.

use crate::cluster::answer;
use crate::cluster::hold::{Hold, Role, Who};
use crate::cluster::object::Resource;
use crate::cluster::record::{At, Key};
use crate::cluster::shared::Shared;
use flow_model::Workload;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// What is known of an address, for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterHolder {
    /// With the pod's name where a pod holds it; of a Service's address the workload that serves it where that is one.
    pub who: Arc<Workload>,
    /// None: all ports.
    pub port: Option<u16>,
    /// The pod's `spec.nodeName`, or the node itself; None for Services and pods not scheduled.
    pub node: Option<Arc<str>>,
    /// By which clients reach it; None where no Service leads here, or several do.
    pub service: Option<Arc<str>>,
    /// By the API's clock where it tells, else when it was first seen.
    pub since: Option<SystemTime>,
    /// None: now.
    pub until: Option<SystemTime>,
    /// From a snapshot, and not yet confirmed by a list.
    pub stale: bool,
}

pub(super) fn holders(
    shared: &Shared,
    key: Key,
    port: Option<u16>,
    now: At,
    wall_at: impl Fn(At) -> Option<SystemTime>,
) -> Vec<ClusterHolder> {
    let of_port = |hold: &&Hold| port.is_none_or(|port| hold.port == 0 || hold.port == port);
    let mut rows: Vec<Hold> = shared.holds.read(&key, |rows| rows.iter().filter(of_port).cloned().collect());
    if let Some(port) = port.filter(|_| rows.iter().any(|hold| hold.role == Role::Node)) {
        shared.holds.read(&Key::node_port(port), |led| rows.extend_from_slice(led));
    }
    rows.sort_by_key(|hold| std::cmp::Reverse((hold.until, hold.rank, hold.from)));
    rows.iter().filter_map(|hold| holder(shared, key, port, hold, now, &wall_at)).collect()
}

fn holder(
    shared: &Shared,
    key: Key,
    port: Option<u16>,
    hold: &Hold,
    now: At,
    wall_at: &impl Fn(At) -> Option<SystemTime>,
) -> Option<ClusterHolder> {
    // A moment within it.
    let at = if hold.is_open() { now } else { hold.until.saturating_sub(1) };
    let (node, service, resource) = match &hold.who {
        Who::Nobody => return None,
        Who::Pod(pod) => {
            let port = if hold.port == 0 { port } else { Some(hold.port) };
            let service = answer::service(shared, key, port, at);
            (pod.node.as_ref().map(|node| node.name.clone()), service, Resource::Pods)
        }
        Who::Node(node) => (Some(node.name.clone()), None, Resource::Nodes),
        Who::Service(service) => (None, Some(service.name.clone()), Resource::Services),
    };
    Some(ClusterHolder {
        who: hold.who.workload(at)?,
        port: (hold.port != 0).then_some(hold.port),
        node,
        service,
        since: SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(u64::from(hold.rank))),
        until: if hold.is_open() { None } else { wall_at(hold.until) },
        stale: shared.is_stale(resource),
    })
}
