//! The figures as a person reads them: frozen, summed per edge or per workload, over a span of time.

use crate::families::Cell;
use crate::histogram::HistogramSnapshot;
use crate::labels::{End, Reporter};
use crate::series::Edge;
use crate::snapshot::Snapshot;
use agent_api::{EdgeRow, Golden, Party, WorkloadRow};
use flow_model::{Transport, Ts};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) client: Name,
    pub(crate) server: Name,
    pub(crate) service: Arc<str>,
    pub(crate) reporter: Reporter,
    pub(crate) protocol: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    namespace: Arc<str>,
    workload: Arc<str>,
    kind: &'static str,
}

impl Name {
    pub(crate) fn of(end: &End) -> Name {
        Name { namespace: end.namespace.clone(), workload: end.workload.clone(), kind: end.kind }
    }

    /// Namespace, name and kind.
    pub(crate) fn parts(&self) -> (&str, &str, &'static str) {
        (&self.namespace, &self.workload, self.kind)
    }

    pub(crate) fn party(&self) -> Party {
        let Name { namespace, workload, kind } = self;
        Party { name: workload.to_string(), namespace: namespace.to_string(), kind: (*kind).to_owned() }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stats {
    pub(crate) requests: u64,
    pub(crate) failures: u64,
    /// Of the answered ones.
    pub(crate) latency: HistogramSnapshot,
    pub(crate) tcp_open: u64,
    /// IP bytes (sent, received) by the reporter.
    pub(crate) bytes: [u64; 2],
}

impl Stats {
    /// Of exchanges with the same labels.
    pub(crate) fn of_exchanges(latency: HistogramSnapshot, one_way: u64, failed: bool, unanswered: bool) -> Stats {
        let requests = latency.count.saturating_add(one_way);
        Stats {
            requests,
            failures: if failed { requests } else { 0 },
            latency: if unanswered { HistogramSnapshot::default() } else { latency },
            ..Stats::default()
        }
    }

    pub(crate) fn add(&mut self, other: &Stats) {
        let Stats { requests, failures, latency, tcp_open, bytes } = other;
        // Those of other processes may be anything.
        self.requests = self.requests.saturating_add(*requests);
        self.failures = self.failures.saturating_add(*failures);
        self.latency.add(latency);
        self.tcp_open = self.tcp_open.saturating_add(*tcp_open);
        self.bytes = [0, 1].map(|i| self.bytes[i].saturating_add(bytes[i]));
    }

    pub(crate) fn since(&self, earlier: &Stats) -> Stats {
        Stats {
            requests: self.requests.saturating_sub(earlier.requests),
            failures: self.failures.saturating_sub(earlier.failures),
            latency: self.latency.since(&earlier.latency),
            tcp_open: self.tcp_open,
            bytes: [0, 1].map(|i| self.bytes[i].saturating_sub(earlier.bytes[i])),
        }
    }

    /// As people read them. `span`: the time in which they were counted, where there are rates.
    pub(crate) fn golden(&self, span: Option<Duration>) -> Golden {
        let Stats { requests, failures, latency, tcp_open, bytes } = self;
        let per_second = |span: Duration| *requests as f64 / span.as_secs_f64();
        Golden {
            requests: *requests,
            failures: *failures,
            rps: span.filter(|span| !span.is_zero()).map_or(0.0, per_second),
            success: (*requests > 0).then(|| requests.saturating_sub(*failures) as f64 / *requests as f64),
            p50: latency.quantile(0.5),
            p95: latency.quantile(0.95),
            p99: latency.quantile(0.99),
            tcp_connections: *tcp_open,
            bytes: bytes[0].saturating_add(bytes[1]),
        }
    }
}

/// All edges, frozen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    pub(crate) edges: BTreeMap<Key, Stats>,
    pub(crate) span: Option<Duration>,
}

impl Snapshot {
    /// Everything since the start.
    #[must_use]
    pub fn view(&self) -> View {
        let mut edges: BTreeMap<Key, Stats> = BTreeMap::new();
        let mut at = |edge: &Edge, protocol, stats: Stats| {
            let key = Key {
                client: Name::of(&edge.client),
                server: Name::of(&edge.server),
                service: edge.service.clone(),
                reporter: edge.reporter,
                protocol,
            };
            edges.entry(key).or_default().add(&stats);
        };
        let sum = |bytes: &[AtomicU64; 2]| [0, 1].map(|i| bytes[i].load(Relaxed));
        // An edge's transport is shown with the first family that was recognised on it.
        let mut shown_with: BTreeMap<(Transport, u64), &'static str> = BTreeMap::new();
        for (id, series) in self.families() {
            let family = id.family();
            for s in series {
                let (latency, one_way) = (s.duration.snapshot(), s.value(Cell::OneWay));
                let stats = Stats::of_exchanges(latency, one_way, s.labels.failed, s.labels.unanswered);
                at(&s.edge, family.name, stats);
                shown_with.entry((family.transport, s.edge.id)).or_insert(family.name);
            }
        }
        let with = |transport, edge: &Edge, alone| shown_with.get(&(transport, edge.id)).copied().unwrap_or(alone);
        for s in &self.published.tcp {
            let stats = Stats { tcp_open: s.edge.open_connections(), bytes: sum(&s.bytes), ..Stats::default() };
            at(&s.edge, with(Transport::Tcp, &s.edge, "tcp"), stats);
        }
        for s in &self.published.udp {
            let stats = Stats { bytes: sum(&s.bytes), ..Stats::default() };
            at(&s.edge, with(Transport::Udp, &s.edge, "udp"), stats);
        }
        View { edges, span: None }
    }

    /// Rows of everything since the start.
    #[must_use]
    pub fn edges(&self) -> Vec<EdgeRow> {
        self.view().edges()
    }

    /// What each workload did as a server, since the start.
    #[must_use]
    pub fn workloads(&self) -> Vec<WorkloadRow> {
        self.view().workloads()
    }
}

/// What was counted up to a moment, of which two say what happened between them.
pub trait Frozen: Sized {
    /// Everything since the start.
    #[must_use]
    fn freeze(snapshot: &Snapshot) -> Self;

    /// What happened in the `span` since `earlier`. What was idle in it is left out.
    #[must_use]
    fn since(&self, earlier: &Self, span: Duration) -> Self;
}

impl Frozen for View {
    fn freeze(snapshot: &Snapshot) -> View {
        snapshot.view()
    }

    /// Edges that have open connections are not idle.
    fn since(&self, earlier: &View, span: Duration) -> View {
        let none = Stats::default();
        let delta = |(key, stats): (&Key, &Stats)| {
            let stats = stats.since(earlier.edges.get(key).unwrap_or(&none));
            (stats != none).then(|| (key.clone(), stats))
        };
        View { edges: self.edges.iter().filter_map(delta).collect(), span: Some(span) }
    }
}

impl View {
    /// One row for each observer of an edge, sorted by client and server. An edge that both its
    /// ends report has two rows: filter by `reporter`, or use `edges_once`.
    #[must_use]
    pub fn edges(&self) -> Vec<EdgeRow> {
        self.edges.iter().map(|(key, stats)| self.edge_row(key, stats)).collect()
    }

    /// As `edges`, but what both ends report is shown as the client saw it.
    #[must_use]
    pub fn edges_once(&self) -> Vec<EdgeRow> {
        self.once().map(|(key, stats)| self.edge_row(key, stats)).collect()
    }

    pub(crate) fn once(&self) -> impl Iterator<Item = (&Key, &Stats)> {
        // The two ends need not agree on the Service: a pod of two Services cannot tell by which it was asked.
        let of = |key: &Key| (key.client.clone(), key.server.clone(), key.protocol);
        let clients = self.edges.keys().filter(|key| key.reporter == Reporter::Client);
        let by_client: BTreeSet<_> = clients.map(of).collect();
        self.edges.iter().filter(move |(key, _)| key.reporter != Reporter::Server || !by_client.contains(&of(key)))
    }

    pub(crate) fn edge_row(&self, key: &Key, stats: &Stats) -> EdgeRow {
        let Key { client, server, service, reporter, protocol } = key;
        EdgeRow {
            src: client.party(),
            dst: server.party(),
            service: service.to_string(),
            protocol: (*protocol).to_owned(),
            reporter: reporter.as_str().to_owned(),
            golden: stats.golden(self.span),
        }
    }

    /// What each workload did as a server, by its own report where there is one, else by its clients'.
    #[must_use]
    pub fn workloads(&self) -> Vec<WorkloadRow> {
        self.servers().into_iter().map(|(_, row)| row).collect()
    }

    /// The same with the name of each.
    pub(crate) fn servers(&self) -> Vec<(&Name, WorkloadRow)> {
        let mut servers: BTreeMap<&Name, [Stats; 2]> = BTreeMap::new();
        for (key, stats) in &self.edges {
            let [own, others] = servers.entry(&key.server).or_default();
            match key.reporter {
                Reporter::Server => own.add(stats),
                Reporter::Client | Reporter::Capture => others.add(stats),
            }
        }
        let none = Stats::default();
        let row = |(name, [own, others]): (_, [Stats; 2])| {
            let golden = (if own == none { &others } else { &own }).golden(self.span);
            (name, WorkloadRow { workload: Name::party(name), golden })
        };
        servers.into_iter().map(row).collect()
    }
}

/// The last minute or so: what was frozen every `step` is kept, so that rates need no second call.
#[derive(Debug)]
pub struct Recent<V = View> {
    step: Duration,
    kept: usize,
    views: VecDeque<(Ts, V)>,
}

impl<V: Frozen> Recent<V> {
    /// `kept` of them, one each `step`: the span is between `(kept - 1) * step` and `kept * step` once it has filled.
    #[must_use]
    pub fn new(step: Duration, kept: usize) -> Recent<V> {
        Recent { step, kept: kept.max(1), views: VecDeque::new() }
    }

    /// Freezes what is counted if that is due. Call it about once a second.
    pub fn tick(&mut self, now: Ts, snapshot: &Snapshot) {
        if self.views.back().is_none_or(|(at, _)| now.since(*at) >= self.step) {
            while self.views.len() >= self.kept {
                self.views.pop_front();
            }
            self.views.push_back((now, V::freeze(snapshot)));
        }
    }

    /// What happened since the oldest that is kept; before the first tick, everything, without rates.
    #[must_use]
    pub fn view(&self, now: Ts, snapshot: &Snapshot) -> V {
        match self.views.front() {
            Some((at, earlier)) => V::freeze(snapshot).since(earlier, now.since(*at)),
            None => V::freeze(snapshot),
        }
    }

    /// How far back `view` goes.
    #[must_use]
    pub fn span(&self, now: Ts) -> Option<Duration> {
        self.views.front().map(|(at, _)| now.since(*at))
    }
}
