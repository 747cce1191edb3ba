//! Sockets of a namespace that has no interface of ours: seen at the cgroup (version 2) that they were made in.

use crate::bed::Bed;
use crate::frames::{Seen, SeenSegment, load, until};
use capture_engine::attach::CgroupLinks;
use capture_engine::kernel::{Kernel, KernelConfig, RingReader};
use flow_model::{Close, Direction, Role, Slot};
use netns::Netns;
use nix::sys::socket::{setsockopt, sockopt};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Where version 2 is mounted: alone, or beside version 1.
fn root() -> &'static Path {
    let places = [Path::new("/sys/fs/cgroup"), Path::new("/sys/fs/cgroup/unified")];
    places.into_iter().find(|place| place.join("cgroup.procs").exists()).expect("cgroup v2 is mounted")
}

/// A cgroup that single threads of this process can go into.
pub struct Cgroup(PathBuf);

impl Cgroup {
    pub fn new() -> Cgroup {
        Cgroup::below(root())
    }

    fn below(parent: &Path) -> Cgroup {
        let name = format!("pfk-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = parent.join(name);
        std::fs::create_dir(&path).expect("a cgroup");
        std::fs::write(path.join("cgroup.type"), "threaded").expect("threaded");
        Cgroup(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Runs `make` in `netns` on a thread in this cgroup: the sockets that it makes belong to it for good.
    pub fn run<T: Send>(&self, netns: &Netns, make: impl FnOnce() -> T + Send) -> T {
        netns
            .run(|_| {
                let tid = nix::unistd::gettid().to_string();
                std::fs::write(self.0.join("cgroup.threads"), tid).expect("this thread moves");
                make()
            })
            .expect("a thread")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The thread that was in it may not be reaped yet.
        until("the cgroup is empty", || std::fs::remove_dir(&self.0).is_ok());
    }
}

fn start() -> (Kernel, RingReader) {
    let kernel = load(&KernelConfig { ring_bytes: 1 << 20, flows: 256, ..Default::default() });
    let reader = kernel.reader().expect("epoll").expect("the first reader");
    (kernel, reader)
}

fn attach(kernel: &Kernel, slot: u32, cgroup: &Cgroup, netns: &Netns) -> CgroupLinks {
    let cookie = netns.run(|inside| inside.cookie()).expect("a thread");
    CgroupLinks::attach(kernel, Slot(slot), cgroup.path(), cookie).expect("attached")
}

fn closes(seen: &[Seen]) -> usize {
    seen.iter().filter(|seen| matches!(seen, Seen::Closed(_))).count()
}

fn collect(reader: &mut RingReader, what: &str, done: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
    let mut seen = Vec::new();
    until(what, || {
        reader.drain(usize::MAX, &mut |event| seen.push(Seen::of(event)));
        done(&seen)
    });
    seen
}

/// Answers questions of 100 bytes with 50,000 until the other side is done; then closes.
fn serve(listener: TcpListener) {
    let (mut stream, _) = listener.accept().expect("a client");
    let mut question = [0; 100];
    while stream.read_exact(&mut question).is_ok() {
        stream.write_all(&[b'a'; 50_000]).expect("an answer");
    }
}

fn ask(stream: &mut TcpStream, rounds: usize) {
    let mut answer = vec![0; 50_000];
    for _ in 0..rounds {
        stream.write_all(&[b'q'; 100]).expect("a question");
        stream.read_exact(&mut answer).expect("an answer");
    }
}

#[test]
fn a_cgroup_that_is_removed_keeps_its_programs_until_its_last_socket_is_done() {
    const LEFT: usize = 100_000;
    let (bed, cgroup) = (Bed::new(), Cgroup::new());
    let (kernel, _reader) = start();
    let links = attach(&kernel, 42, &cgroup, &bed.pod);
    let listener = bed.peer.run(|_| TcpListener::bind(("10.77.0.2", 8080)).expect("a listener")).expect("a thread");
    setsockopt(&listener, sockopt::RcvBuf, &4096).expect("a small window");
    let mut left = cgroup.run(&bed.pod, || TcpStream::connect(("10.77.0.2", 8080)).expect("a connection"));
    setsockopt(&left, sockopt::SndBuf, &(2 * LEFT)).expect("room for all of it");
    let (mut slow, _) = listener.accept().expect("accept");
    left.write_all(&[b'w'; LEFT]).expect("all of it fits");
    drop(left);
    assert!(!links.is_removed());
    drop(cgroup);
    assert!(links.is_removed());
    for _ in 0..20 {
        assert!(links.in_place(), "its socket has something to say");
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut all = Vec::new();
    slow.read_to_end(&mut all).expect("all of it");
    assert_eq!(all.len(), LEFT);
    drop(slow);
    until("the programs go with the last socket", || !links.in_place());
}

#[test]
fn a_server_of_the_node_is_seen_whole_at_its_cgroup() {
    for address in ["10.77.0.1", "fd77::1"] {
        let (bed, cgroup) = (Bed::new(), Cgroup::new());
        let (kernel, mut reader) = start();
        let _links = attach(&kernel, 42, &cgroup, &bed.pod);
        let listener = cgroup.run(&bed.pod, || TcpListener::bind((address, 8080)).expect("a listener"));
        std::thread::scope(|scope| {
            scope.spawn(|| serve(listener));
            bed.peer
                .run(|_| ask(&mut TcpStream::connect((address, 8080)).expect("a connection"), 20))
                .expect("a thread");
        });
        let seen = collect(&mut reader, "the close", |seen| closes(seen) == 1);
        let segments: Vec<&SeenSegment> = seen.iter().filter_map(Seen::segment).collect();
        assert!(segments.iter().all(|s| s.slot == Slot(42) && s.role == Role::Server && !s.midway));
        let mut ends: Vec<l7::MessageEnd> = segments.iter().filter_map(|s| s.prev).collect();
        let Some(Seen::Closed(closed)) = seen.last() else { panic!("the close comes last") };
        ends.extend(closed.message);
        assert_eq!(ends.iter().map(|end| end.turn).collect::<Vec<_>>(), (1..=40).collect::<Vec<_>>());
        assert!(ends.iter().all(|end| end.bytes == if end.turn % 2 == 1 { 100 } else { 50_000 }));
        for turn in 1..=40 {
            let (dir, byte, copied) =
                if turn % 2 == 1 { (Direction::Ingress, b'q', 100) } else { (Direction::Egress, b'a', 4096) };
            let head: Vec<u8> =
                segments.iter().filter(|s| s.turn == turn && s.dir == dir).flat_map(|s| s.payload.clone()).collect();
            assert_eq!(head, vec![byte; copied], "turn {turn}");
        }
        assert_eq!((closed.closed, closed.turns, closed.established), (Some(Close::Fin), 40, true));
        let stats = kernel.stats().expect("stats");
        assert_eq!((stats.ring_full, stats.nested, stats.unparsed), (0, 0, 0));
    }
}

#[test]
fn a_client_of_the_node_is_the_client() {
    let (bed, cgroup) = (Bed::new(), Cgroup::new());
    let (kernel, mut reader) = start();
    let _links = attach(&kernel, 1, &cgroup, &bed.pod);
    let listener = bed.peer.run(|_| TcpListener::bind("10.77.0.2:8080")).expect("a thread").expect("a listener");
    std::thread::scope(|scope| {
        scope.spawn(|| serve(listener));
        cgroup.run(&bed.pod, || ask(&mut TcpStream::connect("10.77.0.2:8080").expect("a connection"), 3));
    });
    let seen = collect(&mut reader, "six messages", |seen| {
        seen.iter().filter_map(Seen::segment).any(|segment| segment.turn == 6)
    });
    let segments: Vec<&SeenSegment> = seen.iter().filter_map(Seen::segment).collect();
    assert!(segments.iter().all(|s| s.role == Role::Client && s.key.tuple.remote.port == 8080), "{segments:?}");
}

#[test]
fn datagrams_of_the_node_come_whole_in_both_directions() {
    let (bed, cgroup) = (Bed::new(), Cgroup::new());
    let (kernel, mut reader) = start();
    let _links = attach(&kernel, 3, &cgroup, &bed.pod);
    let resolver = bed.peer.run(|_| UdpSocket::bind("10.77.0.2:53")).expect("a thread").expect("a socket");
    // Not connected, and connected: the second one's addresses are the socket's.
    for connected in [false, true] {
        let client = cgroup.run(&bed.pod, || UdpSocket::bind("0.0.0.0:0").expect("a socket"));
        if connected {
            client.connect("10.77.0.2:53").expect("connected");
            client.send(b"who?").expect("sent");
        } else {
            client.send_to(b"who?", "10.77.0.2:53").expect("sent");
        }
        let (_, from) = resolver.recv_from(&mut [0; 16]).expect("the question");
        resolver.send_to(b"me", from).expect("sent");
        let seen = collect(&mut reader, "both datagrams", |seen| seen.iter().filter_map(Seen::segment).count() == 2);
        let payloads: Vec<_> =
            seen.iter().filter_map(Seen::segment).map(|s| (s.payload.as_slice(), s.dir, s.turn)).collect();
        assert_eq!(payloads, [(&b"who?"[..], Direction::Egress, 1), (b"me", Direction::Ingress, 2)]);
        let keys: Vec<_> = seen.iter().filter_map(Seen::segment).map(|s| s.key).collect();
        assert_eq!(keys[0], keys[1]);
    }
}

#[test]
fn two_servers_of_the_node_that_talk_are_two_observations() {
    let (bed, one, other) = (Bed::new(), Cgroup::new(), Cgroup::new());
    let (kernel, mut reader) = start();
    let _links = [attach(&kernel, 1, &one, &bed.pod), attach(&kernel, 2, &other, &bed.pod)];
    // By one of the node's own addresses, which is a way over the loopback interface all the same.
    let listener = one.run(&bed.pod, || TcpListener::bind("10.77.0.1:8080").expect("a listener"));
    std::thread::scope(|scope| {
        scope.spawn(|| serve(listener));
        other.run(&bed.pod, || ask(&mut TcpStream::connect("10.77.0.1:8080").expect("a connection"), 2));
    });
    let seen = collect(&mut reader, "both ends", |seen| {
        let last = |role| seen.iter().filter_map(Seen::segment).any(|s| s.role == role && s.turn == 4);
        last(Role::Client) && last(Role::Server)
    });
    let of = |slot| {
        let mut roles: Vec<Role> =
            seen.iter().filter_map(Seen::segment).filter(|s| s.slot == Slot(slot)).map(|s| s.role).collect();
        roles.dedup();
        roles
    };
    assert_eq!((of(1), of(2)), (vec![Role::Server], vec![Role::Client]));
}

#[test]
fn loopback_addresses_are_left_out_unless_they_are_asked_for() {
    for loopback in [false, true] {
        let (bed, cgroup) = (Bed::new(), Cgroup::new());
        let kernel = load(&KernelConfig { loopback, ..Default::default() });
        let _links = attach(&kernel, 1, &cgroup, &bed.pod);
        for address in ["127.0.0.1", "::1"] {
            cgroup.run(&bed.pod, || {
                let listener = TcpListener::bind((address, 8080)).expect("a listener");
                let client = TcpStream::connect((address, 8080)).expect("a connection");
                drop((listener.accept().expect("a client"), client));
            });
        }
        let mut sampler = kernel.sampler();
        let flows = sampler.turn(16).expect("a turn").len();
        assert!(kernel.stats().expect("stats").packets > 0);
        assert_eq!(flows, if loopback { 4 } else { 0 });
    }
}

#[test]
fn sockets_of_cgroups_below_and_of_other_namespaces_are_not_the_nodes() {
    let (bed, cgroup) = (Bed::new(), Cgroup::new());
    let (kernel, _reader) = start();
    let _links = attach(&kernel, 1, &cgroup, &bed.pod);
    let talk = |below: &Cgroup, netns: &Netns, to: &str| {
        below.run(netns, || UdpSocket::bind("0.0.0.0:0").expect("a socket").send_to(b"x", to).expect("sent"));
    };
    // The path is given back at its end, before that of its parent.
    let child = Cgroup::below(cgroup.path());
    talk(&child, &bed.pod, "10.77.0.2:9");
    drop(child);
    assert_eq!(kernel.stats().expect("stats").packets, 0, "below");
    talk(&cgroup, &bed.peer, "10.77.0.1:9");
    let stranger = kernel.stats().expect("stats").packets;
    assert_eq!(stranger > 0, kernel.node_checks_namespace() == Some(false), "before 6.15 the kernel cannot tell");
    talk(&cgroup, &bed.pod, "10.77.0.2:9");
    assert!(kernel.stats().expect("stats").packets > stranger);
}

#[test]
fn links_end_with_what_holds_them_and_stubs_without_the_agent_let_pass() {
    let (bed, cgroup) = (Bed::new(), Cgroup::new());
    let (kernel, reader) = start();
    let links = attach(&kernel, 1, &cgroup, &bed.pod);
    let talk = || {
        let send = || UdpSocket::bind("0.0.0.0:0").expect("a socket").send_to(b"x", "10.77.0.2:9").expect("sent");
        cgroup.run(&bed.pod, send);
    };
    talk();
    let programs = kernel.programs().expect("programs");
    let names: Vec<(&str, usize)> = programs.iter().map(|program| (program.name, program.stubs)).collect();
    assert_eq!(names, [("pilotfish_in", 0), ("pilotfish_out", 0), ("pilotfish_host_in", 1), ("pilotfish_host_out", 1)]);
    let seen = kernel.stats().expect("stats").packets;
    assert!(seen > 0);
    let again = attach(&kernel, 2, &cgroup, &bed.pod);
    drop(again);
    drop(links);
    // A process that another test is just starting has them open until its exec(2).
    until("nothing is attached any more", || {
        let before = kernel.stats().expect("stats").packets;
        talk();
        kernel.stats().expect("stats").packets == before
    });
    let _links = attach(&kernel, 3, &cgroup, &bed.pod);
    drop(reader);
    drop(kernel);
    let _ = bed.pod.run(|_| ());
    let listener = bed.peer.run(|_| TcpListener::bind("10.77.0.2:8080")).expect("a thread").expect("a listener");
    std::thread::scope(|scope| {
        scope.spawn(|| serve(listener));
        cgroup.run(&bed.pod, || ask(&mut TcpStream::connect("10.77.0.2:8080").expect("a connection"), 2));
    });
}
