//! `pilotfish_finding`: what the agent itself holds for wrong, window by window.

use super::details::Details;
use crate::findings;
use agent_api::Timeline;
use doctor::decide::beside_others;
use doctor::node::NodeLook;
use doctor::{CheckId, Finding, Holding, Severity, Subject, Thresholds};
use flow_model::Ts;
use golden_metrics::{Loss, Losses, SelfMetric};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Series of the gauge. Errors come first; more is one broken node.
const MOST: usize = 200;

#[derive(Debug)]
pub struct FindingGauge {
    holding: Holding,
    details: Details,
    looked: Option<Ts>,
    /// Between two windows.
    every: Duration,
    thresholds: Thresholds,
    full: Loss,
    beyond: u64,
}

impl FindingGauge {
    pub fn new(every: Duration, losses: &Losses) -> FindingGauge {
        let full = losses.place("doctor", "findings_full", "findings that are not shown, at each look");
        let (holding, details, thresholds) = (Holding::default(), Details::default(), Thresholds::default());
        FindingGauge { holding, details, looked: None, every, thresholds, full, beyond: 0 }
    }

    /// How far back to look, where a window is over: so far that what happened once is found by two
    /// windows, and shown.
    pub fn due(&mut self, now: Ts) -> Option<Duration> {
        let is_due = self.looked.is_none_or(|looked| now.since(looked) >= self.every);
        is_due.then(|| {
            self.looked = Some(now);
            self.every * 2
        })
    }

    /// Takes in what that window held: of the past, of the node, and containers that their CPU limit
    /// stops, which are told beside others alone.
    pub fn window(&mut self, timeline: &Timeline, node: &NodeLook, throttled: &[Finding]) {
        let mut found = findings::of(timeline, &self.thresholds);
        found.extend(node.found.iter().cloned());
        found.extend(beside_others(throttled, &found));
        self.holding.window(&found, &node.not_made, &self.thresholds);
        let shown = self.shown();
        self.details.window(self.looked.unwrap_or(Ts(0)), found, shown);
        self.beyond += self.holding.shown().count().saturating_sub(MOST) as u64;
        self.full.set_total(self.beyond + self.holding.refused());
    }

    /// Namespace and name of who has more than evidence.
    pub fn ill(&self) -> BTreeSet<(String, String)> {
        let ill = self
            .holding
            .shown()
            .filter(|(id, _, severity)| *severity > Severity::Info && *id != CheckId::CpuThrottled && !id.is_of_node());
        ill.map(|(_, subject, _)| (subject.namespace.clone(), subject.name.clone())).collect()
    }

    pub fn thresholds(&self) -> &Thresholds {
        &self.thresholds
    }

    /// Those that are shown, in full. `None`: no window is over yet.
    pub fn details(&self) -> Option<Arc<[join::message::Finding]>> {
        self.details.told()
    }

    /// The worst come first.
    fn shown(&self) -> Vec<(CheckId, Subject, Severity)> {
        let shown = self.holding.shown().map(|(id, subject, severity)| (id, subject.clone(), severity));
        let mut shown: Vec<_> = shown.collect();
        shown.sort_by_key(|(_, _, severity)| std::cmp::Reverse(*severity));
        shown.truncate(MOST);
        shown
    }

    pub fn metrics(&self) -> Vec<SelfMetric> {
        let help = "1 while the agent holds this for wrong; pilotfish doctor says what it is and what to do.";
        let metric = |(id, subject, severity): (CheckId, Subject, Severity)| {
            let severity = match severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
                Severity::Info => "info",
            };
            SelfMetric::gauge("pilotfish_finding", help, 1.0)
                .with("id", id.as_str())
                .with("severity", severity)
                .with("namespace", subject.namespace)
                .with("workload", subject.name)
        };
        self.shown().into_iter().map(metric).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_api::{CutRow, TimelineEvent};

    const EVERY: Duration = Duration::from_secs(30);

    fn exits(count: usize, code: u32) -> Timeline {
        let exit = |n: usize| TimelineEvent {
            at_ms: 1_000,
            event: "exit".into(),
            namespace: "shop".into(),
            workload: format!("w{n}"),
            code: Some(code),
            oom_ms: (n == 7).then_some(8),
            cut_requests: 1,
            cut: vec![CutRow { client: "web".into(), what: "GET".into(), requests: 1, ..CutRow::default() }],
            ..TimelineEvent::default()
        };
        Timeline { now_ms: 30_000, events: (0..count).map(exit).collect(), ..Timeline::default() }
    }

    fn shown(gauge: &FindingGauge) -> Vec<String> {
        let labels = |metric: SelfMetric| metric.labels.iter().map(|(_, value)| value.to_string()).collect::<Vec<_>>();
        gauge.metrics().into_iter().map(|metric| labels(metric).join(" ")).collect()
    }

    #[test]
    fn what_happened_once_is_shown_by_the_second_window_and_gone_five_later() {
        let mut gauge = FindingGauge::new(EVERY, &Losses::default());
        let at = |seconds: u64| Ts(seconds * 1_000_000_000);
        assert_eq!([0, 29, 30, 59, 60].map(|now| gauge.due(at(now)).is_some()), [true, false, true, false, true]);
        // What the companion is told is what is shown, with whom it cost what.
        let told = |gauge: &FindingGauge| {
            let hurt = |one: &join::message::Finding| format!("{} {}: {}", one.id, one.workload, one.hurt[0].requests);
            gauge.details().map(|told| told.iter().map(hurt).collect::<Vec<_>>())
        };
        assert_eq!(told(&gauge), None, "nobody has looked");
        gauge.window(&exits(1, 1), &NodeLook::default(), &[]);
        assert_eq!((shown(&gauge), told(&gauge)), (Vec::new(), Some(Vec::new())));
        gauge.window(&exits(1, 1), &NodeLook::default(), &[]);
        for _ in 0..5 {
            assert_eq!(shown(&gauge), ["cut-by-exit warning shop w0"]);
            assert_eq!(told(&gauge), Some(vec!["cut-by-exit w0: 1".to_owned()]));
            gauge.window(&exits(0, 1), &NodeLook::default(), &[]);
        }
        assert_eq!(shown(&gauge), [""; 0]);
    }

    #[test]
    fn more_findings_than_series_are_counted_and_errors_are_shown_first() {
        let losses = Losses::default();
        let mut gauge = FindingGauge::new(EVERY, &losses);
        for _ in 0..2 {
            gauge.window(&exits(MOST + 9, 137), &NodeLook::default(), &[]);
        }
        let shown = shown(&gauge);
        assert_eq!((shown.len(), shown[0].as_str()), (MOST, "cut-by-exit error shop w7"));
        let lost = losses.rows().into_iter().find(|row| row.reason == "findings_full").map(|row| row.total);
        assert_eq!(lost, Some(9));
    }

    #[test]
    fn what_is_of_the_node_is_shown_and_a_limit_only_beside_what_it_explains() {
        let mut gauge = FindingGauge::new(EVERY, &Losses::default());
        let finding = |id, namespace: &str, name: &str, severity| {
            let of = Subject { namespace: namespace.into(), kind: "Workload".into(), name: name.into() };
            Finding::new(id, severity, &of, EVERY, String::new())
        };
        let throttled = ["w0", "quiet"].map(|name| finding(CheckId::CpuThrottled, "shop", name, Severity::Info));
        let node = |not_made: &[CheckId]| {
            let full = finding(CheckId::ConntrackFull, "", "the node's own network", Severity::Error);
            let found = if not_made.is_empty() { vec![full] } else { Vec::new() };
            NodeLook { found, not_made: not_made.to_vec() }
        };
        for _ in 0..2 {
            gauge.window(&exits(1, 1), &node(&[]), &throttled);
        }
        let all = [
            "conntrack-full error  the node's own network",
            "cut-by-exit warning shop w0",
            "cpu-throttled info shop w0",
        ];
        assert_eq!(shown(&gauge), all);
        assert!(gauge.ill().contains(&("shop".to_owned(), "w0".to_owned())));
        for _ in 0..9 {
            gauge.window(&exits(1, 1), &node(&[CheckId::ConntrackFull]), &throttled);
        }
        assert_eq!(shown(&gauge), all, "nobody could look");
    }
}
