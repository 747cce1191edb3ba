//! The node's own addresses have the node's name: kubelet's probes, ingress on the host network,
//! the gateway of a bridge.

use crate::clock;
use flow_model::{Workload, WorkloadKind};
use k8s_sync::{Address, Binding, IdentityIndex};
use netns::{IfAddress, Link, NetlinkError, Netns};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

const SCOPE_GLOBAL: u8 = 0;
/// A node that routes for thousands of containers may have many addresses; more than these name nobody.
const ADDRESSES: usize = 256;

#[derive(Debug)]
pub struct NodeAddresses {
    workload: Arc<Workload>,
    held: HashMap<IpAddr, Binding>,
}

impl NodeAddresses {
    #[must_use]
    pub fn called(name: &str) -> NodeAddresses {
        let (namespace, pod) = ("".into(), "".into());
        let workload = Workload { namespace, name: name.into(), kind: WorkloadKind::Node, pod };
        NodeAddresses { workload: Arc::new(workload), held: HashMap::new() }
    }

    /// `addresses` are all of the namespace that the agent runs in.
    pub fn addressed(&mut self, addresses: &[IfAddress], identities: &mut IdentityIndex) {
        let wanted: Vec<IpAddr> = addresses
            .iter()
            .filter(|address| address.scope == SCOPE_GLOBAL && !address.ip.is_loopback())
            .map(|address| address.ip)
            .take(ADDRESSES)
            .collect();
        let at = clock::now();
        let lost: Vec<IpAddr> = self.held.keys().filter(|ip| !wanted.contains(ip)).copied().collect();
        for ip in lost {
            if let Some(binding) = self.held.remove(&ip) {
                identities.release(binding, at);
            }
        }
        for ip in wanted {
            self.held.entry(ip).or_insert_with(|| identities.bind(Address::ip(ip), self.workload.clone(), at));
        }
    }

    /// Its addresses as they were seen last.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.held.keys().copied().collect()
    }
}

/// The addresses of the namespace that the agent runs in (about 0.2 ms, on a thread of its own), but
/// for those of a balancer.
pub fn addresses() -> Result<Vec<IfAddress>, String> {
    let netns = Netns::current().map_err(|error| error.to_string())?;
    let read = netns.run(|inside| Ok::<_, NetlinkError>((inside.links()?, inside.addresses()?)));
    let (links, addresses) = read.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    Ok(of_the_node(addresses, &links))
}

/// kube-proxy in its mode ipvs gives every Service's address to an interface that is never switched
/// on (`kube-ipvs0`), so that the kernel takes what is sent there and balances it. Nobody on the node
/// has such an address: it is the Service's, and a process that listens on all addresses is not
/// behind it.
fn of_the_node(mut addresses: Vec<IfAddress>, links: &[Link]) -> Vec<IfAddress> {
    let is_off = |link: &&Link| link.kind.as_deref() == Some("dummy") && !link.up();
    let off: HashSet<u32> = links.iter().filter(is_off).map(|link| link.index).collect();
    addresses.retain(|address| !off.contains(&address.index));
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the kernel lists it: `dummy` is switched on or not.
    fn link(index: u32, name: &str, kind: &str, up: bool) -> Link {
        Link {
            index,
            name: name.into(),
            flags: if up { libc::IFF_UP as u32 } else { 0 },
            mac_type: 1,
            mtu: 1500,
            kind: (!kind.is_empty()).then(|| kind.into()),
            link: 0,
            link_elsewhere: false,
            master: 0,
        }
    }

    #[test]
    fn addresses_of_services_that_kube_proxy_balances_are_not_the_nodes() {
        let links = [
            link(2, "eth0", "", true),
            link(3, "kube-ipvs0", "dummy", false),
            link(4, "dummy0", "dummy", true),
            link(5, "docker0", "bridge", false),
        ];
        let address = |(index, ip): (u32, &str)| IfAddress {
            index,
            ip: ip.parse().expect("an address"),
            prefix: 32,
            scope: SCOPE_GLOBAL,
            leads_out: false,
        };
        let listed =
            [(2, "192.168.0.1"), (3, "10.96.0.1"), (3, "fd00:96::1"), (4, "192.0.2.1"), (5, "172.17.0.1")].map(address);
        let kept: Vec<String> =
            of_the_node(listed.to_vec(), &links).iter().map(|address| address.ip.to_string()).collect();
        assert_eq!(kept, ["192.168.0.1", "192.0.2.1", "172.17.0.1"]);
    }
}
