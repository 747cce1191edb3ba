//! What was counted, as the admin pages read it: totals, and the last half minute beside them.

use agent_api::{By, EdgeRow, Exchanges, Golden, LossRow, PartRow, Party, WorkloadRow};
use flow_model::{LossReason, Protocol, Ts};
use golden_metrics::{
    Exposition, Format, Frozen as _, Histograms, Losses, Parts, Reader, Recent, Reporter, SelfMetric, Snapshot,
};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::Duration;

/// A view of 10,000 edges takes some 7 MB (`cargo xtask bench series`): three of them, and rates
/// over 20 to 30 s.
const STEP: Duration = Duration::from_secs(10);
const KEPT: usize = 3;
/// Parts of workloads are kept for rates while somebody asks for them: so long after he did.
const PARTS_KEPT: Duration = Duration::from_secs(5 * 60);

#[derive(Debug)]
pub struct Traffic {
    reader: Reader,
    recent: Mutex<Recent>,
    parts: Mutex<Option<AskedParts>>,
    losses: Losses,
    histograms: Histograms,
}

#[derive(Debug)]
struct AskedParts {
    recent: Recent<Parts>,
    asked: Ts,
}

impl Traffic {
    #[must_use]
    pub fn new(reader: Reader, losses: Losses) -> Traffic {
        let (parts, histograms) = Default::default();
        Traffic { reader, recent: Mutex::new(Recent::new(STEP, KEPT)), parts, losses, histograms }
    }

    /// Which buckets a scrape shows.
    #[must_use]
    pub fn with(self, histograms: Histograms) -> Traffic {
        Traffic { histograms, ..self }
    }

    /// A scrape: what was counted, and `own`. Handed over in pieces.
    pub fn scrape(&self, own: &[SelfMetric], format: Format, take: &mut dyn FnMut(&[u8])) {
        Exposition::render_to(&self.snapshot(), own, format, self.histograms, take);
    }

    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.reader.snapshot()
    }

    /// To be called every second.
    pub fn tick(&self, now: Ts) {
        self.recent.lock().tick(now, &self.reader.snapshot());
        let mut parts = self.parts.lock();
        if parts.as_ref().is_some_and(|parts| now.since(parts.asked) >= PARTS_KEPT) {
            *parts = None;
        }
        if let Some(parts) = &mut *parts {
            parts.recent.tick(now, &self.reader.snapshot());
        }
    }

    #[must_use]
    pub fn losses(&self) -> Vec<LossRow> {
        self.losses.rows()
    }

    /// Where places of loss are made.
    #[must_use]
    pub fn registry(&self) -> &Losses {
        &self.losses
    }

    /// Seen from all ends.
    #[must_use]
    pub fn exchanges_lost(&self, reason: LossReason) -> u64 {
        let snapshot = self.snapshot();
        Reporter::ALL.iter().map(|reporter| snapshot.exchanges_lost(*reporter, reason)).sum()
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
        let key = |row: &EdgeRow| {
            let EdgeRow { src, dst, service, protocol, reporter, golden: _ } = row;
            (src.clone(), dst.clone(), service.clone(), protocol.clone(), reporter.clone())
        };
        let recent = self.recent.lock().view(now, &snapshot).edges();
        let recent: HashMap<_, Golden> = recent.iter().map(|row| (key(row), row.golden)).collect();
        let mut rows = snapshot.view().edges();
        for row in &mut rows {
            row.golden = with_recent(row.golden, recent.get(&key(row)));
        }
        rows
    }

    /// Every workload as a server.
    #[must_use]
    pub fn workloads(&self, now: Ts) -> Vec<WorkloadRow> {
        let snapshot = self.snapshot();
        let recent = self.recent.lock().view(now, &snapshot).workloads();
        let recent: HashMap<Party, Golden> = recent.into_iter().map(|row| (row.workload, row.golden)).collect();
        let mut rows = snapshot.view().workloads();
        for row in &mut rows {
            row.golden = with_recent(row.golden, recent.get(&row.workload));
        }
        rows
    }

    /// Every workload as a server, part by part. Nobody is asked for rates that nobody wants: the
    /// first answer has none, and begins to keep them.
    #[must_use]
    pub fn parts(&self, by: By, now: Ts) -> agent_api::Parts {
        let snapshot = self.snapshot();
        let mut parts = self.parts.lock();
        let span = parts.as_ref().and_then(|parts| parts.recent.span(now)).filter(|span| !span.is_zero());
        let begin = || AskedParts { recent: Recent::new(STEP, KEPT), asked: now };
        let AskedParts { recent, asked } = parts.get_or_insert_with(begin);
        *asked = now;
        recent.tick(now, &snapshot);
        let lately = recent.view(now, &snapshot).rows(by);
        drop(parts);
        let key = |row: &PartRow| (row.workload.clone(), row.protocol.clone(), row.value.clone());
        let lately: HashMap<_, Golden> = lately.iter().map(|row| (key(row), row.golden)).collect();
        let mut rows = Parts::freeze(&snapshot).rows(by);
        for row in &mut rows {
            row.golden = with_recent(row.golden, lately.get(&key(row)));
        }
        let span_ms = span.map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
        agent_api::Parts { span_ms, rows }
    }
}

/// Totals, beside rate, success and latencies of lately where there was anything lately.
fn with_recent(total: Golden, lately: Option<&Golden>) -> Golden {
    let shown = lately.filter(|lately| lately.requests > 0).unwrap_or(&total);
    let Golden { requests, failures, tcp_connections, bytes, .. } = total;
    Golden { requests, failures, tcp_connections, bytes, ..*shown }
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

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use flow_model::{
        Detail, Endpoint, FiveTuple, FlowDelta, FlowInfo, HttpExchange, Identity, L7Record, Names, Notes, Outcome,
        Role, Sink, Slot, Transport, Unknown, Workload, WorkloadKind,
    };
    use std::net::IpAddr;
    use std::sync::Arc;

    /// One pod, and whom it asks.
    struct Shop;

    impl Names for Shop {
        fn local(&self, _: Slot) -> Identity {
            let (namespace, name) = ("shop".into(), "web".into());
            Identity::Known(Arc::new(Workload { namespace, name, kind: WorkloadKind::Deployment, pod: "".into() }))
        }

        fn remote(&self, _: Slot, _: Endpoint, _: Ts) -> Identity {
            Identity::Unknown(Unknown::NotFound)
        }

        fn service(&self, _: Endpoint, _: Ts) -> Option<Arc<str>> {
            Some("api".into())
        }

        fn version(&self) -> u64 {
            0
        }

        fn dns_answer(&mut self, _: Slot, _: &str, _: &[IpAddr], _: u32, _: Ts) {}
    }

    fn asked(status: Option<u16>, took: u64) -> L7Record {
        L7Record {
            protocol: Protocol::Http1,
            start: Ts(1_000_000_000),
            response_start: status.map(|_| Ts(1_000_000_000)),
            end: Ts(1_000_000_000 + took),
            request_bytes: 100,
            response_bytes: 1000,
            outcome: if status.is_some() { Outcome::Answered } else { Outcome::Unanswered },
            notes: Notes::default(),
            detail: Detail::Http(HttpExchange { method: "GET".into(), status, ..HttpExchange::default() }),
        }
    }

    #[test]
    fn rows_of_edges_and_workloads_as_json() {
        let losses = Losses::default();
        losses.place("ring", "full", "message heads").add(3);
        let (mut golden, reader) = golden_metrics::Golden::new(Shop, golden_metrics::Config::default(), &losses);
        let traffic = Traffic::new(reader, losses);
        let end = |last, port| Endpoint { ip: [10, 0, 0, last].into(), port };
        let tuple = FiveTuple { transport: Transport::Tcp, local: end(1, 40_000), remote: end(2, 80) };
        let flow =
            FlowInfo { slot: Slot(1), tuple, role: Role::Client, opened: Ts(1), joined_midway: false, peer: None };
        let mut cache = Default::default();
        golden.flow(&flow, &mut cache, &FlowDelta { packets: [3, 2], bytes: [300, 200], ..FlowDelta::default() });
        golden.exchange(&flow, &mut cache, &asked(Some(200), 250_000));
        golden.publish();
        traffic.tick(Ts(0));
        let second = |n: u64| Ts(n * 1_000_000_000);
        let json = |traffic: &Traffic, at| {
            let (edges, workloads) = (traffic.edges(at), traffic.workloads(at));
            serde_json::to_string_pretty(&(edges, workloads, traffic.losses(), traffic.exchanges())).expect("JSON")
        };
        // Nothing new since the first look: totals, and no rate.
        expect![[r#"
            [
              [
                {
                  "src": {
                    "name": "web",
                    "namespace": "shop",
                    "kind": "Deployment"
                  },
                  "dst": {
                    "name": "_unknown",
                    "namespace": "",
                    "kind": "NotFound"
                  },
                  "service": "api",
                  "protocol": "http",
                  "reporter": "client",
                  "requests": 1,
                  "failures": 0,
                  "rps": 0.0,
                  "success": 1.0,
                  "p50_ns": 252203,
                  "p95_ns": 252203,
                  "p99_ns": 252203,
                  "tcp_connections": 1
                }
              ],
              [
                {
                  "workload": {
                    "name": "_unknown",
                    "namespace": "",
                    "kind": "NotFound"
                  },
                  "requests": 1,
                  "failures": 0,
                  "rps": 0.0,
                  "success": 1.0,
                  "p50_ns": 252203,
                  "p95_ns": 252203,
                  "p99_ns": 252203,
                  "tcp_connections": 1
                }
              ],
              [
                {
                  "stage": "metrics",
                  "reason": "series_cap",
                  "unit": "observations counted under the labels _overflow",
                  "count": 0
                },
                {
                  "stage": "ring",
                  "reason": "full",
                  "unit": "message heads",
                  "count": 3
                }
              ],
              [
                {
                  "reporter": "client",
                  "counted": 1,
                  "lost": 0
                },
                {
                  "reporter": "server",
                  "counted": 0,
                  "lost": 0
                }
              ]
            ]"#]]
        .assert_eq(&json(&traffic, second(5)));
        for (status, took) in [(Some(200), 1_234_567), (Some(503), 2_000_000), (None, 5_000_000)] {
            golden.exchange(&flow, &mut cache, &asked(status, took));
        }
        golden.publish();
        // Latencies and success are those of the last half minute.
        expect![[r#"
            [
              [
                {
                  "src": {
                    "name": "web",
                    "namespace": "shop",
                    "kind": "Deployment"
                  },
                  "dst": {
                    "name": "_unknown",
                    "namespace": "",
                    "kind": "NotFound"
                  },
                  "service": "api",
                  "protocol": "http",
                  "reporter": "client",
                  "requests": 4,
                  "failures": 2,
                  "rps": 0.3,
                  "success": 0.3333333333333333,
                  "p50_ns": 1225958,
                  "p95_ns": 2017627,
                  "p99_ns": 2017627,
                  "tcp_connections": 1
                }
              ],
              [
                {
                  "workload": {
                    "name": "_unknown",
                    "namespace": "",
                    "kind": "NotFound"
                  },
                  "requests": 4,
                  "failures": 2,
                  "rps": 0.3,
                  "success": 0.3333333333333333,
                  "p50_ns": 1225958,
                  "p95_ns": 2017627,
                  "p99_ns": 2017627,
                  "tcp_connections": 1
                }
              ],
              [
                {
                  "stage": "metrics",
                  "reason": "series_cap",
                  "unit": "observations counted under the labels _overflow",
                  "count": 0
                },
                {
                  "stage": "ring",
                  "reason": "full",
                  "unit": "message heads",
                  "count": 3
                }
              ],
              [
                {
                  "reporter": "client",
                  "counted": 4,
                  "lost": 0
                },
                {
                  "reporter": "server",
                  "counted": 0,
                  "lost": 0
                }
              ]
            ]"#]]
        .assert_eq(&json(&traffic, second(10)));
    }
}
