//! One pass over the sockets of the node: which namespaces there are, and who holds what.

use crate::sample::{Connection, Held};
use flow_model::{Endpoint, Transport};
use netns_scanner::{IteratorError, Socket, SocketIterator, SocketState};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Processes of one namespace that are remembered as ways into it.
const WAYS: usize = 8;
/// Holders of one connection: a process and those that it forked.
const HOLDERS: usize = 4;

/// A namespace that has sockets.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// Processes that hold its sockets, and mostly live in it.
    pub pids: Vec<u32>,
    /// Whether it has a TCP connection.
    pub connected: bool,
}

/// What a pass found.
#[derive(Debug, Default)]
pub struct Sockets {
    /// By the inode of the namespace.
    pub places: BTreeMap<u64, Place>,
    /// Processes that hold a socket, with the namespace of one of theirs.
    pub processes: BTreeMap<u32, u64>,
    holders: HashMap<(u64, Endpoint, Endpoint), (Vec<u32>, bool)>,
    bound: HashMap<(u64, Transport, u16), u32>,
    /// Sockets that were looked at, and those beyond the bound.
    pub seen: usize,
    pub left_out: usize,
}

/// Reads the whole pass; takes at most so many sockets, of these namespaces where they are named.
///
/// # Errors
/// The kernel does not have the iterator, or does not let us.
pub fn pass(most: usize, only: Option<&BTreeSet<u64>>) -> Result<Sockets, IteratorError> {
    let mut sockets = Sockets::default();
    let mut iterator = SocketIterator::open()?;
    while iterator.read(|socket| {
        if only.is_none_or(|only| only.contains(&socket.netns_ino)) {
            sockets.add(&socket, most);
        }
    })? {}
    Ok(sockets)
}

impl Sockets {
    fn add(&mut self, socket: &Socket, most: usize) {
        if self.seen == most {
            self.left_out += 1;
            return;
        }
        self.seen += 1;
        let Socket { netns_ino, pid, tuple, state, accepted, .. } = *socket;
        let place = self.places.entry(netns_ino).or_default();
        if place.pids.len() < WAYS && !place.pids.contains(&pid) {
            place.pids.push(pid);
        }
        self.processes.entry(pid).or_insert(netns_ino);
        let is_connection = tuple.transport == Transport::Tcp && state == SocketState::Open;
        if is_connection {
            place.connected = true;
            let accepted = accepted == Some(true);
            let (pids, _) =
                self.holders.entry((netns_ino, tuple.local, tuple.remote)).or_insert_with(|| (Vec::new(), accepted));
            if pids.len() < HOLDERS && !pids.contains(&pid) {
                pids.push(pid);
            }
        } else if tuple.transport == Transport::Udp || state == SocketState::Listening {
            self.bound.entry((netns_ino, tuple.transport, tuple.local.port)).or_insert(pid);
        }
    }

    /// Who listens, or receives, on a port.
    #[must_use]
    pub fn owner(&self, ino: u64, transport: Transport, port: u16) -> Option<u32> {
        self.bound.get(&(ino, transport, port)).copied()
    }

    /// A connection once for each process that holds it; never for one that no process holds any
    /// more.
    pub fn held(&self, ino: u64, connection: Connection) -> impl Iterator<Item = Held> {
        let holders = self.holders.get(&(ino, connection.local, connection.remote));
        holders
            .into_iter()
            .flat_map(|(pids, accepted)| pids.iter().map(|pid| (*pid, *accepted)))
            .map(move |(pid, accepted)| Held { connection, pid, accepted })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow_model::FiveTuple;

    fn socket(pid: u32, ports: (u16, u16), state: SocketState) -> Socket {
        let end = |port| Endpoint { ip: "10.0.0.2".parse().expect("address"), port };
        Socket {
            netns_ino: 5,
            pid,
            cgroup_id: 0,
            tuple: FiveTuple { transport: Transport::Tcp, local: end(ports.0), remote: end(ports.1) },
            state,
            waiting: 0,
            v6only: false,
            accepted: Some(ports.0 == 80),
        }
    }

    #[test]
    fn a_connection_has_its_holders_and_a_port_its_listener() {
        let mut sockets = Sockets::default();
        for pid in [7, 8, 7] {
            sockets.add(&socket(pid, (80, 40_000), SocketState::Open), 10);
        }
        sockets.add(&socket(7, (80, 0), SocketState::Listening), 10);
        let connection = |ports: (u16, u16)| {
            let tuple = socket(0, ports, SocketState::Open).tuple;
            Connection { local: tuple.local, remote: tuple.remote, state: 1, info: None }
        };
        let held: Vec<(u32, bool)> =
            sockets.held(5, connection((80, 40_000))).map(|held| (held.pid, held.accepted)).collect();
        assert_eq!(held, [(7, true), (8, true)]);
        assert_eq!(sockets.held(5, connection((80, 40_001))).count(), 0);
        assert_eq!(sockets.owner(5, Transport::Tcp, 80), Some(7));
        assert_eq!(sockets.owner(6, Transport::Tcp, 80), None);
        assert_eq!(sockets.places[&5].pids, [7, 8]);
    }

    #[test]
    fn what_is_beyond_the_bound_is_counted() {
        let mut sockets = Sockets::default();
        for port in 0..5 {
            sockets.add(&socket(7, (port + 1000, 80), SocketState::Open), 3);
        }
        assert_eq!((sockets.seen, sockets.left_out, sockets.processes.len()), (3, 2, 1));
    }
}
