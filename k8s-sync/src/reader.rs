//! Names as the pipeline asks for them.

use crate::class::Class;
use crate::dns::DnsNames;
use crate::index::{IdentityIndex, Shared};
use flow_model::{Endpoint, Identity, Names, Slot, Ts, Unknown, Workload, WorkloadKind};
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

/// The reading side of an `IdentityIndex`, with the names that pods learnt by DNS. Owned by one pipeline thread; reads memory only.
#[derive(Debug)]
pub struct NamesReader {
    shared: Arc<Shared>,
    dns: DnsNames,
    addresses: Addresses,
    classes: [Arc<Workload>; Class::ALL.len()],
}

impl IdentityIndex {
    #[must_use]
    pub fn reader(&self, addresses: Addresses) -> NamesReader {
        let classes = Class::ALL.map(|class| address(class.as_str()));
        NamesReader { shared: self.shared(), dns: DnsNames::default(), addresses, classes }
    }
}

fn address(name: &str) -> Arc<Workload> {
    Arc::new(Workload { namespace: "".into(), name: name.into(), kind: WorkloadKind::Address, pod: "".into() })
}

impl Names for NamesReader {
    fn local(&self, slot: Slot) -> Identity {
        match slot {
            Slot(0) => Identity::Unknown(Unknown::NotFound),
            slot => self.shared.slot(slot),
        }
    }

    /// The holder by the table, else the name by which the pod found the address, else its class.
    fn remote(&self, slot: Slot, remote: Endpoint, at: Ts) -> Identity {
        let ip = remote.ip.to_canonical();
        match self.shared.address(ip, remote.port, at) {
            Identity::Unknown(Unknown::NotFound) => {}
            found => return found,
        }
        if let Some(name) = self.dns.name(slot, ip, at) {
            return Identity::Known(name.clone());
        }
        Identity::Known(match self.addresses {
            Addresses::ByClass => self.classes[Class::of(ip) as usize].clone(),
            Addresses::ByAddress => address(&ip.to_string()),
        })
    }

    fn version(&self) -> u64 {
        self.shared.version().wrapping_add(self.dns.version)
    }

    fn dns_answer(&mut self, slot: Slot, name: &str, ips: &[IpAddr], ttl_s: u32, at: Ts) {
        self.dns.learn(slot, name, ips, Duration::from_secs(u64::from(ttl_s)), at);
        self.shared.stats.dns_names.store(self.dns.names, Ordering::Relaxed);
        self.shared.stats.dns_evicted.store(self.dns.evicted, Ordering::Relaxed);
    }
}
