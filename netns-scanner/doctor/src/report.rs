//! What a look at the node ends with: findings, checks that are fine, and checks that could not be
//! made. A check that could not look everywhere is not fine.

use crate::decide::beside_others;
use crate::finding::by_workload;
use crate::{CheckId, Finding};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Reasons of one check that are told; the rest is a number.
const REASONS: usize = 3;

/// A check that could not be made, or not everywhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotMade {
    /// Which.
    pub id: CheckId,
    /// Why, for a person.
    pub reason: String,
}

/// How much was looked at, and what the bounds left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Looked {
    /// Network namespaces.
    pub namespaces: usize,
    /// Processes that hold sockets.
    pub processes: usize,
    /// Sockets.
    pub sockets: usize,
    /// By bound: what was beyond it.
    pub left_out: BTreeMap<&'static str, usize>,
}

/// The whole look.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Between the two samples, seconds.
    pub window_s: f64,
    /// Errors first.
    pub findings: Vec<Finding>,
    /// Checks that looked everywhere and found nothing.
    pub fine: Vec<CheckId>,
    /// Checks that could not, with what kept them.
    pub not_made: Vec<NotMade>,
    /// How much was looked at.
    pub looked: Looked,
    /// Containers that their CPU limit stops: told beside other findings alone.
    #[serde(skip)]
    pub throttled: Vec<Finding>,
}

/// What kept checks from looking, gathered while they look.
#[derive(Debug, Default)]
pub struct Gaps(BTreeMap<CheckId, BTreeMap<String, usize>>);

impl Gaps {
    /// These checks could not look somewhere, for this reason.
    pub fn add(&mut self, checks: &[CheckId], reason: &str) {
        for check in checks {
            *self.0.entry(*check).or_default().entry(reason.to_owned()).or_default() += 1;
        }
    }

    fn told(reasons: &BTreeMap<String, usize>) -> String {
        let one = |(reason, times): (&String, &usize)| match times {
            1 => reason.clone(),
            times => format!("{reason} ({times} times)"),
        };
        let mut told: Vec<String> = reasons.iter().take(REASONS).map(one).collect();
        if reasons.len() > REASONS {
            told.push(format!("and {} reasons more", reasons.len() - REASONS));
        }
        told.join("; ")
    }
}

impl Report {
    /// With checks that were made elsewhere, by what an agent had seen before.
    #[must_use]
    pub fn with(mut self, made: &[CheckId], found: Vec<Finding>, not_made: Vec<NotMade>) -> Report {
        self.findings.extend(found);
        for NotMade { id, reason } in not_made {
            // One that was made in another way, too.
            match self.not_made.iter_mut().find(|other| other.id == id) {
                Some(other) => other.reason = format!("{}; {reason}", other.reason),
                None => self.not_made.push(NotMade { id, reason }),
            }
        }
        self.fine.extend(made);
        self.fine.sort_unstable();
        self.fine.dedup();
        let Report { findings, not_made, fine, .. } = &mut self;
        fine.retain(|id| {
            !findings.iter().any(|finding| finding.id == *id) && !not_made.iter().any(|other| other.id == *id)
        });
        // Beside more findings, more of them may be told, and as more than evidence.
        let beside = beside_others(&self.throttled, &self.findings);
        if !beside.is_empty() {
            self.fine.retain(|id| *id != CheckId::CpuThrottled);
            self.findings.retain(|finding| finding.id != CheckId::CpuThrottled);
            self.findings.extend(beside);
        }
        self.findings = by_workload(self.findings);
        self
    }

    /// Of the checks that were asked for.
    #[must_use]
    pub fn new(checks: &[CheckId], window_s: f64, found: Vec<Finding>, gaps: &Gaps, looked: Looked) -> Report {
        let checks: BTreeSet<CheckId> = checks.iter().copied().collect();
        let found = found.into_iter().filter(|finding| checks.contains(&finding.id));
        let (throttled, mut findings): (Vec<Finding>, Vec<Finding>) =
            found.partition(|finding| finding.id == CheckId::CpuThrottled);
        // Who asks for it alone wants to see all of them.
        let alone = checks.iter().all(|id| *id == CheckId::CpuThrottled);
        findings.extend(if alone { throttled.clone() } else { beside_others(&throttled, &findings) });
        let findings = by_workload(findings);
        let found: BTreeSet<CheckId> = findings.iter().map(|finding| finding.id).collect();
        let fine = checks.iter().filter(|id| !found.contains(id) && !gaps.0.contains_key(id)).copied().collect();
        let not_made = gaps.0.iter().filter(|(id, _)| checks.contains(id));
        let not_made = not_made.map(|(id, reasons)| NotMade { id: *id, reason: Gaps::told(reasons) }).collect();
        Report { window_s, findings, fine, not_made, looked, throttled }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Severity, Subject};
    use std::time::Duration;

    #[test]
    fn each_check_that_was_asked_for_is_found_fine_or_not_made_and_no_other_is_told() {
        let mut gaps = Gaps::default();
        gaps.add(&[CheckId::DeadPeer, CheckId::UdpDrop, CheckId::SelfCall], "permission denied");
        gaps.add(&[CheckId::DeadPeer], "permission denied");
        gaps.add(&[CheckId::DeadPeer], "late");
        let finding = |id| Finding::new(id, Severity::Warning, &Subject::default(), Duration::ZERO, String::new());
        let asked = [CheckId::DeadPeer, CheckId::UdpDrop, CheckId::ListenOverflow];
        let found = vec![finding(CheckId::UdpDrop), finding(CheckId::PortsGone)];
        let report = Report::new(&asked, 2.0, found, &gaps, Looked::default());
        assert_eq!(report.findings.iter().map(|finding| finding.id).collect::<Vec<_>>(), [CheckId::UdpDrop]);
        assert_eq!(report.fine, [CheckId::ListenOverflow]);
        assert_eq!(
            report.not_made,
            [
                NotMade { id: CheckId::UdpDrop, reason: "permission denied".into() },
                NotMade { id: CheckId::DeadPeer, reason: "late; permission denied (2 times)".into() },
            ],
            "found in one place, and not looked for in another"
        );
    }

    #[test]
    fn checks_that_were_made_elsewhere_are_told_with_the_others() {
        let finding = |id, severity| Finding::new(id, severity, &Subject::default(), Duration::ZERO, String::new());
        let asked = [CheckId::UdpDrop, CheckId::DeadPeer];
        let found = vec![finding(CheckId::UdpDrop, Severity::Warning)];
        let report = Report::new(&asked, 2.0, found, &Gaps::default(), Looked::default());
        let made = [CheckId::CutByExit, CheckId::TermIgnored, CheckId::DnsSearch];
        let not_made = vec![NotMade { id: CheckId::DnsSearch, reason: "late".into() }];
        let report = report.with(&made, vec![finding(CheckId::CutByExit, Severity::Error)], not_made);
        let ids: Vec<CheckId> = report.findings.iter().map(|finding| finding.id).collect();
        assert_eq!(ids, [CheckId::CutByExit, CheckId::UdpDrop]);
        assert_eq!(report.fine, [CheckId::DeadPeer, CheckId::TermIgnored]);
        assert_eq!(report.not_made.len(), 1);
    }

    #[test]
    fn many_reasons_are_a_number() {
        let mut gaps = Gaps::default();
        for n in 0..5 {
            gaps.add(&[CheckId::DeadPeer], &format!("r{n}"));
        }
        let report = Report::new(&[CheckId::DeadPeer], 2.0, vec![], &gaps, Looked::default());
        assert_eq!(report.not_made[0].reason, "r0; r1; r2; and 2 reasons more");
    }
}
