//! Namespaces without names, wired together, and what `tc` says of them: an oracle that shares no code with ours.

use crate::bench::PATIENCE;
use netns::Netns;
use nix::sched::{CloneFlags, unshare};
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;
use std::sync::Arc;

/// A new namespace, which lives as long as somebody holds it.
pub fn new_netns() -> Arc<Netns> {
    let made = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("these tests make network namespaces: run them as root");
        Netns::current().expect("open the new namespace")
    });
    Arc::new(made.join().expect("thread that makes a namespace"))
}

/// A path by which this process and its children reach `netns`.
pub fn path(netns: &Netns) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), netns.as_fd().as_raw_fd())
}

/// Runs a command inside, and returns what it prints. Words are split at spaces, those of `last` are not.
fn run(netns: &Netns, words: &str, last: Option<&str>) -> String {
    let output = netns
        .run(|_| {
            let mut words = words.split(' ').chain(last);
            Command::new(words.next().unwrap_or_default()).args(words).output().expect("the command starts (iproute2)")
        })
        .expect("enter");
    assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a command inside, and returns what it prints.
pub fn within(netns: &Netns, words: &str) -> String {
    run(netns, words, None)
}

/// Somebody else's filter, of our kind: it gives every packet `verdict` (0 ends the walk, -1 passes on).
pub fn foreign_filter(netns: &Netns, dir: &str, prio: u16, verdict: i32) {
    let words = format!("tc filter add dev eth0 {dir} prio {prio} protocol all bpf da bytecode");
    run(netns, &words, Some(&format!("1,6 0 0 {}", verdict.cast_unsigned())));
}

/// Two namespaces joined by a veth pair: 10.77.0.1 on `pod` and 10.77.0.2 on `peer`, both interfaces called `eth0`.
pub struct Pair {
    pub pod: Arc<Netns>,
    pub peer: Arc<Netns>,
}

impl Pair {
    pub fn new() -> Pair {
        let pair = Pair { pod: new_netns(), peer: new_netns() };
        pair.wire("eth0");
        for (netns, address) in [(&pair.pod, "10.77.0.1/24"), (&pair.peer, "10.77.0.2/24")] {
            within(netns, &format!("ip address add {address} dev eth0"));
        }
        pair
    }

    /// One more interface at both ends.
    pub fn wire(&self, name: &str) {
        within(&self.pod, &format!("ip link add {name} type veth peer name {name} netns {}", path(&self.peer)));
        within(&self.pod, &format!("ip link set {name} up"));
        within(&self.peer, &format!("ip link set {name} up"));
    }
}

/// Our filters on a link, by direction.
pub fn our_filters(netns: &Netns, link: &str) -> [usize; 2] {
    [("ingress", " pilotfish_in "), ("egress", " pilotfish_out ")]
        .map(|(dir, name)| within(netns, &format!("tc filter show dev {link} {dir}")).matches(name).count())
}

/// Whether the link has a clsact qdisc.
pub fn has_clsact(netns: &Netns, link: &str) -> bool {
    within(netns, &format!("tc qdisc show dev {link}")).contains("clsact")
}

/// Number of descriptors or threads of this process ("fd", "task").
pub fn count(what: &str) -> usize {
    std::fs::read_dir(format!("/proc/self/{what}")).expect("procfs").count()
}

/// The next datagram. A wait with a timeout ends early when the machine was suspended in between:
/// signal(7), SO_RCVTIMEO.
fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> (usize, std::net::SocketAddr) {
    loop {
        match socket.recv_from(buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            received => return received.expect("arrives"),
        }
    }
}

/// `rounds` datagrams to the peer and back, each compared; the pod's port and the peer's. Ports that
/// nobody has: a fork's child of a parallel test may still hold the sockets of an earlier call.
pub fn ping_pong(pair: &Pair, rounds: u32) -> [u16; 2] {
    let open = |netns: &Netns, address| netns.run(|_| UdpSocket::bind((address, 0)).expect("bind")).expect("enter");
    let (pod, peer) = (open(&pair.pod, "10.77.0.1"), open(&pair.peer, "10.77.0.2"));
    for socket in [&pod, &peer] {
        socket.set_read_timeout(Some(PATIENCE)).expect("timeout");
    }
    let [from, to] = [&pod, &peer].map(|socket| socket.local_addr().expect("bound"));
    let mut buffer = [0; 2048];
    for round in 0..rounds {
        let text = format!("datagram {round} ").repeat(1 + round as usize % 60);
        pod.send_to(text.as_bytes(), to).expect("send");
        let (length, sender) = receive(&peer, &mut buffer);
        assert_eq!((&buffer[..length], sender), (text.as_bytes(), from));
        peer.send_to(&buffer[..length], sender).expect("answer");
        let (length, _) = receive(&pod, &mut buffer);
        assert_eq!(&buffer[..length], text.as_bytes());
    }
    [from.port(), to.port()]
}
