use flow_model::{Endpoint, Identity, Names, Slot, Ts, Workload, WorkloadKind};
use golden_metrics::{Loss, Losses};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Names kept; a capture of a busy resolver holds more, and those are shown by their addresses.
const MAX_NAMES: usize = 65_536;

/// No host has a longer one (RFC 1123 2.1); what is written with escapes may be four times as long.
const LONGEST: usize = 255;

/// What a capture itself says of its addresses: the last name that a DNS answer before gave them, else
/// the one by which a client spoke TLS with them last, else the address.
#[derive(Debug)]
pub(super) struct CaptureNames {
    answered: HashMap<IpAddr, Arc<Workload>>,
    asked: HashMap<IpAddr, Arc<Workload>>,
    full: Loss,
}

impl CaptureNames {
    pub(super) fn new(losses: &Losses) -> CaptureNames {
        let full = losses.place(
            "names",
            "answers_full",
            "addresses without the name of a DNS answer or a handshake, at each of them",
        );
        CaptureNames { answered: HashMap::new(), asked: HashMap::new(), full }
    }
}

impl Names for CaptureNames {
    fn local(&self, _: Slot) -> Identity {
        Identity::Unknown(flow_model::Unknown::NotFound)
    }

    fn remote(&self, _: Slot, remote: Endpoint, _: Ts) -> Identity {
        if let Some(known) = self.answered.get(&remote.ip).or_else(|| self.asked.get(&remote.ip)) {
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
            learn(&mut self.answered, *ip, &named, &self.full);
        }
    }

    fn server_name(&mut self, _: Slot, name: &str, ip: IpAddr, _: Ts, _: Ts) {
        let named = workload(&name.to_ascii_lowercase(), WorkloadKind::External);
        learn(&mut self.asked, ip, &named, &self.full);
    }
}

fn learn(names: &mut HashMap<IpAddr, Arc<Workload>>, ip: IpAddr, named: &Arc<Workload>, full: &Loss) {
    if names.len() < MAX_NAMES || names.contains_key(&ip) {
        names.insert(ip, named.clone());
    } else {
        full.add(1);
    }
}

fn workload(name: &str, kind: WorkloadKind) -> Arc<Workload> {
    Arc::new(Workload { namespace: "".into(), name: name.into(), kind, pod: "".into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beyond_those_that_are_kept_are_counted_and_a_known_address_may_have_another() {
        let losses = Losses::default();
        let mut names = CaptureNames::new(&losses);
        let ips =
            |from: u32, count: u32| (from..from + count).map(|n| IpAddr::from(n.to_be_bytes())).collect::<Vec<_>>();
        let full = || losses.rows().iter().find(|row| row.reason == "answers_full").map(|row| row.total);
        names.dns_answer(Slot(1), "all.test", &ips(0x0a00_0000, MAX_NAMES as u32), 60, Ts(1));
        assert_eq!(full(), Some(0));
        names.dns_answer(Slot(1), "more.test", &ips(0x0b00_0000, 3), 60, Ts(2));
        names.dns_answer(Slot(1), "new.test", &ips(0x0a00_0000, 1), 60, Ts(3));
        assert_eq!(full(), Some(3));
        let name = |names: &CaptureNames, ip: u32| match names.remote(
            Slot(1),
            Endpoint { ip: IpAddr::from(ip.to_be_bytes()), port: 80 },
            Ts(4),
        ) {
            Identity::Known(who) => who.name.to_string(),
            Identity::Unknown(why) => format!("{why:?}"),
        };
        let told = [0x0a00_0000, 0x0a00_0001, 0x0b00_0000].map(|ip| name(&names, ip));
        assert_eq!(told, ["new.test", "all.test", "11.0.0.0"]);
        for ip in [0x0a00_0000_u32, 0x0b00_0000] {
            names.server_name(Slot(1), "Front.test", IpAddr::from(ip.to_be_bytes()), Ts(4), Ts(5));
        }
        let told = [0x0a00_0000, 0x0b00_0000].map(|ip| name(&names, ip));
        assert_eq!(told, ["new.test", "front.test"], "DNS first");
    }
}
