//! What doctor says of the past: checks that an agent's timeline makes, and why one of them could not be made.

use crate::cli::args::DoctorArgs;
use crate::findings;
use agent_api::{AskError, Kubernetes, Timeline};
use doctor::{CheckId, NotMade, Report, Thresholds};

/// The report with what the agent's timeline says.
pub fn with_history(
    report: Report,
    checks: &[CheckId],
    args: &DoctorArgs,
    kubernetes: Option<&Kubernetes>,
    timeline: Result<Timeline, AskError>,
) -> Report {
    let timeline = match timeline {
        Ok(timeline) => timeline,
        Err(error) => {
            let reason = match kubernetes {
                Some(_) => crate::exit::in_full(error),
                None => "what happened before is known to an agent alone, and none answered".to_owned(),
            };
            let not_made = checks.iter().map(|id| NotMade { id: *id, reason: reason.clone() }).collect();
            return report.with(&[], Vec::new(), not_made);
        }
    };
    let (made, blind): (Vec<CheckId>, Vec<CheckId>) = checks
        .iter()
        .partition(|id| !findings::OF_CLUSTER.contains(id) || kubernetes.is_some_and(|of| of.link == "connected"));
    let reason = match kubernetes.map(|of| of.detail.as_str()) {
        None | Some("") => "no API server tells of the pods".to_owned(),
        Some(detail) => format!("no API server tells of the pods: {detail}"),
    };
    let mut not_made: Vec<NotMade> = blind.into_iter().map(|id| NotMade { id, reason: reason.clone() }).collect();
    let looks = |id: &CheckId| match id {
        CheckId::DnsSearch => timeline.searches.is_some(),
        CheckId::DnsRetry => timeline.retries.is_some(),
        CheckId::RetryStorm => timeline.storms.is_some(),
        CheckId::ApiStorm => timeline.api.is_some(),
        _ => true,
    };
    let (made, older): (Vec<CheckId>, Vec<CheckId>) = made.into_iter().partition(looks);
    let reason = "the agent is of an older version, and does not look".to_owned();
    not_made.extend(older.into_iter().map(|id| NotMade { id, reason: reason.clone() }));
    let (made, untold): (Vec<CheckId>, Vec<CheckId>) =
        made.into_iter().partition(|id| !findings::OF_PROBES.contains(id) || timeline.probes.is_some());
    let reason = "nobody told which probes the pods of this node have".to_owned();
    not_made.extend(untold.into_iter().map(|id| NotMade { id, reason: reason.clone() }));
    let mut found = findings::of(&timeline, &Thresholds::default());
    found.retain(|finding| {
        made.contains(&finding.id) && args.namespace.as_ref().is_none_or(|wanted| *wanted == finding.subject.namespace)
    });
    report.with(&made, found, not_made)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use doctor::Looked;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        doctor: DoctorArgs,
    }

    /// What it says of these, and of nothing else.
    fn told(checks: &[CheckId], kubernetes: Option<&Kubernetes>, timeline: Result<Timeline, AskError>) -> Vec<String> {
        let line = Line::parse_from(["doctor"]);
        let (findings, fine, not_made) = (Vec::new(), Vec::new(), Vec::new());
        let empty =
            Report { window_s: 0.0, findings, fine, not_made, looked: Looked::default(), throttled: Vec::new() };
        let report = with_history(empty, checks, &line.doctor, kubernetes, timeline);
        assert_eq!(report.findings, []);
        let fine = report.fine.iter().map(|id| format!("{id} fine"));
        fine.chain(report.not_made.iter().map(|NotMade { id, reason }| format!("{id}: {reason}"))).collect()
    }

    fn connected() -> Kubernetes {
        Kubernetes { link: "connected".into(), ..Kubernetes::default() }
    }

    #[test]
    fn an_older_agent_does_not_look_and_that_is_not_fine() {
        let checks = [CheckId::CutByExit, CheckId::DnsRetry, CheckId::ProbeSlow];
        let expected = [
            "cut-by-exit fine",
            "dns-retry: the agent is of an older version, and does not look",
            "probe-slow: nobody told which probes the pods of this node have",
        ];
        assert_eq!(told(&checks, Some(&connected()), Ok(Timeline::default())), expected);
    }

    #[test]
    fn what_answers_in_no_words_of_this_version_is_told_as_such() {
        let strange = || AskError::Strange { socket: "/x".into(), what: "/v1/timeline: HTTP status 404".into() };
        let expected = ["cut-by-exit: what answers on /x is no agent of this version: /v1/timeline: HTTP status 404"];
        assert_eq!(told(&[CheckId::CutByExit], Some(&connected()), Err(strange())), expected);
        let expected = ["cut-by-exit: what happened before is known to an agent alone, and none answered"];
        assert_eq!(told(&[CheckId::CutByExit], None, Err(AskError::NoAgent("/x".into()))), expected);
    }

    #[test]
    fn without_an_api_server_nobody_tells_of_the_pods() {
        let off = Kubernetes { link: "waiting".into(), detail: "401 Unauthorized".into(), ..Kubernetes::default() };
        let expected = ["cut-by-exit fine", "term-ignored: no API server tells of the pods: 401 Unauthorized"];
        assert_eq!(told(&[CheckId::CutByExit, CheckId::TermIgnored], Some(&off), Ok(Timeline::default())), expected);
    }
}
