use flow_model::{Endpoint, Identity, Names, Slot, Ts, Workload, WorkloadKind};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Names kept; a capture of a busy resolver holds more, and those are shown by their addresses.
const MAX_NAMES: usize = 65_536;

/// No host has a longer one (RFC 1123 2.1); what is written with escapes may be four times as long.
const LONGEST: usize = 255;

/// What a capture itself says of its addresses: the last name that a DNS answer before gave them, else the address.
#[derive(Debug, Default)]
pub(super) struct CaptureNames {
    answered: HashMap<IpAddr, Arc<Workload>>,
}

impl Names for CaptureNames {
    fn local(&self, _: Slot) -> Identity {
        Identity::Unknown(flow_model::Unknown::NotFound)
    }

    fn remote(&self, _: Slot, remote: Endpoint, _: Ts) -> Identity {
        if let Some(known) = self.answered.get(&remote.ip) {
            return Identity::Known(known.clone());
        }
        Identity::Known(workload(&remote.ip.to_string(), WorkloadKind::Address))
    }

    /// An address keeps the name that it had when its flow began.
    fn version(&self) -> u64 {
        0
    }

    fn dns_answer(&mut self, _: Slot, name: &str, ips: &[IpAddr], _: u32, _: Ts) {
        if name.len() > LONGEST {
            return;
        }
        let named = workload(name, WorkloadKind::External);
        for ip in ips {
            if self.answered.len() < MAX_NAMES || self.answered.contains_key(ip) {
                self.answered.insert(*ip, named.clone());
            }
        }
    }
}

fn workload(name: &str, kind: WorkloadKind) -> Arc<Workload> {
    Arc::new(Workload { namespace: "".into(), name: name.into(), kind, pod: "".into() })
}
