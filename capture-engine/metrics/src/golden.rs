//! The sink of the pipeline: gives each observation its names and adds it to its series.

use crate::ends::{self, Ends};
use crate::exchanges::Exchanges;
use crate::families::{Cell, Described, FamilyId, ROUTE, Value, describe};
use crate::labels::{End, Reporter};
use crate::losses::{Loss, Losses};
use crate::observers::{Observer, Observers};
use crate::routes::{self, Routes};
use crate::series::{Edge, ExchangeSeries, Series, TcpSeries, Totals, UdpSeries};
use crate::server_name;
use crate::snapshot::{Published, Reader, Shared};
use crate::table::{Edges, Table};
use crate::texts::Texts;
use crate::waiting::{self, Key, Waiting};
use flow_model::{
    Close, Detail, Direction, FlowDelta, FlowInfo, L7Record, LossReason, Names, Notes, Outcome, Role, Sink, Transport,
    Ts,
};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Bounds of what is kept, and how soon readers see it.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Series per family (HTTP, DNS, .., TCP, UDP), and edges. 10,000 HTTP series are 8 MiB here,
    /// 65 MiB in a text scrape and 13 MiB in protobuf (bench hot_path).
    pub max_series: usize,
    /// A series that nothing was added to for so long leaves, unless its edge has open connections.
    /// `Duration::MAX` for a capture, whose time has nothing to do with how long its result is
    /// wanted.
    pub expiry: Duration,
    /// How long a new series may take to be seen by readers.
    pub publish_every: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config { max_series: 10_000, expiry: Duration::from_secs(10 * 60), publish_every: Duration::from_millis(100) }
    }
}

/// Golden metrics of everything that one pipeline thread sees. Readers get them through the `Reader`, without a lock.
#[derive(Debug)]
pub struct Golden<N> {
    names: N,
    config: Config,
    edges: Edges,
    /// In the order of `FamilyId::ALL`.
    exchanges: [Exchanges; FamilyId::ALL.len()],
    texts: Texts,
    routes: Routes,
    tcp: Table<u64, TcpSeries>,
    udp: Table<u64, UdpSeries>,
    waiting: Waiting,
    observers: Observers,
    pub(crate) shared: Arc<Shared>,
    over_cap: Loss,
    /// Latest time that anything told.
    now: Ts,
    published: Ts,
    expired: Ts,
}

/// Series of exchanges that a flow finds without looking them up.
const RECENT: usize = 4;

/// What is kept of a flow: who its ends are, and the series that it used last, of exchanges a few.
#[derive(Debug, Default)]
pub struct FlowCache {
    ends: Option<Ends>,
    /// The latest first, empty places last: a connection asks with a few methods and gets a few
    /// statuses.
    exchanges: [Option<Arc<ExchangeSeries>>; RECENT],
    routes: Option<Box<routes::Recent>>,
    tcp: Option<Arc<TcpSeries>>,
    udp: Option<Arc<UdpSeries>>,
    open: Option<Open>,
    closed: bool,
}

/// An open connection in its edge's gauge, for as long as the flow lives: a flow that is dropped
/// without its close leaves the gauge right.
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
        // What it was open on may have got its name meanwhile.
        self.0.named().open.fetch_sub(1, Relaxed);
    }
}

impl<N: Names> Golden<N> {
    /// The writing side and a reading one. Observations past the cap on series are counted in
    /// `losses`.
    pub fn new(names: N, config: Config, losses: &Losses) -> (Golden<N>, Reader) {
        let shared = Arc::new(Shared::default());
        let cap = config.max_series;
        let golden = Golden {
            names,
            config,
            edges: Edges::new(cap),
            exchanges: FamilyId::ALL.map(|family| Exchanges::new(family, cap, losses)),
            texts: Texts::new(losses),
            routes: Routes::new(losses),
            tcp: Table::new(cap),
            udp: Table::new(cap),
            waiting: Waiting::new(losses),
            observers: Observers::default(),
            shared: shared.clone(),
            over_cap: losses.place("metrics", "series_cap", "observations counted under the labels _overflow"),
            now: Ts::default(),
            published: Ts::default(),
            expired: Ts::default(),
        };
        (golden, Reader::new(shared, losses.clone()))
    }

    /// Who is asked for the names of ends.
    pub fn names(&self) -> &N {
        &self.names
    }

    /// As `names`, to tell it news. Flows ask again once its `version` has moved.
    pub fn names_mut(&mut self) -> &mut N {
        &mut self.names
    }

    /// Tells somebody else, too, of each exchange from now on.
    pub fn observe(&mut self, observer: Box<dyn Observer>) {
        self.observers.add(observer);
    }

    /// Shows new series to the readers, at most every `publish_every`, and takes out the idle ones
    /// now and then. Costs a comparison when nothing is due. Call it after each batch, and at least
    /// every second when there is no traffic.
    pub fn publish_if_due(&mut self, now: Ts) {
        self.now = self.now.max(now);
        if now.since(self.published) >= self.config.publish_every {
            self.settle();
            self.show();
        }
        // A sixteenth: a series stays at most 6 % longer than it should, and a walk over all of them is rare.
        if now.since(self.expired) >= self.config.expiry / 16 {
            self.expire();
        }
    }

    /// As `publish_if_due`, now, and without waiting for names: at the end.
    pub fn publish(&mut self) {
        let all = self.waiting.all();
        self.settle_those(all);
        self.show();
    }

    /// Gives their names to edges that have waited for them.
    fn settle(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let Golden { names, waiting, now, .. } = self;
        let is_known = |_: &Key, entry: &waiting::Entry| ends::called_now(names, &entry.last.0, entry.last.1).1;
        let over = waiting.over(*now, names.version(), is_known);
        self.settle_those(over);
    }

    fn settle_those(&mut self, over: Vec<(Key, waiting::Entry)>) {
        if over.is_empty() {
            return;
        }
        for (key, entry) in over {
            let [first, last] =
                [&entry.first, &entry.last].map(|(flow, at)| ends::called_now(&self.names, flow, *at).0);
            // Whose the address was in between cannot be told.
            let called = if first == last { last } else { key.edge };
            let edge = self.edges.called(called);
            edge.open.fetch_add(entry.edge.open.swap(0, Relaxed), Relaxed);
            let _ = entry.edge.became.set(edge);
        }
        let taken = self.waiting.take(|edge| edge.became.get().is_some());
        self.add_taken(&taken);
    }

    fn show(&mut self) {
        self.published = self.now;
        self.observers.sweep();
        self.shared.edges.store(self.edges.len() as u64, Relaxed);
        let Golden { exchanges, tcp, udp, .. } = self;
        let mut dirty = tcp.take_dirty() | udp.take_dirty();
        exchanges.iter_mut().for_each(|family| dirty |= family.take_dirty());
        if dirty {
            let exchanges = exchanges.each_ref().map(Exchanges::list);
            self.shared.published.store(Arc::new(Published { exchanges, tcp: tcp.list(), udp: udp.list() }));
        }
    }

    fn expire(&mut self) {
        self.expired = self.now;
        let idle = u64::try_from(self.config.expiry.as_nanos()).unwrap_or(u64::MAX);
        let before = Ts(self.now.0.saturating_sub(idle));
        let exchanges: usize = self.exchanges.iter_mut().map(|family| family.expire(before)).sum();
        self.texts.keep(self.exchanges.iter().flat_map(Exchanges::free_text));
        let gone = exchanges + self.tcp.expire(before) + self.udp.expire(before);
        self.totals().expired.fetch_add(gone as u64, Relaxed);
        self.edges.sweep();
        self.routes.expire(before);
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

    pub(crate) fn exchange_series(
        &mut self,
        family: FamilyId,
        edge: &Arc<Edge>,
        described: &Described<'_>,
    ) -> Arc<ExchangeSeries> {
        let Golden { edges, exchanges, texts, waiting, now, .. } = self;
        let exchanges = if edge.waits { &mut waiting.exchanges } else { exchanges };
        let series = exchanges[family.index()].get(edges, texts, edge, described, *now);
        series.life.touch(*now);
        series
    }

    pub(crate) fn tcp_series(&mut self, edge: &Arc<Edge>) -> Arc<TcpSeries> {
        let Golden { edges, tcp, waiting, now, .. } = self;
        let tcp = if edge.waits { &mut waiting.tcp } else { tcp };
        let series = tcp.of_edge(edges, edge, |edge| TcpSeries::new(edge, *now));
        series.life.touch(*now);
        series
    }

    pub(crate) fn udp_series(&mut self, edge: &Arc<Edge>) -> Arc<UdpSeries> {
        let Golden { edges, udp, waiting, now, .. } = self;
        let udp = if edge.waits { &mut waiting.udp } else { udp };
        let series = udp.of_edge(edges, edge, |edge| UdpSeries::new(edge, *now));
        series.life.touch(*now);
        series
    }

    /// The flow's edge, which changes when better names become known.
    fn edge(&mut self, flow: &FlowInfo, cache: &mut FlowCache, at: Ts) -> Arc<Edge> {
        let Golden { names, edges, waiting, now, .. } = self;
        if let Some(ends) = &cache.ends
            && ends.hold(names, flow, at, *now)
            && !(ends.edge.overflow && edges.freed() != ends.freed)
        {
            return ends.edge.clone();
        }
        let before = cache.ends.take();
        cache.ends.insert(Ends::ask(before, names, edges, waiting, flow, at, *now)).edge.clone()
    }

    /// Adds an exchange to its series. Those that the flow used last are compared, not looked up. A
    /// stand-in is looked up each time: there may be room for the right one by now.
    fn count(&mut self, edge: &Arc<Edge>, cache: &mut FlowCache, record: &L7Record) {
        let (family, mut described) = describe(record);
        let FlowCache { exchanges: recent, routes: known, .. } = cache;
        match &record.detail {
            _ if edge.overflow => described = family.family().over_cap(&described),
            Detail::Http(http) if !http.route.is_empty() => {
                let route = self.routes.of(known, (edge.id, &edge.server), http, self.now);
                described.set(ROUTE, Value::free(route));
            }
            _ => {}
        }
        let (family, described) = (&family, &described);
        let is_same = |series: &&Arc<ExchangeSeries>| {
            series.family == *family
                && Arc::ptr_eq(&series.edge, edge)
                && series.labels.is(described)
                && !series.life.is_retired()
        };
        match recent.iter().flatten().position(|series| is_same(&series)) {
            Some(0) => {}
            Some(at) => recent.swap(0, at),
            None => {
                recent.rotate_right(1);
                recent[0] = None;
            }
        }
        let [latest, ..] = recent;
        let series = latest.get_or_insert_with(|| self.exchange_series(*family, edge, described));
        if series.edge.overflow {
            self.over_cap.add(1);
        }
        series.life.touch(self.now);
        match record.outcome {
            // How long somebody waited on purpose would drown all else.
            _ if record.notes.has(Notes::WAITED) => series.add(Cell::OneWay, 1),
            Outcome::Answered | Outcome::Unanswered => {
                series.duration.observe(record.end.0.saturating_sub(record.start.0));
            }
            Outcome::OneWay => series.add(Cell::OneWay, 1),
        }
        series.add(Cell::RequestBytes, record.request_bytes);
        series.add(Cell::ResponseBytes, record.response_bytes);
        if described.messages != [0; 2] {
            let [client, server] = described.messages;
            series.add(Cell::ClientMessages, client);
            series.add(Cell::ServerMessages, server);
        }
    }

    /// The edge's series, by the flow's cache where that has it.
    fn tcp_of<'a>(&mut self, edge: &Arc<Edge>, cache: &'a mut Option<Arc<TcpSeries>>) -> &'a Arc<TcpSeries> {
        let cached = cache.take().filter(|series| series.edge.id == edge.id || series.edge.overflow);
        let cached = cached.filter(|series| is_usable(&**series, edge, self.tcp.has_room()));
        let series = cache.insert(cached.unwrap_or_else(|| self.tcp_series(edge)));
        if series.edge.overflow {
            self.over_cap.add(1);
        }
        series.life.touch(self.now);
        series
    }

    /// As `tcp_of`.
    fn udp_of<'a>(&mut self, edge: &Arc<Edge>, cache: &'a mut Option<Arc<UdpSeries>>) -> &'a Arc<UdpSeries> {
        let cached = cache.take().filter(|series| series.edge.id == edge.id || series.edge.overflow);
        let cached = cached.filter(|series| is_usable(&**series, edge, self.udp.has_room()));
        let series = cache.insert(cached.unwrap_or_else(|| self.udp_series(edge)));
        if series.edge.overflow {
            self.over_cap.add(1);
        }
        series.life.touch(self.now);
        series
    }

    fn tcp_flow(&mut self, edge: &Arc<Edge>, cache: &mut FlowCache, delta: &FlowDelta, sent: Direction) {
        let FlowDelta { packets: _, bytes, retransmits, zero_windows, handshake_rtt_ns, opened, closed } = delta;
        let series = self.tcp_of(edge, &mut cache.tcp);
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
        let series = self.udp_of(edge, &mut cache.udp);
        series.bytes[0].fetch_add(delta.bytes[sent.index()], Relaxed);
        series.bytes[1].fetch_add(delta.bytes[sent.reverse().index()], Relaxed);
    }
}

impl<N: Names> Sink for Golden<N> {
    type PerFlow = FlowCache;

    fn exchange(&mut self, flow: &FlowInfo, cache: &mut FlowCache, record: &L7Record) {
        self.now = self.now.max(record.end);
        if let Some((name, server, since)) = server_name::told(flow, record) {
            // First: it names this connection, too.
            self.names.server_name(flow.slot, name, server, since, record.end);
        }
        let edge = self.edge(flow, cache, record.start);
        self.totals().exchanges[edge.reporter.index()][record.protocol.index()].fetch_add(1, Relaxed);
        self.count(&edge, cache, record);
        // A server's pod sent this answer, it does not follow it.
        if let Detail::Dns(dns) = &record.detail
            && edge.reporter != Reporter::Server
            && !dns.addresses.is_empty()
        {
            self.names.dns_answer(flow.slot, &dns.name, &dns.addresses, dns.ttl_s, record.end);
        }
        self.observers.exchange(&edge, flow, record);
    }

    fn exchanges_lost(&mut self, flow: &FlowInfo, cache: &mut FlowCache, reason: LossReason, count: u64) {
        self.totals().lost[Reporter::of(flow).index()][reason.index()].fetch_add(count, Relaxed);
        // What the kernel did not follow is nobody's: it says how many there were.
        if flow.tuple.local.ip.is_unspecified() {
            return;
        }
        let edge = self.edge(flow, cache, flow.opened);
        match flow.tuple.transport {
            Transport::Tcp => self.tcp_of(&edge, &mut cache.tcp).lost.fetch_add(count, Relaxed),
            Transport::Udp => self.udp_of(&edge, &mut cache.udp).lost.fetch_add(count, Relaxed),
        };
        self.observers.lost(&edge, flow, reason, count);
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

/// Whether a series that a flow used last still is the right one for `edge`: in the table, and not
/// a stand-in that is no longer needed.
fn is_usable(series: &impl Series, edge: &Arc<Edge>, has_room: bool) -> bool {
    !series.life().is_retired() && (Arc::ptr_eq(series.edge(), edge) || !has_room)
}
