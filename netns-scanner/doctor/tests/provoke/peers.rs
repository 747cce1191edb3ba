//! Peers that are gone without a word.

use crate::room::{Room, brief, number, run};
use doctor::{CheckId, Severity, Thresholds};
use netns::Netns;
use std::thread;
use std::time::{Duration, Instant};

/// A client and a server in two namespaces with a link between them, and one connection.
pub struct Pair {
    pub client: Room,
    pub server: Room,
}

impl Pair {
    fn new() -> Pair {
        Pair::of("sends", "true")
    }

    /// A client of this kind, and a server whose namespace is made so.
    pub fn of(client: &str, before: &str) -> Pair {
        let (mut client, server) = (Room::begun(client, "true", "-"), Room::new("serves", before, "-"));
        let pid = |room: &Room| room.holder.id().to_string();
        let ends = ["link", "add", "a0", "netns", &pid(&client), "type", "veth", "peer", "name", "b0", "netns"];
        run("ip", &[&ends[..], &[&pid(&server)]].concat());
        for (room, link, address) in [(&client, "a0", "10.9.0.1/24"), (&server, "b0", "10.9.0.2/24")] {
            let inside = ["--net", "-t", &pid(room), "ip"];
            run("nsenter", &[&inside[..], &["addr", "add", address, "dev", link]].concat());
            run("nsenter", &[&inside[..], &["link", "set", link, "up"]].concat());
        }
        client.hears("here");
        client.tell("10.9.0.2:80");
        client.hears("ready");
        Pair { client, server }
    }

    fn send(&mut self) {
        self.tell("send");
    }

    pub fn tell(&mut self, word: &str) {
        self.client.tell(word);
        self.client.hears("sent");
    }

    fn link(&self, state: &str) {
        let pid = self.server.holder.id().to_string();
        run("nsenter", &["--net", "-t", &pid, "ip", "link", "set", "b0", state]);
    }
}

pub fn patient_for(silence: Duration) -> Thresholds {
    Thresholds { dead_silence: silence, ..brief() }
}

#[test]
fn a_peer_whose_link_went_is_found_by_its_address_and_one_that_is_only_slow_is_fine() {
    let mut pair = Pair::new();
    pair.send();
    let silence = Duration::from_secs(1);
    // The server has acknowledged the request and is silent for longer than that.
    thread::sleep(silence);
    pair.client.finds_nothing(CheckId::DeadPeer, patient_for(silence));
    pair.link("down");
    // Nothing is on its way: nobody can know that the peer is gone.
    pair.client.finds_nothing(CheckId::DeadPeer, patient_for(silence));
    pair.send();
    pair.client.comes_to(CheckId::DeadPeer, || patient_for(silence), |_| true);
    let found = pair.client.finds(CheckId::DeadPeer, patient_for(silence));
    assert_eq!(found.severity, Severity::Warning);
    assert_eq!(found.evidence.get("peer"), Some(&"10.9.0.2".to_owned().into()), "{found:?}");
    assert_eq!(number(&found, "connections"), 1.0);
    assert!(number(&found, "unacknowledged_segments") >= 1.0 && number(&found, "silent_s") >= 1.0, "{found:?}");
    pair.client.finds_nothing(CheckId::DeadPeer, patient_for(Duration::from_secs(600)));
    // Where the peer comes back the finding goes.
    pair.link("up");
    let until = Instant::now() + Duration::from_secs(60);
    while !pair.client.look(CheckId::DeadPeer, patient_for(silence)).findings.is_empty() {
        assert!(Instant::now() < until, "never gone");
    }
}

#[test]
fn a_path_that_swallows_long_packets_is_found_and_one_that_carries_them_is_fine() {
    // The sender's packets leave one by one, as they would on a wire.
    let one_by_one = |pair: &Pair| {
        let pid = pair.client.holder.id().to_string();
        run("nsenter", &["--net", "-t", &pid, "ip", "link", "set", "a0", "gso_max_segs", "1"]);
    };
    let hole = "nft add table ip t && nft 'add chain ip t i { type filter hook prerouting priority 0; }' \
        && nft add rule ip t i ip length gt 1400 drop";
    let mut fine = Pair::of("pours", "true");
    let mut ill = Pair::of("pours", hole);
    one_by_one(&ill);
    for pair in [&mut fine, &mut ill] {
        pair.tell("open");
    }
    // Only a short word so far: nobody can know of the hole.
    ill.client.finds_nothing(CheckId::MtuHole, brief());
    for _ in 0..2 {
        for pair in [&mut fine, &mut ill] {
            pair.tell("pour");
            thread::sleep(Duration::from_millis(500));
            pair.tell("open");
        }
    }
    ill.client.comes_to(CheckId::MtuHole, brief, |_| true);
    let found = ill.client.finds(CheckId::MtuHole, brief());
    assert_eq!(found.severity, Severity::Warning, "{found:?}");
    assert_eq!(found.evidence.get("peer"), Some(&"10.9.0.2".to_owned().into()), "{found:?}");
    let figures = ["connections", "of", "segment_bytes"].map(|name| number(&found, name));
    assert_eq!(figures, [2.0, 3.0, 1448.0], "{found:?}");
    // It has a reason, and is not told as a peer that is gone.
    ill.client.finds_nothing(CheckId::DeadPeer, patient_for(Duration::from_millis(1)));
    fine.client.finds_nothing(CheckId::MtuHole, brief());
    // Who is gone altogether is told as that. That it is no hole is shown by unit tests: see docs/limits.md.
    let mut gone = Pair::of("pours", "true");
    gone.tell("open");
    gone.tell("open");
    gone.link("down");
    gone.tell("pour");
    gone.client.comes_to(CheckId::DeadPeer, || patient_for(Duration::from_millis(500)), |_| true);
}

#[test]
fn a_namespace_is_looked_into_by_whoever_lives_there_and_not_where_nobody_does() {
    let room = Room::new("serves", "true", "-");
    let ino = room.ino;
    let netns = Netns::open_pid(room.holder.id()).expect("it lives");
    let held = netns.run(|_| std::net::TcpListener::bind("0.0.0.0:81")).expect("enter").expect("listen");
    drop(room);
    // Its only socket is held by this process, which lives elsewhere.
    let only = Some([ino].into());
    let asked =
        doctor::Asked { checks: vec![CheckId::ListenOverflow], only, thresholds: brief(), ..Default::default() };
    let report = doctor::examine(&asked);
    assert_eq!((report.fine, report.findings), (vec![], vec![]));
    assert_eq!(report.not_made[0].reason, "its sockets are held by processes outside of it alone");
    drop(held);
}
