//! What was counted, as the admin pages read it: totals, and the last half minute beside them.

use crate::api::{EdgeRow, Exchanges, Golden, Loss, Party, WorkloadRow};
use flow_model::{LossReason, Protocol, Ts};
use golden_metrics::{Losses, Reader, Recent, Reporter, Snapshot};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::Duration;

/// A view of 10,000 edges takes some 10 MiB: three of them, and rates over 20 to 30 s.
const STEP: Duration = Duration::from_secs(10);
const KEPT: usize = 3;

#[derive(Debug)]
pub struct Traffic {
    reader: Reader,
    recent: Mutex<Recent>,
    losses: Losses,
}

impl Traffic {
    #[must_use]
    pub fn new(reader: Reader, losses: Losses) -> Traffic {
        Traffic { reader, recent: Mutex::new(Recent::new(STEP, KEPT)), losses }
    }

    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.reader.snapshot()
    }

    /// To be called every second.
    pub fn tick(&self, now: Ts) {
        self.recent.lock().tick(now, &self.reader.snapshot());
    }

    #[must_use]
    pub fn losses(&self) -> Vec<Loss> {
        let row = |row: golden_metrics::LossRow| Loss {
            stage: row.stage.to_owned(),
            reason: row.reason.to_owned(),
            unit: row.unit.to_owned(),
            count: row.total,
        };
        self.losses.rows().into_iter().map(row).collect()
    }

    #[must_use]
    pub fn exchanges(&self) -> Vec<Exchanges> {
        let snapshot = self.snapshot();
        let of = |reporter: Reporter| Exchanges {
            reporter: reporter.as_str().to_owned(),
            counted: Protocol::ALL.iter().map(|protocol| snapshot.exchanges(reporter, *protocol)).sum(),
            lost: LossReason::ALL.iter().map(|reason| snapshot.exchanges_lost(reporter, *reason)).sum(),
        };
        vec![of(Reporter::Client), of(Reporter::Server)]
    }

    /// Every edge, once for each reporter and protocol.
    #[must_use]
    pub fn edges(&self, now: Ts) -> Vec<EdgeRow> {
        let snapshot = self.snapshot();
        let key = |row: &golden_metrics::EdgeRow| {
            let service = row.server_service.clone();
            (client(row), server(row), service, row.protocol.clone(), row.reporter.clone())
        };
        let recent = self.recent.lock().view(now, &snapshot).edges();
        let recent: HashMap<_, _> = recent.into_iter().map(|row| (key(&row), row)).collect();
        let golden = |total: &golden_metrics::EdgeRow| {
            let lately = recent.get(&key(total)).filter(|row| row.requests > 0);
            let shown = lately.unwrap_or(total);
            Golden {
                requests: total.requests,
                failures: total.failures,
                rps: lately.and_then(|row| row.rps).unwrap_or(0.0),
                success: (shown.requests > 0).then(|| shown.successes as f64 / shown.requests as f64),
                p50_ns: nanos(shown.p50),
                p95_ns: nanos(shown.p95),
                p99_ns: nanos(shown.p99),
                tcp_connections: total.tcp_open,
            }
        };
        let row = |row: &golden_metrics::EdgeRow| EdgeRow {
            src: client(row),
            dst: server(row),
            service: row.server_service.clone(),
            protocol: row.protocol.clone(),
            reporter: row.reporter.clone(),
            golden: golden(row),
        };
        snapshot.view().edges().iter().map(row).collect()
    }

    /// Every workload as a server.
    #[must_use]
    pub fn workloads(&self, now: Ts) -> Vec<WorkloadRow> {
        let snapshot = self.snapshot();
        let recent = self.recent.lock().view(now, &snapshot).workloads();
        let recent: HashMap<_, _> = recent.into_iter().map(|row| (party(&row), row)).collect();
        let row = |total: &golden_metrics::WorkloadRow| {
            let lately = recent.get(&party(total)).filter(|row| row.requests > 0);
            let shown = lately.unwrap_or(total);
            let golden = Golden {
                requests: total.requests,
                failures: total.failures,
                rps: lately.and_then(|row| row.rps).unwrap_or(0.0),
                success: shown.success,
                p50_ns: nanos(shown.p50),
                p95_ns: nanos(shown.p95),
                p99_ns: nanos(shown.p99),
                tcp_connections: total.tcp_conn,
            };
            WorkloadRow { workload: party(total), golden }
        };
        snapshot.view().workloads().iter().map(row).collect()
    }
}

fn client(row: &golden_metrics::EdgeRow) -> Party {
    Party { name: row.client.clone(), namespace: row.client_ns.clone(), kind: row.client_kind.clone() }
}

fn server(row: &golden_metrics::EdgeRow) -> Party {
    Party { name: row.server.clone(), namespace: row.server_ns.clone(), kind: row.server_kind.clone() }
}

fn party(row: &golden_metrics::WorkloadRow) -> Party {
    Party { name: row.name.clone(), namespace: row.namespace.clone(), kind: row.kind.clone() }
}

fn nanos(seconds: Option<f64>) -> Option<u64> {
    seconds.filter(|s| s.is_finite() && *s >= 0.0).map(|s| (s * 1e9).round() as u64)
}

#[cfg(test)]
impl Traffic {
    /// Of a node where nothing happens.
    pub fn silent() -> Traffic {
        let losses = Losses::default();
        let index = k8s_sync::IdentityIndex::new(k8s_sync::Limits::default());
        let names = index.reader(k8s_sync::Addresses::ByClass);
        let (_golden, reader) = golden_metrics::Golden::new(names, golden_metrics::Config::default(), &losses);
        Traffic::new(reader, losses)
    }
}
