//! `probe-slow` and `probe-kill`: probes near their timeout, and the kill that follows.

use crate::history::{Exited, Periods, ProbeKind, ProbeSpec, Probed};
use crate::words::{plural, seconds};
use crate::{Certainty, CheckId, Finding, Severity, Subject, Thresholds};
use flow_model::Ts;
use std::time::Duration;

/// Times of failed probes that a sentence tells.
const TIMES: usize = 5;

/// Ends by SIGILL, SIGABRT, SIGBUS, SIGFPE and SIGSEGV.
const CRASHED: [u32; 5] = [132, 134, 135, 136, 139];
/// Codes that a program chooses itself.
const OWN_CODES: std::ops::RangeInclusive<u32> = 1..=127;

/// Of a container's probe: what was seen of it within the window, oldest first.
#[must_use]
pub fn probe_slow(of: &Subject, spec: &ProbeSpec, probes: &[Probed], thresholds: &Thresholds) -> Option<Finding> {
    let p99 = p99(spec, probes)?;
    let row = failures(spec, probes);
    // Those that share their path fail together: each of them has failed so often.
    let each = row / spec.asked_by.max(1);
    let near = row > 0 && each >= spec.failure_threshold.saturating_sub(1);
    let slow = p99.as_secs_f64() > spec.timeout.as_secs_f64() * thresholds.probe_share;
    let severity = match (near, slow) {
        (true, _) => Severity::Error,
        (false, true) => Severity::Warning,
        (false, false) => return None,
    };
    let mut summary =
        format!("{} probe {} p99 {} of {}", spec.kind.as_str(), spec.path, seconds(p99), seconds(spec.timeout));
    if row > 0 {
        summary.push_str(&format!(", {} in a row, of {}", plural(row as usize, "failure"), spec.failure_threshold));
    }
    let held = probes.first().zip(probes.last()).map(|(first, last)| last.at.since(first.at)).unwrap_or_default();
    let finding = Finding::new(CheckId::ProbeSlow, severity, of, held, summary)
        .with("probe", spec.kind.as_str().to_owned())
        .with("p99_s", p99.as_secs_f64())
        .with("timeout_s", spec.timeout.as_secs_f64())
        .with("probes", probes.len())
        .with("failures_in_a_row", u64::from(row));
    Some(as_sure_as(finding, spec))
}

/// Of a container: its end, after its liveness or startup probe failed too often. `grace` is the
/// pod's grace period, in which it may still have ended by itself.
#[must_use]
pub fn probe_kill(
    of: &Subject,
    spec: &ProbeSpec,
    probes: &[Probed],
    exited: &Exited,
    grace: Duration,
    thresholds: &Thresholds,
) -> Option<Finding> {
    // Who is deleted ends for that, and a process that crashed was not ended by anybody.
    let other_cause = exited.oom.is_some() || exited.deleted_by.is_some() || CRASHED.contains(&exited.code);
    if spec.kind == ProbeKind::Readiness || other_cause {
        return None;
    }
    let until: Vec<Probed> = probes.iter().filter(|probe| probe.at <= exited.at).copied().collect();
    let row = failures(spec, &until);
    // The kubelet knows of the last failure when its time is over.
    let last = until.last()?.at.plus(spec.timeout);
    let within = exited.at.since(last) <= grace.saturating_add(thresholds.probe_kill_after);
    // One more for each that shares its path: they fail by turns.
    let enough = spec.failure_threshold.max(1).saturating_add(spec.asked_by.saturating_sub(1));
    if row < enough || !within {
        return None;
    }
    let times = until.iter().rev().take(row as usize).rev().map(|probe| match probe.took {
        Some(took) => seconds(took),
        None => "no answer".to_owned(),
    });
    let summary = format!(
        "ended by the kubelet after {} of the {} probe {}: {}",
        plural(row as usize, "failure"),
        spec.kind.as_str(),
        spec.path,
        times.take(TIMES).collect::<Vec<_>>().join(", ")
    );
    let began = until.iter().rev().nth(row.saturating_sub(1) as usize).map_or(exited.at, |probe| probe.at);
    let finding = Finding::new(CheckId::ProbeKill, Severity::Error, of, exited.at.since(began), summary)
        .with("probe", spec.kind.as_str().to_owned())
        .with("failures", u64::from(row))
        .with("exit_code", u64::from(exited.code));
    let mut finding = as_sure_as(finding, spec);
    if OWN_CODES.contains(&exited.code) {
        // A handler of SIGTERM may say so, and so may a process that found its fault itself.
        finding.certainty = Certainty::Likely;
    }
    Some(finding)
}

/// With what is known of the container's CPU limit, where it is a reason for slow answers.
#[must_use]
pub fn with_throttling(finding: Finding, periods: Option<Periods>, thresholds: &Thresholds) -> Finding {
    let share = periods.filter(|of| of.all > 0).map(|of| of.throttled as f64 / of.all as f64);
    let Some(share) = share.filter(|share| *share > thresholds.throttled_share) else { return finding };
    let summary = format!("{}; CPU throttled in {:.0} % of its periods", finding.summary, share * 100.0);
    Finding { summary, ..finding }.with("throttled_share", share)
}

fn as_sure_as(mut finding: Finding, spec: &ProbeSpec) -> Finding {
    if spec.asked_by > 1 {
        finding.certainty = Certainty::Likely;
    }
    finding
}

/// Failures in a row, up to the last probe.
fn failures(spec: &ProbeSpec, probes: &[Probed]) -> u32 {
    let row = probes.iter().rev().take_while(|probe| probe.failed(spec)).count();
    u32::try_from(row).unwrap_or(u32::MAX)
}

/// One without an answer took at least its timeout.
fn p99(spec: &ProbeSpec, probes: &[Probed]) -> Option<Duration> {
    let mut times: Vec<Duration> = probes.iter().map(|probe| probe.took.unwrap_or(spec.timeout)).collect();
    times.sort_unstable();
    times.get((times.len() * 99).div_ceil(100).checked_sub(1)?).copied()
}

/// The window of `probe-slow` that ends now.
#[must_use]
pub fn recent(probes: &[Probed], now: Ts, thresholds: &Thresholds) -> Vec<Probed> {
    probes.iter().filter(|probe| now.since(probe.at) <= thresholds.probe_window).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn spec(kind: ProbeKind) -> ProbeSpec {
        ProbeSpec { kind, path: "/healthz".into(), timeout: Duration::from_secs(1), failure_threshold: 3, asked_by: 1 }
    }

    /// A probe every 10 s: its milliseconds, or `x` for one without an answer, or `!` for a bad one.
    fn probes(story: &str) -> Vec<Probed> {
        let of = |(n, word): (usize, &str)| Probed {
            at: Ts(n as u64 * 10_000 * MS),
            took: word.trim_end_matches('!').parse().ok().map(Duration::from_millis),
            good: word != "x" && !word.ends_with('!'),
        };
        story.split(' ').enumerate().map(of).collect()
    }

    fn slow(story: &str) -> Option<(Severity, String)> {
        let found =
            probe_slow(&Subject::default(), &spec(ProbeKind::Readiness), &probes(story), &Thresholds::default());
        found.map(|found| (found.severity, found.summary))
    }

    #[test]
    fn half_of_the_timeout_is_fine_and_more_is_a_warning() {
        assert_eq!(slow("20 30 500"), None);
        let said = "readiness probe /healthz p99 0.7 s of 1.0 s".to_owned();
        assert_eq!(slow("20 710 30"), Some((Severity::Warning, said)));
    }

    #[test]
    fn one_failure_before_the_last_straw_is_an_error_and_those_made_good_are_a_warning() {
        let said = |p99, row: &str| format!("readiness probe /healthz p99 {p99} s of 1.0 s{row}");
        let one = said("1.0", ", 1 failure in a row, of 3");
        assert_eq!(slow("20 20 x"), Some((Severity::Warning, one)), "at its timeout, and one of three");
        assert_eq!(slow("20 x x"), Some((Severity::Error, said("1.0", ", 2 failures in a row, of 3"))));
        let bad = said("0.0", ", 2 failures in a row, of 3");
        assert_eq!(slow("20 20! 20!"), Some((Severity::Error, bad)), "answered with an error");
        assert_eq!(slow("20 20 20!"), None, "one bad answer of three");
        assert_eq!(slow("20 x x 20"), Some((Severity::Warning, said("1.0", ""))), "made good, and slow");
        assert_eq!(slow("x x").map(|found| found.0), Some(Severity::Error));
        let nothing = probe_slow(&Subject::default(), &spec(ProbeKind::Readiness), &[], &Thresholds::default());
        assert_eq!(nothing, None);
    }

    #[test]
    fn what_two_probes_ask_for_is_likely_and_each_has_half_of_the_failures() {
        let spec = ProbeSpec { asked_by: 2, ..spec(ProbeKind::Readiness) };
        let quick = |story| probe_slow(&Subject::default(), &spec, &probes(story), &Thresholds::default());
        let severity = |story| quick(story).map(|found| found.severity);
        assert_eq!(severity("20 20! 20! 20!"), None, "one of three each");
        assert_eq!(severity("20 20! 20! 20! 20!"), Some(Severity::Error));
        let found = probe_slow(&Subject::default(), &spec, &probes("900"), &Thresholds::default());
        assert_eq!(found.map(|found| found.certainty), Some(Certainty::Likely));
    }

    fn killed(kind: ProbeKind, story: &str, exit_after: u64, oom: bool) -> Option<String> {
        let probes = probes(story);
        let last = probes.last().expect("a probe").at.0;
        let at = Ts(last + exit_after * MS);
        let exited = Exited { at, code: Exited::KILLED, oom: oom.then_some(at), deleted_by: None };
        let grace = Duration::from_secs(30);
        let found = probe_kill(&Subject::default(), &spec(kind), &probes, &exited, grace, &Thresholds::default());
        found.map(|found| found.summary)
    }

    #[test]
    fn a_kill_by_a_probe_names_the_probe_and_its_times() {
        let said = "ended by the kubelet after 3 failures of the liveness probe /healthz: no answer, 1.2 s, no answer";
        assert_eq!(killed(ProbeKind::Liveness, "20 x 1200 x", 36_000, false), Some(said.to_owned()));
        assert_eq!(killed(ProbeKind::Liveness, "20 x 1200 x", 36_001, false), None, "long after");
        assert_eq!(killed(ProbeKind::Liveness, "20 20 x x", 2_000, false), None, "two of three");
        assert_eq!(killed(ProbeKind::Liveness, "20 x x x", 2_000, true), None, "memory was it");
        assert_eq!(killed(ProbeKind::Readiness, "20 x x x", 2_000, false), None, "that one kills nobody");
        assert!(killed(ProbeKind::Startup, "x x x", 2_000, false).is_some());
    }

    #[test]
    fn who_was_deleted_or_crashed_was_not_ended_by_a_probe() {
        let at = Ts(40_000 * MS);
        let killed = |code, deleted_by: Option<Ts>, asked_by| {
            let exited = Exited { at, code, oom: None, deleted_by };
            let spec = ProbeSpec { asked_by, ..spec(ProbeKind::Liveness) };
            let probes = probes("20 x x x");
            let (of, limits) = (Subject::default(), Thresholds::default());
            probe_kill(&of, &spec, &probes, &exited, Duration::from_secs(30), &limits).map(|found| found.certainty)
        };
        assert_eq!([0, 137, 143].map(|code| killed(code, None, 1)), [Some(Certainty::Measured); 3]);
        assert_eq!(killed(1, None, 1), Some(Certainty::Likely), "it may have noticed itself");
        assert_eq!([134, 139].map(|code| killed(code, None, 1)), [None; 2]);
        assert_eq!(killed(137, Some(at), 1), None);
        assert_eq!(killed(137, None, 2), None, "three of two probes' failures");
    }

    #[test]
    fn throttling_is_told_where_it_is_a_reason() {
        let finding = || {
            let probes = probes("900");
            probe_slow(&Subject::default(), &spec(ProbeKind::Readiness), &probes, &Thresholds::default())
        };
        let said = |all, throttled| {
            let periods = Some(Periods { all, throttled });
            finding().map(|found| with_throttling(found, periods, &Thresholds::default()).summary)
        };
        let plain = "readiness probe /healthz p99 0.9 s of 1.0 s";
        assert_eq!(said(100, 25).as_deref(), Some(plain));
        assert_eq!(said(0, 0).as_deref(), Some(plain), "no limit");
        assert_eq!(said(100, 61), Some(format!("{plain}; CPU throttled in 61 % of its periods")));
        let (before, after) = (Periods { all: 10, throttled: 10 }, Periods { all: 40, throttled: 12 });
        assert_eq!(after.since(before), Some(Periods { all: 30, throttled: 2 }));
        assert_eq!((before.since(after), before.since(before)), (None, None));
    }

    #[test]
    fn the_window_ends_now() {
        let all = probes("1 2 3 4");
        let recent = recent(&all, Ts(310_000 * MS), &Thresholds::default());
        assert_eq!(recent.len(), 3, "five minutes and not a moment more");
    }
}
