//! What whoever looks at the fleet gets of it.

use crate::fleet::Fleet;
use crate::names::Name;
use crate::shown::{AgentRow, OfNode, Only, Rows, Shown, Standing};
use golden_metrics::{ClusterView, EdgeDetail, Party};
use std::sync::Arc;
use std::time::Duration;

/// Whoever asks more often gets the same table.
const TABLE: Duration = Duration::from_secs(1);

impl Fleet {
    /// Every agent that has joined, by name of its node.
    #[must_use]
    pub fn agents(&self, now: Duration) -> Vec<AgentRow> {
        let silence = self.config.silence();
        let mut rows: Vec<AgentRow> = self.nodes.iter().map(|(name, node)| node.row(name, now, silence)).collect();
        rows.sort_by(|a, b| a.node.cmp(&b.node));
        rows
    }

    /// Nodes of the cluster from which no agent has joined.
    #[must_use]
    pub fn uncovered(&self) -> Vec<&str> {
        let known = self.known.iter().flatten().map(String::as_str);
        known.filter(|name| !self.nodes.contains_key(*name)).collect()
    }

    /// The series of a node, with what they have counted.
    pub fn series(&self, node: &str) -> impl Iterator<Item = (&Name, &[u8])> {
        self.nodes.get(node).into_iter().flat_map(|node| node.series().map(|(name, value)| (name, &**value)))
    }

    /// The series that are to be shown, as they are now. Shared, not copied, so that pushes wait for no
    /// page.
    #[must_use]
    pub fn rows(&self, only: &Only) -> Rows {
        let Only { node, namespace } = only;
        let is_asked_for = |name: &Name| {
            name.row().is_some_and(|row| namespace.as_ref().is_none_or(|namespace| row.is_of_namespace(namespace)))
        };
        let nodes = self.nodes.iter().filter(|(name, _)| node.as_ref().is_none_or(|node| node == *name));
        let mut nodes: Vec<OfNode> = nodes
            .map(|(name, node)| {
                let series = node.series().filter(|(name, _)| is_asked_for(name));
                let series = series.map(|(name, value)| (name.clone(), value.clone())).collect();
                OfNode { node: name.clone(), series }
            })
            .collect();
        nodes.sort_by(|a, b| a.node.cmp(&b.node));
        Rows { nodes }
    }

    /// What the cluster did in the last minute. The same for a second, whoever asks.
    pub fn table(&mut self, now: Duration) -> Arc<ClusterView> {
        let silence = self.config.silence();
        let Fleet { nodes, cluster, table, .. } = self;
        if let Some((_, table)) = table.as_ref().filter(|(at, _)| now.saturating_sub(*at) < TABLE) {
            return table.clone();
        }
        let agents = nodes.values().map(|node| (node.is_live(now, silence), node.rows()));
        let made = Arc::new(cluster.table(now, agents));
        *table = Some((now, made.clone()));
        made
    }

    /// What the cluster did, and who tells of it: also the nodes of which nobody does.
    pub fn shown(&mut self, now: Duration) -> Shown {
        let absent = |node: &str| AgentRow {
            node: node.to_owned(),
            version: String::new(),
            standing: Standing::Absent,
            series: 0,
            strangers: 0,
            stranger_findings: 0,
        };
        let mut agents = self.agents(now);
        agents.extend(self.uncovered().into_iter().map(absent));
        Shown { table: self.table(now), agents, findings: self.findings(now), began_ms: self.began_ms }
    }

    /// What was counted of the edge between two workloads in the last minute.
    #[must_use]
    pub fn edge(&self, now: Duration, client: &Party, server: &Party) -> EdgeDetail {
        self.cluster.detail(now, client, server)
    }
}
