//! What is shown as `pilotfish_finding`, in full, for the companion: the latest figures of each finding,
//! and since when it has held. Pure.

use doctor::{Certainty, CheckId, Figure, Finding, Hurt, Severity, Subject};
use flow_model::Ts;
use join::message;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

/// Findings that are followed; the gauge follows no more.
const MOST: usize = 1024;
/// Clients that are named, those that it cost most.
const CLIENTS: usize = 10;
/// Bytes of a sentence or of a name. Those of doctor are shorter.
const SENTENCE: usize = 1_000;

type Key = (CheckId, Subject);

#[derive(Debug, Default)]
pub struct Details {
    followed: BTreeMap<Key, Followed>,
    told: Option<Arc<[message::Finding]>>,
}

#[derive(Debug)]
struct Followed {
    since: Ts,
    finding: Finding,
}

impl Details {
    /// Takes in what a window that ended `now` found, and what is shown since, the worst first.
    pub fn window(&mut self, now: Ts, found: Vec<Finding>, shown: Vec<(CheckId, Subject, Severity)>) {
        let mut worst: BTreeMap<Key, Finding> = BTreeMap::new();
        for finding in found {
            match worst.entry((finding.id, finding.subject.clone())) {
                Entry::Vacant(entry) => {
                    entry.insert(finding);
                }
                Entry::Occupied(mut entry) => {
                    let held = entry.get().held.max(finding.held);
                    if rank(&finding) > rank(entry.get()) {
                        entry.insert(finding);
                    }
                    entry.get_mut().held = held;
                }
            }
        }
        self.followed
            .retain(|key, _| worst.contains_key(key) || shown.iter().any(|(id, of, _)| (id, of) == (&key.0, &key.1)));
        for (key, finding) in worst {
            let began = Ts(now.0.saturating_sub(u64::try_from(finding.held.as_nanos()).unwrap_or(u64::MAX)));
            if let Some(followed) = self.followed.get_mut(&key) {
                followed.since = Ts(followed.since.0.min(began.0));
                followed.finding = finding;
            } else if self.followed.len() < MOST {
                self.followed.insert(key, Followed { since: began, finding });
            }
        }
        let told = shown.into_iter().filter_map(|(id, subject, severity)| {
            let Followed { since, finding } = self.followed.get(&(id, subject))?;
            Some(message(finding, severity, *since))
        });
        let told: Vec<message::Finding> = told.collect();
        if self.told.as_deref() != Some(told.as_slice()) {
            self.told = Some(told.into());
        }
    }

    /// The worst first; `None`: no window is over yet.
    pub fn told(&self) -> Option<Arc<[message::Finding]>> {
        self.told.clone()
    }
}

fn rank(finding: &Finding) -> (Severity, u64) {
    (finding.severity, finding.hurt.iter().map(|hurt| hurt.requests).sum())
}

fn message(finding: &Finding, severity: Severity, since: Ts) -> message::Finding {
    let Finding { id, subject, evidence, hurt, summary, remedy, certainty, .. } = finding;
    let severity = match severity {
        Severity::Info => message::Severity::Info,
        Severity::Warning => message::Severity::Warning,
        Severity::Error => message::Severity::Error,
    };
    let figure = |(name, figure): (&&str, &Figure)| {
        let value = match figure {
            Figure::Count(count) => message::Value::Count(*count),
            Figure::Number(number) => message::Value::Number(*number),
            Figure::Text(text) => message::Value::Text(short(text)),
        };
        message::Figure { name: (*name).to_owned(), value: Some(value) }
    };
    message::Finding {
        id: id.as_str().to_owned(),
        severity: severity.into(),
        namespace: subject.namespace.clone(),
        kind: subject.kind.clone(),
        workload: short(&subject.name),
        since_ms: since.0 / 1_000_000,
        likely: *certainty == Certainty::Likely,
        summary: short(summary),
        evidence: evidence.iter().map(figure).collect(),
        hurt: clients(hurt),
        remedy: remedy.iter().map(|text| short(text)).collect(),
    }
}

/// The others are one.
fn clients(hurt: &[Hurt]) -> Vec<message::Hurt> {
    let mut hurt: Vec<&Hurt> = hurt.iter().collect();
    hurt.sort_by_key(|hurt| std::cmp::Reverse(hurt.requests));
    let (named, others) = hurt.split_at(CLIENTS.min(hurt.len()));
    let named = named.iter().map(|hurt| message::Hurt { client: short(&hurt.client), requests: hurt.requests });
    let requests: u64 = others.iter().map(|hurt| hurt.requests).sum();
    let others = (requests > 0).then(|| message::Hurt { client: format!("{} others", others.len()), requests });
    named.chain(others).collect()
}

fn short(text: &str) -> String {
    text.chars().take(SENTENCE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(second: u64) -> Ts {
        Ts(second * 1_000_000_000)
    }

    fn finding(name: &str, severity: Severity, held: u64, drops: u64) -> Finding {
        let of = Subject { namespace: "shop".into(), kind: "Workload".into(), name: name.into() };
        Finding::new(CheckId::UdpDrop, severity, &of, Duration::from_secs(held), format!("{drops} datagrams"))
            .with("drops", drops)
    }

    fn shown(name: &str, severity: Severity) -> (CheckId, Subject, Severity) {
        let Finding { id, subject, .. } = finding(name, severity, 0, 0);
        (id, subject, severity)
    }

    /// Name, severity, since when in seconds, and the sentence.
    fn told(details: &Details) -> Vec<(String, message::Severity, u64, String)> {
        let told = details.told().expect("a window");
        told.iter()
            .map(|one| (one.workload.clone(), one.severity(), one.since_ms / 1_000, one.summary.clone()))
            .collect()
    }

    #[test]
    fn the_latest_figures_are_told_since_it_was_found_first_while_it_is_shown() {
        use message::Severity::Warning as Told;
        let (mut details, warning) = (Details::default(), Severity::Warning);
        assert!(details.told().is_none(), "nobody has looked");
        details.window(at(100), vec![finding("api", warning, 30, 12)], Vec::new());
        assert_eq!(told(&details), []);
        let first = details.told();
        details.window(at(130), vec![finding("api", warning, 30, 15)], vec![shown("api", warning)]);
        assert_eq!(told(&details), [("api".into(), Told, 70, "15 datagrams".into())]);
        assert!(!Arc::ptr_eq(&first.expect("one"), &details.told().expect("one")));
        // It is not found now, and shown for a while.
        let second = details.told();
        details.window(at(160), Vec::new(), vec![shown("api", warning)]);
        assert!(Arc::ptr_eq(&second.expect("one"), &details.told().expect("one")), "nothing is new");
        details.window(at(190), Vec::new(), Vec::new());
        details.window(at(220), vec![finding("api", warning, 30, 1)], vec![shown("api", warning)]);
        assert_eq!(told(&details), [("api".into(), Told, 190, "1 datagrams".into())]);
    }

    #[test]
    fn the_worst_of_a_window_is_told_with_the_severity_that_is_shown() {
        let (mut details, warning, error) = (Details::default(), Severity::Warning, Severity::Error);
        let found = vec![finding("api", warning, 50, 3), finding("api", error, 30, 9), finding("web", warning, 1, 2)];
        details.window(at(100), found, vec![shown("api", error), shown("web", warning)]);
        let expected = [
            ("api".into(), message::Severity::Error, 50, "9 datagrams".into()),
            ("web".into(), message::Severity::Warning, 99, "2 datagrams".into()),
        ];
        assert_eq!(told(&details), expected);
    }

    #[test]
    fn what_is_told_is_whole_and_bounded() {
        let hurt = |n: u64| Hurt { client: format!("shop/c{n}"), requests: n };
        let mut cut = finding("api", Severity::Error, 30, 9).with("share", 0.5).with("of", "x".to_owned());
        (cut.hurt, cut.certainty, cut.summary) = ((1..=12).map(hurt).collect(), Certainty::Likely, "x".repeat(5_000));
        let mut details = Details::default();
        details.window(at(100), vec![cut], vec![shown("api", Severity::Error)]);
        let told = details.told().expect("a window");
        let [one] = &*told else { panic!("{told:?}") };
        assert_eq!((one.hurt.len(), one.hurt[0].requests, &*one.hurt[10].client), (11, 12, "2 others"));
        assert_eq!((one.hurt[10].requests, one.summary.len(), one.likely), (3, SENTENCE, true));
        let names: Vec<&str> = one.evidence.iter().map(|figure| figure.name.as_str()).collect();
        assert_eq!(names, ["drops", "of", "share"]);
        assert!(!one.remedy.is_empty() && (&*one.id, &*one.namespace, &*one.kind) == ("udp-drop", "shop", "Workload"));
        let many: Vec<Finding> = (0..MOST + 9).map(|n| finding(&n.to_string(), Severity::Info, 1, 1)).collect();
        details.window(at(130), many, Vec::new());
        assert_eq!(details.followed.len(), MOST);
    }
}
