//! What of the fleet is shown: agents, series, the table.

use crate::findings::Told;
use crate::names::Name;
use golden_metrics::{ClusterView, NodePage};
use std::sync::Arc;
use std::time::Duration;

/// Where an agent stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It pushes.
    Live,
    /// Three pushes are missing.
    Silent {
        /// Since it pushed last.
        since: Duration,
    },
    /// It said why it ended.
    Ended {
        /// Its exit code.
        code: u32,
        /// Its words.
        text: String,
    },
    /// None has joined from this node of the cluster.
    Absent,
}

impl Standing {
    /// One word for it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Standing::Live => "Live",
            Standing::Silent { .. } => "Silent",
            Standing::Ended { .. } => "Ended",
            Standing::Absent => "Absent",
        }
    }
}

/// One agent, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentRow {
    /// Name of its node.
    pub node: String,
    /// Its version.
    pub version: String,
    /// Whether it pushes.
    pub standing: Standing,
    /// Series of it that are kept.
    pub series: usize,
    /// Of these, those of workloads that have pods on other nodes alone: they are neither counted nor shown.
    pub strangers: usize,
    /// Findings of such workloads, which are not shown.
    pub stranger_findings: usize,
}

/// What the agent of a node holds for wrong, or the companion of several.
#[derive(Clone, Debug, PartialEq)]
pub struct FindingRow {
    /// Name of its node; empty where it is of several.
    pub node: Arc<str>,
    /// How the agent stands, in one word: what a silent one told last may hold no more.
    pub agent: &'static str,
    /// Its words.
    pub told: Arc<Told>,
}

impl FindingRow {
    /// In place of how an agent stands, where the companion found it.
    pub const COMPANION: &'static str = "Companion";

    pub(crate) fn of_cluster(told: Arc<Told>) -> FindingRow {
        FindingRow { node: "".into(), agent: FindingRow::COMPANION, told }
    }
}

/// All that is shown to kubectl, at one time.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// The table of the last minute.
    pub table: Arc<ClusterView>,
    /// A row for each node, whether or not its agent has joined.
    pub agents: Vec<AgentRow>,
    /// What agents hold for wrong.
    pub findings: Vec<FindingRow>,
    /// Milliseconds of the wall clock when the companion's own clock began.
    pub began_ms: u64,
}

/// What is asked for; `None`: all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Only {
    /// Of this node.
    pub node: Option<String>,
    /// Of edges with an end in this namespace. Totals of an agent have no ends.
    pub namespace: Option<String>,
}

/// Series at one time.
#[derive(Debug, Default)]
pub struct Rows {
    pub(crate) nodes: Vec<OfNode>,
}

#[derive(Debug)]
pub(crate) struct OfNode {
    pub(crate) node: String,
    pub(crate) series: Vec<(Name, Arc<[u8]>)>,
}

impl Rows {
    /// To be written for a scraper.
    #[must_use]
    pub fn page(&self) -> NodePage<'_> {
        let mut page = NodePage::default();
        for OfNode { node, series } in &self.nodes {
            for (name, value) in series {
                if let Some(key) = name.row() {
                    page.add(node, key, value);
                }
            }
        }
        page
    }
}
