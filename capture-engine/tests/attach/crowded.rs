//! A namespace that has very much of everything: a look at it is bounded, and what leads out of it
//! stays as it was.

use crate::bench::{Bench, POD};
use crate::place::{Pair, our_filters, within};
use crate::removed::until;
use capture_engine::attach::{AttachConfig, AttachCounters, AttachEvent, Mode, Priority};
use netns::IfAddress;
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

/// Entries of all lists that one look may read, whatever is there: the sum of the bounds, and a
/// datagram of each list (32 KiB) that shows that there is more.
const MOST_OF_A_LOOK: u64 = 12_000;
const ETH0: [u8; 4] = [10, 77, 0, 1];

/// Runs lines of `ip` or `tc` in the namespace, all at once.
fn batch(pair: &Pair, tool: &str, lines: &str) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), lines).expect("written");
    within(&pair.pod, &format!("{tool} -batch {}", file.path().display()));
}

fn addresses(link: &str, net: u8, count: u32) -> String {
    (0..count).fold(String::new(), |mut lines, n| {
        let _ = writeln!(lines, "address add 10.{net}.{}.{}/32 dev {link}", n / 250, 1 + n % 250);
        lines
    })
}

/// What another look reads and leaves unread.
fn look(bench: &Bench) -> AttachCounters {
    let before = bench.attacher.counters();
    bench.attacher.recheck(POD);
    let mut now = before;
    until("a look", || {
        now = bench.attacher.counters();
        now.entries > before.entries && now.messages > before.messages
    });
    AttachCounters { messages: now.messages - before.messages, ..now }
}

fn attached(bench: &Bench) -> Arc<[IfAddress]> {
    bench.wait("Attached", |event| match event {
        AttachEvent::Attached { addresses, .. } => Some(addresses),
        AttachEvent::Failed { reason, .. } => panic!("failed: {reason}"),
        _ => None,
    })
}

#[test]
fn of_very_many_addresses_a_look_reads_some_and_those_of_what_leads_out_are_among_them() {
    let (pair, bench) = (Pair::new(), Bench::new(Mode::Auto));
    within(&pair.pod, "ip link set lo up");
    // Before those of eth0 in the kernel's list.
    batch(&pair, "ip", &addresses("lo", 90, 6_000));
    bench.attacher.attach(POD, pair.pod.clone(), Priority::Urgent).expect("room");
    let told = attached(&bench);
    assert!(told.len() <= 2_500, "{}", told.len());
    let eth0 = told.iter().find(|address| address.ip == IpAddr::from(ETH0)).expect("eth0's own");
    assert!(eth0.leads_out);
    assert!(told.windows(2).all(|two| two[0].ip <= two[1].ip), "in order");
    let first = bench.attacher.counters();
    assert_eq!((first.cut.addresses, first.cut.links, first.failures), (1, 0, 0));
    assert!(first.messages <= MOST_OF_A_LOOK, "{first:?}");
    let next = look(&bench);
    assert!(next.messages <= MOST_OF_A_LOOK, "{next:?}");
    assert_eq!((next.cut.addresses, next.cut.routes), (2, 0), "whose own is what is not asked for then");
    bench.detach(POD);
}

#[test]
fn of_very_many_local_routes_a_look_reads_some_and_all_is_its_own() {
    let (pair, bench) = (Pair::new(), Bench::new(Mode::Auto));
    within(&pair.pod, "ip link set lo up");
    // Of another type than those that are wanted: they are walked all the same.
    let routes = (0..9_000).fold(String::new(), |mut lines, n| {
        let _ = writeln!(lines, "route add broadcast 10.91.{}.{} dev lo table local", n / 250, 1 + n % 250);
        lines
    });
    batch(&pair, "ip", &routes);
    bench.attacher.attach(POD, pair.pod.clone(), Priority::Urgent).expect("room");
    let own = bench.wait("Attached", |event| match event {
        AttachEvent::Attached { own, .. } => Some(own),
        _ => None,
    });
    assert!(!own.passes_on(IpAddr::from([192, 0, 2, 1]), IpAddr::from([10, 77, 0, 2])), "an end of all it shows");
    let counters = bench.attacher.counters();
    assert_eq!((counters.cut.routes, counters.cut.addresses, counters.failures), (1, 0, 0));
    assert!(counters.messages <= MOST_OF_A_LOOK, "{counters:?}");
    bench.detach(POD);
}

#[test]
fn of_very_many_links_a_look_reads_some_and_what_has_programs_keeps_them() {
    let (pair, config) = (Pair::new(), AttachConfig { max_interfaces: 4, max_links: 64, ..AttachConfig::default() });
    let bench = Bench::with(config);
    bench.attacher.attach(POD, pair.pod.clone(), Priority::Urgent).expect("room");
    attached(&bench);
    let bridges = (0..80).fold(String::new(), |mut lines, n| {
        let _ = writeln!(lines, "link add many{n} type bridge");
        lines
    });
    batch(&pair, "ip", &bridges);
    // Beyond what a look reads.
    pair.wire("eth9");
    let all = look(&bench);
    assert!(all.cut.links > 0 && all.messages <= MOST_OF_A_LOOK, "{all:?}");
    for _ in 0..3 {
        let next = look(&bench);
        assert!(next.messages <= MOST_OF_A_LOOK, "{next:?}");
        assert_eq!((next.removed_programs, next.failures), (0, all.failures), "none since nothing changes");
    }
    let held = bench.attacher.snapshot().remove(0).interfaces;
    assert_eq!(held.len(), 4);
    assert!(held.iter().any(|interface| interface.name == "eth0"), "{held:?}");
    assert_eq!(our_filters(&pair.pod, "eth0"), [1, 1]);
    within(&pair.pod, "ip link del eth0");
    bench.wait("the end of eth0", |event| match event {
        AttachEvent::Interfaces { interfaces, .. } => {
            interfaces.iter().all(|interface| interface.name != "eth0").then_some(())
        }
        _ => None,
    });
    bench.detach(POD);
}

#[test]
fn behind_very_many_qdiscs_and_filters_ours_are_found_again_and_taken_away() {
    let (pair, bench) = (Pair::new(), Bench::new(Mode::Clsact));
    bench.attach(&pair.pod);
    let mut lines = String::from("qdisc add dev eth0 root handle 1: htb\n");
    for class in 1..=2_200 {
        let _ = writeln!(lines, "class add dev eth0 parent 1: classid 1:{class:x} htb rate 1mbit");
        let _ = writeln!(lines, "qdisc add dev eth0 parent 1:{class:x} pfifo");
    }
    for prio in 2..=400 {
        let pass = "bpf da bytecode \"1,6 0 0 4294967295\"";
        let _ = writeln!(lines, "filter add dev eth0 ingress prio {prio} protocol all {pass}");
    }
    batch(&pair, "tc", &lines);
    for _ in 0..3 {
        let next = look(&bench);
        assert!(next.cut.qdiscs > 0 && next.cut.filters > 0 && next.messages <= MOST_OF_A_LOOK, "{next:?}");
        assert_eq!((next.removed_programs, next.failures), (0, 0));
    }
    assert_eq!(our_filters(&pair.pod, "eth0"), [1, 1]);
    bench.detach(POD);
    assert_eq!(our_filters(&pair.pod, "eth0"), [0, 0]);
}
