//! `drops`: the kernel throws packets away, for a reason that is no health.

use crate::drops::{Dropped, Drops, Kind, REASONS, Reason};
use crate::sample::Delta;
use crate::words::seconds;
use crate::{Certainty, CheckId, Finding, Severity, Subject, Thresholds};
use flow_model::Ts;
use std::collections::BTreeMap;

/// What was dropped within a window, by the inode of the namespace where that is known.
pub type ByNamespace = BTreeMap<Option<u64>, Vec<(Reason, Delta)>>;

/// What came between two looks. Of a pair that was not there before all of it did; one that shows less than
/// before was looked at while it was moved, and says nothing.
#[must_use]
pub fn dropped_between(before: (&Drops, Ts), after: (&Drops, Ts)) -> ByNamespace {
    let ((before, from), (after, to)) = (before, after);
    let counted = |Dropped { netns, reason, count }: &Dropped| ((*netns, *reason), *count);
    let before: BTreeMap<_, u64> = before.dropped.iter().map(counted).collect();
    let mut out = ByNamespace::new();
    for Dropped { netns, reason, count } in &after.dropped {
        let earlier = before.get(&(*netns, *reason)).copied().unwrap_or(0);
        let delta = Delta { count: count.saturating_sub(earlier), window: to.since(from) };
        let is_told = delta.count > 0 && !delta.window.is_zero();
        if let Some(reason) = REASONS.get(*reason).filter(|_| is_told) {
            out.entry(*netns).or_default().push((*reason, delta));
        }
    }
    out
}

/// Of one namespace, or of those that are not known. On the node's own network a policy drops what comes from
/// outside, which is its purpose as a rule, and nobody can tell.
#[must_use]
pub fn drops(of: &Subject, dropped: &[(Reason, Delta)], is_node: bool, thresholds: &Thresholds) -> Option<Finding> {
    let much = |(_, delta): &&(Reason, Delta)| delta.rate() > thresholds.drops_per_second;
    let mut told: Vec<(Reason, Delta)> = dropped.iter().filter(much).copied().collect();
    told.sort_by_key(|(reason, delta)| (std::cmp::Reverse(delta.count), reason.name));
    let ((first, delta), others) = told.split_first()?;
    let mut summary =
        format!("{} packets dropped in {} {} ({})", delta.count, seconds(delta.window), first.words, first.name);
    for (reason, delta) in others {
        summary.push_str(&format!("; {} {} ({})", delta.count, reason.words, reason.name));
    }
    let mut finding = Finding::new(CheckId::Drops, Severity::Warning, of, delta.window, summary)
        .with("reason", first.name.to_owned())
        .with("dropped", delta.count)
        .with("rate", delta.rate())
        .with("window_s", delta.window.as_secs_f64());
    if !others.is_empty() {
        let names: Vec<String> =
            others.iter().map(|(reason, delta)| format!("{} {}", reason.name, delta.count)).collect();
        finding = finding.with("others", names.join(", "));
    }
    finding.remedy = first.kind.remedy();
    if is_node && told.iter().all(|(reason, _)| matches!(reason.kind, Kind::Policy | Kind::Route)) {
        finding.certainty = Certainty::Likely;
    }
    Some(finding)
}

/// Without what another check has told of the same subject, and better: it names the socket, or the interface.
#[must_use]
pub fn untold(dropped: Vec<(Reason, Delta)>, of: &Subject, found: &[Finding]) -> Vec<(Reason, Delta)> {
    let is_told = |name: &str| {
        let by = match name {
            "SOCKET_RCVBUFF" => CheckId::UdpDrop,
            "IP_RPFILTER" => CheckId::RpFilter,
            _ => return false,
        };
        found.iter().any(|finding| finding.id == by && finding.subject == *of)
    };
    dropped.into_iter().filter(|(reason, _)| !is_told(reason.name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn place(name: &str) -> usize {
        REASONS.iter().position(|reason| reason.name == name).expect("it is told")
    }

    fn of(counts: &[(Option<u64>, &str, u64)]) -> Drops {
        let dropped =
            counts.iter().map(|(netns, name, count)| Dropped { netns: *netns, reason: place(name), count: *count });
        Drops { dropped: dropped.collect(), missed: 0 }
    }

    fn at(second: u64) -> Ts {
        Ts(second * 1_000_000_000)
    }

    fn find(counts: &[(&str, u64)], is_node: bool) -> Option<Finding> {
        let counts: Vec<_> = counts.iter().map(|(name, count)| (Some(1), *name, *count)).collect();
        let by = dropped_between((&Drops::default(), at(0)), (&of(&counts), at(2)));
        drops(
            &Subject::default(),
            by.get(&Some(1)).map(Vec::as_slice).unwrap_or_default(),
            is_node,
            &Thresholds::default(),
        )
    }

    #[test]
    fn ten_a_second_of_one_reason_are_nothing_and_the_reason_gives_the_words() {
        assert_eq!(find(&[("NETFILTER_DROP", 20), ("SOCKET_RCVBUFF", 20)], false), None);
        let found = find(&[("NETFILTER_DROP", 21), ("SOCKET_RCVBUFF", 20)], false).expect("found");
        let said = "21 packets dropped in 2.0 s by a rule of netfilter (nftables, iptables) (NETFILTER_DROP)";
        assert_eq!((found.summary.as_str(), found.severity), (said, Severity::Warning));
        assert_eq!((found.remedy, found.certainty), (Kind::Policy.remedy(), Certainty::Measured));
    }

    #[test]
    fn one_finding_tells_all_reasons_and_what_to_do_of_the_first() {
        let found = find(&[("NETFILTER_DROP", 30), ("SOCKET_RCVBUFF", 50)], true).expect("found");
        let said = "50 packets dropped in 2.0 s at a socket's full receive buffer (SOCKET_RCVBUFF); \
                    30 by a rule of netfilter (nftables, iptables) (NETFILTER_DROP)";
        assert_eq!((found.summary.as_str(), found.remedy), (said, Kind::Buffer.remedy()));
        assert_eq!(found.evidence.get("others"), Some(&"NETFILTER_DROP 30".to_owned().into()));
        assert_eq!(found.certainty, Certainty::Measured);
        let policy = find(&[("NETFILTER_DROP", 30)], true).expect("found");
        assert_eq!(policy.certainty, Certainty::Likely, "what comes from outside");
    }

    #[test]
    fn what_came_since_counts_by_namespace() {
        let before = of(&[(Some(1), "TC_EGRESS", 5), (None, "XDP", 7), (Some(2), "XDP", 9)]);
        let after = of(&[(Some(1), "TC_EGRESS", 9), (None, "XDP", 7), (Some(2), "XDP", 4), (Some(3), "NOMEM", 1)]);
        let by = dropped_between((&before, at(0)), (&after, at(1)));
        let told: Vec<_> = by.iter().map(|(netns, all)| (*netns, all[0].0.name, all[0].1.count)).collect();
        assert_eq!(told, [(Some(1), "TC_EGRESS", 4), (Some(3), "NOMEM", 1)], "2 was moved meanwhile");
        assert_eq!(dropped_between((&before, at(1)), (&after, at(1))), ByNamespace::new(), "no time, no rate");
    }

    #[test]
    fn what_another_check_told_of_the_same_subject_is_left_to_it() {
        let name = |name: &str| Subject { name: name.to_owned(), ..Subject::default() };
        let told = [Finding::new(CheckId::UdpDrop, Severity::Warning, &name("a"), Duration::ZERO, String::new())];
        let dropped = || {
            let delta = Delta { count: 100, window: Duration::from_secs(2) };
            ["SOCKET_RCVBUFF", "IP_RPFILTER", "XDP"].map(|name| (REASONS[place(name)], delta)).to_vec()
        };
        let left =
            |of: &Subject| untold(dropped(), of, &told).iter().map(|(reason, _)| reason.name).collect::<Vec<_>>();
        assert_eq!(left(&name("a")), ["IP_RPFILTER", "XDP"]);
        assert_eq!(left(&name("b")), ["SOCKET_RCVBUFF", "IP_RPFILTER", "XDP"]);
    }

    proptest! {
        /// Found exactly where one reason alone is above the threshold, whatever else there is.
        #[test]
        fn a_finding_is_one_reason_above_the_threshold(counts in proptest::collection::vec((0usize..40, 0u64..60), 0..40)) {
            let dropped = counts.iter().map(|(reason, count)| Dropped { netns: None, reason: *reason, count: *count });
            let mut last: BTreeMap<usize, Dropped> = BTreeMap::new();
            for one in dropped {
                last.insert(one.reason, one);
            }
            let after = Drops { dropped: last.values().copied().collect(), missed: 0 };
            let by = dropped_between((&Drops::default(), at(0)), (&after, at(2)));
            let all = by.get(&None).cloned().unwrap_or_default();
            let found = drops(&Subject::node(), &all, false, &Thresholds::default());
            let expected = last.values().any(|one| one.reason < REASONS.len() && one.count > 20);
            prop_assert_eq!(found.is_some(), expected);
        }
    }
}
