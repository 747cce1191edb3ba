//! One namespace with its name, and the addresses that it holds in the table of names. How it is
//! attached is the attacher's to know.

use flow_model::{NetnsId, Ts, Workload};
use k8s_sync::cluster::object::Uid;
use k8s_sync::{Address, Binding, Claim, Coming, IdentityIndex, Origin};
use netns::IfAddress;
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

/// `RT_SCOPE_UNIVERSE`: what others can reach. Link-local and loopback addresses repeat in every
/// namespace and name nobody.
const SCOPE_GLOBAL: u8 = 0;
/// The kernel's number of `lo` in every namespace (`LOOPBACK_IFINDEX`).
const LOOPBACK: u32 = 1;
/// Addresses of a namespace that name it; a pod has a few. More are counted and name nobody.
const MOST: usize = 16;

/// How a namespace was met.
#[derive(Clone, Copy, Debug)]
pub struct Met {
    /// When its container was heard of.
    pub asked: Instant,
    /// The same by the observations' clock: its addresses are its own from then on.
    pub since: Ts,
    /// A process that lives there, as this node counts.
    pub pid: u32,
    /// It was met when it was made, so that the first look comes before anything runs there.
    pub is_new: bool,
    /// It was there before the agent was: what it said until then was nobody's to see.
    pub is_old: bool,
}

#[derive(Debug)]
pub struct Namespace {
    netns: NetnsId,
    met: Met,
    named: Option<(Arc<Workload>, Option<Uid>)>,
    addresses: Vec<HeldAddress>,
    /// Its addresses were looked at.
    is_seen: bool,
    /// Until it has its name and its addresses, or neither is to be expected any more.
    coming: Option<Coming>,
    /// Addresses beyond `MOST`, at each look.
    crowded: u64,
    /// Nobody lives there any more, though what they left in their sockets may be on its way.
    has_ended: bool,
    left: Option<Ts>,
}

#[derive(Debug)]
struct HeldAddress {
    ip: IpAddr,
    from: Ts,
    origin: Origin,
    /// None while nobody knows the name.
    binding: Option<Binding>,
}

impl Namespace {
    pub fn new(netns: NetnsId, met: Met, coming: Coming) -> Namespace {
        Namespace {
            netns,
            met,
            named: None,
            addresses: Vec::new(),
            is_seen: false,
            coming: Some(coming),
            crowded: 0,
            has_ended: false,
            left: None,
        }
    }

    pub fn netns(&self) -> NetnsId {
        self.netns
    }

    pub fn is_old(&self) -> bool {
        self.met.is_old
    }

    pub fn asked(&self) -> Instant {
        self.met.asked
    }

    pub fn workload(&self) -> Option<&Workload> {
        self.named.as_ref().map(|(workload, _)| &**workload)
    }

    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().map(|held| held.ip)
    }

    /// Its last container has ended. Its addresses are its own as long as it is looked at, unless
    /// somebody else is given them before.
    pub fn ended(&mut self) {
        self.has_ended = true;
        self.coming = None;
    }

    /// It is let go of at `at`; its addresses are its own no longer, though the detach takes a moment.
    pub fn leaving(&mut self, at: Ts) {
        self.left = Some(at);
        self.coming = None;
    }

    /// It could not be attached: how it is called need not be known.
    pub fn failed(&mut self) {
        self.coming = None;
    }

    fn has_come(&mut self) {
        if self.is_seen && self.named.is_some() {
            self.coming = None;
        }
    }

    /// `now` are all addresses that it has. Its own are those that it was made with, and what comes
    /// later to an interface that leads out. Any other (on `lo`, on what a container made for
    /// itself) is whose the Kubernetes API says, and else nobody's: who runs there may add what it
    /// likes. Those that it had before, first seen at its attach, are its own since it exists.
    /// Returns the new ones that it was given, and since when.
    pub fn addressed(&mut self, now: &[IfAddress], at: Ts, identities: &mut IdentityIndex) -> (Vec<IpAddr>, Ts) {
        let is_first = !std::mem::replace(&mut self.is_seen, true);
        let mut there: Vec<&IfAddress> =
            now.iter().filter(|a| a.scope == SCOPE_GLOBAL && !a.ip.is_loopback()).collect();
        there.sort_unstable_by_key(|address| (address.ip, !address.leads_out));
        there.dedup_by_key(|address| address.ip);
        let is_there = |ip: IpAddr| there.binary_search_by_key(&ip, |address| address.ip).is_ok();
        let (kept, lost): (Vec<HeldAddress>, Vec<HeldAddress>) =
            self.addresses.drain(..).partition(|held| is_there(held.ip));
        let from = if kept.is_empty() && lost.is_empty() { self.met.since } else { at };
        self.addresses = kept;
        for held in lost {
            if let Some(binding) = held.binding {
                identities.release(binding, at);
            }
        }
        let made_with = |address: &IfAddress| is_first && self.met.is_new && address.index != LOOPBACK;
        let origin = if is_first { Origin::Given } else { Origin::Taken };
        let mut new = Vec::new();
        for IfAddress { ip, .. } in there.into_iter().filter(|address| address.leads_out || made_with(address)) {
            if self.addresses.iter().any(|held| held.ip == *ip) {
                continue;
            }
            if self.addresses.len() >= MOST {
                self.crowded += 1;
                continue;
            }
            let named = self.named.clone();
            let claim = named.map(|(who, pod)| identities.claim(Address::ip(*ip), Claim { who, pod, origin }, from));
            self.addresses.push(HeldAddress { ip: *ip, from, origin, binding: claim });
            new.push(*ip);
        }
        if origin == Origin::Taken {
            new.clear();
        }
        self.has_come();
        (new, from)
    }

    /// Addresses that it had beyond those that name it, since the last call.
    pub fn take_crowded(&mut self) -> u64 {
        std::mem::take(&mut self.crowded)
    }

    /// Its name became known, or better.
    pub fn named(&mut self, who: Arc<Workload>, pod: Option<Uid>, identities: &mut IdentityIndex) {
        for HeldAddress { ip, from, origin, binding } in &mut self.addresses {
            let who = who.clone();
            match binding {
                Some(binding) => identities.rename(binding, who, pod),
                None => {
                    let claim = Claim { who, pod, origin: *origin };
                    *binding = Some(identities.claim(Address::ip(*ip), claim, *from));
                }
            }
        }
        self.named = Some((who, pod));
        self.has_come();
    }

    pub fn holds_any(&self, ips: &[IpAddr]) -> bool {
        self.addresses.iter().any(|held| ips.contains(&held.ip))
    }

    /// `ips` were given to another namespace at `at`. Where nobody lives here any more, they are
    /// its own: the news of this one's end were lost or are late, or its sockets have something to say
    /// yet. `tasks` are the processes of its
    /// containers; where none is known, whoever it was met by stands for them.
    pub fn yield_to_newer(&mut self, ips: &[IpAddr], tasks: &[u32], at: Ts, identities: &mut IdentityIndex) {
        let is_inhabited = if tasks.is_empty() { lives(self.met.pid) } else { tasks.iter().any(|pid| lives(*pid)) };
        if is_inhabited && !self.has_ended {
            return;
        }
        let (lost, kept) = self.addresses.drain(..).partition(|held| ips.contains(&held.ip));
        self.addresses = kept;
        let lost: Vec<HeldAddress> = lost;
        for binding in lost.into_iter().filter_map(|held| held.binding) {
            identities.release(binding, at);
        }
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

/// Whether there is such a process. Asks the kernel by a signal that is none; reads no file.
fn lives(pid: u32) -> bool {
    i32::try_from(pid).is_ok_and(|pid| pid > 0 && kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow_model::{Endpoint, Identity, Names, Slot, WorkloadKind};
    use k8s_sync::{Addresses, Limits, NamesReader};

    fn workload(name: &str) -> Arc<Workload> {
        Arc::new(Workload { namespace: "shop".into(), name: name.into(), kind: WorkloadKind::Pod, pod: name.into() })
    }

    /// Of eth0.
    fn address(ip: &str, scope: u8) -> IfAddress {
        IfAddress { index: 2, ip: ip.parse().expect("address"), prefix: 24, scope, leads_out: true }
    }

    fn inner(index: u32, ip: &str) -> IfAddress {
        IfAddress { index, leads_out: false, ..address(ip, 0) }
    }

    fn met(since: u64, is_new: bool) -> Namespace {
        let met = Met { asked: Instant::now(), since: Ts(since), pid: std::process::id(), is_new, is_old: !is_new };
        new(met)
    }

    fn new(met: Met) -> Namespace {
        let names = IdentityIndex::new(Limits::default()).expectation();
        Namespace::new(NetnsId { dev: 4, ino: 1 }, met, names.begin())
    }

    fn namespace(since: u64) -> Namespace {
        met(since, true)
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
        pod.named(workload("web"), None, &mut identities);
        assert_eq!(holder(&names, "10.0.0.1", 150), "web");
        pod.named(workload("web-deployment"), None, &mut identities);
        assert_eq!(holder(&names, "10.0.0.1", 150), "web-deployment", "a better name replaces it");
        assert_eq!(holder(&names, "fe80::1", 300), "fe80::1", "link-local addresses name nobody");
    }

    #[test]
    fn names_are_awaited_until_a_namespace_has_its_own_or_gets_none() {
        type Step = fn(&mut Namespace, &mut IdentityIndex);
        let name: Step = |pod, identities| pod.named(workload("web"), None, identities);
        let addresses: Step = |pod, identities| drop(pod.addressed(&[address("10.0.0.1", 0)], Ts(200), identities));
        let ways: [&[Step]; 5] = [
            &[name, addresses],
            &[addresses, name],
            &[|pod, _| pod.failed()],
            &[addresses, |pod, _| pod.leaving(Ts(300))],
            &[name, |pod, _| pod.ended()],
        ];
        for steps in ways {
            let mut identities = IdentityIndex::new(Limits::default());
            let names = identities.reader(Addresses::ByClass);
            let awaits = || names.awaits(Slot(9), Endpoint { ip: [10, 0, 0, 9].into(), port: 80 }, Ts(150));
            let met = Met { asked: Instant::now(), since: Ts(100), pid: 1, is_new: true, is_old: false };
            assert!(!awaits());
            let coming = identities.expectation().begin();
            let mut pod = Namespace::new(NetnsId { dev: 4, ino: 1 }, met, coming);
            for step in steps {
                assert!(awaits());
                step(&mut pod, &mut identities);
            }
            assert!(!awaits());
        }
    }

    #[test]
    fn an_address_that_moves_on_keeps_its_past() {
        let mut identities = IdentityIndex::new(Limits::default());
        let names = identities.reader(Addresses::ByAddress);
        let mut old = namespace(100);
        old.named(workload("old"), None, &mut identities);
        old.addressed(&[address("10.0.0.1", 0)], Ts(110), &mut identities);
        old.leaving(Ts(500));
        let mut new = namespace(600);
        new.named(workload("new"), None, &mut identities);
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
        pod.named(workload("web"), None, &mut identities);
        pod.addressed(&[address("10.0.0.1", 0)], Ts(110), &mut identities);
        pod.addressed(&[address("10.0.0.2", 0)], Ts(400), &mut identities);
        assert_eq!(holder(&names, "10.0.0.1", 300), "web");
        assert_ne!(holder(&names, "10.0.0.1", 500), "web");
        assert_ne!(holder(&names, "10.0.0.2", 300), "web");
        assert_eq!(holder(&names, "10.0.0.2", 500), "web");
    }

    #[test]
    fn what_a_container_adds_inside_names_it_nowhere_and_a_second_way_out_does() {
        let mut identities = IdentityIndex::new(Limits::default());
        let names = identities.reader(Addresses::ByAddress);
        let mut thief = namespace(100);
        thief.named(workload("thief"), None, &mut identities);
        let made_with = [address("10.0.0.1", 0), inner(3, "10.0.0.2"), inner(LOOPBACK, "192.0.2.1")];
        thief.addressed(&made_with, Ts(110), &mut identities);
        // A bond, a VLAN or a bridge that the network plugin made is the pod's; `lo` is nobody's.
        let at = |ip: &str| holder(&names, ip, 900);
        assert_eq!(["10.0.0.1", "10.0.0.2", "192.0.2.1"].map(at), ["thief", "thief", "192.0.2.1"]);
        let later = [inner(LOOPBACK, "192.0.2.2"), inner(4, "192.0.2.3"), address("10.1.0.9", 0)];
        thief.addressed(&[&made_with[..], &later].concat(), Ts(200), &mut identities);
        assert_eq!(["192.0.2.2", "192.0.2.3", "10.1.0.9"].map(at), ["192.0.2.2", "192.0.2.3", "thief"]);
        assert_eq!(["10.0.0.1", "10.0.0.2"].map(at), ["thief", "thief"]);
        // What was there when the agent started may have been added by anybody.
        let mut found = met(300, false);
        found.named(workload("found"), None, &mut identities);
        found.addressed(&[address("10.0.0.7", 0), inner(3, "10.0.0.8")], Ts(310), &mut identities);
        assert_eq!(["10.0.0.7", "10.0.0.8"].map(at), ["found", "10.0.0.8"]);
    }

    #[test]
    fn another_pods_address_cannot_be_added_whoever_is_met_first() {
        let mut identities = IdentityIndex::new(Limits::default());
        let names = identities.reader(Addresses::ByAddress);
        let (mut thief, mut victim) = (namespace(100), namespace(200));
        thief.named(workload("thief"), None, &mut identities);
        thief.addressed(&[address("10.0.0.1", 0)], Ts(110), &mut identities);
        let stolen = [address("10.0.0.1", 0), address("10.0.0.2", 0), address("10.0.0.3", 0)];
        thief.addressed(&stolen[..2], Ts(150), &mut identities);
        // The name comes after the address.
        victim.addressed(&[address("10.0.0.2", 0), address("10.0.0.3", 0)], Ts(210), &mut identities);
        victim.named(workload("victim"), None, &mut identities);
        thief.addressed(&stolen, Ts(250), &mut identities);
        for at in [250, 900] {
            assert_eq!(
                ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|ip| holder(&names, ip, at)),
                ["thief", "victim", "victim"]
            );
        }
        assert_eq!(identities.contested(), 2);
    }

    #[test]
    fn who_is_gone_without_a_word_yields_its_address_and_who_lives_does_not() {
        let ended = {
            let mut child = std::process::Command::new("true").spawn().expect("true");
            child.wait().expect("its end");
            child.id()
        };
        let own = std::process::id();
        // Of a pod, the container that it was met by may have ended while another one lives.
        let cases: [(u32, &[u32], &str); 5] = [
            (ended, &[], "new"),
            (own, &[], "Ambiguous"),
            (ended, &[ended, own], "Ambiguous"),
            (ended, &[ended], "new"),
            (own, &[ended], "new"),
        ];
        for (pid, tasks, expected) in cases {
            let mut identities = IdentityIndex::new(Limits::default());
            let names = identities.reader(Addresses::ByAddress);
            let met = Met { asked: Instant::now(), since: Ts(100), pid, is_new: true, is_old: false };
            let mut old = new(met);
            old.named(workload("old"), None, &mut identities);
            old.addressed(&[address("10.0.0.1", 0), address("10.0.0.2", 0)], Ts(110), &mut identities);
            let mut new = namespace(500);
            new.named(workload("new"), None, &mut identities);
            let (given, since) = new.addressed(&[address("10.0.0.1", 0)], Ts(510), &mut identities);
            assert!(old.holds_any(&given));
            old.yield_to_newer(&given, tasks, since, &mut identities);
            assert_eq!(holder(&names, "10.0.0.1", 400), "old");
            assert_eq!(holder(&names, "10.0.0.1", 600), expected, "{pid} {tasks:?}");
            assert_eq!(holder(&names, "10.0.0.2", 600), "old");
            old.leaving(Ts(700));
            old.gone(&mut identities);
            assert_eq!(holder(&names, "10.0.0.1", 800), "new");
        }
    }

    #[test]
    fn who_has_ended_keeps_its_address_until_it_is_let_go_of_or_somebody_is_given_it() {
        let name = |entry: &str| workload(entry);
        for is_reused in [false, true] {
            let mut identities = IdentityIndex::new(Limits::default());
            let names = identities.reader(Addresses::ByAddress);
            // By a pid that somebody has, as one that was used again.
            let mut old = namespace(100);
            old.named(name("old"), None, &mut identities);
            old.addressed(&[address("10.0.0.1", 0)], Ts(110), &mut identities);
            old.ended();
            assert_eq!(holder(&names, "10.0.0.1", 550), "old", "what it left in its sockets is its own");
            if is_reused {
                let mut new = namespace(500);
                new.named(name("new"), None, &mut identities);
                let (given, since) = new.addressed(&[address("10.0.0.1", 0)], Ts(510), &mut identities);
                assert!(old.holds_any(&given));
                old.yield_to_newer(&given, &[], since, &mut identities);
                assert_eq!([499, 550].map(|at| holder(&names, "10.0.0.1", at)), ["old", "new"]);
            }
            let at = old.gone(&mut identities);
            let later = if is_reused { "new" } else { "10.0.0.1" };
            assert_eq!(holder(&names, "10.0.0.1", at.0 + 1), later);
            assert_eq!(identities.contested(), 0);
        }
    }

    #[test]
    fn a_namespace_has_so_many_addresses_and_the_rest_is_counted() {
        let mut identities = IdentityIndex::new(Limits::default());
        let mut pod = namespace(100);
        pod.named(workload("web"), None, &mut identities);
        let many: Vec<IfAddress> = (0..20_000_u32)
            .map(|n| IfAddress { ip: IpAddr::from((0x0a00_0000 + n).to_be_bytes()), ..address("10.0.0.0", 0) })
            .collect();
        pod.addressed(&many[..1], Ts(110), &mut identities);
        pod.addressed(&many, Ts(200), &mut identities);
        assert_eq!((pod.addresses().count(), pod.take_crowded(), pod.take_crowded()), (MOST, 20_000 - 16, 0));
    }
}
