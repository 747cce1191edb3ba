//! What a check found: of whom, how bad, since when, with which figures.

use crate::CheckId;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Evidence, or history: nothing to do now.
    Info,
    /// Fails sometimes, or will.
    Warning,
    /// Requests fail now.
    Error,
}

/// How sure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Certainty {
    /// The figures leave one reading.
    Likely,
    /// Counted by the kernel, and the subject is named by it.
    Measured,
}

/// Whose it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Subject {
    /// Kubernetes' or containerd's; empty where it has none or nobody told.
    pub namespace: String,
    /// Workload, Container, Service (of the node's init) or Process.
    pub kind: String,
    /// Name of the workload; a container's id or a process's name where nobody told.
    pub name: String,
}

impl Subject {
    /// The node as a whole.
    #[must_use]
    pub fn node() -> Subject {
        Subject { namespace: String::new(), kind: "Node".to_owned(), name: "the node".to_owned() }
    }

    /// A network namespace of which nobody says whose it is.
    #[must_use]
    pub fn network(inode: u64) -> Subject {
        Subject { namespace: String::new(), kind: "Network".to_owned(), name: format!("namespace {inode}") }
    }

    /// What of its own network is nobody's in particular.
    #[must_use]
    pub fn network_of_node() -> Subject {
        Subject { name: "the node's own network".to_owned(), ..Subject::node() }
    }
}

/// A figure of the evidence.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Figure {
    /// A count.
    Count(u64),
    /// A share, a rate or a time in seconds.
    Number(f64),
    /// An address, a name.
    Text(String),
}

impl From<u64> for Figure {
    fn from(count: u64) -> Figure {
        Figure::Count(count)
    }
}

impl From<usize> for Figure {
    fn from(count: usize) -> Figure {
        Figure::Count(count as u64)
    }
}

impl From<f64> for Figure {
    /// To three digits behind the point: more would pretend.
    fn from(number: f64) -> Figure {
        Figure::Number((number * 1000.0).round() / 1000.0)
    }
}

impl From<String> for Figure {
    fn from(text: String) -> Figure {
        Figure::Text(text)
    }
}

/// Requests of one client that it cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hurt {
    /// The client's workload.
    pub client: String,
    /// Requests that failed or waited.
    pub requests: u64,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// Which check found it.
    pub id: CheckId,
    /// How bad.
    pub severity: Severity,
    /// Whose.
    pub subject: Subject,
    /// Processes or namespaces of the subject that have it; 1 or more.
    pub places: usize,
    /// It has been so for at least this long.
    #[serde(rename = "for_s", serialize_with = "seconds")]
    pub held: Duration,
    /// The figures, by name.
    pub evidence: BTreeMap<&'static str, Figure>,
    /// Whom it cost how many requests, where that is known.
    pub hurt: Vec<Hurt>,
    /// The figures as a sentence.
    pub summary: String,
    /// What to do.
    #[serde(rename = "do")]
    pub remedy: &'static [&'static str],
    /// How sure.
    pub certainty: Certainty,
}

fn seconds<S: serde::Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64((time.as_secs_f64() * 1000.0).round() / 1000.0)
}

impl Finding {
    /// One of this check, with the check's remedy.
    #[must_use]
    pub fn new(id: CheckId, severity: Severity, subject: &Subject, held: Duration, summary: String) -> Finding {
        Finding {
            id,
            severity,
            subject: subject.clone(),
            places: 1,
            held,
            evidence: BTreeMap::new(),
            hurt: Vec::new(),
            summary,
            remedy: id.check().remedy,
            certainty: Certainty::Measured,
        }
    }

    /// With one figure more.
    #[must_use]
    pub fn with(mut self, name: &'static str, figure: impl Into<Figure>) -> Finding {
        self.evidence.insert(name, figure.into());
        self
    }

    /// The port that its evidence names.
    pub(crate) fn port(&self) -> Option<u16> {
        match self.evidence.get("port") {
            Some(Figure::Count(port)) => u16::try_from(*port).ok(),
            _ => None,
        }
    }

    fn requests(&self) -> u64 {
        self.hurt.iter().map(|hurt| hurt.requests).sum()
    }
}

/// One finding for each check and workload, the worst with its figures; errors first, then by
/// requests hurt, then as the checks are told.
#[must_use]
pub fn by_workload(mut findings: Vec<Finding>) -> Vec<Finding> {
    let worst = |finding: &Finding| std::cmp::Reverse((finding.severity, finding.requests()));
    findings.sort_by_key(|finding| (worst(finding), finding.id));
    let mut seen = BTreeSet::new();
    let mut out: Vec<Finding> = Vec::new();
    for finding in findings {
        if seen.insert((finding.id, finding.subject.clone())) {
            out.push(finding);
        } else if let Some(first) =
            out.iter_mut().find(|first| first.id == finding.id && first.subject == finding.subject)
        {
            first.places += finding.places;
            first.held = first.held.max(finding.held);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(id: CheckId, severity: Severity, name: &str, requests: u64) -> Finding {
        let subject = Subject { name: name.to_owned(), ..Subject::default() };
        let mut finding = Finding::new(id, severity, &subject, Duration::from_secs(requests), String::new());
        finding.hurt = vec![Hurt { client: "web".to_owned(), requests }];
        finding
    }

    #[test]
    fn errors_come_first_then_who_hurts_most_and_a_workload_is_told_once_for_each_check() {
        let (warning, error) = (Severity::Warning, Severity::Error);
        let merged = by_workload(vec![
            finding(CheckId::UdpDrop, warning, "a", 3),
            finding(CheckId::ListenOverflow, warning, "a", 9),
            finding(CheckId::UdpDrop, error, "a", 2),
            finding(CheckId::UdpDrop, error, "b", 4),
        ]);
        let told: Vec<_> = merged
            .iter()
            .map(|finding| (finding.id, finding.severity, finding.subject.name.as_str(), finding.places, finding.held))
            .collect();
        assert_eq!(
            told,
            [
                (CheckId::UdpDrop, error, "b", 1, Duration::from_secs(4)),
                (CheckId::UdpDrop, error, "a", 2, Duration::from_secs(3)),
                (CheckId::ListenOverflow, warning, "a", 1, Duration::from_secs(9)),
            ]
        );
    }

    #[test]
    fn json_has_the_names_that_scripts_read() {
        let subject = Subject { namespace: "shop".into(), kind: "Workload".into(), name: "api".into() };
        let finding = Finding::new(
            CheckId::UdpDrop,
            Severity::Warning,
            &subject,
            Duration::from_millis(2000),
            "12 datagrams".to_owned(),
        )
        .with("drops", 12_u64)
        .with("rate", 6.000_04);
        let json = serde_json::to_value(&finding).expect("JSON");
        let expected = serde_json::json!({
            "id": "udp-drop", "severity": "warning", "places": 1, "for_s": 2.0,
            "subject": {"namespace": "shop", "kind": "Workload", "name": "api"},
            "evidence": {"drops": 12, "rate": 6.0}, "hurt": [], "summary": "12 datagrams",
            "do": CheckId::UdpDrop.check().remedy, "certainty": "measured",
        });
        assert_eq!(json, expected);
    }
}
