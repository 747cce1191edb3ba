//! Rows of the table as Kubernetes objects.

use super::finding::{self, Placed};
use super::kind::{GROUP, Kind, VERSION};
use super::request::Selected;
use crate::shown::{AgentRow, FindingRow, Shown, Standing};
use golden_metrics::{Covered, EdgeRow, Nodes, WorkloadRow};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash};

/// A row with its place in the API.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Where whoever may read it has that right.
    pub namespace: String,
    /// Says of itself what it is the row of: it stays the same whatever other rows there are.
    pub name: String,
    pub(super) labels: BTreeMap<&'static str, String>,
    pub(super) row: Row,
    pub(super) nodes: Nodes,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Row {
    Workload(WorkloadRow),
    Edge(EdgeRow),
    Agent(AgentRow),
    /// With the milliseconds of the wall clock since when.
    Finding(FindingRow, u64),
}

/// Those that are asked for, by namespace and name. Rows of which no end is in a namespace are in none
/// here: nobody could be given the right to read them.
pub(super) fn of(selected: &Selected, shown: &Shown) -> Vec<Object> {
    let all: Vec<Object> = match selected.kind {
        Kind::WorkloadTraffic => shown.table.workloads().into_iter().filter_map(workload).collect(),
        Kind::Edge => shown.table.edges_once().into_iter().filter_map(edge).collect(),
        Kind::NodeAgent => shown.agents.iter().cloned().map(agent).collect(),
        Kind::Finding => shown.findings.iter().map(|row| wrong(row, shown.began_ms)).collect(),
    };
    let mut objects: Vec<Object> = all.into_iter().filter(|object| object.is(selected)).collect();
    // The worst findings come first, as they are.
    if selected.kind != Kind::Finding {
        objects.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    }
    objects
}

fn workload(Covered { row, nodes }: Covered<WorkloadRow>) -> Option<Object> {
    let party = &row.workload;
    let namespace = Some(party.namespace.clone()).filter(|namespace| !namespace.is_empty())?;
    // Deployments are what most are; others say so, since a StatefulSet may have the same name.
    let name = match &*party.kind {
        "Deployment" => party.name.clone(),
        kind => format!("{}.{}", party.name, kind.to_lowercase()),
    };
    let labels = [("workload", party.name.clone()), ("kind", party.kind.clone())].into();
    Some(Object { namespace, name, labels, row: Row::Workload(row), nodes })
}

fn edge(Covered { row, nodes }: Covered<EdgeRow>) -> Option<Object> {
    let (client, server) = (&row.src, &row.dst);
    let namespace = if client.namespace.is_empty() { &server.namespace } else { &client.namespace };
    let namespace = Some(namespace.clone()).filter(|namespace| !namespace.is_empty())?;
    let base = format!("{}.{}.{}", client.name, server.name, row.protocol);
    let is_plain = client.kind == "Deployment"
        && server.kind == "Deployment"
        && client.namespace == server.namespace
        && row.service == server.name
        && row.reporter == "client"
        && !client.name.contains('.')
        && !server.name.contains('.');
    // What the name does not say is in six digits.
    let name = match is_plain {
        true => base,
        false => format!("{base}-{:06x}", hash(&row) & 0xff_ffff),
    };
    let labels = [("client", client.name.clone()), ("server", server.name.clone()), ("protocol", row.protocol.clone())];
    Some(Object { namespace, name, labels: labels.into(), row: Row::Edge(row), nodes })
}

fn agent(row: AgentRow) -> Object {
    let labels = [("state", row.standing.word().to_owned())].into();
    let nodes = Nodes { live: u32::from(row.standing == Standing::Live), all: 1 };
    // In no namespace.
    Object { namespace: String::new(), name: row.node.clone(), labels, row: Row::Agent(row), nodes }
}

fn wrong(row: &FindingRow, began_ms: u64) -> Object {
    let Placed { namespace, name, labels, since_ms } = finding::placed(row, began_ms);
    let is_live = row.agent == Standing::Live.word() || row.agent == FindingRow::COMPANION;
    let nodes = Nodes { live: u32::from(is_live), all: 1 };
    Object { namespace, name, labels, row: Row::Finding(row.clone(), since_ms), nodes }
}

/// Why nothing comes from it, or not all is taken.
pub(crate) fn why(AgentRow { standing, strangers, stranger_findings, .. }: &AgentRow) -> String {
    match standing {
        Standing::Live if *strangers > 0 => {
            format!("{strangers} series are of workloads that have no pod on this node")
        }
        Standing::Live if *stranger_findings > 0 => {
            format!("{stranger_findings} findings are of workloads that have no pod on this node")
        }
        Standing::Live => String::new(),
        // In tens: it is no news each time that somebody looks.
        Standing::Silent { since } => format!("no push for {} s", since.as_secs() / 10 * 10),
        Standing::Ended { code, text } => format!("exit code {code}: {text}"),
        Standing::Absent => "no agent has joined from this node".to_owned(),
    }
}

/// The same in every process: names are to stay.
fn hash(row: &EdgeRow) -> u64 {
    let EdgeRow { src, dst, service, protocol, reporter, golden: _ } = row;
    let mut hasher = foldhash::quality::FixedState::with_seed(0).build_hasher();
    for party in [src, dst] {
        (&party.namespace, &party.name, &party.kind).hash(&mut hasher);
    }
    (service, protocol, reporter).hash(&mut hasher);
    std::hash::Hasher::finish(&hasher)
}

impl Object {
    fn is(&self, selected: &Selected) -> bool {
        let Selected { kind: _, namespace, name, only, labels } = selected;
        let has = |(label, value, asked): &(String, Option<String>, bool)| {
            let found = self.labels.get(label.strip_prefix("pilotfish.io/").unwrap_or(""));
            let is = match value {
                Some(value) => found == Some(value),
                None => found.is_some(),
            };
            is == *asked
        };
        namespace.as_ref().is_none_or(|namespace| *namespace == self.namespace)
            && [name, only].into_iter().flatten().all(|name| *name == self.name)
            && labels.iter().all(has)
    }

    pub(super) fn metadata(&self, version: u64) -> Value {
        let labels: BTreeMap<String, &String> =
            self.labels.iter().map(|(name, value)| (format!("pilotfish.io/{name}"), value)).collect();
        let mut metadata = json!({
            "name": self.name, "resourceVersion": version.to_string(), "creationTimestamp": null, "labels": labels,
        });
        if !self.namespace.is_empty() {
            metadata["namespace"] = self.namespace.clone().into();
        }
        metadata
    }

    /// The object.
    #[must_use]
    pub fn json(&self, version: u64) -> Value {
        let golden = match &self.row {
            Row::Workload(row) => Some(&row.golden),
            Row::Edge(row) => Some(&row.golden),
            Row::Agent(_) | Row::Finding(..) => None,
        };
        let golden = golden.map(|golden| {
            json!({
                "requests": golden.requests, "failures": golden.failures, "requestsPerSecond": golden.rps,
                "successRate": golden.success, "p50Seconds": golden.p50, "p95Seconds": golden.p95,
                "p99Seconds": golden.p99, "tcpConnections": golden.tcp_connections, "bytes": golden.bytes,
            })
        });
        let nodes = json!({ "live": self.nodes.live, "all": self.nodes.all });
        let (kind, more) = match &self.row {
            Row::Workload(row) => {
                (Kind::WorkloadTraffic, json!({ "golden": golden, "nodes": nodes, "workload": row.workload }))
            }
            Row::Edge(row) => (
                Kind::Edge,
                json!({
                    "golden": golden, "nodes": nodes, "client": row.src, "server": row.dst,
                    "service": row.service, "protocol": row.protocol, "reporter": row.reporter,
                }),
            ),
            Row::Agent(row @ AgentRow { node: _, version, standing, series, strangers, stranger_findings }) => (
                Kind::NodeAgent,
                json!({
                    "state": standing.word(), "reason": why(row), "version": version, "series": series,
                    "refusedSeries": strangers, "refusedFindings": stranger_findings,
                }),
            ),
            Row::Finding(row, since_ms) => (Kind::Finding, finding::json(row, *since_ms)),
        };
        let mut object = json!({
            "apiVersion": format!("{GROUP}/{VERSION}"), "kind": kind.name(), "metadata": self.metadata(version),
        });
        if let (Some(object), Value::Object(more)) = (object.as_object_mut(), more) {
            object.extend(more);
        }
        object
    }
}
