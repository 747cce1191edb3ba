//! A namespace of its own with sockets in it, and what each source finds there.

use flow_model::{FlowSeed, Role, Slot, Transport};
use netns::Netns;
use netns_scanner::{Looked, Seeded, Socket, SocketIterator, Target, Want, dump_by_procfs, dump_by_sock_diag, seeds};
use parking_lot::{ReentrantMutex, ReentrantMutexGuard};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

/// Held by a test as long as it has a room. A process that one test starts holds copies of all
/// descriptors until its exec: another test's socket would have two holders for that moment, or
/// outlive its close.
static TURN: ReentrantMutex<()> = ReentrantMutex::new(());

/// A namespace held by a process of its own, with loopback up. Gone when dropped.
pub struct Room {
    pub holder: Child,
    pub netns: Arc<Netns>,
    _turn: ReentrantMutexGuard<'static, ()>,
}

impl Room {
    pub fn new() -> Room {
        assert!(nix::unistd::Uid::effective().is_root(), "this test makes network namespaces: run it as root");
        let turn = TURN.lock();
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "ip link set lo up && echo ready && exec sleep 120"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare and ip are installed (scripts/setup.sh --test)");
        let mut line = String::new();
        let stdout = holder.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("the holder says that it is ready");
        assert_eq!(line, "ready\n");
        let netns = Arc::new(Netns::open_pid(holder.id()).expect("open its namespace"));
        Room { holder, netns, _turn: turn }
    }

    pub fn target(&self, slot: u32) -> Target {
        Target { slot: Slot(slot), netns: Arc::clone(&self.netns), pid: self.holder.id(), want: Want::Seeds }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Sockets that live in the room though this process holds them.
pub struct Talk {
    pub _listener: TcpListener,
    pub client: TcpStream,
    pub _server: TcpStream,
    pub udp: UdpSocket,
}

pub fn talk(room: &Room, address: &'static str) -> Talk {
    room.netns
        .run(|_| {
            let listener = TcpListener::bind((address, 0)).expect("listen");
            let client = TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
            let (server, _) = listener.accept().expect("accept");
            let udp = UdpSocket::bind((address, 0)).expect("bind");
            udp.connect((address, 53)).expect("connect UDP");
            Talk { _listener: listener, client, _server: server, udp }
        })
        .expect("enter the room")
}

pub type Line = (Transport, String, String, Role);

pub fn lines(seeds: &[FlowSeed]) -> BTreeSet<Line> {
    seeds
        .iter()
        .map(|seed| {
            let side = |end: flow_model::Endpoint| format!("{}:{}", end.ip, end.port);
            (seed.tuple.transport, side(seed.tuple.local), side(seed.tuple.remote), seed.role)
        })
        .collect()
}

pub fn connections(seeded: &Seeded) -> Vec<FlowSeed> {
    match &seeded.found {
        Looked::Seeds(seeds) => seeds.clone(),
        Looked::Sockets(_) | Looked::Ended(_) => Vec::new(),
    }
}

pub fn expected(talk: &Talk) -> BTreeSet<Line> {
    let name = |address: std::net::SocketAddr| format!("{}:{}", address.ip(), address.port());
    let client = name(talk.client.local_addr().expect("address"));
    let server = name(talk.client.peer_addr().expect("address"));
    let udp = name(talk.udp.local_addr().expect("address"));
    let resolver = name(talk.udp.peer_addr().expect("address"));
    BTreeSet::from([
        (Transport::Tcp, client.clone(), server.clone(), Role::Client),
        (Transport::Tcp, server, client, Role::Server),
        (Transport::Udp, udp, resolver, Role::Client),
    ])
}

pub fn by_iterator(room: &Room) -> Vec<Socket> {
    let mut pass = SocketIterator::open().expect("the kernel allows the iterator");
    let mut found = Vec::new();
    while pass
        .read(|socket| {
            if socket.netns_ino == room.netns.id().ino {
                found.push(socket);
            }
        })
        .expect("read")
    {}
    found
}

/// What each source finds of one talk in `room`.
pub fn check_each_source(room: &Room, talk: &Talk) {
    let expected = expected(talk);
    let found = by_iterator(room);
    assert_eq!(lines(&seeds(Slot(1), &found)), expected, "iterator");
    let found = room.netns.run(dump_by_sock_diag).expect("enter").expect("sock_diag");
    assert_eq!(lines(&seeds(Slot(1), &found)), expected, "sock_diag");
    let found = dump_by_procfs(room.holder.id(), room.netns.id().ino).expect("procfs");
    assert_eq!(lines(&seeds(Slot(1), &found)), expected, "procfs");
}

pub fn inside(room: &Room, script: &str) {
    let target = format!("--net=/proc/{}/ns/net", room.holder.id());
    let done = Command::new("nsenter").args([&target, "sh", "-c", script]).status();
    assert!(done.expect("nsenter (util-linux) starts").success(), "{script}");
}
