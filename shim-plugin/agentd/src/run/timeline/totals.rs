//! `pilotfish_cut_exchanges_total`: requests that were cut, by cause and edge.

use super::unanswered::Unanswered;
use agent_api::TimelineEvent;
use golden_metrics::{End, Loss, Losses, OVERFLOW, SelfMetric};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Edges and causes that are told apart; what is beyond is counted for both ends `_overflow`.
const MOST: usize = 500;

/// One line of the counter.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct CutKey {
    cause: String,
    client_workload: String,
    client_namespace: String,
    client_kind: String,
    server_workload: String,
    server_namespace: String,
    server_kind: String,
    server_service: String,
}

/// As it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CutRecord {
    #[serde(flatten)]
    key: CutKey,
    requests: u64,
}

#[derive(Debug)]
pub struct CutTotals {
    totals: BTreeMap<CutKey, u64>,
    full: Loss,
}

impl CutTotals {
    pub fn new(losses: &Losses) -> CutTotals {
        let full = losses.place("timeline", "cut_series_full", "cut requests counted under the labels _overflow");
        CutTotals { totals: BTreeMap::new(), full }
    }

    pub fn restore(&mut self, rows: Vec<CutRecord>) {
        self.totals.extend(rows.into_iter().take(MOST + 1).map(|CutRecord { key, requests }| (key, requests)));
    }

    pub fn rows(&self) -> Vec<CutRecord> {
        self.totals.iter().map(|(key, requests)| CutRecord { key: key.clone(), requests: *requests }).collect()
    }

    /// A stream that ended is nobody's lost request. The server is called as its exit is: the name of its
    /// edge may have been on the way when the request was given up.
    pub fn add(&mut self, cause: &str, cut: &Unanswered, exit: Option<&TimelineEvent>) {
        let Unanswered { client, server, service, is_stream: false, count, .. } = cut else { return };
        let End { workload: client_workload, namespace: client_namespace, kind: client_kind } = client;
        let End { workload: server_workload, namespace: server_namespace, kind: server_kind } = server;
        let key = CutKey {
            cause: cause.to_owned(),
            client_workload: client_workload.to_string(),
            client_namespace: client_namespace.to_string(),
            client_kind: (*client_kind).to_owned(),
            server_workload: server_workload.to_string(),
            server_namespace: server_namespace.to_string(),
            server_kind: (*server_kind).to_owned(),
            server_service: service.to_string(),
        };
        let key = match exit.filter(|exit| !exit.kind.is_empty()) {
            None => key,
            Some(TimelineEvent { namespace, workload, kind, .. }) => CutKey {
                server_workload: workload.clone(),
                server_namespace: namespace.clone(),
                server_kind: kind.clone(),
                ..key
            },
        };
        if self.totals.len() < MOST || self.totals.contains_key(&key) {
            *self.totals.entry(key).or_default() += count;
        } else {
            self.full.add(*count);
            let (client_workload, server_workload) = (OVERFLOW.to_owned(), OVERFLOW.to_owned());
            let beyond = CutKey { cause: key.cause, client_workload, server_workload, ..CutKey::default() };
            *self.totals.entry(beyond).or_default() += count;
        }
    }

    /// Labels without a value are left out, as on all edges.
    #[must_use]
    pub fn metrics(&self) -> Vec<SelfMetric> {
        let help = "Requests that a container of this node had begun and did not answer because it ended, by cause: \
                    they are among those that failed.";
        let metric = |(key, requests): (&CutKey, &u64)| {
            let labels = [
                ("client_workload", &key.client_workload),
                ("client_namespace", &key.client_namespace),
                ("client_kind", &key.client_kind),
                ("server_workload", &key.server_workload),
                ("server_namespace", &key.server_namespace),
                ("server_kind", &key.server_kind),
                ("server_service", &key.server_service),
            ];
            let metric = SelfMetric::counter("pilotfish_cut_exchanges_total", help, *requests);
            let metric = metric.with("cause", key.cause.clone()).with("reporter", "server");
            let labels = labels.into_iter().filter(|(_, value)| !value.is_empty());
            labels.fold(metric, |metric, (name, value)| metric.with(name, value.clone()))
        };
        self.totals.iter().map(metric).collect()
    }
}
