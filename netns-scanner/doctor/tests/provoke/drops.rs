//! Packets that the kernel drops, each for the reason that the test gives it.

use crate::node::Flood;
use crate::peers::Pair;
use crate::room::{Room, brief, number, run};
use capture_engine::kernel;
use doctor::drops::{BeginsToCount, CountsDrops, Dropped, Drops, Kind};
use doctor::{Asked, Certainty, CheckId, Finding, Severity, examine};

struct Counter(kernel::Drops);

/// As the agent's command line does it.
pub fn begin(reasons: &[&'static str]) -> Result<Box<dyn CountsDrops>, String> {
    let drops =
        kernel::Drops::load(reasons, kernel::DropsRoom::default()).map_err(|error| flow_model::in_full(&error))?;
    Ok(Box::new(Counter(drops)))
}

impl CountsDrops for Counter {
    fn counts(&mut self) -> Result<Drops, String> {
        let unread = |error: std::io::Error| error.to_string();
        let (counts, missed) = (self.0.counts().map_err(unread)?, self.0.missed().map_err(unread)?);
        let told = |kernel::Dropped { netns, reason, count }: kernel::Dropped| Dropped {
            netns: netns.map(u64::from),
            reason,
            count,
        };
        Ok(Drops { dropped: counts.into_iter().map(told).collect(), missed })
    }
}

fn is_for(reason: &'static str) -> impl Fn(&Finding) -> bool {
    move |found| found.evidence.get("reason") == Some(&reason.to_owned().into())
}

/// A server whose firewall does that with what comes to port 9.
fn firewall(does: &str) -> String {
    format!(
        "nft add table ip t && nft 'add chain ip t i {{ type filter hook input priority 0; }}' \
         && nft add rule ip t i udp dport 9 counter {does}"
    )
}

#[test]
fn what_a_firewall_drops_is_found_as_a_policy_and_what_it_lets_pass_is_fine() {
    let (ill, fine) = (Pair::of("sends", &firewall("drop")), Pair::of("sends", &firewall("accept")));
    let _floods = [Flood::from(&ill), Flood::from(&fine)];
    let found = ill.server.comes_to(CheckId::Drops, brief, is_for("NETFILTER_DROP"));
    assert_eq!((found.severity, found.certainty), (Severity::Warning, Certainty::Measured), "{found:?}");
    assert_eq!((found.subject.kind.as_str(), found.remedy), ("Process", Kind::Policy.remedy()), "{found:?}");
    assert!(number(&found, "rate") > 10.0 && number(&found, "dropped") > 5.0, "{found:?}");
    ill.client.finds_nothing(CheckId::Drops, brief());
    // Nobody listens there: the kernel drops as many, and says that to who asks for them.
    fine.server.finds_nothing(CheckId::Drops, brief());
}

#[test]
fn what_a_small_buffer_loses_is_found_and_left_to_the_check_that_knows_the_socket() {
    let room = Room::new("receives", "true", "8125 slow");
    let found = room.comes_to(CheckId::Drops, brief, is_for("SOCKET_RCVBUFF"));
    assert_eq!((found.subject.kind.as_str(), found.remedy), ("Process", Kind::Buffer.remedy()), "{found:?}");
    let (checks, only) = (vec![CheckId::Drops, CheckId::UdpDrop], Some([room.ino].into()));
    let drops: Option<BeginsToCount> = Some(begin);
    let both = loop {
        let (checks, only) = (checks.clone(), Clone::clone(&only));
        let report = examine(&Asked { checks, only, thresholds: brief(), drops, ..Asked::default() });
        // A window in which the sender hardly ran has too few for either.
        if report.findings.iter().any(|finding| finding.id == CheckId::UdpDrop) {
            break report;
        }
    };
    assert_eq!((both.findings.len(), both.fine, both.not_made), (1, vec![CheckId::Drops], vec![]));
    Room::new("receives", "true", "8125 fast").finds_nothing(CheckId::Drops, brief());
}

#[test]
fn what_comes_the_wrong_way_is_found_as_that_and_what_a_neighbour_sends_is_fine() {
    let strict = "echo 1 > /proc/sys/net/ipv4/conf/all/rp_filter && ip route add 10.77.0.0/24 dev lo";
    let pair = Pair::of("sends", strict);
    let flood = Flood::from(&pair);
    pair.server.finds_nothing(CheckId::Drops, brief());
    let pid = pair.client.holder.id().to_string();
    for words in [
        "echo 2 > /proc/sys/net/ipv4/conf/all/arp_announce",
        "ip addr add 10.77.0.1/32 dev lo",
        "ip route replace 10.9.0.0/24 dev a0 src 10.77.0.1",
    ] {
        run("nsenter", &["--net", "-t", &pid, "sh", "-c", words]);
    }
    let found = pair.server.comes_to(CheckId::Drops, brief, is_for("IP_RPFILTER"));
    assert_eq!((found.severity, found.remedy), (Severity::Warning, Kind::Route.remedy()), "{found:?}");
    drop(flood);
    pair.server.finds_nothing(CheckId::Drops, brief());
}

#[test]
fn who_cannot_count_says_so_and_is_not_fine() {
    let refuses: BeginsToCount = |_| Err("this kernel does not".to_owned());
    let room = Room::new("serves", "true", "-");
    for (drops, reason) in [(Some(refuses), "this kernel does not"), (None, "nobody counts them")] {
        let (checks, only) = (vec![CheckId::Drops], Some([room.ino].into()));
        let report = examine(&Asked { checks, only, thresholds: brief(), drops, ..Asked::default() });
        assert_eq!((report.fine.len(), report.findings.len(), report.not_made[0].reason.as_str()), (0, 0, reason));
    }
}
