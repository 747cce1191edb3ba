//! Listeners of every kind, and whose end of their connections the three sources take for the
//! server's: TCP and MPTCP, each family, one socket of many and none any more.

use crate::room::{Line, Room, by_iterator, connections, inside, lines};
use flow_model::{Endpoint, FlowSeed, Role, Slot, Transport};
use netns_scanner::deadline::Deadlines;
use netns_scanner::{
    Scanner, ScannerConfig, Seeded, Socket as Found, SocketState, Source, dump_by_procfs, dump_by_sock_diag, seeds,
};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

const TCP: Protocol = Protocol::TCP;
/// IPPROTO_MPTCP: what listens in a Go program since Go 1.24.
const MPTCP: fn() -> Protocol = || Protocol::from(262);

fn socket(address: SocketAddr, protocol: Protocol) -> Socket {
    Socket::new(Domain::for_address(address), Type::STREAM, Some(protocol)).expect("a socket of this protocol")
}

fn listener(address: &str, protocol: Protocol, v6only: bool) -> Socket {
    let address: SocketAddr = address.parse().expect("address");
    let listening = socket(address, protocol);
    if address.is_ipv6() {
        listening.set_only_v6(v6only).expect("IPV6_V6ONLY");
    }
    listening.bind(&address.into()).expect("bind");
    listening.listen(16).expect("listen");
    listening
}

fn address(of: &Socket) -> SocketAddr {
    of.local_addr().expect("an address").as_socket().expect("of IP")
}

/// A connection to `listening` by way of `to`, and the end that was accepted.
fn connect(listening: &Socket, to: &str, protocol: Protocol) -> [Socket; 2] {
    let to = SocketAddr::new(to.parse().expect("address"), address(listening).port());
    let client = socket(to, protocol);
    client.connect(&to.into()).expect("connect");
    let (server, _) = listening.accept().expect("accept");
    [client, server]
}

fn in_room<T>(room: &Room, work: impl FnOnce() -> T + Send) -> T
where
    T: Send,
{
    room.netns.run(|_| work()).expect("enter the room")
}

pub fn each_source(room: &Room) -> [(&'static str, Vec<Found>); 3] {
    let by_diag = room.netns.run(dump_by_sock_diag).expect("enter").expect("sock_diag");
    let by_procfs = dump_by_procfs(room.holder.id(), room.netns.id().ino).expect("procfs");
    [("iterator", by_iterator(room)), ("sock_diag", by_diag), ("procfs", by_procfs)]
}

/// What is of use of a source: its listeners and its connections.
fn told(found: &[Found]) -> BTreeSet<(Transport, String, String, bool)> {
    let name = |end: Endpoint| format!("{}:{}", end.ip, end.port);
    let of_use = found.iter().filter(|socket| {
        socket.state == SocketState::Listening || socket.state == SocketState::Open && socket.tuple.remote.port != 0
    });
    of_use
        .map(|Found { tuple, state, .. }| {
            (tuple.transport, name(tuple.local), name(tuple.remote), *state == SocketState::Listening)
        })
        .collect()
}

pub fn roles(found: &[Found]) -> BTreeSet<Line> {
    lines(&seeds(Slot(1), found))
}

/// Both ends of a connection that lives in one room.
fn both_ends(client: &Socket) -> [Line; 2] {
    both_ends_of(address(client), client.peer_addr().expect("connected").as_socket().expect("of IP"))
}

pub fn both_ends_of(client: SocketAddr, server: SocketAddr) -> [Line; 2] {
    let name = |end: SocketAddr| format!("{}:{}", end.ip().to_canonical(), end.port());
    let (near, far) = (name(client), name(server));
    [(Transport::Tcp, near.clone(), far.clone(), Role::Client), (Transport::Tcp, far, near, Role::Server)]
}

#[test]
fn each_source_finds_listeners_of_each_kind_and_tells_server_from_client() {
    for of_listener in [TCP, MPTCP()] {
        for of_client in [TCP, MPTCP()] {
            for (at, v6only, by) in [
                ("127.0.0.1:0", false, &["127.0.0.1"][..]),
                ("0.0.0.0:0", false, &["127.0.0.1"]),
                ("[::1]:0", false, &["::1"]),
                ("[::]:0", true, &["::1"]),
                ("[::]:0", false, &["::1", "127.0.0.1"]),
            ] {
                let what = format!("{of_listener:?} {at} {v6only}, {of_client:?}");
                let room = Room::new();
                let (listening, ends) = in_room(&room, || {
                    let listening = listener(at, of_listener, v6only);
                    let ends: Vec<[Socket; 2]> = by.iter().map(|to| connect(&listening, to, of_client)).collect();
                    (listening, ends)
                });
                let expected: BTreeSet<Line> = ends.iter().flat_map(|[client, _]| both_ends(client)).collect();
                let found = each_source(&room);
                for (source, found) in &found {
                    assert_eq!(roles(found), expected, "{what}, {source}");
                    assert_eq!(told(found), told(&each_source(&room)[2].1), "{what}, {source}");
                }
                let by_iterator = &found[0].1;
                assert!(by_iterator.iter().all(|socket| socket.pid == std::process::id()), "{what}");
                drop((listening, ends));
            }
        }
    }
}

#[test]
fn an_mptcp_connection_is_as_many_connections_as_it_has_on_the_wire() {
    // Beside the first; the iterator follows four in all, and has the others looked for.
    for more in [2, 5] {
        let room = Room::new();
        inside(&room, "ip mptcp limits set subflow 8 add_addr_accepted 8");
        for last in 0..more {
            let at = format!("127.0.1.{}", 2 + last);
            inside(&room, &format!("ip addr add {at}/8 dev lo && ip mptcp endpoint add {at} dev lo subflow"));
        }
        let (listening, [mut client, mut server]) = in_room(&room, || {
            let listening = listener("127.0.0.1:0", MPTCP(), false);
            let ends = connect(&listening, "127.0.0.1", MPTCP());
            (listening, ends)
        });
        let port = address(&listening).port();
        // More paths are added once data was acknowledged both ways (RFC 8684 3.1); until then, go on.
        let mut round = |bytes: &[u8]| {
            client.write_all(bytes).expect("send");
            server.read_exact(&mut [0; 4]).expect("receive");
            server.write_all(bytes).expect("send");
            client.read_exact(&mut [0; 4]).expect("receive");
        };
        let flows = |seeds: Vec<FlowSeed>| -> [usize; 2] {
            [Role::Client, Role::Server].map(|role| {
                let at = |seed: &FlowSeed| if role == Role::Server { seed.tuple.local } else { seed.tuple.remote };
                seeds.iter().filter(|seed| seed.role == role && at(seed).port == port).count()
            })
        };
        let all = [1 + more; 2];
        let by_diag = || room.netns.run(dump_by_sock_diag).expect("enter").expect("sock_diag");
        let mut rounds = 0;
        while flows(seeds(Slot(1), &by_diag())) != all {
            rounds += 1;
            assert!(rounds < 10_000, "the kernel adds no paths");
            round(b"data");
        }
        for source in [Source::Iterator, Source::SockDiag, Source::Procfs] {
            let (sender, receiver) = mpsc::channel::<Seeded>();
            let config = ScannerConfig { source: Some(source), ..ScannerConfig::default() };
            let scanner = Scanner::start(config, Deadlines::default(), move |seeded| {
                let _ = sender.send(seeded);
                Ok(())
            })
            .expect("start");
            scanner.enqueue(room.target(1));
            let seeded = receiver.recv_timeout(Duration::from_secs(30)).expect("answered");
            assert_eq!(flows(connections(&seeded)), all, "{source:?}");
            assert_eq!(seeded.source, source);
            let twice = u64::from(more > 3 && source == Source::Iterator);
            assert_eq!(scanner.progress().looked_twice, twice, "{source:?}");
        }
        drop(listening);
    }
}

#[test]
fn a_client_whose_port_a_v6only_listener_has_is_a_client() {
    let room = Room::new();
    let (listening, other, ends) = in_room(&room, || {
        let other = listener("127.0.0.1:0", TCP, false);
        let listening = listener("[::]:0", TCP, true);
        let client = socket(address(&other), TCP);
        let ours = SocketAddr::from(([127, 0, 0, 1], address(&listening).port()));
        client.bind(&ours.into()).expect("the port is free for IPv4");
        client.connect(&address(&other).into()).expect("connect");
        let (server, _) = other.accept().expect("accept");
        (listening, other, [client, server])
    });
    let expected = BTreeSet::from(both_ends(&ends[0]));
    let found = each_source(&room);
    // procfs does not tell what a listener was told.
    for (source, found) in &found[..2] {
        assert_eq!(roles(found), expected, "{source}");
    }
    drop((listening, other, ends));
}

#[test]
fn the_server_is_known_when_its_listener_is_gone() {
    let known: fn() -> [&'static str; 2] = || ["127.0.0.1:443", "127.0.0.1:50051"];
    for protocol in [TCP, MPTCP()] {
        for (at, by_ports) in known().into_iter().zip([true, false]) {
            let room = Room::new();
            let ends = in_room(&room, || {
                let listening = listener(at, protocol, false);
                // Two, or the ports would tell nothing of a port as high as clients have.
                [connect(&listening, "127.0.0.1", TCP), connect(&listening, "127.0.0.1", TCP)]
            });
            let expected: BTreeSet<Line> = ends.iter().flat_map(|[client, _]| both_ends(client)).collect();
            let [(_, by_iterator), others @ ..] = each_source(&room);
            assert_eq!(roles(&by_iterator), expected, "the kernel knows where each began: {protocol:?} {at}");
            for (source, found) in others {
                // Both ends are in this room, so here both look shared.
                let told = roles(&found);
                assert_eq!(told == expected, by_ports, "{source} {protocol:?} {at}: {told:?}");
            }
            drop(ends);
        }
    }
}

#[test]
fn listeners_that_share_a_port_and_one_that_is_inherited_are_found_by_each_source() {
    let room = Room::new();
    let (first, second, ends) = in_room(&room, || {
        let shared = |port| {
            let at = SocketAddr::from(([127, 0, 0, 1], port));
            let listening = socket(at, MPTCP());
            listening.set_reuse_port(true).expect("SO_REUSEPORT");
            listening.bind(&at.into()).expect("bind");
            listening.listen(16).expect("listen");
            listening
        };
        let first = shared(0);
        let second = shared(address(&first).port());
        let to = address(&first);
        let client = socket(to, TCP);
        client.connect(&to.into()).expect("connect");
        // Whichever of the two has it.
        first.set_nonblocking(true).expect("non-blocking");
        let server = first.accept().or_else(|_| second.accept()).expect("accept").0;
        (first, second, [client, server])
    });
    let expected = BTreeSet::from(both_ends(&ends[0]));
    for (source, found) in each_source(&room) {
        assert_eq!(roles(&found), expected, "{source}");
    }
    // A process elsewhere has the second one, and we no longer do.
    nix::fcntl::fcntl(&second, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).expect("inherited");
    let mut heir = Command::new("sleep").arg("120").stdin(Stdio::null()).spawn().expect("sleep");
    let number = second.as_raw_fd();
    drop((first, second));
    let found = each_source(&room);
    for (source, found) in &found {
        assert_eq!(roles(found), expected, "{source}");
    }
    let holders: BTreeSet<u32> =
        found[0].1.iter().filter(|socket| socket.state == SocketState::Listening).map(|socket| socket.pid).collect();
    let _ = heir.kill();
    let _ = heir.wait();
    assert_eq!(holders, BTreeSet::from([heir.id()]), "descriptor {number}");
    drop(ends);
}

#[test]
fn udp_has_clients_alone() {
    let room = Room::new();
    let sockets = in_room(&room, || {
        let server = UdpSocket::bind("[::]:0").expect("bind");
        let client = UdpSocket::bind("127.0.0.1:0").expect("bind");
        client.connect(("127.0.0.1", server.local_addr().expect("address").port())).expect("connect");
        [server, client]
    });
    let [server, client] = &sockets;
    let near = client.local_addr().expect("address").to_string();
    let far = format!("127.0.0.1:{}", server.local_addr().expect("address").port());
    for (source, found) in each_source(&room) {
        assert_eq!(
            roles(&found),
            BTreeSet::from([(Transport::Udp, near.clone(), far.clone(), Role::Client)]),
            "{source}"
        );
    }
}

#[test]
fn a_connection_over_mptcp_that_waits_for_its_accept_is_known_to_wait() {
    let room = Room::new();
    let sockets = in_room(&room, || {
        let listening = listener("127.0.0.1:0", MPTCP(), false);
        let client = socket(address(&listening), MPTCP());
        client.connect(&address(&listening).into()).expect("connect");
        [listening, client]
    });
    let found = by_iterator(&room);
    let waiting: Vec<u16> =
        found.iter().filter(|socket| socket.state == SocketState::Listening).map(|socket| socket.waiting).collect();
    assert_eq!(waiting, [1], "so that sock_diag is asked, too");
    drop(sockets);
}
