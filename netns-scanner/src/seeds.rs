use crate::{Socket, SocketState};
use flow_model::{Endpoint, FiveTuple, FlowSeed, Role, Slot, Transport};
use std::collections::HashSet;
use std::net::IpAddr;

/// The open connections among the sockets of *one* namespace, with the role of the local end: it is
/// the server when something in this namespace listens on its port (at its address, or at any),
/// else the client.
///
/// A server that closed its listening socket and kept its connections is taken for a client here;
/// what is observed later corrects it.
#[must_use]
pub fn seeds(slot: Slot, sockets: &[Socket]) -> Vec<FlowSeed> {
    let listening: HashSet<(Transport, IpAddr, u16)> = sockets
        .iter()
        .filter(|socket| socket.state == SocketState::Listening)
        .map(|socket| (socket.tuple.transport, socket.tuple.local.ip, socket.tuple.local.port))
        .collect();
    let listens = |transport, local: Endpoint| {
        listening.contains(&(transport, local.ip, local.port))
            || listening.contains(&(transport, IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), local.port))
            || listening.contains(&(transport, IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED), local.port))
    };
    let mut seen = HashSet::new();
    sockets
        .iter()
        .filter(|socket| socket.state == SocketState::Open && socket.tuple.remote.port != 0)
        // A socket shared by several processes comes once for each of them.
        .filter(|socket| seen.insert(socket.tuple))
        .map(|socket| FlowSeed {
            slot,
            tuple: socket.tuple,
            role: match socket.tuple.transport {
                Transport::Tcp if listens(Transport::Tcp, socket.tuple.local) => Role::Server,
                Transport::Tcp => Role::Client,
                // A connected UDP socket sends to its peer; servers answer from unconnected ones.
                Transport::Udp => Role::Client,
            },
            pid: socket.pid,
        })
        .collect()
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
