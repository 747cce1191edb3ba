//! The node's own addresses have the node's name: kubelet's probes, ingress on the host network,
//! the gateway of a bridge.

use crate::clock;
use flow_model::{Workload, WorkloadKind};
use k8s_sync::{Address, Binding, IdentityIndex};
use netns::{IfAddress, Netns};
use std::collections::HashMap;
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

/// The addresses of the namespace that the agent runs in (about 0.2 ms, on a thread of its own).
pub fn addresses() -> Result<Vec<IfAddress>, String> {
    let netns = Netns::current().map_err(|error| error.to_string())?;
    let read = netns.run(|inside| inside.addresses()).map_err(|error| error.to_string())?;
    read.map_err(|error| error.to_string())
}
