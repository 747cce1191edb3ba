//! The sink of the pipeline: gives each observation its names and adds it to its series.

use crate::ends::Ends;
use crate::labels::{DnsEnd, End, HttpEnd, Method, QuestionType, Reporter};
use crate::losses::{Loss, Losses};
use crate::series::{DnsSeries, Edge, HttpSeries, Series, TcpSeries, Totals, UdpSeries};
use crate::snapshot::{Published, Reader, Shared};
use crate::table::{Edges, Family};
use flow_model::{
    Close, Detail, Direction, DnsExchange, FlowDelta, FlowInfo, HttpExchange, L7Record, LossReason, Names, Protocol,
    Role, Sink, Transport, Ts,
};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Series per family (HTTP, DNS, TCP, UDP), and edges. 10,000 HTTP series are 22 MiB here, 65 MiB in a text scrape and 13 MiB in
    /// protobuf (bench hot_path).
    pub max_series: usize,
    /// A series that nothing was added to for so long leaves, unless its edge has open connections. `Duration::MAX` for a capture,
    /// whose time has nothing to do with how long its result is wanted.
    pub expiry: Duration,
    /// How long a new series may take to be seen by readers.
    pub publish_every: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config { max_series: 10_000, expiry: Duration::from_secs(15 * 60), publish_every: Duration::from_millis(100) }
    }
}

type HttpKey = (u64, Method, HttpEnd);
type DnsKey = (u64, QuestionType, DnsEnd);

/// Golden metrics of everything that one pipeline thread sees. Readers get them through the `Reader`, without a lock.
#[derive(Debug)]
pub struct Golden<N> {
    names: N,
    config: Config,
    edges: Edges,
    http: Family<HttpKey, HttpSeries>,
    dns: Family<DnsKey, DnsSeries>,
    tcp: Family<u64, TcpSeries>,
    udp: Family<u64, UdpSeries>,
    shared: Arc<Shared>,
    over_cap: Loss,
    /// Latest time that anything told.
    now: Ts,
    published: Ts,
    expired: Ts,
}

/// What is kept of a flow: who its ends are, and the series that it used last.
#[derive(Debug, Default)]
pub struct FlowCache {
    ends: Option<Ends>,
    http: Option<(HttpKey, Arc<HttpSeries>)>,
    dns: Option<(DnsKey, Arc<DnsSeries>)>,
    tcp: Option<Arc<TcpSeries>>,
    udp: Option<Arc<UdpSeries>>,
    open: Option<Open>,
    closed: bool,
}

/// An open connection in its edge's gauge, for as long as the flow lives: a flow that is dropped without its close leaves the gauge right.
#[derive(Debug)]
struct Open(Arc<Edge>);

impl Open {
    fn on(edge: Arc<Edge>) -> Open {
        edge.open.fetch_add(1, Relaxed);
        Open(edge)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

impl<N: Names> Golden<N> {
    pub fn new(names: N, config: Config, losses: &Losses) -> (Golden<N>, Reader) {
        let shared = Arc::new(Shared::default());
        let cap = config.max_series;
        let golden = Golden {
            names,
            config,
            edges: Edges::new(cap),
            http: Family::new(cap),
            dns: Family::new(cap),
            tcp: Family::new(cap),
            udp: Family::new(cap),
            shared: shared.clone(),
            over_cap: losses.place("metrics", "series_cap", "observations counted under the labels _overflow"),
            now: Ts::default(),
            published: Ts::default(),
            expired: Ts::default(),
        };
        (golden, Reader::new(shared, losses.clone()))
    }

    pub fn names(&self) -> &N {
        &self.names
    }

    pub fn names_mut(&mut self) -> &mut N {
        &mut self.names
    }

    /// Shows new series to the readers, at most every `publish_every`, and takes out the idle ones now and then. Costs a comparison
    /// when nothing is due. Call it after each batch, and at least every second when there is no traffic.
    pub fn publish_if_due(&mut self, now: Ts) {
        self.now = self.now.max(now);
        if now.since(self.published) >= self.config.publish_every {
            self.publish();
        }
        // A sixteenth: a series stays at most 6 % longer than it should, and a walk over all of them is rare.
        if now.since(self.expired) >= self.config.expiry / 16 {
            self.expire();
        }
    }

    /// As `publish_if_due`, now: at the end of a capture.
    pub fn publish(&mut self) {
        self.published = self.now;
        self.shared.edges.store(self.edges.len() as u64, Relaxed);
        let Golden { http, dns, tcp, udp, .. } = self;
        let dirty = [http.take_dirty(), dns.take_dirty(), tcp.take_dirty(), udp.take_dirty()];
        if dirty.contains(&true) {
            self.shared.published.store(Arc::new(Published {
                http: http.list(),
                dns: dns.list(),
                tcp: tcp.list(),
                udp: udp.list(),
            }));
        }
    }

    fn expire(&mut self) {
        self.expired = self.now;
        let idle = u64::try_from(self.config.expiry.as_nanos()).unwrap_or(u64::MAX);
        let before = Ts(self.now.0.saturating_sub(idle));
        let gone =
            self.http.expire(before) + self.dns.expire(before) + self.tcp.expire(before) + self.udp.expire(before);
        self.totals().expired.fetch_add(gone as u64, Relaxed);
        self.edges.sweep();
    }

    pub(crate) fn totals(&self) -> &Totals {
        &self.shared.totals
    }

    pub(crate) fn begin_at(&mut self, now: Ts) {
        self.now = self.now.max(now);
    }

    pub(crate) fn edge_between(
        &mut self,
        client: End,
        server: End,
        service: Arc<str>,
        reporter: Reporter,
    ) -> Arc<Edge> {
        if client == End::overflow() {
            return self.edges.overflow(reporter).clone();
        }
        self.edges.get(client, server, service, reporter)
    }

    pub(crate) fn http_series(&mut self, edge: &Arc<Edge>, method: Method, end: HttpEnd) -> Arc<HttpSeries> {
        let Golden { edges, http, now, .. } = self;
        let overflow = edges.overflow(edge.reporter);
        let instead = || ((overflow.id, Method::OTHER, end), overflow.clone());
        http.get((edge.id, method, end), instead, edge, |key, edge| HttpSeries::new(edge, key.1, key.2, *now))
    }

    pub(crate) fn dns_series(&mut self, edge: &Arc<Edge>, question: QuestionType, end: DnsEnd) -> Arc<DnsSeries> {
        let Golden { edges, dns, now, .. } = self;
        let overflow = edges.overflow(edge.reporter);
        let instead = || ((overflow.id, QuestionType::OTHER, end), overflow.clone());
        dns.get((edge.id, question, end), instead, edge, |key, edge| DnsSeries::new(edge, key.1, key.2, *now))
    }

    pub(crate) fn tcp_series(&mut self, edge: &Arc<Edge>) -> Arc<TcpSeries> {
        let Golden { edges, tcp, now, .. } = self;
        let overflow = edges.overflow(edge.reporter);
        tcp.get(edge.id, || (overflow.id, overflow.clone()), edge, |_, edge| TcpSeries::new(edge, *now))
    }

    pub(crate) fn udp_series(&mut self, edge: &Arc<Edge>) -> Arc<UdpSeries> {
        let Golden { edges, udp, now, .. } = self;
        let overflow = edges.overflow(edge.reporter);
        udp.get(edge.id, || (overflow.id, overflow.clone()), edge, |_, edge| UdpSeries::new(edge, *now))
    }

    /// The flow's edge, which changes when better names become known.
    fn edge(&mut self, flow: &FlowInfo, cache: &mut FlowCache, at: Ts) -> Arc<Edge> {
        let Golden { names, edges, now, .. } = self;
        if let Some(ends) = &cache.ends
            && ends.hold(names, flow, at, *now)
            && !(ends.edge.overflow && edges.has_room())
        {
            return ends.edge.clone();
        }
        let before = cache.ends.take();
        cache.ends.insert(Ends::ask(before, names, edges, flow, at, *now)).edge.clone()
    }

    fn http(&mut self, edge: &Arc<Edge>, cache: &mut FlowCache, record: &L7Record, http: &HttpExchange) {
        let end = HttpEnd::of(record.outcome, http.status);
        let method = if edge.overflow { Method::OTHER } else { Method::of(&http.method) };
        let key = (edge.id, method, end);
        let cached =
            cache.http.as_ref().filter(|(k, series)| *k == key && is_usable(&**series, edge, self.http.has_room()));
        let series = match cached {
            Some((_, series)) => series,
            None => &cache.http.insert((key, self.http_series(edge, method, end))).1,
        };
        if series.edge.overflow {
            self.over_cap.add(1);
        }
        series.life.touch(self.now);
        series.duration.observe(record.end.0.saturating_sub(record.start.0));
        series.request_bytes.fetch_add(record.request_bytes, Relaxed);
        series.response_bytes.fetch_add(record.response_bytes, Relaxed);
    }

    fn dns(&mut self, edge: &Arc<Edge>, cache: &mut FlowCache, record: &L7Record, dns: &DnsExchange) {
        let end = DnsEnd::of(record.outcome, dns.rcode);
        let question = if edge.overflow { QuestionType::OTHER } else { QuestionType::of(dns.qtype) };
        let key = (edge.id, question, end);
        let cached =
            cache.dns.as_ref().filter(|(k, series)| *k == key && is_usable(&**series, edge, self.dns.has_room()));
        let series = match cached {
            Some((_, series)) => series,
            None => &cache.dns.insert((key, self.dns_series(edge, question, end))).1,
        };
        if series.edge.overflow {
            self.over_cap.add(1);
        }
        series.life.touch(self.now);
        series.duration.observe(record.end.0.saturating_sub(record.start.0));
    }

    fn tcp_flow(&mut self, edge: &Arc<Edge>, cache: &mut FlowCache, delta: &FlowDelta, sent: Direction) {
        let FlowDelta { packets: _, bytes, retransmits, zero_windows, handshake_rtt_ns, opened, closed } = delta;
        let cached = cache.tcp.as_ref().filter(|series| series.edge.id == edge.id || series.edge.overflow);
        let series = match cached.filter(|series| is_usable(&***series, edge, self.tcp.has_room())) {
            Some(series) => series,
            None => cache.tcp.insert(self.tcp_series(edge)),
        };
        if series.edge.overflow {
            self.over_cap.add(1);
        }
        series.life.touch(self.now);
        for (i, dir) in [sent, sent.reverse()].map(Direction::index).into_iter().enumerate() {
            series.bytes[i].fetch_add(bytes[dir], Relaxed);
            series.retransmits[i].fetch_add(u64::from(retransmits[dir]), Relaxed);
            series.zero_windows[i].fetch_add(u64::from(zero_windows[dir]), Relaxed);
        }
        if let Some(ns) = handshake_rtt_ns {
            series.handshake_rtt.get_or_init(Box::default).observe(*ns);
        }
        if *opened {
            series.opened.fetch_add(1, Relaxed);
        }
        if let Some(closed) = closed {
            let reason = match closed {
                Close::Fin => 0,
                Close::Reset => 1,
                Close::Gone => 2,
            };
            series.closed[reason].fetch_add(1, Relaxed);
            cache.closed = true;
            cache.open = None;
        } else if !cache.closed && !cache.open.as_ref().is_some_and(|open| Arc::ptr_eq(&open.0, &series.edge)) {
            // The gauge follows the series, which changes when a name or the role becomes known.
            cache.open = Some(Open::on(series.edge.clone()));
        }
    }

    fn udp_flow(&mut self, edge: &Arc<Edge>, cache: &mut FlowCache, delta: &FlowDelta, sent: Direction) {
        let cached = cache.udp.as_ref().filter(|series| series.edge.id == edge.id || series.edge.overflow);
        let series = match cached.filter(|series| is_usable(&***series, edge, self.udp.has_room())) {
            Some(series) => series,
            None => cache.udp.insert(self.udp_series(edge)),
        };
        if series.edge.overflow {
            self.over_cap.add(1);
        }
        series.life.touch(self.now);
        series.bytes[0].fetch_add(delta.bytes[sent.index()], Relaxed);
        series.bytes[1].fetch_add(delta.bytes[sent.reverse().index()], Relaxed);
    }
}

impl<N: Names> Sink for Golden<N> {
    type PerFlow = FlowCache;

    fn exchange(&mut self, flow: &FlowInfo, cache: &mut FlowCache, record: &L7Record) {
        self.now = self.now.max(record.end);
        let edge = self.edge(flow, cache, record.start);
        let protocol = match record.protocol {
            Protocol::Http1 => 0,
            Protocol::Dns => 1,
        };
        self.totals().exchanges[edge.reporter.index()][protocol].fetch_add(1, Relaxed);
        match &record.detail {
            Detail::Http(http) => self.http(&edge, cache, record, http),
            Detail::Dns(dns) => {
                self.dns(&edge, cache, record, dns);
                // A server's pod sent this answer, it does not follow it.
                if edge.reporter != Reporter::Server && !dns.addresses.is_empty() {
                    self.names.dns_answer(flow.slot, &dns.name, &dns.addresses, dns.ttl_s, record.end);
                }
            }
        }
    }

    fn exchanges_lost(&mut self, flow: &FlowInfo, _: &mut FlowCache, reason: LossReason, count: u64) {
        self.totals().lost[Reporter::of(flow).index()][reason as usize].fetch_add(count, Relaxed);
    }

    fn flow(&mut self, flow: &FlowInfo, cache: &mut FlowCache, delta: &FlowDelta) {
        let edge = self.edge(flow, cache, flow.opened);
        // What the pod sent. A capture has no pod: what the client sent.
        let sent = match (edge.reporter, flow.role) {
            (Reporter::Capture, Role::Server) => Direction::Ingress,
            _ => Direction::Egress,
        };
        match flow.tuple.transport {
            Transport::Tcp => self.tcp_flow(&edge, cache, delta, sent),
            Transport::Udp => self.udp_flow(&edge, cache, delta, sent),
        }
    }
}

/// Whether a series that a flow used last still is the right one for `edge`: in the table, and not a stand-in that is no longer needed.
fn is_usable(series: &impl Series, edge: &Arc<Edge>, has_room: bool) -> bool {
    !series.life().is_retired() && (Arc::ptr_eq(series.edge(), edge) || !has_room)
}
