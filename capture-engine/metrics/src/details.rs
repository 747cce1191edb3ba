//! What the cluster's table says of one edge: by status, with the whole histogram, and how its TCP fares.

use crate::cluster::{Cluster, ClusterView, Nodes};
use crate::extras::{Code, Extra};
use crate::families::FamilyId;
use crate::labels::Reporter;
use crate::saved::end;
use crate::view::{Key, Name, Stats};
use agent_api::{Golden, Party};
use std::collections::BTreeMap;
use std::time::Duration;

/// An edge between two workloads, whatever they speak. What both ends report counts once.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// Who asks.
    pub client: Party,
    /// Who is asked.
    pub server: Party,
    /// Of all protocols.
    pub golden: Golden,
    /// Those of the protocol that lacks most.
    pub nodes: Nodes,
    /// Each protocol, and its part.
    pub protocols: Vec<(&'static str, Golden)>,
    /// Exchanges that are in no series.
    pub lost: u64,
}

impl ClusterView {
    /// Every edge of which an agent has a series, also where nothing was counted of late.
    #[must_use]
    pub fn pairs(&self) -> Vec<Pair> {
        let none = Stats::default();
        let mut known: BTreeMap<&Key, &Stats> = self.nodes.keys().map(|key| (key, &none)).collect();
        known.extend(self.view.edges.iter());
        let mut pairs: BTreeMap<(&Name, &Name), BTreeMap<&'static str, Seen>> = BTreeMap::new();
        for (key, stats) in known {
            let protocols = pairs.entry((&key.client, &key.server)).or_default();
            let nodes = self.nodes.get(key).copied().unwrap_or_default();
            protocols.entry(key.protocol).or_default().add(key.reporter, stats, nodes);
        }
        let pair = |((client, server), protocols): ((&Name, &Name), BTreeMap<&'static str, Seen>)| {
            let (mut all, mut nodes, mut parts) = (Stats::default(), Nodes::default(), Vec::new());
            for (protocol, seen) in protocols {
                let (_, stats, of) = seen.once();
                all.add(&stats);
                if of.all - of.live > nodes.all - nodes.live || nodes.all == 0 {
                    nodes = of;
                }
                parts.push((protocol, stats.golden(self.view.span)));
            }
            let by = |reporter| self.lost.get(&(client.clone(), server.clone(), reporter)).copied().unwrap_or_default();
            let lost = Reporter::ALL.map(by).into_iter().max().unwrap_or_default();
            let golden = all.golden(self.view.span);
            Pair { client: client.party(), server: server.party(), golden, nodes, protocols: parts, lost }
        };
        pairs.into_iter().map(pair).collect()
    }
}

/// What each end reported of a protocol.
#[derive(Default)]
struct Seen([Option<(Stats, Nodes)>; Reporter::ALL.len()]);

impl Seen {
    fn add(&mut self, reporter: Reporter, stats: &Stats, nodes: Nodes) {
        let (sum, most) = self.0[reporter.index()].get_or_insert_default();
        sum.add(stats);
        // By several Services, of which each is seen by nodes of its own.
        if nodes.all - nodes.live > most.all - most.live || most.all == 0 {
            *most = nodes;
        }
    }

    /// The client's report, else the server's.
    fn once(self) -> (Reporter, Stats, Nodes) {
        let by = Reporter::ALL.into_iter().zip(self.0).find_map(|(by, seen)| Some((by, seen?)));
        by.map_or((Reporter::Client, Stats::default(), Nodes::default()), |(by, (stats, nodes))| (by, stats, nodes))
    }
}

/// What was counted of one edge in the last steps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EdgeDetail {
    /// In which it was counted.
    pub span: Duration,
    /// Families of exchanges.
    pub protocols: Vec<ProtocolDetail>,
    /// TCP and UDP beneath them.
    pub transports: Vec<TransportDetail>,
}

/// Exchanges of one family.
#[derive(Clone, Debug, PartialEq)]
pub struct ProtocolDetail {
    /// http, dns, rpc, db, messaging, tls or channel.
    pub protocol: &'static str,
    /// Which databases, RPC systems or brokers.
    pub systems: Vec<String>,
    /// Kubernetes' Service by which it was asked, where that is known.
    pub service: String,
    /// client, server or capture.
    pub reporter: &'static str,
    /// Rates are of `EdgeDetail::span`.
    pub golden: Golden,
    /// Native buckets (`HistogramSnapshot::buckets`) and the zero bucket, which is `None`.
    pub buckets: Vec<(Option<i32>, u64)>,
    /// The most frequent first.
    pub codes: Vec<CodeDetail>,
}

/// Exchanges of one status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeDetail {
    /// As its protocol writes it; `ok`, or why it failed, where its protocol has none.
    pub status: String,
    /// How many.
    pub requests: u64,
    /// Whether they count as failures.
    pub is_failure: bool,
}

/// What was counted of packets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TransportDetail {
    /// tcp or udp.
    pub transport: &'static str,
    /// client, server or capture.
    pub reporter: &'static str,
    /// IP bytes, sent and received by the reporter.
    pub bytes: [u64; 2],
    /// Segments, sent and received.
    pub retransmits: [u64; 2],
    /// Windows of zero, sent and received.
    pub zero_windows: [u64; 2],
    /// Connections whose opening was seen.
    pub opened: u64,
    /// Connections that ended: in good order, by a reset, without a word.
    pub closed: [u64; 3],
    /// Handshakes that were measured.
    pub handshakes: u64,
    /// Their 95th percentile, seconds.
    pub handshake_p95: Option<f64>,
    /// Exchanges that are in no series.
    pub lost: u64,
}

impl Cluster {
    /// What was counted lately of the edge between two workloads; empty where there is nothing.
    #[must_use]
    pub fn detail(&self, now: Duration, client: &Party, server: &Party) -> EdgeDetail {
        let name = |party: &Party| Some(Name::of(&end(&party.name, &party.namespace, &party.kind)?));
        let (Some(client), Some(server)) = (name(client), name(server)) else { return EdgeDetail::default() };
        let span = self.slots.front().map(|slot| now.saturating_sub(slot.began)).unwrap_or_default();
        let from = Key { client, server, service: "".into(), reporter: Reporter::Client, protocol: "" };
        let is_of = |key: &Key| key.client == from.client && key.server == from.server;
        let mut found: BTreeMap<(&'static str, Reporter), (Stats, Extra, String)> = BTreeMap::new();
        for slot in &self.slots {
            for (key, stats) in slot.edges.range(&from..).take_while(|(key, _)| is_of(key)) {
                let (sum, _, service) = found.entry((key.protocol, key.reporter)).or_default();
                sum.add(stats);
                if service.is_empty() {
                    service.push_str(&key.service);
                }
            }
            for (key, extra) in slot.extras.range(&from..).take_while(|(key, _)| is_of(key)) {
                found.entry((key.protocol, key.reporter)).or_default().1.add(extra);
            }
        }
        let mut detail = EdgeDetail { span, ..EdgeDetail::default() };
        let mut last = "";
        // Reporters of a protocol come one after the other, the client first.
        for ((protocol, reporter), (stats, extra, service)) in found {
            if std::mem::replace(&mut last, protocol) == protocol {
                continue;
            }
            match FamilyId::named(protocol) {
                Some(_) => detail.protocols.push(of_protocol(protocol, reporter, service, &stats, extra, span)),
                None => detail.transports.push(of_transport(protocol, reporter, &extra)),
            }
        }
        detail
    }
}

fn of_protocol(
    protocol: &'static str,
    reporter: Reporter,
    service: String,
    stats: &Stats,
    extra: Extra,
    span: Duration,
) -> ProtocolDetail {
    let mut systems: Vec<String> =
        extra.codes.keys().filter(|code| !code.system.is_empty()).map(|code| code.system.to_string()).collect();
    systems.dedup();
    let mut by_status: BTreeMap<(Box<str>, bool), u64> = BTreeMap::new();
    for (Code { system: _, status, is_failure }, requests) in extra.codes {
        let sum = by_status.entry((status, is_failure)).or_default();
        *sum = sum.saturating_add(requests);
    }
    let code = |((status, is_failure), requests): ((Box<str>, bool), u64)| CodeDetail {
        status: status.into(),
        requests,
        is_failure,
    };
    let mut codes: Vec<CodeDetail> = by_status.into_iter().map(code).collect();
    codes.sort_by_key(|code| std::cmp::Reverse(code.requests));
    let zero = Some(stats.latency.zero()).filter(|zero| *zero > 0).map(|zero| (None, zero));
    let native = stats.latency.buckets().into_iter().map(|(index, count)| (Some(index), count));
    let buckets = zero.into_iter().chain(native).collect();
    let golden = stats.golden(Some(span).filter(|span| !span.is_zero()));
    ProtocolDetail { protocol, systems, service, reporter: reporter.as_str(), golden, buckets, codes }
}

fn of_transport(transport: &'static str, reporter: Reporter, extra: &Extra) -> TransportDetail {
    let Extra { codes: _, numbers, handshakes } = extra;
    TransportDetail {
        transport,
        reporter: reporter.as_str(),
        bytes: numbers.bytes,
        retransmits: numbers.retransmits,
        zero_windows: numbers.zero_windows,
        opened: numbers.opened,
        closed: numbers.closed,
        handshakes: handshakes.count,
        handshake_p95: handshakes.quantile(0.95),
        lost: numbers.lost,
    }
}
