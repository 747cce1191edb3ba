//! Each finding provoked in a namespace of its own and found with its figures; and its healthy
//! twin, the same load without the fault, in which nothing is found. Needs root.
#![forbid(unsafe_code)]

mod api;
mod bounds;
mod cgroup;
mod cost;
mod drops;
mod limits;
mod lost;
mod memory;
mod node;
mod peers;
mod roles;
mod room;
mod table;

use doctor::{Certainty, CheckId, Severity, Thresholds};
use room::{Room, brief, number};
use std::time::Duration;

#[test]
fn a_listener_that_accepts_nobody_is_found_by_its_port_and_one_that_does_is_fine() {
    let room = Room::new("accepts", "true", "slow");
    let found = room.comes_to(CheckId::ListenOverflow, brief, |found| found.severity == Severity::Error);
    assert_eq!(found.certainty, Certainty::Measured);
    assert_eq!((found.subject.kind.as_str(), found.subject.name.is_empty()), ("Process", false), "{found:?}");
    assert_eq!([number(&found, "port"), number(&found, "queue"), number(&found, "backlog")], [8080.0, 5.0, 4.0]);
    assert!(number(&found, "overflows") > 2.5, "more than five a second: {found:?}");
    Room::new("accepts", "true", "fast").finds_nothing(CheckId::ListenOverflow, brief());
}

#[test]
fn a_socket_that_nobody_reads_is_found_by_its_port_and_one_that_is_read_is_fine() {
    let room = Room::new("receives", "true", "8125 slow");
    let found = room.comes_to(CheckId::UdpDrop, brief, |_| true);
    assert_eq!((found.severity, found.certainty), (Severity::Warning, Certainty::Measured), "{found:?}");
    assert_eq!(number(&found, "port"), 8125.0);
    assert!(number(&found, "drops") > 10.0, "{found:?}");
    let dns = Room::new("receives", "true", "53 slow").comes_to(CheckId::UdpDrop, brief, |_| true);
    assert_eq!((dns.severity, number(&dns, "port")), (Severity::Error, 53.0), "{dns:?}");
    Room::new("receives", "true", "53 fast").finds_nothing(CheckId::UdpDrop, brief());
}

#[test]
fn a_socket_that_drops_is_found_while_others_come_and_go() {
    let room = Room::new("receives", "true", "53 slow");
    let _others = room.another("comes_and_goes", "");
    let quick = || Thresholds { window: Duration::from_millis(20), udp_drops: 0, ..Thresholds::default() };
    let looks = (0..500).map(|_| room.look(CheckId::UdpDrop, quick()));
    // A window in which the sender did not run has no drops.
    let reports: Vec<_> = looks.filter(|report| !report.findings.is_empty()).take(20).collect();
    assert_eq!(reports.len(), 20);
    for report in reports {
        assert_eq!(report.findings.first().map(|found| number(found, "port")), Some(53.0), "{report:?}");
    }
}

#[test]
fn ports_are_counted_against_the_namespaces_own_range() {
    let range = "echo 20000 20099 > /proc/sys/net/ipv4/ip_local_port_range";
    let found = Room::new("connects", range, "90").finds(CheckId::PortsGone, brief());
    assert_eq!(found.severity, Severity::Warning, "{found:?}");
    assert_eq!([number(&found, "taken"), number(&found, "ports")], [90.0, 100.0]);
    assert_eq!(found.evidence.get("to"), Some(&"127.0.0.1:80".to_owned().into()), "{found:?}");
    let found = Room::new("connects", range, "100").finds(CheckId::PortsGone, brief());
    assert_eq!(found.severity, Severity::Error, "{found:?}");
    Room::new("connects", range, "80").finds_nothing(CheckId::PortsGone, brief());
    Room::new("connects", "true", "100").finds_nothing(CheckId::PortsGone, brief());
}

#[test]
fn whoever_polls_or_forgets_closed_connections_is_found_and_whoever_polls_open_ones_is_fine() {
    let thresholds = || Thresholds {
        close_wait_age: Duration::from_millis(100),
        // Two processors do everything at once here.
        close_wait_cpu: 0.1,
        close_wait_leak: 10,
        ..brief()
    };
    let settle = || std::thread::sleep(Duration::from_millis(150));
    let (polls, forgets) = (Room::new("is_left", "true", "5 polls"), Room::new("is_left", "true", "11 sleeps"));
    let (open, few) = (Room::new("is_left", "true", "5 open-polls"), Room::new("is_left", "true", "10 sleeps"));
    settle();
    let found = polls.comes_to(CheckId::ClosedWatch, thresholds, |_| true);
    assert_eq!((found.severity, number(&found, "connections")), (Severity::Warning, 5.0), "{found:?}");
    assert!(number(&found, "cpu_share") > 0.1, "{found:?}");
    assert_eq!(number(&found, "pid"), f64::from(polls.holder.id()));
    let found = forgets.finds(CheckId::ClosedWatch, thresholds());
    assert_eq!(number(&found, "connections"), 11.0, "{found:?}");
    assert!(number(&found, "cpu_share") <= 0.1, "{found:?}");
    open.finds_nothing(CheckId::ClosedWatch, thresholds());
    few.finds_nothing(CheckId::ClosedWatch, thresholds());
    polls.finds_nothing(CheckId::ClosedWatch, Thresholds { close_wait_age: Duration::from_secs(60), ..thresholds() });
}

#[test]
fn a_server_that_asks_itself_is_found_by_an_own_address_and_by_a_translated_one() {
    let own = "ip addr add 10.99.0.1/32 dev lo";
    let room = Room::new("talks", own, "0.0.0.0:8080 10.99.0.1:8080");
    let found = room.comes_to(CheckId::SelfCall, brief, |_| true);
    assert_eq!(found.evidence.get("address"), Some(&"10.99.0.1:8080".to_owned().into()), "{found:?}");
    assert!(number(&found, "rate") > 50.0 && number(&found, "share") > 0.99, "{found:?}");
    // As kube-proxy does it: the virtual address is on no interface.
    let translated = "ip addr add 10.99.0.1/32 dev lo && ip route add 10.96.0.0/16 dev lo \
        && nft add table ip t && nft 'add chain ip t o { type nat hook output priority -100; }' \
        && nft add rule ip t o ip daddr 10.96.0.1 tcp dport 80 dnat to 10.99.0.1:8080";
    let room = Room::new("talks", translated, "0.0.0.0:8080 10.96.0.1:80");
    let found = room.comes_to(CheckId::SelfCall, brief, |_| true);
    assert_eq!(found.evidence.get("address"), Some(&"10.96.0.1:80".to_owned().into()), "{found:?}");
    // The same talk by loopback, and with another process as the client.
    Room::new("talks", own, "0.0.0.0:8080 127.0.0.1:8080").finds_nothing(CheckId::SelfCall, brief());
    let server = Room::new("talks", own, "0.0.0.0:8080 -");
    let client = server.another("talks", "- 10.99.0.1:8080");
    server.finds_nothing(CheckId::SelfCall, brief());
    drop(client);
}
