//! One namespace with its name, and the addresses that it holds in the table of names. How it is
//! attached is the attacher's to know.

use flow_model::{NetnsId, Ts, Workload};
use k8s_sync::{Address, Binding, IdentityIndex};
use netns::IfAddress;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

/// `RT_SCOPE_UNIVERSE`: what others can reach. Link-local and loopback addresses repeat in every
/// namespace and name nobody.
const SCOPE_GLOBAL: u8 = 0;

#[derive(Debug)]
pub struct Namespace {
    netns: NetnsId,
    /// When its container was heard of.
    asked: Instant,
    /// The same by the observations' clock: its addresses are its own from then on.
    since: Ts,
    workload: Option<Arc<Workload>>,
    addresses: Vec<HeldAddress>,
    left: Option<Ts>,
}

#[derive(Debug)]
struct HeldAddress {
    ip: IpAddr,
    from: Ts,
    /// None while nobody knows the name.
    binding: Option<Binding>,
}

impl Namespace {
    pub fn new(netns: NetnsId, asked: Instant, since: Ts) -> Namespace {
        Namespace { netns, asked, since, workload: None, addresses: Vec::new(), left: None }
    }

    pub fn netns(&self) -> NetnsId {
        self.netns
    }

    pub fn asked(&self) -> Instant {
        self.asked
    }

    pub fn workload(&self) -> Option<&Workload> {
        self.workload.as_deref()
    }

    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().map(|held| held.ip)
    }

    /// Its last container ended at `at`; its addresses are its own no longer, though the detach takes a moment.
    pub fn leaving(&mut self, at: Ts) {
        self.left = Some(at);
    }

    /// `now` are all addresses that it has. Those that it had before, first seen at its attach, are
    /// its own since it exists.
    pub fn addressed(&mut self, now: &[IfAddress], at: Ts, identities: &mut IdentityIndex) {
        let mut wanted: Vec<IpAddr> =
            now.iter().filter(|a| a.scope == SCOPE_GLOBAL && !a.ip.is_loopback()).map(|a| a.ip).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let first = self.addresses.is_empty();
        let (kept, lost): (Vec<HeldAddress>, Vec<HeldAddress>) =
            self.addresses.drain(..).partition(|held| wanted.contains(&held.ip));
        self.addresses = kept;
        for held in lost {
            if let Some(binding) = held.binding {
                identities.release(binding, at);
            }
        }
        let from = if first { self.since } else { at };
        for ip in wanted {
            if !self.addresses.iter().any(|held| held.ip == ip) {
                let binding = self.workload.clone().map(|who| identities.bind(Address::ip(ip), who, from));
                self.addresses.push(HeldAddress { ip, from, binding });
            }
        }
    }

    /// Its name became known, or better.
    pub fn named(&mut self, workload: Arc<Workload>, identities: &mut IdentityIndex) {
        for held in &mut self.addresses {
            if let Some(worse) = held.binding.take() {
                identities.release(worse, held.from);
            }
            held.binding = Some(identities.bind(Address::ip(held.ip), workload.clone(), held.from));
        }
        self.workload = Some(workload);
    }

    /// Gives back its addresses; returns since when they are free.
    pub fn gone(self, identities: &mut IdentityIndex) -> Ts {
        let at = self.left.unwrap_or_else(crate::clock::now);
        for held in self.addresses {
            if let Some(binding) = held.binding {
                identities.release(binding, at);
            }
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow_model::{Endpoint, Identity, Names, Slot, WorkloadKind};
    use k8s_sync::{Addresses, Limits, NamesReader};

    fn workload(name: &str) -> Arc<Workload> {
        Arc::new(Workload { namespace: "shop".into(), name: name.into(), kind: WorkloadKind::Pod, pod: name.into() })
    }

    fn address(ip: &str, scope: u8) -> IfAddress {
        IfAddress { index: 2, ip: ip.parse().expect("address"), prefix: 24, scope }
    }

    fn namespace(since: u64) -> Namespace {
        Namespace::new(NetnsId { dev: 4, ino: 1 }, Instant::now(), Ts(since))
    }

    fn holder(names: &NamesReader, ip: &str, at: u64) -> String {
        let endpoint = Endpoint { ip: ip.parse().expect("address"), port: 80 };
        match names.remote(Slot(9), endpoint, Ts(at)) {
            Identity::Known(workload) => workload.name.to_string(),
            Identity::Unknown(why) => format!("{why:?}"),
        }
    }

    #[test]
    fn a_name_that_comes_after_the_address_counts_from_the_start() {
        let mut identities = IdentityIndex::new(Limits::default());
        let names = identities.reader(Addresses::ByAddress);
        let mut pod = namespace(100);
        pod.addressed(&[address("10.0.0.1", 0), address("fe80::1", 253)], Ts(200), &mut identities);
        assert_eq!(holder(&names, "10.0.0.1", 150), "10.0.0.1", "nobody said yet");
        pod.named(workload("web"), &mut identities);
        assert_eq!(holder(&names, "10.0.0.1", 150), "web");
        pod.named(workload("web-deployment"), &mut identities);
        assert_eq!(holder(&names, "10.0.0.1", 150), "web-deployment", "a better name replaces it");
        assert_eq!(holder(&names, "fe80::1", 300), "fe80::1", "link-local addresses name nobody");
    }

    #[test]
    fn an_address_that_moves_on_keeps_its_past() {
        let mut identities = IdentityIndex::new(Limits::default());
        let names = identities.reader(Addresses::ByAddress);
        let mut old = namespace(100);
        old.named(workload("old"), &mut identities);
        old.addressed(&[address("10.0.0.1", 0)], Ts(110), &mut identities);
        old.leaving(Ts(500));
        let mut new = namespace(600);
        new.named(workload("new"), &mut identities);
        new.addressed(&[address("10.0.0.1", 0)], Ts(610), &mut identities);
        assert_eq!(old.gone(&mut identities), Ts(500));
        assert_eq!(holder(&names, "10.0.0.1", 300), "old");
        assert_eq!(holder(&names, "10.0.0.1", 700), "new");
    }

    #[test]
    fn an_address_that_is_taken_away_is_released_and_a_later_one_counts_from_then() {
        let mut identities = IdentityIndex::new(Limits::default());
        let names = identities.reader(Addresses::ByAddress);
        let mut pod = namespace(100);
        pod.named(workload("web"), &mut identities);
        pod.addressed(&[address("10.0.0.1", 0)], Ts(110), &mut identities);
        pod.addressed(&[address("10.0.0.2", 0)], Ts(400), &mut identities);
        assert_eq!(holder(&names, "10.0.0.1", 300), "web");
        assert_ne!(holder(&names, "10.0.0.1", 500), "web");
        assert_ne!(holder(&names, "10.0.0.2", 300), "web");
        assert_eq!(holder(&names, "10.0.0.2", 500), "web");
    }
}
