//! What the kernel drops is counted by its reason in the namespace where it is dropped.

use crate::bed::{Bed, sh};
use capture_engine::kernel::{Dropped, Drops, DropsRoom};
use netns::Netns;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

/// No such reason, and two that the tests provoke.
const REASONS: [&str; 3] = ["NO_SUCH_REASON", "SOCKET_RCVBUFF", "IP_RPFILTER"];
const BUFFER: usize = 1;
const WAY_BACK: usize = 2;

/// A namespace with loopback up, and a socket in it that nobody reads.
struct Sink {
    netns: Netns,
    reader: UdpSocket,
}

impl Sink {
    fn new() -> Sink {
        let netns = Netns::create().expect("these tests make network namespaces: run them as root");
        let bound = netns.run(|_| {
            sh("ip link set lo up");
            UdpSocket::bind("127.0.0.1:0")
        });
        Sink { netns, reader: bound.expect("enter it").expect("bind") }
    }

    fn inode(&self) -> u32 {
        u32::try_from(self.netns.id().ino).expect("as the kernel has it")
    }

    /// Each is read at once where `reads`, else the buffer is full after some hundred.
    fn send(&self, count: usize, reads: bool) {
        let sent = self.netns.run(|_| {
            let sender = UdpSocket::bind("127.0.0.1:0")?;
            sender.connect(self.reader.local_addr()?)?;
            for _ in 0..count {
                sender.send(&[7; 100])?;
                if reads {
                    self.reader.recv(&mut [0; 200])?;
                }
            }
            std::io::Result::Ok(())
        });
        sent.expect("enter it").expect("loopback takes it");
    }

    /// What the kernel itself counts, without a reason and for the namespace alone.
    fn overruns(&self) -> u64 {
        let snmp = self.netns.run(|_| std::fs::read_to_string("/proc/thread-self/net/snmp"));
        let snmp = snmp.expect("enter it").expect("the namespace's counters");
        let [names, values] = [0, 1].map(|at| snmp.lines().filter(|line| line.starts_with("Udp:")).nth(at));
        let pairs = names.expect("names").split_whitespace().zip(values.expect("values").split_whitespace());
        let value = pairs.into_iter().find(|(name, _)| *name == "RcvbufErrors").expect("it is counted").1;
        value.parse().expect("a number")
    }
}

/// By reason, in this namespace: other tests lose packets, too.
fn of(drops: &Drops, inode: u32) -> Vec<(usize, u64)> {
    let mut all = drops.counts().expect("counts");
    all.retain(|dropped| dropped.netns == Some(inode));
    all.sort_unstable();
    all.iter().map(|Dropped { reason, count, .. }| (*reason, *count)).collect()
}

#[test]
fn what_a_full_buffer_loses_is_counted_in_its_namespace_and_what_is_read_is_not() {
    let (ill, fine) = (Sink::new(), Sink::new());
    let drops = Drops::load(&REASONS, DropsRoom::default()).expect("the program loads");
    ill.send(5000, false);
    fine.send(5000, true);
    let counted = of(&drops, ill.inode());
    let [(BUFFER, count)] = counted[..] else { panic!("{counted:?}") };
    let overruns = ill.overruns();
    // One that an interrupt met while another was counted is not.
    assert!(overruns > 1000 && count <= overruns && count >= overruns - overruns / 100, "{count} of {overruns}");
    assert_eq!(of(&drops, fine.inode()), []);
    assert_eq!(drops.missed().expect("read"), 0);
}

#[test]
fn what_comes_the_wrong_way_is_counted_where_it_arrives() {
    let bed = Bed::new();
    let drops = Drops::load(&REASONS, DropsRoom::default()).expect("the program loads");
    let inode = |netns: &Netns| u32::try_from(netns.id().ino).expect("as the kernel has it");
    let inside = |netns: &Netns, words: &str| netns.run(|_| sh(words)).expect("enter it");
    inside(&bed.pod, "echo 1 > /proc/sys/net/ipv4/conf/all/rp_filter; ip route add 10.78.0.0/24 dev lo");
    inside(&bed.peer, "ip addr add 10.78.0.2/32 dev lo; echo 2 > /proc/sys/net/ipv4/conf/all/arp_announce");
    let until = Instant::now() + Duration::from_secs(30);
    while !of(&drops, inode(&bed.pod)).iter().any(|(reason, count)| *reason == WAY_BACK && *count >= 10) {
        let sent = bed.peer.run(|_| UdpSocket::bind("10.78.0.2:0")?.send_to(b"x", "10.77.0.1:9"));
        sent.expect("enter it").expect("it is on its way");
        assert!(Instant::now() < until, "{:?}", drops.counts());
        std::thread::yield_now();
    }
    // The packet had its sender's socket until it arrived.
    assert_eq!(of(&drops, inode(&bed.peer)), []);
}

#[test]
fn pairs_change_places_without_a_loss_and_what_has_no_room_is_missed() {
    let sinks = [Sink::new(), Sink::new(), Sink::new()];
    let one_at_hand =
        |pairs| Drops::load(&["SOCKET_RCVBUFF"], DropsRoom { pairs, at_hand: 1 }).expect("the program loads");
    let (wide, narrow) = (one_at_hand(64), one_at_hand(1));
    let count = |drops: &Drops, sink: &Sink| of(drops, sink.inode()).iter().map(|(_, count)| count).sum::<u64>();
    for _ in 0..20 {
        sinks.iter().for_each(|sink| sink.send(500, false));
    }
    for sink in &sinks {
        let overruns = sink.overruns();
        assert!(
            overruns > 5000 && count(&wide, sink) >= overruns - overruns / 50,
            "{} of {overruns}",
            count(&wide, sink)
        );
        assert!(count(&wide, sink) <= overruns);
    }
    assert_eq!(wide.missed().expect("read"), 0);
    // Another test's namespace may have the one place; at hand of each processor is one more at most.
    let lost = sinks.iter().filter(|sink| count(&narrow, sink) < sink.overruns() / 2).count();
    let missed = narrow.missed().expect("read");
    assert!(lost >= 1 && missed > 1000, "{lost}, {missed}");
}

#[test]
fn who_asks_for_reasons_that_there_are_not_is_told() {
    let error = Drops::load(&["NO_SUCH_REASON"], DropsRoom::default()).expect_err("nothing to count");
    assert_eq!(error.to_string(), "count dropped packets");
}

/// Datagrams into a full buffer, with the program and without, turn by turn: what it adds to a drop that is
/// counted, and to one whose reason nobody wants.
/// `cargo test -p capture-engine --test kernel -- --ignored --nocapture cost_of_a_drop`
#[test]
#[ignore = "measures"]
fn cost_of_a_drop() {
    // So few that some of them are not interrupted, by whatever else the machine does.
    const SENDS: usize = 5_000;
    const TIMES: usize = 20;
    let sink = Sink::new();
    sink.send(5000, false);
    // Of this thread: a drop on loopback is the sender's work, and others use the machine, too.
    let cpu = || {
        let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock");
        Duration::from(time)
    };
    let took = || {
        let spent = sink.netns.run(|_| {
            let sender = UdpSocket::bind("127.0.0.1:0")?;
            sender.connect(sink.reader.local_addr()?)?;
            let mut quickest = Duration::MAX;
            for _ in 0..TIMES {
                let began = cpu();
                for _ in 0..SENDS {
                    sender.send(&[7; 100])?;
                }
                quickest = quickest.min(cpu() - began);
            }
            std::io::Result::Ok(quickest)
        });
        spent.expect("enter it").expect("loopback takes it").as_nanos() as f64 / SENDS as f64
    };
    let (mut without, mut counted, mut unwanted) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..21 {
        without.push(took());
        let drops = Drops::load(&["SOCKET_RCVBUFF"], DropsRoom::default()).expect("the program loads");
        counted.push(took());
        let all: u64 = of(&drops, sink.inode()).iter().map(|(_, count)| count).sum();
        assert!(all as usize > SENDS * TIMES / 100 * 99, "{all}");
        drop(drops);
        let _drops = Drops::load(&["IP_RPFILTER"], DropsRoom::default()).expect("the program loads");
        unwanted.push(took());
    }
    // The quickest of many: whatever else the machine does only adds to it.
    let quickest = |all: &[f64]| all.iter().copied().fold(f64::INFINITY, f64::min);
    let [without, counted, unwanted] = [&without, &counted, &unwanted].map(|all| quickest(all));
    eprintln!(
        "a send and its drop {without:.0} ns; counted {:+.0} ns, unwanted {:+.0} ns",
        counted - without,
        unwanted - without
    );
}
