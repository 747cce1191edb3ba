//! What a workload did as a server, part by part: by route, by operation, or by status.

use crate::families::Cell;
use crate::label_sets::{LabelSet, LabelsId};
use crate::labels::Reporter;
use crate::snapshot::Snapshot;
use crate::view::{Frozen, Name, Stats};
use agent_api::{By, PartRow};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Labels that say what was asked for, each family's in the order in which people write them.
const OPERATION: [&str; 9] = [
    "http_request_method",
    "http_route",
    "rpc_service",
    "rpc_method",
    "db_operation_name",
    "db_collection_name",
    "messaging_operation_name",
    "messaging_destination_name",
    "dns_question_type",
];
/// Labels that say what was answered. A family has one of them at most.
pub(crate) const STATUS: [&str; 4] =
    ["http_response_status_code", "rpc_response_status_code", "db_response_status_code", "dns_response_code"];
const ROUTE: &str = "http_route";
const ERROR: &str = "error_type";
/// Status of what was answered where its protocol has a word for errors only.
pub(crate) const OK: &str = "ok";
/// The label is not there.
const NONE: &str = "-";

/// All series of exchanges, by who answered. Frozen.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    parts: BTreeMap<Key, Part>,
    span: Option<Duration>,
}

type Key = (Name, bool, &'static str, LabelsId);

#[derive(Clone, Debug)]
struct Part {
    labels: Arc<LabelSet>,
    stats: Stats,
}

impl Frozen for Parts {
    fn freeze(snapshot: &Snapshot) -> Parts {
        let mut parts = BTreeMap::new();
        for (id, series) in snapshot.families() {
            for s in series {
                let key =
                    (Name::of(&s.edge.server), s.edge.reporter == Reporter::Server, id.family().name, s.labels.id);
                let part =
                    parts.entry(key).or_insert_with(|| Part { labels: s.labels.clone(), stats: Stats::default() });
                let (latency, one_way) = (s.duration.snapshot(), s.value(Cell::OneWay));
                part.stats.add(&Stats::of_exchanges(latency, one_way, s.labels.failed, s.labels.unanswered));
            }
        }
        Parts { parts, span: None }
    }

    fn since(&self, earlier: &Parts, span: Duration) -> Parts {
        let none = Stats::default();
        let lately = |(key, part): (&Key, &Part)| {
            let stats = part.stats.since(earlier.parts.get(key).map_or(&none, |part| &part.stats));
            (stats != none).then(|| (key.clone(), Part { stats, ..part.clone() }))
        };
        Parts { parts: self.parts.iter().filter_map(lately).collect(), span: Some(span) }
    }
}

impl Parts {
    /// By the server's own report where there is one, else by its clients', as in `workloads`; sorted
    /// by workload, protocol and what they are by.
    #[must_use]
    pub fn rows(&self, by: By) -> Vec<PartRow> {
        let told: BTreeSet<&Name> = self.parts.keys().filter(|(_, own, ..)| *own).map(|(name, ..)| name).collect();
        let mut rows: BTreeMap<(&Name, &'static str, String), Stats> = BTreeMap::new();
        for ((name, own, family, _), part) in &self.parts {
            if *own != told.contains(name) {
                continue;
            }
            if let Some(value) = value(by, &part.labels) {
                rows.entry((name, family, value)).or_default().add(&part.stats);
            }
        }
        let row = |((name, family, value), stats): ((&Name, &str, String), Stats)| PartRow {
            workload: name.party(),
            protocol: family.to_owned(),
            value,
            golden: stats.golden(self.span),
        };
        rows.into_iter().map(row).collect()
    }
}

/// `None` for what has nothing of the kind.
fn value(by: By, labels: &LabelSet) -> Option<String> {
    let label = |wanted: &str| labels.shown.iter().find(|(name, _)| *name == wanted).map(|(_, value)| &**value);
    match by {
        // Of HTTP, which has a method; others have no routes.
        By::Route => label("http_request_method").map(|_| label(ROUTE).unwrap_or(NONE).to_owned()),
        By::Operation => {
            let words: Vec<&str> = OPERATION.iter().filter_map(|name| label(name)).collect();
            // As gRPC writes it.
            let join = if label("rpc_service").is_some() { "/" } else { " " };
            (!words.is_empty()).then(|| words.join(join))
        }
        By::Status => {
            let said = STATUS.iter().find_map(|name| label(name));
            Some(said.or_else(|| label(ERROR)).unwrap_or(OK).to_owned())
        }
    }
}
