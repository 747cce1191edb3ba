//! What is kept of one agent.

use crate::findings::{Findings, Told};
use crate::names::Name;
use crate::shown::{AgentRow, FindingRow, Standing};
use crate::strangers::Strangers;
use golden_metrics::{RowKey, RowValue, Sees, Served};
use join::Replica;
use std::sync::Arc;
use std::time::Duration;

/// See the module.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) replica: Replica<Name>,
    /// Of the stream that may push; 0: none.
    pub(crate) stream: u64,
    pub(crate) version: String,
    pub(crate) heard: Duration,
    pub(crate) ended: Option<(u32, String)>,
    /// Of late, where somebody scales by it.
    pub(crate) served: Option<Served>,
    pub(crate) strangers: Strangers,
    pub(crate) findings: Findings,
    pub(crate) seen: join::Counted,
}

impl Node {
    /// Whether what it has counted is part of the table: it has pushed twice, and of late.
    pub(crate) fn is_live(&self, now: Duration, silence: Duration) -> bool {
        let is_heard = now.saturating_sub(self.heard) <= silence && self.ended.is_none();
        is_heard && self.replica.is_watched()
    }

    /// Those that are shown.
    pub(crate) fn series(&self) -> impl Iterator<Item = (&Name, &Arc<[u8]>)> {
        self.replica.series().filter(|(name, _)| !self.strangers.has(name))
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = (&RowKey, RowValue)> {
        self.series().filter_map(|(name, value)| Some((name.row()?, RowValue::read(value)?)))
    }

    pub(crate) fn row(&self, name: &str, now: Duration, silence: Duration) -> AgentRow {
        let since = now.saturating_sub(self.heard);
        let standing = match &self.ended {
            Some((code, text)) => Standing::Ended { code: *code, text: text.clone() },
            None if since > silence => Standing::Silent { since },
            None => Standing::Live,
        };
        let (node, version) = (name.to_owned(), self.version.clone());
        let (series, strangers) = (self.replica.len(), self.strangers.len());
        AgentRow { node, version, standing, series, strangers, stranger_findings: self.findings.strangers() }
    }

    pub(crate) fn findings(&self, name: &str, now: Duration, silence: Duration) -> impl Iterator<Item = FindingRow> {
        let node: Arc<str> = name.into();
        let standing = if self.findings.is_empty() { Standing::Live } else { self.row(name, now, silence).standing };
        let row = move |told: &Arc<Told>| FindingRow { node: node.clone(), agent: standing.word(), told: told.clone() };
        self.findings.shown().map(row)
    }
}

/// As the agent says it.
pub(crate) fn sees(said: join::message::Sees) -> Sees {
    use join::message::Sees as Said;
    match said {
        Said::Unsaid => Sees::Unsaid,
        Said::Part => Sees::Part,
        Said::Nameless => Sees::Nameless,
        Said::All => Sees::All,
    }
}
