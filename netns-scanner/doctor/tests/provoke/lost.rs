//! Peers behind an interface, an address or a route that this side itself has lost under an open connection.

use crate::peers::{Pair, patient_for};
use crate::room::{number, run};
use doctor::{CheckId, Severity};
use std::thread;
use std::time::{Duration, Instant};

const SILENCE: Duration = Duration::from_secs(1);
/// The kernel asks again after 0.2, 0.6, 1.4, 3 and 6 s: looks in between those times, too.
const LOOKS_FOR: Duration = Duration::from_secs(8);

/// What is lost, and how it comes back; an interface that was deleted does not.
const LOSSES: [(&str, &str, &str); 5] = [
    (
        "the link's other end is down",
        "nsenter --net -t $SERVER ip link set b0 down",
        "nsenter --net -t $SERVER ip link set b0 up",
    ),
    ("the link is down", "ip link set a0 down", "ip link set a0 up"),
    ("the route is gone", "ip route del 10.9.0.0/24", "ip route add 10.9.0.0/24 dev a0 src 10.9.0.1"),
    ("the address is gone", "ip addr del 10.9.0.1/24 dev a0", "ip addr add 10.9.0.1/24 dev a0"),
    ("the interface is deleted", "ip link del a0", ""),
];

/// A role, and what it is told before and after.
const ASKS: [[&str; 3]; 2] = [["sends", "send", "send"], ["pours", "open", "pour"]];

fn inside(pair: &Pair, words: &str) {
    let [client, server] = [&pair.client, &pair.server].map(|room| room.holder.id().to_string());
    run("nsenter", &["--net", "-t", &client, "sh", "-c", &words.replace("$SERVER", &server)]);
}

#[test]
fn a_peer_behind_what_this_side_has_lost_is_found_while_it_is_asked_and_gone_when_it_is_back() {
    let of = |(what, lose, back): (&'static str, &str, &str), asks: [&str; 3]| {
        // What is sent is a word, or more than a packet holds.
        let [role, first, then] = asks;
        let mut pair = Pair::of(role, "true");
        pair.tell(first);
        thread::sleep(SILENCE);
        inside(&pair, lose);
        // Nothing is on its way: nobody can know.
        pair.client.finds_nothing(CheckId::DeadPeer, patient_for(SILENCE));
        pair.tell(then);
        pair.client.comes_to(CheckId::DeadPeer, || patient_for(SILENCE), |_| true);
        let until = Instant::now() + LOOKS_FOR;
        let (mut looks, mut missed) = (0, Vec::new());
        while Instant::now() < until {
            let report = pair.client.look(CheckId::DeadPeer, patient_for(SILENCE));
            looks += 1;
            match &*report.findings {
                [found] => {
                    assert_eq!(found.severity, Severity::Warning, "{what}");
                    assert_eq!(found.evidence.get("peer"), Some(&"10.9.0.2".to_owned().into()), "{what}: {found:?}");
                    assert_eq!(number(found, "connections"), 1.0, "{what}");
                }
                _ => missed.push(format!("{looks}: {report:?}")),
            }
        }
        if !missed.is_empty() {
            let pid = pair.client.holder.id().to_string();
            run("nsenter", &["--net", "-t", &pid, "ss", "-tino"]);
        }
        assert!(missed.is_empty(), "{what}, {looks} looks: {missed:?}");
        if !back.is_empty() {
            inside(&pair, back);
            let until = Instant::now() + Duration::from_secs(60);
            while !pair.client.look(CheckId::DeadPeer, patient_for(SILENCE)).findings.is_empty() {
                assert!(Instant::now() < until, "{what}: never gone");
            }
        }
    };
    let all = LOSSES.into_iter().flat_map(|loss| ASKS.map(|asks| (loss, asks)));
    let threads: Vec<_> = all.map(|(loss, asks)| thread::spawn(move || of(loss, asks))).collect();
    let failed: Vec<_> = threads.into_iter().filter_map(|thread| thread.join().err()).collect();
    assert!(failed.is_empty(), "{} of them", failed.len());
}
