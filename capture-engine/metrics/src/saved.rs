//! Totals that outlive the process: taken when everything is settled, given back to the process that follows, so that a series goes on where
//! it was. Labels come back through the same closed sets that they left through; what is in none of them is not taken.
//!
//! Belongs to one end and one beginning: a state that is older than what was scraped last would make counters fall.

use crate::golden::Golden;
use crate::histogram::HistogramSnapshot;
use crate::labels::{DnsEnd, End, HttpEnd, Method, OVERFLOW, QuestionType, Reporter, UNKNOWN};
use crate::losses::Losses;
use crate::series::{DnsSeries, Edge, HttpSeries, TcpSeries};
use crate::snapshot::Snapshot;
use agent_api::LossRow;
use flow_model::{Names, Ts, WorkloadKind};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// All counters and histograms of a process, as its successor takes them over.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    http: Vec<SavedHttp>,
    dns: Vec<SavedDns>,
    tcp: Vec<SavedTcp>,
    udp: Vec<SavedUdp>,
    exchanges: [[u64; 2]; 3],
    lost: [[u64; 5]; 3],
    expired: u64,
    /// (stage, reason, total)
    losses: Vec<(String, String, u64)>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SavedEnd {
    workload: String,
    namespace: String,
    kind: String,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SavedEdge {
    client: SavedEnd,
    server: SavedEnd,
    /// Was not kept in the beginning.
    #[serde(default)]
    service: String,
    reporter: String,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SavedHttp {
    edge: SavedEdge,
    method: String,
    end: SavedHttpEnd,
    duration: HistogramSnapshot,
    request_bytes: u64,
    response_bytes: u64,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum SavedHttpEnd {
    Status(u16),
    OtherStatus,
    Unanswered,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SavedDns {
    edge: SavedEdge,
    question: String,
    end: SavedDnsEnd,
    duration: HistogramSnapshot,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum SavedDnsEnd {
    Rcode(u16),
    OtherRcode,
    Unanswered,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SavedTcp {
    edge: SavedEdge,
    bytes: [u64; 2],
    retransmits: [u64; 2],
    zero_windows: [u64; 2],
    opened: u64,
    closed: [u64; 3],
    handshake_rtt: Option<HistogramSnapshot>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SavedUdp {
    edge: SavedEdge,
    bytes: [u64; 2],
}

impl Saved {
    /// Series of all families.
    #[must_use]
    pub fn series(&self) -> usize {
        self.http.len() + self.dns.len() + self.tcp.len() + self.udp.len()
    }
}

impl Snapshot {
    /// What a successor needs. Exact once the writer has ended.
    #[must_use]
    pub fn save(&self) -> Saved {
        let published = &self.published;
        let totals = self.totals();
        Saved {
            http: published.http.iter().map(|series| http(series)).collect(),
            dns: published.dns.iter().map(|series| dns(series)).collect(),
            tcp: published.tcp.iter().map(|series| tcp(series)).collect(),
            udp: published.udp.iter().map(|s| SavedUdp { edge: edge(&s.edge), bytes: values(&s.bytes) }).collect(),
            exchanges: totals.exchanges.each_ref().map(values),
            lost: totals.lost.each_ref().map(values),
            expired: totals.expired.load(Relaxed),
            losses: self.lost().into_iter().map(loss).collect(),
        }
    }
}

impl<N: Names> Golden<N> {
    /// Takes over what a predecessor counted, before anything is counted here. What does not fit under this one's caps loses its labels,
    /// not its counts.
    pub fn restore(&mut self, saved: &Saved, losses: &Losses, now: Ts) {
        self.begin_at(now);
        let Saved { http, dns, tcp, udp, exchanges, lost, expired, losses: places } = saved;
        for saved in http {
            let Some(edge) = self.edge_of(&saved.edge) else { continue };
            let end = match saved.end {
                SavedHttpEnd::Status(status) => HttpEnd::Status(status),
                SavedHttpEnd::OtherStatus => HttpEnd::OtherStatus,
                SavedHttpEnd::Unanswered => HttpEnd::Unanswered,
            };
            let series = self.http_series(&edge, Method::of(&saved.method), end);
            series.duration.restore(&saved.duration);
            series.request_bytes.fetch_add(saved.request_bytes, Relaxed);
            series.response_bytes.fetch_add(saved.response_bytes, Relaxed);
        }
        for saved in dns {
            let Some(edge) = self.edge_of(&saved.edge) else { continue };
            let end = match saved.end {
                SavedDnsEnd::Rcode(rcode) => DnsEnd::Rcode(rcode),
                SavedDnsEnd::OtherRcode => DnsEnd::OtherRcode,
                SavedDnsEnd::Unanswered => DnsEnd::Unanswered,
            };
            self.dns_series(&edge, QuestionType::named(&saved.question), end).duration.restore(&saved.duration);
        }
        for saved in tcp {
            let Some(edge) = self.edge_of(&saved.edge) else { continue };
            let series = self.tcp_series(&edge);
            add(&series.bytes, &saved.bytes);
            add(&series.retransmits, &saved.retransmits);
            add(&series.zero_windows, &saved.zero_windows);
            add(&series.closed, &saved.closed);
            series.opened.fetch_add(saved.opened, Relaxed);
            if let Some(rtt) = &saved.handshake_rtt {
                series.handshake_rtt.get_or_init(Box::default).restore(rtt);
            }
        }
        for saved in udp {
            let Some(edge) = self.edge_of(&saved.edge) else { continue };
            add(&self.udp_series(&edge).bytes, &saved.bytes);
        }
        let totals = self.totals();
        totals.exchanges.iter().zip(exchanges).for_each(|(cells, values)| add(cells, values));
        totals.lost.iter().zip(lost).for_each(|(cells, values)| add(cells, values));
        totals.expired.fetch_add(*expired, Relaxed);
        losses.restore(places.iter().map(|(stage, reason, total)| (stage.as_str(), reason.as_str(), *total)));
        self.publish();
    }

    fn edge_of(&mut self, saved: &SavedEdge) -> Option<Arc<Edge>> {
        let SavedEdge { client, server, service, reporter } = saved;
        let reporter = Reporter::ALL.into_iter().find(|known| known.as_str() == reporter)?;
        Some(self.edge_between(end(client)?, end(server)?, service.as_str().into(), reporter))
    }
}

fn end(saved: &SavedEnd) -> Option<End> {
    let SavedEnd { workload, namespace, kind } = saved;
    let known = WorkloadKind::ALL.map(WorkloadKind::as_str).into_iter();
    let kind = known.chain(["NotFound", "Pending", "Ambiguous", ""]).find(|known| known == kind)?;
    let named = kind.is_empty() == (workload == OVERFLOW) || workload == UNKNOWN;
    named.then(|| End { workload: workload.as_str().into(), namespace: namespace.as_str().into(), kind })
}

fn edge(edge: &Edge) -> SavedEdge {
    let end = |end: &End| SavedEnd {
        workload: end.workload.to_string(),
        namespace: end.namespace.to_string(),
        kind: end.kind.to_owned(),
    };
    SavedEdge {
        client: end(&edge.client),
        server: end(&edge.server),
        service: edge.service.to_string(),
        reporter: edge.reporter.as_str().to_owned(),
    }
}

fn http(series: &HttpSeries) -> SavedHttp {
    let HttpSeries { edge: of, method, end, duration, request_bytes, response_bytes, life: _ } = series;
    SavedHttp {
        edge: edge(of),
        method: method.as_str().to_owned(),
        end: match *end {
            HttpEnd::Status(status) => SavedHttpEnd::Status(status),
            HttpEnd::OtherStatus => SavedHttpEnd::OtherStatus,
            HttpEnd::Unanswered => SavedHttpEnd::Unanswered,
        },
        duration: duration.snapshot(),
        request_bytes: request_bytes.load(Relaxed),
        response_bytes: response_bytes.load(Relaxed),
    }
}

fn dns(series: &DnsSeries) -> SavedDns {
    let DnsSeries { edge: of, question, end, duration, life: _ } = series;
    SavedDns {
        edge: edge(of),
        question: question.as_str().to_owned(),
        end: match *end {
            DnsEnd::Rcode(rcode) => SavedDnsEnd::Rcode(rcode),
            DnsEnd::OtherRcode => SavedDnsEnd::OtherRcode,
            DnsEnd::Unanswered => SavedDnsEnd::Unanswered,
        },
        duration: duration.snapshot(),
    }
}

fn tcp(series: &TcpSeries) -> SavedTcp {
    let TcpSeries { edge: of, bytes, retransmits, zero_windows, opened, closed, handshake_rtt, life: _ } = series;
    SavedTcp {
        edge: edge(of),
        bytes: values(bytes),
        retransmits: values(retransmits),
        zero_windows: values(zero_windows),
        opened: opened.load(Relaxed),
        closed: values(closed),
        handshake_rtt: handshake_rtt.get().map(|rtt| rtt.snapshot()),
    }
}

fn loss(row: LossRow) -> (String, String, u64) {
    let LossRow { stage, reason, unit: _, total } = row;
    (stage.into_owned(), reason.into_owned(), total)
}

fn values<const N: usize>(cells: &[AtomicU64; N]) -> [u64; N] {
    cells.each_ref().map(|cell| cell.load(Relaxed))
}

fn add<const N: usize>(cells: &[AtomicU64; N], values: &[u64; N]) {
    cells.iter().zip(values).for_each(|(cell, value)| {
        cell.fetch_add(*value, Relaxed);
    });
}
