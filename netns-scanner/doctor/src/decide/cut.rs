//! `cut-by-exit` and `term-ignored`: a container that ended, and what it cut.

use crate::history::{Cut, Exited, UnderWay};
use crate::words::{plural, seconds};
use crate::{CheckId, Finding, Hurt, Severity, Subject, Thresholds};
use std::collections::BTreeMap;
use std::time::Duration;

const OOM: &[&str] = &["raise the memory limit, or find the leak"];
const DRAIN: &[&str] =
    &["on SIGTERM stop accepting and answer what is under way", "a preStop sleep of 5 s lets clients hear of it first"];
const LOG: &[&str] = &["its log tells why it ended: `kubectl logs --previous`"];

/// Clients told of in a sentence; the others are a number.
const CLIENTS: usize = 3;

/// Of a container: its end, and the connections that closed around it.
#[must_use]
pub fn cut_by_exit(of: &Subject, exited: &Exited, cuts: &[Cut], thresholds: &Thresholds) -> Option<Finding> {
    let from = thresholds.cut_from(exited.at, exited.oom, exited.code == Exited::KILLED);
    let within = from..=exited.at.plus(thresholds.cut_after);
    // Waited, by client and method.
    let mut lost: BTreeMap<(&Subject, &str), Vec<Duration>> = BTreeMap::new();
    let mut streams = 0_usize;
    for cut in cuts.iter().filter(|cut| within.contains(&cut.at)) {
        match &cut.what {
            UnderWay::Request { method, began } => {
                lost.entry((&cut.client, method)).or_default().push(cut.at.since(*began));
            }
            UnderWay::Stream => streams += 1,
        }
    }
    let requests: usize = lost.values().map(Vec::len).sum();
    if requests == 0 {
        return None;
    }
    let told = lost.iter().take(CLIENTS).map(|((client, method), waited)| {
        let longest = waited.iter().max().copied().unwrap_or_default();
        format!("{} x {method} from {} (waited up to {})", waited.len(), client.name, seconds(longest))
    });
    let mut summary = format!("{} unanswered: {}", plural(requests, "request"), told.collect::<Vec<_>>().join(", "));
    if lost.len() > CLIENTS {
        summary.push_str(&format!(", and {} kinds more", lost.len() - CLIENTS));
    }
    let (severity, why, remedy) = match (exited.oom, exited.code) {
        (Some(_), _) => (Severity::Error, "killed for memory".to_owned(), OOM),
        (None, code @ (0 | Exited::TERMINATED)) => (Severity::Warning, format!("exit {code}"), DRAIN),
        (None, Exited::UNTOLD) => (Severity::Warning, "ended, and nobody told how".to_owned(), LOG),
        (None, code) => (Severity::Warning, format!("exit {code}"), LOG),
    };
    let mut hurt: BTreeMap<&str, u64> = BTreeMap::new();
    for ((client, _), waited) in &lost {
        *hurt.entry(&client.name).or_default() += waited.len() as u64;
    }
    let mut finding = Finding::new(CheckId::CutByExit, severity, of, Duration::ZERO, format!("{why}: {summary}"))
        .with("requests", requests)
        .with("streams_ended", streams)
        .with("oom", u64::from(exited.oom.is_some()));
    if exited.code != Exited::UNTOLD {
        finding = finding.with("exit_code", u64::from(exited.code));
    }
    finding.remedy = remedy;
    finding.hurt = hurt.into_iter().map(|(client, requests)| Hurt { client: client.to_owned(), requests }).collect();
    Some(finding)
}

/// Of a container: it was still there when its pod was to be gone, and had to be killed.
#[must_use]
pub fn term_ignored(of: &Subject, exited: &Exited) -> Option<Finding> {
    let by = exited.deleted_by?;
    let killed = exited.code == Exited::KILLED && exited.oom.is_none();
    (killed && exited.at >= by).then(|| {
        let late = exited.at.since(by);
        let summary = format!("killed {} after its grace period was over: it did not end on SIGTERM", seconds(late));
        Finding::new(CheckId::TermIgnored, Severity::Warning, of, Duration::ZERO, summary)
            .with("exit_code", u64::from(exited.code))
            .with("late_s", late.as_secs_f64())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow_model::Ts;

    fn at(millis: u64) -> Ts {
        Ts(millis * 1_000_000)
    }

    fn cut(closed: u64, client: &str, method: &str, began: u64) -> Cut {
        let client = Subject { namespace: "shop".into(), kind: "Deployment".into(), name: client.into() };
        Cut { at: at(closed), client, what: UnderWay::Request { method: method.into(), began: at(began) } }
    }

    fn exited(code: u32, oom: Option<u64>) -> Exited {
        Exited { at: at(10_000), code, oom: oom.map(at), deleted_by: None }
    }

    fn find(exited: &Exited, cuts: &[Cut]) -> Option<Finding> {
        cut_by_exit(&Subject::default(), exited, cuts, &Thresholds::default())
    }

    #[test]
    fn whom_it_cost_how_many_requests_is_told() {
        let cuts =
            [cut(9_996, "web", "GET", 9_584), cut(9_997, "web", "GET", 9_902), cut(9_998, "mobile", "POST", 9_000)];
        let found = find(&exited(137, Some(9_992)), &cuts).expect("found");
        assert_eq!(found.severity, Severity::Error);
        assert_eq!(
            found.summary,
            "killed for memory: 3 requests unanswered: 1 x POST from mobile (waited up to 1.0 s), \
             2 x GET from web (waited up to 0.4 s)"
        );
        let hurt = |client: &str, requests| Hurt { client: client.to_owned(), requests };
        assert_eq!(found.hurt, [hurt("mobile", 1), hurt("web", 2)]);
        assert_eq!(found.remedy, OOM);
    }

    #[test]
    fn what_closed_long_before_or_after_was_cut_by_something_else() {
        let of = |closed| find(&exited(1, None), &[cut(closed, "web", "GET", 100)]).is_some();
        assert_eq!([8_999, 9_000, 12_000, 12_001].map(of), [false, true, true, false]);
        let of = |closed| find(&exited(137, Some(9_990)), &[cut(closed, "web", "GET", 100)]).is_some();
        assert_eq!([6_999, 7_000, 12_001].map(of), [false, true, false], "the kill is told late");
        let of = |closed| find(&exited(137, Some(5_000)), &[cut(closed, "web", "GET", 100)]).is_some();
        assert_eq!([4_999, 5_000].map(of), [false, true]);
    }

    #[test]
    fn a_stream_that_ended_is_no_request_that_was_cut() {
        let stream = Cut { what: UnderWay::Stream, ..cut(10_000, "web", "", 0) };
        assert_eq!(find(&exited(0, None), std::slice::from_ref(&stream)), None);
        let found = find(&exited(0, None), &[stream, cut(10_000, "web", "GET", 9_000)]).expect("found");
        assert_eq!(found.evidence.get("streams_ended"), Some(&1_u64.into()));
    }

    #[test]
    fn the_remedy_goes_by_how_it_ended() {
        let of = |code| find(&exited(code, None), &[cut(10_000, "web", "GET", 1)]).map(|found| found.remedy);
        assert_eq!([of(0), of(143), of(1), of(137)], [Some(DRAIN), Some(DRAIN), Some(LOG), Some(LOG)]);
        let untold = find(&exited(Exited::UNTOLD, None), &[cut(10_000, "web", "GET", 1)]).expect("found");
        assert!(untold.summary.starts_with("ended, and nobody told how: 1 request"), "{}", untold.summary);
        assert_eq!(untold.evidence.get("exit_code"), None);
    }

    #[test]
    fn many_clients_are_a_number() {
        let cuts: Vec<Cut> = (0..5).map(|n| cut(10_000, &format!("c{n}"), "GET", 1)).collect();
        let found = find(&exited(0, None), &cuts).expect("found");
        assert!(found.summary.ends_with(", and 2 kinds more"), "{}", found.summary);
        assert_eq!(found.hurt.len(), 5);
    }

    #[test]
    fn sigterm_was_ignored_where_only_sigkill_ended_it_and_the_grace_period_was_over() {
        let of = |code, oom, by: Option<u64>| {
            let exited = Exited { deleted_by: by.map(at), ..exited(code, oom) };
            term_ignored(&Subject::default(), &exited).is_some()
        };
        assert!(of(137, None, Some(10_000)) && of(137, None, Some(9_500)));
        assert!(!of(137, None, Some(10_001)), "killed before: by somebody else");
        assert!(!of(143, None, Some(9_000)) && !of(0, None, Some(9_000)), "it ended by itself");
        assert!(!of(137, Some(9_999), Some(9_000)) && !of(137, None, None));
    }
}
