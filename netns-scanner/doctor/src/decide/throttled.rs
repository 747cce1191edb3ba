//! `cpu-throttled`: a container that its CPU limit stops again and again, told beside what else is
//! wrong with it.

use crate::history::Periods;
use crate::words::seconds;
use crate::{CheckId, Finding, Severity, Subject, Thresholds};
use std::collections::BTreeMap;
use std::time::Duration;

/// Of a container: the periods of its limit in which it ran within the window. Alone it says little
/// ([`beside_others`]): many containers are throttled, and nobody waits for them.
#[must_use]
pub fn cpu_throttled(of: &Subject, periods: Periods, window: Duration, thresholds: &Thresholds) -> Option<Finding> {
    let Periods { all, throttled } = periods;
    let share = throttled as f64 / all.max(1) as f64;
    if all < thresholds.throttled_periods || share <= thresholds.throttled_share {
        return None;
    }
    let summary = format!(
        "stopped by its CPU limit in {throttled} of the {all} periods in which it ran in {} ({:.0} %)",
        seconds(window),
        share * 100.0
    );
    let finding = Finding::new(CheckId::CpuThrottled, Severity::Info, of, window, summary)
        .with("periods", all)
        .with("throttled", throttled)
        .with("share", share)
        .with("window_s", window.as_secs_f64());
    Some(finding)
}

/// Those findings of this check whose workload has another one that is no mere evidence either: a
/// warning beside a probe that is slow or killed, since there it explains the time that was missed.
#[must_use]
pub fn beside_others(throttled: &[Finding], others: &[Finding]) -> Vec<Finding> {
    let whose = |subject: &Subject| (subject.namespace.clone(), subject.name.clone());
    // By workload: whether a probe suffers.
    let mut ill: BTreeMap<(String, String), bool> = BTreeMap::new();
    let others = others.iter().filter(|other| other.id != CheckId::CpuThrottled && other.severity > Severity::Info);
    for other in others {
        let probe = matches!(other.id, CheckId::ProbeSlow | CheckId::ProbeKill);
        *ill.entry(whose(&other.subject)).or_default() |= probe;
    }
    let told = |finding: &Finding| {
        let severity = if *ill.get(&whose(&finding.subject))? { Severity::Warning } else { Severity::Info };
        Some(Finding { severity, ..finding.clone() })
    };
    throttled.iter().filter_map(told).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> Subject {
        Subject { namespace: "shop".into(), kind: "Workload".into(), name: name.into() }
    }

    fn find(all: u64, throttled: u64) -> Option<Finding> {
        cpu_throttled(&of("api"), Periods { all, throttled }, Duration::from_secs(2), &Thresholds::default())
    }

    #[test]
    fn more_than_a_quarter_of_ten_periods() {
        assert_eq!((find(20, 5), find(9, 9), find(0, 0)), (None, None, None));
        let found = find(20, 6).expect("found");
        assert_eq!(
            (found.severity, found.summary.as_str()),
            (Severity::Info, "stopped by its CPU limit in 6 of the 20 periods in which it ran in 2.0 s (30 %)")
        );
    }

    #[test]
    fn it_is_told_beside_other_findings_of_its_workload_and_a_slow_probe_makes_it_a_warning() {
        let throttled = |name: &str| Finding { subject: of(name), ..find(20, 19).expect("found") };
        let other = |id, severity, name: &str| Finding::new(id, severity, &of(name), Duration::ZERO, String::new());
        let all = [throttled("alone"), throttled("cut"), throttled("probed"), throttled("history")];
        let others = [
            other(CheckId::CutByExit, Severity::Error, "cut"),
            other(CheckId::ProbeSlow, Severity::Warning, "probed"),
            other(CheckId::DeadPeer, Severity::Warning, "probed"),
            other(CheckId::OomInside, Severity::Info, "history"),
            throttled("alone"),
        ];
        let told: Vec<_> =
            beside_others(&all, &others).into_iter().map(|found| (found.subject.name, found.severity)).collect();
        assert_eq!(told, [("cut".to_owned(), Severity::Info), ("probed".to_owned(), Severity::Warning)]);
    }
}
