//! Names of single ports of the node's own addresses: who listens there, and who had which
//! connection when it was looked.

use crate::clock;
use flow_model::{Ts, Workload, WorkloadKind};
use golden_metrics::{Loss, Losses};
use k8s_sync::{Address, Binding, IdentityIndex};
use netns_scanner::{Owned, Owner};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Ports that are named, over all of the node's addresses. A node with a dozen addresses and a
/// hundred listeners has 1,200.
const PORTS: usize = 8192;
/// Different processes that get a name of their own; a label value each.
const PROCESSES: usize = 256;

/// Looks at the node's own namespace after the containers in it changed: their processes take a
/// while until they listen.
const AFTER: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(10), Duration::from_secs(60)];

/// When to look at who has sockets in the node's own namespace, and what that told. Nothing is read between changes.
#[derive(Debug)]
pub struct NodePorts {
    names: PortNames,
    unnamed: Loss,
    since: Ts,
    containers: usize,
    due: Vec<Instant>,
}

impl NodePorts {
    #[must_use]
    pub fn new(losses: &Losses) -> NodePorts {
        let unnamed = losses.place("scan", "unnamed", "sockets of the node that keep the node's name");
        NodePorts { names: PortNames::default(), unnamed, since: clock::now(), containers: 0, due: Vec::new() }
    }

    pub fn look_soon(&mut self, now: Instant) {
        self.due.push(now);
    }

    /// `containers` is how many share the node's namespace now.
    pub fn is_due(&mut self, containers: usize, now: Instant) -> bool {
        if std::mem::replace(&mut self.containers, containers) != containers {
            self.due = AFTER.iter().map(|after| now + *after).collect();
        }
        let before = self.due.len();
        self.due.retain(|due| *due > now);
        self.due.len() < before
    }

    /// Takes in what a look at `at` found.
    pub fn take(
        &mut self,
        owned: &[Owned],
        addresses: &[IpAddr],
        containers: &HashMap<String, Arc<Workload>>,
        at: Ts,
        identities: &mut IdentityIndex,
    ) {
        self.names.take(owned, addresses, containers, (self.since, at, clock::now()), identities);
        self.unnamed.set_total(self.names.unnamed);
    }
}

/// What of the node's own addresses has a more specific name than the node's.
#[derive(Debug, Default)]
struct PortNames {
    listening: HashMap<(IpAddr, u16), (Arc<Workload>, Binding)>,
    processes: BTreeMap<String, Arc<Workload>>,
    looked: bool,
    /// Sockets that found no room.
    unnamed: u64,
}

impl PortNames {
    /// Takes in what a look at `at` found. `addresses` are the node's, for sockets that listen on
    /// all; `containers` are those that share its namespace.
    fn take(
        &mut self,
        owned: &[Owned],
        addresses: &[IpAddr],
        containers: &HashMap<String, Arc<Workload>>,
        (since, at, now): (Ts, Ts, Ts),
        identities: &mut IdentityIndex,
    ) {
        let mut wanted: HashMap<(IpAddr, u16), Arc<Workload>> = HashMap::new();
        let mut unnamed = 0;
        for Owned { local, listening, owner } in owned {
            let workload = match owner {
                Owner::Container(id) => containers.get(id).cloned(),
                Owner::Process(name) => self.process(name),
            };
            let Some(workload) = workload else {
                unnamed += 1;
                continue;
            };
            if *listening {
                let on: &[IpAddr] = if local.ip.is_unspecified() { addresses } else { std::slice::from_ref(&local.ip) };
                for ip in on.iter().filter(|ip| !ip.is_loopback()) {
                    // Two that share a port (SO_REUSEPORT) are one service as a rule; the first one's name stays.
                    wanted.entry((*ip, local.port)).or_insert_with(|| workload.clone());
                }
            } else if !self.looked && !local.ip.is_loopback() {
                // It was there before us, and until now. Who has this port later nobody has seen,
                // so the name ends here.
                let binding = identities.bind(Address::port(local.ip, local.port), workload, since);
                identities.release(binding, now);
            }
        }
        let from = if self.looked { at } else { since };
        self.looked = true;
        let lost: Vec<(IpAddr, u16)> = self
            .listening
            .iter()
            .filter(|(port, (who, _))| wanted.get(*port) != Some(who))
            .map(|(port, _)| *port)
            .collect();
        for port in lost {
            if let Some((_, binding)) = self.listening.remove(&port) {
                identities.release(binding, at);
            }
        }
        for ((ip, port), who) in wanted {
            if self.listening.contains_key(&(ip, port)) {
                continue;
            }
            if self.listening.len() >= PORTS {
                unnamed += 1;
                continue;
            }
            // Nobody looked before the first time: what was found then counts from the start.
            let binding = identities.bind(Address::port(ip, port), who.clone(), from);
            self.listening.insert((ip, port), (who, binding));
        }
        self.unnamed += unnamed;
    }

    fn process(&mut self, name: &str) -> Option<Arc<Workload>> {
        if !self.processes.contains_key(name) && self.processes.len() >= PROCESSES {
            return None;
        }
        let named = || {
            Arc::new(Workload { namespace: "".into(), name: name.into(), kind: WorkloadKind::Process, pod: "".into() })
        };
        Some(self.processes.entry(name.to_owned()).or_insert_with(named).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow_model::{Endpoint, Identity, Names, Slot};
    use k8s_sync::{Addresses, Limits, NamesReader};

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("address")
    }

    fn owned(address: &str, port: u16, listening: bool, owner: Owner) -> Owned {
        Owned { local: Endpoint { ip: ip(address), port }, listening, owner }
    }

    fn process(name: &str) -> Owner {
        Owner::Process(name.to_owned())
    }

    fn holder(names: &NamesReader, port: u16, at: u64) -> String {
        match names.remote(Slot(9), Endpoint { ip: ip("10.0.0.1"), port }, Ts(at)) {
            Identity::Known(workload) => format!("{}/{}", workload.kind.as_str(), workload.name),
            Identity::Unknown(why) => format!("{why:?}"),
        }
    }

    #[test]
    fn listeners_keep_their_names_until_another_look_and_connections_until_this_one() {
        let mut identities = IdentityIndex::new(Limits::default());
        let names = identities.reader(Addresses::ByAddress);
        let node = Workload { namespace: "".into(), name: "n1".into(), kind: WorkloadKind::Node, pod: "".into() };
        let _node = identities.bind(Address::ip(ip("10.0.0.1")), Arc::new(node), Ts(1));
        let etcd = Workload {
            namespace: "kube-system".into(),
            name: "etcd".into(),
            kind: WorkloadKind::Pod,
            pod: "etcd-n1".into(),
        };
        let containers = HashMap::from([("8a3c5f".to_owned(), Arc::new(etcd))]);
        let mut ports = PortNames::default();
        let first = [
            owned("0.0.0.0", 10250, true, process("kubelet")),
            owned("10.0.0.1", 2379, true, Owner::Container("8a3c5f".to_owned())),
            owned("10.0.0.1", 40_000, false, process("kubelet")),
            owned("127.0.0.1", 9, true, process("discard")),
        ];
        let addresses = [ip("10.0.0.1"), ip("127.0.0.1")];
        ports.take(&first, &addresses, &containers, (Ts(100), Ts(200), Ts(210)), &mut identities);
        assert_eq!(holder(&names, 10250, 150), "Process/kubelet");
        assert_eq!(holder(&names, 10250, 900), "Process/kubelet");
        assert_eq!(holder(&names, 2379, 300), "Pod/etcd");
        assert_eq!(holder(&names, 40_000, 200), "Process/kubelet", "a connection that was there when it was looked");
        assert_eq!(holder(&names, 40_000, 300), "Node/n1", "somebody else may have the port by now");
        ports.take(&first[..1], &addresses, &containers, (Ts(100), Ts(500), Ts(510)), &mut identities);
        assert_eq!(holder(&names, 2379, 300), "Pod/etcd");
        assert_eq!(holder(&names, 2379, 600), "Node/n1");
        assert_eq!(holder(&names, 10250, 600), "Process/kubelet");
    }

    #[test]
    fn the_node_is_looked_at_when_its_containers_change_and_not_otherwise() {
        let mut watch = NodePorts::new(&Losses::default());
        let start = Instant::now();
        let mut looks = |containers: &dyn Fn(u64) -> usize| -> Vec<u64> {
            (0..200u64).filter(|s| watch.is_due(containers(*s), start + Duration::from_secs(*s))).collect()
        };
        assert_eq!(looks(&|_| 0), Vec::<u64>::new());
        assert_eq!(looks(&|s| usize::from(s >= 5)), [6, 15, 65]);
    }

    #[test]
    fn more_processes_than_there_is_room_for_keep_the_nodes_name() {
        let mut identities = IdentityIndex::new(Limits::default());
        let mut ports = PortNames::default();
        let many: Vec<Owned> = (1..=300u16).map(|i| owned("10.0.0.1", i, true, process(&format!("p{i}")))).collect();
        ports.take(&many, &[], &HashMap::new(), (Ts(1), Ts(2), Ts(3)), &mut identities);
        assert_eq!((ports.listening.len(), ports.unnamed), (256, 44));
    }
}
