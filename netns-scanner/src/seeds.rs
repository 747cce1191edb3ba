//! The connections among a namespace's sockets, and which end of each is the server.

use crate::target::Silent;
use crate::{Socket, SocketState};
use flow_model::{Endpoint, FiveTuple, FlowSeed, Role, Slot, Transport};
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Below, ports are given to services by name (RFC 6335 section 6).
const WELL_KNOWN: u16 = 1024;
/// From here on, the kernel chooses the ports of clients, unless `ip_local_port_range` says otherwise.
const CHOSEN: u16 = 32_768;

/// The open connections among the sockets of *one* namespace, with the role of the local end. It is
/// the server
///
/// 1. when something in this namespace listens there: on its port, at its address or at any of its
///    family;
/// 2. else when the source knows that the connection came from a socket that listened, and no
///    longer does;
/// 3. else, where the source knows nothing of that, when the ports look so (see `looks_served`).
///
/// What is observed later corrects a wrong guess. Each flow of an MPTCP connection is a connection
/// of its own here, as it is on the wire.
#[must_use]
pub fn seeds(slot: Slot, sockets: &[Socket]) -> Vec<FlowSeed> {
    find(slot, sockets).seeds
}

/// What [`seeds`] gives, and where it guessed.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub seeds: Vec<FlowSeed>,
    /// Connections whose local end is taken for the server by their ports alone.
    pub guessed: HashSet<FiveTuple>,
}

pub(crate) fn find(slot: Slot, sockets: &[Socket]) -> Found {
    let listeners = Listeners::of(sockets);
    let mut seen = HashSet::new();
    // A socket shared by several processes comes once for each of them.
    let open: Vec<&Socket> = sockets
        .iter()
        .filter(|socket| socket.state == SocketState::Open && socket.tuple.remote.port != 0)
        .filter(|socket| seen.insert(socket.tuple))
        .collect();
    let mut ends: HashMap<(Transport, Endpoint), u32> = HashMap::new();
    for FiveTuple { transport, local, remote } in open.iter().map(|socket| socket.tuple) {
        *ends.entry((transport, local)).or_default() += 1;
        *ends.entry((transport, remote)).or_default() += 1;
    }
    let shared = |transport, end| ends.get(&(transport, end)).is_some_and(|count| *count > 1);
    let mut found = Found::default();
    for socket in open {
        let FiveTuple { transport, local, remote } = socket.tuple;
        let role = match (transport, socket.accepted) {
            // A connected UDP socket sends to its peer; servers answer from unconnected ones.
            (Transport::Udp, _) => Role::Client,
            (Transport::Tcp, _) if listeners.take(local) => Role::Server,
            (Transport::Tcp, Some(true)) => Role::Server,
            (Transport::Tcp, None)
                if !listeners.take(remote)
                    && looks_served(local.port, remote.port, shared(transport, local), shared(transport, remote)) =>
            {
                found.guessed.insert(socket.tuple);
                Role::Server
            }
            (Transport::Tcp, _) => Role::Client,
        };
        found.seeds.push(FlowSeed { slot, tuple: socket.tuple, role, pid: socket.pid });
    }
    found
}

/// Whether the local port is a server's, as far as ports tell where nothing listens any more. That
/// is rare, and a client without a listener is not: so the local port must look like a server's
/// (well-known, below those that are given to clients, or shared by several connections) and the
/// remote one like a client's.
fn looks_served(local: u16, remote: u16, local_shared: bool, remote_shared: bool) -> bool {
    if local < WELL_KNOWN || remote < WELL_KNOWN {
        return local < WELL_KNOWN && remote >= WELL_KNOWN;
    }
    remote >= CHOSEN && !remote_shared && (local < CHOSEN || local_shared)
}

/// Where the sockets of a namespace listen for TCP.
struct Listeners(HashSet<(IpAddr, u16)>);

impl Listeners {
    fn of(sockets: &[Socket]) -> Listeners {
        let mut all = HashSet::new();
        for socket in sockets.iter().filter(|socket| socket.state == SocketState::Listening) {
            let Endpoint { ip, port } = socket.tuple.local;
            all.insert((ip, port));
            // One for any IPv6 address takes IPv4 as well, unless it was told not to.
            if ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && !socket.v6only {
                all.insert((IpAddr::V4(Ipv4Addr::UNSPECIFIED), port));
            }
        }
        Listeners(all)
    }

    /// Whether one takes connections to `end`.
    fn take(&self, end: Endpoint) -> bool {
        let any = match end.ip {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        self.0.contains(&(end.ip, end.port)) || self.0.contains(&(any, end.port))
    }
}

/// Those of `asked` that no socket of the namespace is at any more, or at one that is closing for good.
pub(crate) fn ended(asked: &[Silent], sockets: &[Socket]) -> Vec<Silent> {
    let open: HashSet<&FiveTuple> =
        sockets.iter().filter(|socket| socket.state == SocketState::Open).map(|socket| &socket.tuple).collect();
    asked.iter().filter(|(_, tuple)| !open.contains(tuple)).copied().collect()
}

/// Without the connections that never leave the namespace, because no program sees the loopback: to
/// a loopback address, or with both ends here. They would stay open for ever.
#[must_use]
pub fn leaving(mut seeds: Vec<FlowSeed>) -> Vec<FlowSeed> {
    let here: HashSet<FiveTuple> = seeds.iter().map(|seed| seed.tuple).collect();
    seeds.retain(|FlowSeed { tuple: FiveTuple { transport, local, remote }, .. }| {
        let other_end = FiveTuple { transport: *transport, local: *remote, remote: *local };
        !remote.ip.is_loopback() && local.ip != remote.ip && !here.contains(&other_end)
    });
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(local: &str, remote: &str, state: SocketState, pid: u32) -> Socket {
        let at = |text: &str| {
            let address: std::net::SocketAddr = text.parse().expect("test address");
            Endpoint { ip: address.ip(), port: address.port() }
        };
        Socket {
            netns_ino: 7,
            pid,
            cgroup_id: 0,
            tuple: FiveTuple { transport: Transport::Tcp, local: at(local), remote: at(remote) },
            state,
            waiting: 0,
            v6only: false,
            accepted: None,
        }
    }

    fn roles(sockets: &[Socket]) -> Vec<(u16, Role)> {
        seeds(Slot(3), sockets).iter().map(|seed| (seed.tuple.remote.port, seed.role)).collect()
    }

    #[test]
    fn a_listening_port_makes_the_local_end_the_server() {
        let sockets = [
            socket("[::]:80", "0.0.0.0:0", SocketState::Listening, 1),
            socket("10.0.0.2:80", "10.0.0.9:40000", SocketState::Open, 1),
            socket("10.0.0.2:51000", "10.0.0.7:6379", SocketState::Open, 1),
        ];
        assert_eq!(roles(&sockets), [(40000, Role::Server), (6379, Role::Client)]);
    }

    #[test]
    fn a_listener_on_another_address_says_nothing() {
        let sockets = [
            socket("127.0.0.1:8080", "0.0.0.0:0", SocketState::Listening, 1),
            socket("10.0.0.2:8080", "10.0.0.9:80", SocketState::Open, 1),
        ];
        assert_eq!(roles(&sockets), [(80, Role::Client)]);
    }

    #[test]
    fn a_listener_takes_its_own_family_and_dual_stack_takes_both() {
        let on = |listener: &str, v6only| {
            let listening = Socket { v6only, ..socket(listener, "0.0.0.0:0", SocketState::Listening, 1) };
            // Ports that no guess would take for a server's.
            let of_v4 = socket("10.0.0.2:50051", "10.0.0.9:80", SocketState::Open, 1);
            let of_v6 = socket("[fd00::2]:50051", "[fd00::9]:80", SocketState::Open, 1);
            let found: Vec<Role> = roles(&[listening, of_v4, of_v6]).into_iter().map(|(_, role)| role).collect();
            found
        };
        assert_eq!(on("[::]:50051", false), [Role::Server, Role::Server]);
        assert_eq!(on("[::]:50051", true), [Role::Client, Role::Server]);
        assert_eq!(on("0.0.0.0:50051", false), [Role::Server, Role::Client]);
        assert_eq!(on("[fd00::2]:50051", false), [Role::Client, Role::Server]);
    }

    #[test]
    fn what_the_kernel_knows_of_a_connections_beginning_outranks_its_ports() {
        let told = |accepted, local: &str, remote: &str| {
            let open = Socket { accepted, ..socket(local, remote, SocketState::Open, 1) };
            let found = find(Slot(1), &[open]);
            (found.seeds[0].role, found.guessed.len())
        };
        assert_eq!(told(Some(true), "10.0.0.2:50051", "10.0.0.9:80"), (Role::Server, 0));
        assert_eq!(told(Some(false), "10.0.0.2:80", "10.0.0.9:40000"), (Role::Client, 0));
        assert_eq!(told(None, "10.0.0.2:80", "10.0.0.9:40000"), (Role::Server, 1));
    }

    #[test]
    fn without_a_listener_the_ports_decide_and_a_client_is_the_rule() {
        let guess = |local, remote, shared: (bool, bool)| looks_served(local, remote, shared.0, shared.1);
        let (alone, ours, theirs) = ((false, false), (true, false), (false, true));
        assert!(guess(443, 40_000, alone) && guess(443, 8080, alone), "well-known");
        assert!(!guess(40_000, 443, ours), "a client's port may go to several services");
        assert!(!guess(700, 443, ours), "NFS asks from a low port");
        assert!(guess(8080, 40_000, alone), "the lower one");
        assert!(!guess(8080, 9090, alone) && !guess(9090, 8080, ours), "neither was given to a client");
        assert!(guess(50_051, 40_000, ours), "shared");
        assert!(!guess(50_051, 40_000, alone) && !guess(33_000, 50_051, alone), "a client of a high port");
        assert!(!guess(8080, 50_051, theirs), "several of ours go there");
    }

    #[test]
    fn the_other_end_of_a_connection_within_a_namespace_is_no_server_by_guess() {
        let sockets = [
            socket("127.0.0.1:50051", "0.0.0.0:0", SocketState::Listening, 1),
            socket("127.0.0.1:20000", "127.0.0.1:50051", SocketState::Open, 1),
        ];
        assert_eq!(roles(&sockets), [(50_051, Role::Client)]);
    }

    #[test]
    fn a_socket_held_by_two_processes_is_one_seed() {
        let open = |pid| socket("10.0.0.2:51000", "10.0.0.7:6379", SocketState::Open, pid);
        assert_eq!(seeds(Slot(3), &[open(1), open(2)]).len(), 1);
    }

    #[test]
    fn what_is_not_open_is_no_connection() {
        let sockets = [
            socket("10.0.0.2:51000", "10.0.0.7:6379", SocketState::Other, 1),
            socket("0.0.0.0:53", "0.0.0.0:0", SocketState::Open, 1),
        ];
        assert_eq!(roles(&sockets), []);
    }

    #[test]
    fn a_connection_has_ended_when_no_socket_is_at_it_or_one_that_only_closes() {
        let open = |port: u16, state| socket(&format!("10.0.0.2:{port}"), "10.0.0.7:80", state, 1);
        let asked: Vec<Silent> = (1..=3).map(|port| (Slot(4), open(port, SocketState::Open).tuple)).collect();
        let now = [open(1, SocketState::Open), open(2, SocketState::Other), open(9, SocketState::Open)];
        let ports: Vec<u16> = ended(&asked, &now).iter().map(|(_, tuple)| tuple.local.port).collect();
        assert_eq!(ports, [2, 3]);
    }

    #[test]
    fn what_stays_inside_a_namespace_is_left_out_when_nothing_sees_it() {
        let sockets = [
            socket("127.0.0.1:51000", "127.0.0.1:80", SocketState::Open, 1),
            socket("10.0.0.2:51001", "10.0.0.2:80", SocketState::Open, 1),
            socket("10.0.0.2:51002", "10.0.0.3:80", SocketState::Open, 1),
            socket("10.0.0.3:80", "10.0.0.2:51002", SocketState::Open, 1),
            socket("10.0.0.2:51003", "10.0.0.7:80", SocketState::Open, 1),
        ];
        let left: Vec<u16> = leaving(seeds(Slot(3), &sockets)).iter().map(|seed| seed.tuple.local.port).collect();
        assert_eq!(left, [51003]);
    }
}
