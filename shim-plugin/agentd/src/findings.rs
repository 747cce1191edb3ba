//! What the agent's own history says is wrong: its timeline, taken apart for `doctor`'s decisions.
//! The command line asks for it, and the agent does for its gauge: one way, and so one answer.

use agent_api::{CutRow, LookupRow, Timeline, TimelineEvent};
use doctor::decide::{cut_by_exit, dns_search, term_ignored};
use doctor::history::{Cut, Exited, Lookups, UnderWay};
use doctor::{Certainty, CheckId, Finding, Hurt, Subject, Thresholds};
use flow_model::Ts;
use std::collections::BTreeMap;
use std::time::Duration;

/// Checks that are made by it.
pub const MADE: [CheckId; 3] = [CheckId::CutByExit, CheckId::TermIgnored, CheckId::DnsSearch];
/// Those of them that the Kubernetes API has to tell something for: when pods were deleted.
pub const OF_CLUSTER: [CheckId; 1] = [CheckId::TermIgnored];

/// One finding for each check and workload.
#[must_use]
pub fn of(timeline: &Timeline, thresholds: &Thresholds) -> Vec<Finding> {
    let exits = timeline.events.iter().filter(|event| event.event == "exit");
    let mut found = together(exits.flat_map(|event| of_exit(event, timeline.now_ms, thresholds)).collect());
    found.extend(timeline.searches.iter().flatten().filter_map(|row| searching(row, thresholds)));
    found
}

fn at(ms: u64) -> Ts {
    Ts(ms.saturating_mul(1_000_000))
}

fn of_exit(event: &TimelineEvent, now_ms: u64, thresholds: &Thresholds) -> Vec<Finding> {
    let TimelineEvent { at_ms, code, oom_ms, likely, .. } = event;
    let exited = Exited {
        at: at(*at_ms),
        code: code.unwrap_or(Exited::UNTOLD),
        oom: oom_ms.map(|before| at(at_ms.saturating_sub(before))),
        deleted_by: event.deleted_by_ms.map(at),
    };
    let subject = subject(event);
    let mut cut = cut_by_exit(&subject, &exited, &cuts(event), thresholds);
    if let Some(cut) = cut.as_mut().filter(|_| *likely) {
        cut.certainty = Certainty::Likely;
    }
    // A sandbox has nothing to answer.
    let term = term_ignored(&subject, &exited).filter(|_| !event.sandbox);
    let held = Duration::from_millis(now_ms.saturating_sub(*at_ms));
    cut.into_iter().chain(term).map(|finding| Finding { held, ..finding }).collect()
}

fn searching(row: &LookupRow, thresholds: &Thresholds) -> Option<Finding> {
    let LookupRow { namespace, client, lookups, searched, window_ms } = row;
    let of = Subject { namespace: namespace.clone(), kind: "Workload".to_owned(), name: client.clone() };
    let window = Duration::from_millis(*window_ms);
    dns_search(&of, Lookups { all: *lookups, searched: *searched, window }, thresholds)
}

fn subject(event: &TimelineEvent) -> Subject {
    let TimelineEvent { namespace, workload, .. } = event;
    Subject { namespace: namespace.clone(), kind: "Workload".to_owned(), name: workload.clone() }
}

/// The agent has joined them with their exit already.
fn cuts(event: &TimelineEvent) -> Vec<Cut> {
    let TimelineEvent { at_ms, cut_requests, cut, streams, .. } = event;
    let told: u64 = cut.iter().map(|row| row.requests).sum();
    let others = CutRow {
        client: "others".to_owned(),
        what: "request".to_owned(),
        requests: cut_requests.saturating_sub(told),
        ..CutRow::default()
    };
    let mut out = Vec::new();
    for row in cut.iter().chain([&others]) {
        let CutRow { client_namespace, client, client_kind, what, requests, waited_ms, .. } = row;
        let name = if client_namespace.is_empty() { client.clone() } else { format!("{client_namespace}/{client}") };
        let client = Subject { namespace: client_namespace.clone(), kind: client_kind.clone(), name };
        let waited = waited_ms.iter().copied().chain(std::iter::repeat(0));
        for (waited, _) in waited.zip(0..*requests) {
            let what = UnderWay::Request { method: what.clone(), began: at(at_ms.saturating_sub(waited)) };
            out.push(Cut { at: at(*at_ms), client: client.clone(), what });
        }
    }
    let stream = || Cut { at: at(*at_ms), client: Subject::default(), what: UnderWay::Stream };
    out.extend((0..*streams).map(|_| stream()));
    out
}

/// Exits of one workload are one finding: the worst of them in words, the clients of all.
fn together(findings: Vec<Finding>) -> Vec<Finding> {
    let mut by_subject: BTreeMap<(CheckId, Subject), Vec<Finding>> = BTreeMap::new();
    for finding in findings {
        by_subject.entry((finding.id, finding.subject.clone())).or_default().push(finding);
    }
    let one = |mut same: Vec<Finding>| {
        let requests = |finding: &Finding| finding.hurt.iter().map(|hurt| hurt.requests).sum::<u64>();
        same.sort_by_key(|finding| (finding.severity, requests(finding)));
        let count = same.len();
        let mut hurt: BTreeMap<String, u64> = BTreeMap::new();
        for of in same.iter().flat_map(|finding| &finding.hurt) {
            *hurt.entry(of.client.clone()).or_default() += of.requests;
        }
        let held = same.iter().map(|finding| finding.held).max().unwrap_or_default();
        let mut worst = same.pop()?;
        let all: u64 = hurt.values().sum();
        if count > 1 {
            worst.summary.push_str(&format!("; the worst of {count} exits"));
            if all > 0 {
                worst.summary.push_str(&format!(", which cost {all} requests"));
            }
        }
        worst.held = held;
        worst.hurt = hurt.into_iter().map(|(client, requests)| Hurt { client, requests }).collect();
        Some(worst.with("exits", count))
    };
    by_subject.into_values().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use doctor::Severity;

    fn exit(at_ms: u64, workload: &str, rows: &[(&str, u64)]) -> TimelineEvent {
        let row = |(client, requests): &(&str, u64)| CutRow {
            client_namespace: "shop".into(),
            client: (*client).to_owned(),
            what: "GET".into(),
            requests: *requests,
            waited_ms: vec![412],
            ..CutRow::default()
        };
        TimelineEvent {
            at_ms,
            event: "exit".into(),
            namespace: "shop".into(),
            workload: workload.into(),
            code: Some(1),
            cut_requests: rows.iter().map(|(_, requests)| requests).sum(),
            cut: rows.iter().map(row).collect(),
            ..TimelineEvent::default()
        }
    }

    fn found(events: Vec<TimelineEvent>) -> Vec<Finding> {
        of(&Timeline { now_ms: 100_000, events, ..Timeline::default() }, &Thresholds::default())
    }

    #[test]
    fn exits_of_a_workload_that_cut_are_one_finding_with_the_clients_of_all() {
        let oom = TimelineEvent { oom_ms: Some(8), code: Some(137), ..exit(90_000, "api", &[("web", 2)]) };
        let start = TimelineEvent { event: "start".into(), ..exit(85_000, "api", &[("web", 1)]) };
        let events = vec![exit(80_000, "api", &[("web", 5), ("mobile", 1)]), start, oom, exit(95_000, "quiet", &[])];
        let found = found(events);
        let [finding] = found.as_slice() else { panic!("one finding: {found:?}") };
        assert_eq!((finding.severity, finding.held), (Severity::Error, Duration::from_secs(20)));
        assert_eq!(
            finding.summary,
            "killed for memory: 2 requests unanswered: 2 x GET from shop/web (waited up to 0.4 s); \
             the worst of 2 exits, which cost 8 requests"
        );
        let hurt: Vec<_> = finding.hurt.iter().map(|hurt| (hurt.client.as_str(), hurt.requests)).collect();
        assert_eq!(hurt, [("shop/mobile", 1), ("shop/web", 7)]);
    }

    #[test]
    fn requests_beyond_those_that_are_told_apart_are_somebodys_too() {
        let more = TimelineEvent { cut_requests: 9, likely: true, code: None, ..exit(80_000, "api", &[("web", 5)]) };
        let found = found(vec![more]);
        let hurt: Vec<_> = found[0].hurt.iter().map(|hurt| (hurt.client.as_str(), hurt.requests)).collect();
        assert_eq!(hurt, [("others", 4), ("shop/web", 5)]);
        assert_eq!(found[0].certainty, Certainty::Likely);
    }

    #[test]
    fn a_container_that_had_to_be_killed_after_its_grace_period_is_found_and_its_sandbox_is_not() {
        let killed = TimelineEvent { code: Some(137), deleted_by_ms: Some(79_000), ..exit(80_000, "api", &[]) };
        let sandbox = TimelineEvent { sandbox: true, workload: "pause".into(), ..killed.clone() };
        let asked = TimelineEvent { code: Some(143), workload: "listens".into(), ..killed.clone() };
        let found = found(vec![killed, sandbox, asked]);
        let ids: Vec<_> = found.iter().map(|finding| (finding.id, finding.subject.name.as_str())).collect();
        assert_eq!(ids, [(CheckId::TermIgnored, "api")]);
    }

    #[test]
    fn a_client_that_looks_most_names_up_in_vain_is_found() {
        let row = |client: &str, lookups, searched| LookupRow {
            namespace: "shop".into(),
            client: client.into(),
            lookups,
            searched,
            window_ms: 30_000,
        };
        let searches = Some(vec![row("web", 400, 300), row("tidy", 400, 100), row("quiet", 40, 30)]);
        let found = of(&Timeline { searches, ..Timeline::default() }, &Thresholds::default());
        let ids: Vec<_> = found.iter().map(|finding| (finding.id, finding.subject.name.as_str())).collect();
        assert_eq!(ids, [(CheckId::DnsSearch, "web")]);
    }

    #[test]
    fn an_exit_that_cut_nothing_is_none_whatever_its_code() {
        assert_eq!(found(vec![exit(80_000, "api", &[]), exit(90_000, "api", &[])]), []);
        assert_eq!(found(vec![TimelineEvent { streams: 3, ..exit(80_000, "api", &[]) }]), []);
    }
}
