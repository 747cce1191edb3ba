//! What agents hold for wrong, as Kubernetes objects. Those of a node itself are in namespace `default`,
//! as Events of objects without a namespace are: who may view that one sees them.

use crate::findings::{Severity, Told};
use crate::shown::FindingRow;
use flow_model::rfc3339;
use foldhash::quality::FixedState;
use join::message::Value as Figure;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::time::{Duration, UNIX_EPOCH};

/// Of what is in none.
const NAMESPACE: &str = "default";
/// Of a name, what it says of whose it is.
const SHORT: usize = 63;

pub(super) const COLUMNS: [(&str, &str, u8); 12] = [
    ("Name", "string", 0),
    ("Severity", "string", 0),
    ("Workload", "string", 0),
    ("Node", "string", 0),
    ("Agent", "string", 0),
    ("Since", "string", 0),
    ("Message", "string", 0),
    ("ID", "string", 1),
    ("Hurt", "integer", 1),
    ("Clients", "string", 1),
    ("Certainty", "string", 1),
    ("Do", "string", 1),
];

/// Where a finding is in the API, and since when it has held.
pub(super) struct Placed {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) labels: BTreeMap<&'static str, String>,
    /// By the wall clock.
    pub(super) since_ms: u64,
}

/// `began_ms`: of the wall clock when the companion's own began.
pub(super) fn placed(row: &FindingRow, began_ms: u64) -> Placed {
    let FindingRow { node, agent, told } = row;
    let Told { id, severity, namespace, kind, workload, since, .. } = &**told;
    let whose = if told.is_of_node() { node } else { &**workload };
    // What the name does not say is in eight digits.
    let hash = FixedState::with_seed(0).hash_one((&**node, id, namespace, kind, workload));
    let labels = [
        ("id", id.clone()),
        ("severity", severity.as_str().to_owned()),
        ("workload", whose.to_owned()),
        ("node", node.to_string()),
        ("agent", (*agent).to_owned()),
    ];
    Placed {
        namespace: if namespace.is_empty() { NAMESPACE } else { namespace }.to_owned(),
        name: format!("{id}.{}-{:08x}", word(whose), hash & 0xffff_ffff),
        labels: labels.into(),
        since_ms: began_ms.saturating_add(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
    }
}

/// As names of objects are written (RFC 1123).
fn word(text: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c.to_ascii_lowercase() } else { '-' };
    text.chars().map(letter).take(SHORT).collect::<String>().trim_matches(['-', '.']).to_owned()
}

/// Workloads by their names, others with what they are.
fn whose(row: &FindingRow) -> String {
    let Told { kind, workload, .. } = &*row.told;
    match &**kind {
        "Workload" | "Node" | "" => workload.clone(),
        kind => format!("{}/{workload}", kind.to_lowercase()),
    }
}

/// `age`: milliseconds that it has held.
pub(super) fn cells(name: &str, row: &FindingRow, age: u64) -> Value {
    let told = &row.told;
    let clients = told.hurt.iter().map(|(client, requests)| format!("{client}: {requests}"));
    json!([
        name,
        told.severity.as_str(),
        whose(row),
        &*row.node,
        row.agent,
        short(Duration::from_millis(age)),
        told.summary,
        told.id,
        told.requests(),
        clients.collect::<Vec<_>>().join(", "),
        certainty(told),
        told.remedy.join("; "),
    ])
}

fn certainty(told: &Told) -> &'static str {
    if told.likely { "likely" } else { "measured" }
}

/// As kubectl shows ages.
fn short(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

pub(super) fn json(row: &FindingRow, since_ms: u64) -> Value {
    let FindingRow { node, agent, told } = row;
    let figure = |(name, value): &(String, Figure)| {
        let value = match value {
            Figure::Count(count) => json!(count),
            Figure::Number(number) => json!(number),
            Figure::Text(text) => json!(text),
        };
        (name.clone(), value)
    };
    let hurt = |(client, requests): &(String, u64)| json!({ "client": client, "requests": requests });
    json!({
        "id": told.id, "severity": told.severity.as_str(), "node": &**node, "agent": agent,
        "workload": { "name": told.workload, "namespace": told.namespace, "kind": told.kind },
        "since": rfc3339(UNIX_EPOCH + Duration::from_millis(since_ms)), "message": told.summary,
        "evidence": told.evidence.iter().map(figure).collect::<Map<_, _>>(),
        "hurt": told.hurt.iter().map(hurt).collect::<Vec<_>>(), "requestsHurt": told.requests(),
        "do": told.remedy, "certainty": certainty(told),
    })
}

/// For `kubectl explain`.
pub(super) fn properties() -> Value {
    let text = |description: &str| json!({ "type": "string", "description": description });
    let number = |description: &str| json!({ "type": "number", "description": description });
    let object = |description: &str, properties: Value| json!({ "type": "object", "description": description, "properties": properties });
    let list = |description: &str, items: Value| json!({ "type": "array", "description": description, "items": items });
    let severities = Severity::ALL.map(Severity::as_str).join(", ");
    let client = json!({ "client": text("Its workload."), "requests": number("That failed or waited.") });
    let workload = json!({
        "name": text("Of the workload, or of who else it is."),
        "namespace": text("Where it has one."),
        "kind": text("Workload, Node, Container, Process, or Service of the node's init."),
    });
    json!({
        "id": text("Of the check: `pilotfish doctor --explain ID` says what it is, docs/doctor.md too."),
        "severity": text(&format!("{severities}: evidence; fails sometimes, or will; requests fail now.")),
        "node": text("Whose agent tells it; empty where the companion found it over several."),
        "agent": text("Live, or Companion. Silent, or Ended: it may hold no more, and is shown for five minutes."),
        "workload": object("Whose it is.", workload),
        "since": text("It has held for at least so long (RFC 3339)."),
        "message": text("The figures as a sentence."),
        "evidence": object("The figures by name.", json!({})),
        "hurt": list("Whom it cost how many requests, where that is known.", object("A client.", client)),
        "requestsHurt": number("Of all of them."),
        "do": list("What to do.", text("One of several.")),
        "certainty": text("measured, or likely: the figures leave another reading."),
    })
}
