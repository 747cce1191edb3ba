//! `pilotfish_finding`: what the agent itself holds for wrong, window by window.

use crate::findings;
use agent_api::Timeline;
use doctor::{Holding, Severity, Subject, Thresholds};
use flow_model::Ts;
use golden_metrics::{Loss, Losses, SelfMetric};
use std::time::Duration;

/// Between two windows.
const EVERY: Duration = Duration::from_secs(30);
/// What one window looks back on: so what happened once is found by two windows, and shown.
const BACK: Duration = Duration::from_secs(60);
/// Series of the gauge. Errors come first; more is one broken node.
const MOST: usize = 200;

#[derive(Debug)]
pub struct FindingGauge {
    holding: Holding,
    looked: Option<Ts>,
    thresholds: Thresholds,
    full: Loss,
    beyond: u64,
}

impl FindingGauge {
    pub fn new(losses: &Losses) -> FindingGauge {
        let full = losses.place("doctor", "findings_full", "findings that are not shown, at each look");
        FindingGauge { holding: Holding::default(), looked: None, thresholds: Thresholds::default(), full, beyond: 0 }
    }

    /// How far back to look, where a window is over.
    pub fn due(&mut self, now: Ts) -> Option<Duration> {
        let is_due = self.looked.is_none_or(|looked| now.since(looked) >= EVERY);
        is_due.then(|| {
            self.looked = Some(now);
            BACK
        })
    }

    /// Takes in what that window held.
    pub fn window(&mut self, timeline: &Timeline) {
        let found = findings::of(timeline, &self.thresholds);
        self.holding.window(&found, &[], &self.thresholds);
        self.beyond += self.holding.shown().count().saturating_sub(MOST) as u64;
        self.full.set_total(self.beyond + self.holding.refused());
    }

    pub fn metrics(&self) -> Vec<SelfMetric> {
        let mut shown: Vec<_> = self.holding.shown().collect();
        shown.sort_by_key(|(_, _, severity)| std::cmp::Reverse(*severity));
        let help = "1 while the agent holds this for wrong; pilotfish doctor says what it is and what to do.";
        let metric = |(id, subject, severity): (doctor::CheckId, &Subject, Severity)| {
            let severity = match severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
                Severity::Info => "info",
            };
            SelfMetric::gauge("pilotfish_finding", help, 1.0)
                .with("id", id.as_str())
                .with("severity", severity)
                .with("namespace", subject.namespace.clone())
                .with("workload", subject.name.clone())
        };
        shown.into_iter().take(MOST).map(metric).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_api::{CutRow, TimelineEvent};

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
        let mut gauge = FindingGauge::new(&Losses::default());
        let at = |seconds: u64| Ts(seconds * 1_000_000_000);
        assert_eq!([0, 29, 30, 59, 60].map(|now| gauge.due(at(now)).is_some()), [true, false, true, false, true]);
        gauge.window(&exits(1, 1));
        assert_eq!(shown(&gauge), [""; 0]);
        gauge.window(&exits(1, 1));
        for _ in 0..5 {
            assert_eq!(shown(&gauge), ["cut-by-exit warning shop w0"]);
            gauge.window(&exits(0, 1));
        }
        assert_eq!(shown(&gauge), [""; 0]);
    }

    #[test]
    fn more_findings_than_series_are_counted_and_errors_are_shown_first() {
        let losses = Losses::default();
        let mut gauge = FindingGauge::new(&losses);
        for _ in 0..2 {
            gauge.window(&exits(MOST + 9, 137));
        }
        let shown = shown(&gauge);
        assert_eq!((shown.len(), shown[0].as_str()), (MOST, "cut-by-exit error shop w7"));
        let lost = losses.rows().into_iter().find(|row| row.reason == "findings_full").map(|row| row.total);
        assert_eq!(lost, Some(9));
    }
}
