//! What the agent of a node holds for wrong there: its own words, within bounds, as it told them last.
//!
//! What is of a workload that has pods on other nodes alone is kept and not shown, as its series are.

use crate::ran::{Ran, Verdict};
use join::message::{self, Value};
use join::{PackError, findings};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Of an id, of a kind.
const WORD: usize = 63;
/// Of a name, as Kubernetes has it.
const NAME: usize = 253;
/// Of a sentence.
const SENTENCE: usize = 1_024;
/// Figures, clients and remedies of one finding.
const PARTS: usize = 32;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Evidence, or history.
    Info,
    /// Fails sometimes, or will.
    Warning,
    /// Requests fail now.
    Error,
}

impl Severity {
    /// Each once.
    pub const ALL: [Severity; 3] = [Severity::Info, Severity::Warning, Severity::Error];

    /// As `pilotfish doctor` has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// One finding, as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// Of the check.
    pub id: String,
    /// How bad.
    pub severity: Severity,
    /// Of whose it is; empty where that is in none.
    pub namespace: String,
    /// Workload, Node, Process ..
    pub kind: String,
    /// Of whose it is.
    pub workload: String,
    /// By the companion's clock: it has held for at least so long.
    pub since: Duration,
    /// The figures leave another reading.
    pub likely: bool,
    /// The figures as a sentence.
    pub summary: String,
    /// The figures by name.
    pub evidence: Vec<(String, Value)>,
    /// Whom it cost how many requests.
    pub hurt: Vec<(String, u64)>,
    /// What to do.
    pub remedy: Vec<String>,
    /// `since` as the agent has it.
    since_ms: u64,
}

impl Told {
    /// What the companion itself made of what several nodes told: always `likely`.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn of_cluster(
        id: &str,
        severity: Severity,
        [namespace, workload]: [&str; 2],
        since: Duration,
        summary: String,
        evidence: Vec<(String, Value)>,
        hurt: Vec<(String, u64)>,
        remedy: &[&str],
    ) -> Told {
        Told {
            id: id.to_owned(),
            severity,
            namespace: namespace.to_owned(),
            kind: "Workload".to_owned(),
            workload: workload.to_owned(),
            since,
            likely: true,
            summary,
            evidence,
            hurt,
            remedy: remedy.iter().map(|text| (*text).to_owned()).collect(),
            since_ms: 0,
        }
    }

    /// Requests that it cost.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.hurt.iter().fold(0, |all, (_, requests)| all.saturating_add(*requests))
    }

    /// Whether it is of the node, and of no workload there.
    #[must_use]
    pub fn is_of_node(&self) -> bool {
        self.namespace.is_empty() && self.kind == "Node"
    }

    /// A node has one of these.
    pub(crate) fn whose(&self) -> [&str; 4] {
        [&self.id, &self.namespace, &self.kind, &self.workload]
    }

    fn bytes(&self) -> usize {
        let Told { id, namespace, kind, workload, summary, evidence, hurt, remedy, .. } = self;
        let figure = |(name, value): &(String, Value)| match value {
            Value::Text(text) => name.len() + text.len(),
            Value::Count(_) | Value::Number(_) => name.len(),
        };
        let texts = [id, namespace, kind, workload, summary].map(String::len).iter().sum::<usize>();
        let parts = evidence.len() * size_of::<(String, Value)>()
            + hurt.len() * size_of::<(String, u64)>()
            + remedy.len() * size_of::<String>();
        let inside = evidence.iter().map(figure).sum::<usize>()
            + hurt.iter().map(|(client, _)| client.len()).sum::<usize>()
            + remedy.iter().map(String::len).sum::<usize>();
        size_of::<Held>() + size_of::<Told>() + 16 + texts + parts + inside
    }

    /// `None`: it names nothing that could be shown.
    fn read(finding: message::Finding, now: Duration, now_ms: u64) -> Option<Told> {
        let severity = match finding.severity() {
            message::Severity::Info => Severity::Info,
            // What a later version has is not hidden.
            message::Severity::Warning | message::Severity::Unsaid => Severity::Warning,
            message::Severity::Error => Severity::Error,
        };
        let message::Finding { id, namespace, kind, workload, since_ms, likely, summary, .. } = finding;
        let is_id = id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if id.is_empty() || id.len() > WORD || !is_id || !is_namespace(&namespace) {
            return None;
        }
        let workload = shown(&workload, NAME);
        if workload.is_empty() {
            return None;
        }
        let figure = |message::Figure { name, value }: message::Figure| {
            let value = match value? {
                Value::Number(number) if !number.is_finite() => return None,
                Value::Text(text) => Value::Text(shown(&text, NAME)),
                value => value,
            };
            Some((shown(&name, WORD), value))
        };
        let hurt = |message::Hurt { client, requests }: message::Hurt| (shown(&client, 2 * NAME), requests);
        let age = Duration::from_millis(now_ms.saturating_sub(since_ms));
        Some(Told {
            id,
            severity,
            namespace,
            kind: shown(&kind, WORD),
            workload,
            since: now.saturating_sub(age),
            likely,
            summary: shown(&summary, SENTENCE),
            evidence: finding.evidence.into_iter().filter_map(figure).take(PARTS).collect(),
            hurt: finding.hurt.into_iter().map(hurt).take(PARTS).collect(),
            remedy: finding.remedy.iter().map(|text| shown(text, SENTENCE)).take(PARTS).collect(),
            since_ms,
        })
    }
}

/// Kubernetes' or containerd's; empty for none.
fn is_namespace(name: &str) -> bool {
    let is_inside = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    name.len() <= NAME && name.bytes().all(is_inside) && name.bytes().next().is_none_or(|byte| byte != b'.')
}

/// Without what moves a terminal's cursor.
fn shown(text: &str, most: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(most).collect()
}

#[derive(Debug)]
struct Held {
    told: Arc<Told>,
    is_stranger: bool,
}

/// What became of findings that were told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Untold {
    pub(crate) no_room: u64,
    pub(crate) unreadable: u64,
}

/// Of one node.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// The process of the agent that told them.
    instance: u64,
    held: Vec<Held>,
    bytes: usize,
}

impl Findings {
    /// A stream of this process begins. What another one held for wrong it has to find again.
    pub(crate) fn begin(&mut self, instance: u64) {
        if self.instance != instance {
            *self = Findings { instance, ..Findings::default() };
        }
    }

    /// Takes what is told in the place of what was told before, up to `room` bytes.
    pub(crate) fn take(
        &mut self,
        now: Duration,
        message: &message::Findings,
        room: usize,
    ) -> Result<Untold, PackError> {
        let (all, more) = findings::read(message)?;
        let mut untold = Untold { no_room: more, ..Untold::default() };
        let before = std::mem::take(&mut self.held);
        let mut seen = BTreeSet::new();
        self.bytes = 0;
        for finding in all {
            let told = Told::read(finding, now, message.now_ms);
            let Some(mut told) = told.filter(|told| seen.insert(told.whose().map(str::to_owned))) else {
                untold.unreadable += 1;
                continue;
            };
            if self.bytes + told.bytes() > room {
                untold.no_room += 1;
                continue;
            }
            // It began when it began, however long the message took.
            let known =
                before.iter().find(|held| held.told.since_ms == told.since_ms && held.told.whose() == told.whose());
            if let Some(known) = known {
                told.since = known.told.since;
            }
            self.bytes += told.bytes();
            self.held.push(Held { told: Arc::new(told), is_stranger: known.is_some_and(|known| known.is_stranger) });
        }
        Ok(untold)
    }

    /// Compares them with where pods ran. Returns how many are hidden that were not before.
    pub(crate) fn judge(&mut self, node: &str, ran: &Ran) -> u64 {
        let mut hidden = 0;
        for Held { told, is_stranger } in &mut self.held {
            let verdict = match (&*told.namespace, &*told.kind) {
                ("", _) => Verdict::Nobodys,
                (namespace, _) => ran.verdict_of(node, namespace, &told.workload, told.since),
            };
            let was = std::mem::replace(is_stranger, verdict == Verdict::Stranger);
            hidden += u64::from(*is_stranger && !was);
        }
        hidden
    }

    /// Those that are shown.
    pub(crate) fn shown(&self) -> impl Iterator<Item = &Arc<Told>> {
        self.held.iter().filter(|held| !held.is_stranger).map(|held| &held.told)
    }

    /// Those of workloads that have pods on other nodes alone.
    pub(crate) fn strangers(&self) -> usize {
        self.held.iter().filter(|held| held.is_stranger).count()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn clear(&mut self) {
        (self.held, self.bytes) = (Vec::new(), 0);
    }
}
