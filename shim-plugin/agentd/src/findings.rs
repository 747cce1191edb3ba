//! What the agent's own history says is wrong: its timeline, taken apart for `doctor`'s decisions.
//! The command line asks for it, and the agent does for its gauge: one way, and so one answer.

use agent_api::{ApiRow, CutRow, LookupRow, ProbeRow, RetryRow, StormRow, Timeline, TimelineEvent};
use doctor::decide::{
    api_opened, cut_by_exit, dns_retry, dns_search, probe_kill, probe_slow, recent, retry_storm, term_ignored,
    with_throttling,
};
use doctor::history::{
    Cut, EdgeLoad, Exited, Lookups, Opened, Periods, ProbeKind, ProbeSpec, Probed, Retried, UnderWay,
};
use doctor::{Certainty, CheckId, Finding, Hurt, Subject, Thresholds};
use flow_model::Ts;
use std::collections::BTreeMap;
use std::time::Duration;

/// Checks that are made by it.
pub const MADE: [CheckId; 8] = [
    CheckId::CutByExit,
    CheckId::TermIgnored,
    CheckId::ProbeSlow,
    CheckId::ProbeKill,
    CheckId::DnsSearch,
    CheckId::DnsRetry,
    CheckId::RetryStorm,
    CheckId::ApiStorm,
];
/// Those of them that are made of pods and the API server alone: where there is no cluster there is nothing
/// to look at.
pub const WITH_CLUSTER: [CheckId; 4] =
    [CheckId::TermIgnored, CheckId::ProbeSlow, CheckId::ProbeKill, CheckId::ApiStorm];
/// Those of them that the Kubernetes API has to tell something for: when pods were deleted, and what
/// the kubelet asks them for.
pub const OF_CLUSTER: [CheckId; 3] = [CheckId::TermIgnored, CheckId::ProbeSlow, CheckId::ProbeKill];
/// Those for which it is what the kubelet asks for.
pub const OF_PROBES: [CheckId; 2] = [CheckId::ProbeSlow, CheckId::ProbeKill];

/// One finding for each check and workload.
#[must_use]
pub fn of(timeline: &Timeline, thresholds: &Thresholds) -> Vec<Finding> {
    let exits = timeline.events.iter().filter(|event| event.event == "exit");
    let mut found = together(exits.flat_map(|event| of_exit(event, timeline.now_ms, thresholds)).collect());
    found.extend(timeline.searches.iter().flatten().filter_map(|row| searching(row, thresholds)));
    found.extend(timeline.retries.iter().flatten().filter_map(|row| asked_again(row, thresholds)));
    found.extend(timeline.storms.iter().flatten().filter_map(|row| storming(row, thresholds)));
    found.extend(timeline.api.iter().flatten().filter_map(|row| opening(row, thresholds)));
    found.extend(timeline.probes.iter().flatten().filter_map(|row| slow(row, timeline.now_ms, thresholds)));
    found
}

/// The kubelet ended the container of this exit for that probe.
#[must_use]
pub fn ended_by_probe(event: &TimelineEvent, row: &ProbeRow, thresholds: &Thresholds) -> Option<Finding> {
    let (spec, seen) = probe(row);
    let grace = Duration::from_millis(row.grace_ms);
    let killed = probe_kill(&probed(row), &spec, &seen, &exited(event), grace, thresholds)?;
    Some(with_throttling(killed, periods(row), thresholds))
}

fn at(ms: u64) -> Ts {
    Ts(ms.saturating_mul(1_000_000))
}

fn exited(event: &TimelineEvent) -> Exited {
    let TimelineEvent { at_ms, code, oom_ms, deleted_by_ms, .. } = event;
    Exited {
        at: at(*at_ms),
        code: code.unwrap_or(Exited::UNTOLD),
        oom: oom_ms.map(|before| at(at_ms.saturating_sub(before))),
        deleted_by: deleted_by_ms.map(at),
    }
}

fn of_exit(event: &TimelineEvent, now_ms: u64, thresholds: &Thresholds) -> Vec<Finding> {
    let TimelineEvent { at_ms, likely, probe, .. } = event;
    let (exited, subject) = (exited(event), subject(event));
    let mut cut = cut_by_exit(&subject, &exited, &cuts(event), thresholds);
    if let Some(cut) = cut.as_mut().filter(|_| *likely) {
        cut.certainty = Certainty::Likely;
    }
    let killed = probe.as_deref().and_then(|row| ended_by_probe(event, row, thresholds));
    let killed = killed.map(|killed| with_cut(killed, cut.as_ref()));
    // A sandbox has nothing to answer.
    let term = term_ignored(&subject, &exited).filter(|_| !event.sandbox);
    let held = Duration::from_millis(now_ms.saturating_sub(*at_ms));
    cut.into_iter().chain(killed).chain(term).map(|finding| Finding { held, ..finding }).collect()
}

/// With what the kill cost whom.
fn with_cut(killed: Finding, cut: Option<&Finding>) -> Finding {
    let hurt = cut.map(|cut| cut.hurt.clone()).unwrap_or_default();
    let requests: u64 = hurt.iter().map(|hurt| hurt.requests).sum();
    let what = match requests {
        0 => "it cut no request".to_owned(),
        1 => "it cut 1 request".to_owned(),
        many => format!("it cut {many} requests"),
    };
    let summary = format!("{}; {what}", killed.summary);
    Finding { hurt, summary, ..killed }.with("requests", requests)
}

fn slow(row: &ProbeRow, now_ms: u64, thresholds: &Thresholds) -> Option<Finding> {
    let (spec, seen) = probe(row);
    let slow = probe_slow(&probed(row), &spec, &recent(&seen, at(now_ms), thresholds), thresholds)?;
    Some(with_throttling(slow, periods(row), thresholds))
}

/// As its edges have it: that is as good a name as there is, and containerd's may be the pod's.
fn probed(row: &ProbeRow) -> Subject {
    let ProbeRow { namespace, workload, .. } = row;
    Subject { namespace: namespace.clone(), kind: "Workload".to_owned(), name: workload.clone() }
}

fn probe(row: &ProbeRow) -> (ProbeSpec, Vec<Probed>) {
    let ProbeRow { probe, path, timeout_ms, failure_threshold, asked_by, seen, .. } = row;
    let kind = match probe.as_str() {
        "liveness" => ProbeKind::Liveness,
        "startup" => ProbeKind::Startup,
        _ => ProbeKind::Readiness,
    };
    let spec = ProbeSpec {
        kind,
        path: path.clone(),
        timeout: Duration::from_millis(*timeout_ms),
        failure_threshold: *failure_threshold,
        asked_by: *asked_by,
    };
    let probed = seen.iter().map(|one| Probed {
        at: at(one.at_ms),
        took: one.took_us.map(Duration::from_micros),
        good: one.good,
    });
    (spec, probed.collect())
}

fn periods(row: &ProbeRow) -> Option<Periods> {
    row.throttled.map(|of| Periods { all: of.periods, throttled: of.throttled })
}

fn searching(row: &LookupRow, thresholds: &Thresholds) -> Option<Finding> {
    let LookupRow { namespace, client, lookups, searched, window_ms } = row;
    let of = Subject { namespace: namespace.clone(), kind: "Workload".to_owned(), name: client.clone() };
    let window = Duration::from_millis(*window_ms);
    dns_search(&of, Lookups { all: *lookups, searched: *searched, window }, thresholds)
}

fn asked_again(row: &RetryRow, thresholds: &Thresholds) -> Option<Finding> {
    let RetryRow { namespace, client, lookups, late, unanswered, longest_ms, window_ms } = row;
    let of = Subject { namespace: namespace.clone(), kind: "Workload".to_owned(), name: client.clone() };
    let retried = Retried {
        all: *lookups,
        late: *late,
        unanswered: *unanswered,
        longest: Duration::from_millis(*longest_ms),
        window: Duration::from_millis(*window_ms),
    };
    let found = dns_retry(&of, retried, thresholds)?;
    Some(Finding { hurt: vec![Hurt { client: whole(&of), requests: late + unanswered }], ..found })
}

fn storming(row: &StormRow, thresholds: &Thresholds) -> Option<Finding> {
    let StormRow { namespace, client, server, requests, failed, usual, own, own_usual, window_ms } = row;
    let of = Subject { namespace: namespace.clone(), kind: "Workload".to_owned(), name: client.clone() };
    let window = Duration::from_millis(*window_ms);
    let rate = |count: u64| if window.is_zero() { 0.0 } else { count as f64 / window.as_secs_f64() };
    let load = EdgeLoad {
        requests: *requests,
        failed: *failed,
        window,
        usual: Some(rate(*usual)),
        own: rate(*own),
        own_usual: rate(*own_usual),
    };
    let found = retry_storm(&of, server, &load, thresholds)?;
    Some(Finding { hurt: vec![Hurt { client: whole(&of), requests: *failed }], ..found })
}

fn opening(row: &ApiRow, thresholds: &Thresholds) -> Option<Finding> {
    let ApiRow { namespace, client, connections, window_ms } = row;
    let of = Subject { namespace: namespace.clone(), kind: "Workload".to_owned(), name: client.clone() };
    let seen = Opened { connections: *connections, window: Duration::from_millis(*window_ms) };
    api_opened(&of, seen, thresholds)
}

fn whole(subject: &Subject) -> String {
    match subject.namespace.as_str() {
        "" => subject.name.clone(),
        namespace => format!("{namespace}/{}", subject.name),
    }
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
    use agent_api::{ProbedRow, Throttled};
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
    fn a_client_that_asks_for_names_again_and_one_that_storms_are_found_with_what_it_cost_them() {
        let retry = |client: &str, late| RetryRow {
            namespace: "shop".into(),
            client: client.into(),
            lookups: 100,
            late,
            longest_ms: 5_003,
            window_ms: 30_000,
            ..RetryRow::default()
        };
        let storm = |client: &str, requests, failed| StormRow {
            namespace: "shop".into(),
            client: client.into(),
            server: "shop/api".into(),
            requests,
            failed,
            usual: 300,
            own: 60,
            own_usual: 60,
            window_ms: 30_000,
        };
        let retries = Some(vec![retry("slow", 7), retry("fine", 0)]);
        let storms = Some(vec![storm("storms", 900, 600), storm("grew", 900, 9), storm("fails", 300, 200)]);
        let found = of(&Timeline { retries, storms, ..Timeline::default() }, &Thresholds::default());
        let told: Vec<_> =
            found.iter().map(|one| (one.id, one.severity, one.hurt[0].client.as_str(), one.hurt[0].requests)).collect();
        let expected = [
            (CheckId::DnsRetry, Severity::Error, "shop/slow", 7),
            (CheckId::RetryStorm, Severity::Warning, "shop/storms", 600),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_client_that_opens_connections_to_the_api_server_all_the_time_is_found() {
        let row = |client: &str, connections| ApiRow {
            namespace: "shop".into(),
            client: client.into(),
            connections,
            window_ms: 300_000,
        };
        let api = Some(vec![row("polls", 601), row("probes", 600)]);
        let found = of(&Timeline { api, ..Timeline::default() }, &Thresholds::default());
        let ids: Vec<_> = found.iter().map(|finding| (finding.id, finding.subject.name.as_str())).collect();
        assert_eq!(ids, [(CheckId::ApiStorm, "polls")]);
    }

    /// A probe every 10 s of which the last one began at `last_ms`; milliseconds, 0 for no answer.
    fn probes(kind: &str, last_ms: u64, took: &[u64]) -> ProbeRow {
        let first = last_ms + 10_000 - took.len() as u64 * 10_000;
        let seen = took.iter().zip(0..).map(|(took, place): (&u64, u64)| ProbedRow {
            at_ms: first + place * 10_000,
            took_us: (*took > 0).then_some(took * 1000),
            good: *took > 0,
        });
        ProbeRow {
            namespace: "shop".into(),
            workload: "api".into(),
            probe: kind.into(),
            path: "/healthz".into(),
            timeout_ms: 1_000,
            failure_threshold: 3,
            grace_ms: 30_000,
            asked_by: 1,
            seen: seen.collect(),
            ..ProbeRow::default()
        }
    }

    #[test]
    fn a_probe_that_slows_down_is_found_before_it_fails_with_throttling_beside_it() {
        let found = |row| {
            let timeline = Timeline { now_ms: 400_000, probes: Some(vec![row]), ..Timeline::default() };
            let found = of(&timeline, &Thresholds::default());
            found.into_iter().map(|finding| (finding.id, finding.severity, finding.summary)).collect::<Vec<_>>()
        };
        assert_eq!(found(probes("readiness", 395_000, &[20, 30, 400])), [], "its healthy twin");
        let throttled = Some(Throttled { periods: 100, throttled: 61 });
        let said = "readiness probe /healthz p99 0.7 s of 1.0 s; CPU throttled in 61 % of its periods".to_owned();
        let row = ProbeRow { throttled, ..probes("readiness", 395_000, &[20, 30, 700]) };
        assert_eq!(found(row), [(CheckId::ProbeSlow, Severity::Warning, said)]);
        assert_eq!(found(probes("readiness", 99_000, &[700])), [], "long ago");
    }

    #[test]
    fn a_kill_by_a_probe_is_found_with_what_it_cut_and_other_ends_are_not() {
        let killed = |took: &[u64], code| {
            let probe = Some(Box::new(probes("liveness", 77_000, took)));
            let exit = TimelineEvent { probe, code: Some(code), ..exit(80_000, "api", &[("web", 2), ("mobile", 1)]) };
            let found = found(vec![exit]);
            let kill = found.into_iter().find(|finding| finding.id == CheckId::ProbeKill);
            kill.map(|kill| (kill.severity, kill.summary, kill.hurt.len()))
        };
        let said = "ended by the kubelet after 3 failures of the liveness probe /healthz: no answer, no answer, \
                    no answer; it cut 3 requests";
        assert_eq!(killed(&[20, 0, 0, 0], 137), Some((Severity::Error, said.to_owned(), 2)));
        assert_eq!(killed(&[20, 20, 0, 0], 137), None);
        assert_eq!(killed(&[20, 0, 0, 0], 139), None);
    }

    #[test]
    fn an_exit_that_cut_nothing_is_none_whatever_its_code() {
        assert_eq!(found(vec![exit(80_000, "api", &[]), exit(90_000, "api", &[])]), []);
        assert_eq!(found(vec![TimelineEvent { streams: 3, ..exit(80_000, "api", &[]) }]), []);
    }
}
