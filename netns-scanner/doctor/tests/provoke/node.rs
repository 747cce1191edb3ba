//! What is of the node as a whole, provoked in a namespace: one table for all of them, and packets that come the
//! wrong way.

use crate::peers::Pair;
use crate::room::{Room, brief, number, run};
use doctor::{Asked, Certainty, CheckId, Finding, Severity, Thresholds, examine};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn of_node(check: CheckId, thresholds: Thresholds) -> Vec<Finding> {
    let report = examine(&Asked { checks: vec![check], thresholds, ..Asked::default() });
    assert_eq!(report.not_made, vec![], "{report:?}");
    assert_eq!(report.fine.len() + report.findings.len(), 1, "{report:?}");
    report.findings
}

/// Neighbours that the node knows by IPv4, and how many it may know.
fn neighbours() -> (f64, f64) {
    let table = std::fs::read_to_string("/proc/1/net/stat/arp_cache").expect("the node's own network");
    let first = table.lines().nth(1).and_then(|line| line.split_ascii_whitespace().next()).expect("a row");
    let most = std::fs::read_to_string("/proc/sys/net/ipv4/neigh/default/gc_thresh3").expect("a limit");
    let known = u64::from_str_radix(first, 16).expect("hexadecimal");
    (known as f64, most.trim().parse().expect("a number"))
}

#[test]
fn neighbours_of_one_namespace_take_room_from_all() {
    // Namespaces that ended just now still have theirs for a moment.
    let until = Instant::now() + Duration::from_secs(20);
    while neighbours().0 > 75.0 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(100));
    }
    let (before, most) = neighbours();
    // A table of a shared machine is not filled. On a quiet one the room's own are more than that.
    let enough = before.max(74.0) + 75.0;
    let nearly = || Thresholds { neighbours_share: enough / most, ..brief() };
    assert_eq!(of_node(CheckId::NeighboursFull, nearly()), []);
    let link = "ip link add a0 type veth peer name b0 && ip link set b0 up && ip link set a0 up \
                && ip addr add 10.9.0.1/16 dev a0";
    let room = Room::new("meets", link, "150");
    let until = Instant::now() + Duration::from_secs(20);
    let found = loop {
        match of_node(CheckId::NeighboursFull, nearly()).pop() {
            Some(found) => break found,
            None => assert!(Instant::now() < until, "never found: {:?}", neighbours()),
        }
    };
    assert_eq!((found.severity, found.certainty), (Severity::Warning, Certainty::Likely), "{found:?}");
    assert_eq!((found.subject.name.as_str(), number(&found, "max")), ("the node", most), "{found:?}");
    assert!(number(&found, "entries") > enough && number(&found, "refused") == 0.0, "{found:?}");
    assert_eq!(of_node(CheckId::NeighboursFull, brief()), [], "there is room for many more");
    drop(room);
    assert_eq!(of_node(CheckId::Softnet, Thresholds { softnet_drops: u64::MAX, ..brief() }), [], "it can be read");
}

/// Datagrams from one end of the pair to the other, all the time. Ended when dropped.
pub struct Flood(Child);

impl Flood {
    pub fn from(pair: &Pair) -> Flood {
        let pid = pair.client.holder.id().to_string();
        let script = "while :; do echo x > /dev/udp/10.9.0.2/9; sleep 0.01; done";
        let flood = Command::new("nsenter")
            .args(["--net", "-t", &pid, "bash", "-c", script])
            .stderr(Stdio::null())
            .spawn()
            .expect("nsenter and bash");
        Flood(flood)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn packets_whose_way_back_is_another_are_found_and_those_of_a_neighbour_are_fine() {
    // What is not the neighbours' own is answered by an interface that leads nowhere.
    let strict = "echo 1 > /proc/sys/net/ipv4/conf/all/rp_filter && ip route add 10.77.0.0/24 dev lo";
    let pair = Pair::of("sends", strict);
    let flood = Flood::from(&pair);
    pair.server.finds_nothing(CheckId::RpFilter, brief());
    let inside = |args: &[&str]| {
        let pid = pair.client.holder.id().to_string();
        run("nsenter", &[&["--net", "-t", &pid][..], args].concat());
    };
    // Asked for by the address that is a neighbour's: a question by the other one is dropped and not counted.
    inside(&["sh", "-c", "echo 2 > /proc/sys/net/ipv4/conf/all/arp_announce"]);
    inside(&["ip", "addr", "add", "10.77.0.1/32", "dev", "lo"]);
    inside(&["ip", "route", "replace", "10.9.0.0/24", "dev", "a0", "src", "10.77.0.1"]);
    let found = pair.server.comes_to(CheckId::RpFilter, brief, |found| number(found, "dropped") > 3.0);
    assert_eq!((found.severity, found.certainty), (Severity::Warning, Certainty::Measured), "{found:?}");
    assert_eq!(found.subject.kind, "Process", "{found:?}");
    drop(flood);
    pair.server.finds_nothing(CheckId::RpFilter, brief());
}

#[test]
fn a_clock_that_nobody_keeps_is_found_and_one_that_is_kept_is_fine() {
    let time = netns_scanner::clock::TimeOfDay::read().expect("the kernel tells");
    // Whichever this machine's is: by a threshold on either side of it.
    let above =
        Thresholds { clock_error: time.max_error + Duration::from_secs(1), clock_offset: Duration::MAX, ..brief() };
    assert_eq!(of_node(CheckId::Clock, above), []);
    let below = || Thresholds { clock_error: time.max_error, clock_offset: Duration::MAX, ..brief() };
    let found = of_node(CheckId::Clock, below());
    assert_eq!(found.is_empty(), time.synchronised, "{found:?}");
    for found in found {
        assert_eq!((found.severity, number(&found, "synchronised")), (Severity::Info, 0.0), "{found:?}");
    }
}
