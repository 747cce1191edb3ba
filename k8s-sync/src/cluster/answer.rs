//! The rules by which an address has its name.

use crate::cluster::hold::{Found, Hold, Role, Who, holder as among};
use crate::cluster::record::{At, Key, Pod, Service};
use crate::cluster::shared::{Listed, Shared};
use flow_model::{Identity, Unknown};
use std::sync::Arc;

fn of_role(rows: &[Hold], role: Role, at: At) -> Found<'_> {
    among(rows.iter().filter(|hold| hold.role == role), at)
}

fn of_port(rows: &[Hold], role: Role, port: u16, at: At) -> Found<'_> {
    among(rows.iter().filter(|hold| hold.role == role && hold.port == port), at)
}

fn is_forgotten(rows: &[Hold], at: At) -> bool {
    rows.iter().any(|hold| hold.role == Role::Floor && at < hold.until)
}

fn service_in(found: Found<'_>) -> Option<Arc<Service>> {
    match found {
        Found::One(Hold { who: Who::Service(service), .. }) => Some(service.clone()),
        _ => None,
    }
}

/// The Service that `port` of an address which is not its own leads to: from outside the cluster, or by a node's port.
fn led_to(shared: &Shared, rows: &[Hold], port: u16, at: At) -> Option<Arc<Service>> {
    let exact = service_in(of_port(rows, Role::ExternalIp, port, at));
    if exact.is_some() || rows.is_empty() {
        return exact;
    }
    match of_role(rows, Role::Node, at) {
        // The node has ports of its own.
        Found::One(_) => shared.holds.read(&Key::node_port(port), |rows| service_in(of_role(rows, Role::NodePort, at))),
        // Ambiguous where Services share the address.
        _ => {
            let mut outside = rows.iter().filter(|hold| hold.role == Role::ExternalIp && hold.covers(at));
            let first = outside.next()?;
            match &first.who {
                Who::Service(service) if outside.all(|other| other.who.is(&first.who)) => Some(service.clone()),
                _ => None,
            }
        }
    }
}

pub(super) fn holder(shared: &Shared, key: Key, port: u16, at: At) -> Identity {
    shared.holds.read(&key, |rows| {
        if is_forgotten(rows, at) {
            return Identity::Unknown(Unknown::NotFound);
        }
        let named = |hold: &Hold| hold.who.workload(at).map(Identity::Known);
        for role in [Role::Pod, Role::ClusterIp] {
            match of_role(rows, role, at) {
                Found::One(hold) => return named(hold).unwrap_or(Identity::Unknown(Unknown::NotFound)),
                Found::Several => return Identity::Unknown(Unknown::Ambiguous),
                Found::None => {}
            }
        }
        if let Some(service) = led_to(shared, rows, port, at) {
            return Identity::Known(service.served_by(at));
        }
        match of_port(rows, Role::HostPort, port, at) {
            Found::One(hold) => return named(hold).unwrap_or(Identity::Unknown(Unknown::NotFound)),
            Found::Several => return Identity::Unknown(Unknown::Ambiguous),
            Found::None => {}
        }
        match of_role(rows, Role::Node, at) {
            Found::One(hold) => named(hold).unwrap_or(Identity::Unknown(Unknown::NotFound)),
            Found::Several => Identity::Unknown(Unknown::Ambiguous),
            Found::None => Identity::Unknown(Unknown::NotFound),
        }
    })
}

/// Without a port: of the address as a whole. What leads to a pod's own address is said in the
/// pod's namespace alone: whoever may write in another one cannot change it.
pub(super) fn service(shared: &Shared, key: Key, port: Option<u16>, at: At) -> Option<Arc<str>> {
    let (direct, pod, is_node) = shared.holds.read(&key, |rows| {
        if is_forgotten(rows, at) {
            return (None, None, false);
        }
        let is_node = matches!(of_role(rows, Role::Node, at), Found::One(_));
        let found = match is_node {
            true => port.map_or(Found::None, |port| of_port(rows, Role::HostPort, port, at)),
            false => of_role(rows, Role::Pod, at),
        };
        let pod = match found {
            Found::One(Hold { who: Who::Pod(pod), .. }) => Some(pod.clone()),
            _ => None,
        };
        // An external address of a Service that is a pod's leads to that Service from outside only.
        let from_outside = || led_to(shared, rows, port?, at).filter(|_| is_node || pod.is_none());
        let direct = service_in(of_role(rows, Role::ClusterIp, at)).or_else(from_outside);
        (direct, pod, is_node)
    });
    match direct {
        Some(service) => Some(service.name.clone()),
        None => by_endpoint(shared, key, port, at, pod.as_deref(), is_node),
    }
}

/// A list of endpoints may name a pod that has lost its address to another one.
fn by_endpoint(
    shared: &Shared,
    key: Key,
    port: Option<u16>,
    at: At,
    pod: Option<&Pod>,
    is_node: bool,
) -> Option<Arc<str>> {
    let is_it = |pod: &Pod, row: &Listed| row.pod == 0 || row.pod == pod.fold();
    let is_in = |pod: &Pod, row: &Listed| *pod.owner.namespace == *row.slice.service.namespace;
    shared.endpoints.read(&key, |rows| {
        let meant = rows.iter().filter(|row| {
            at < row.until
                && match pod {
                    Some(pod) => is_it(pod, row) && is_in(pod, row),
                    None => row.pod == 0 || is_node,
                }
                && port.is_none_or(|port| row.slice.ports.is_empty() || row.slice.ports.contains(&port))
        });
        let (mut any, mut addressed) = (Only::None, Only::None);
        for row in meant {
            any = any.and(&row.slice.service);
            if row.slice.service.has_address.load(std::sync::atomic::Ordering::Relaxed) {
                addressed = addressed.and(&row.slice.service);
            }
        }
        match (any, addressed) {
            (Only::One(service), _) | (Only::Several, Only::One(service)) => Some(service.name.clone()),
            _ => None,
        }
    })
}

#[derive(Clone, Copy)]
enum Only<'a> {
    None,
    One(&'a Arc<Service>),
    Several,
}

impl<'a> Only<'a> {
    fn and(self, other: &'a Arc<Service>) -> Only<'a> {
        match self {
            Only::None => Only::One(other),
            Only::One(one) if Arc::ptr_eq(one, other) => self,
            _ => Only::Several,
        }
    }
}
