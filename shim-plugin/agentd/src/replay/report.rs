//! What is printed while a capture is read, and the sums over its flows that golden metrics do not
//! have.

use super::json;
use super::names::CaptureNames;
use super::output::Output;
use super::totals::Totals;
use flow_model::{Close, Detail, FlowDelta, FlowInfo, L7Record, LossReason, Notes, Protocol, Sink, Transport, shown};
use golden_metrics::{Edge, FlowCache, Golden, Observer};
use std::io::Write;

/// What is printed while the capture is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lines {
    None,
    Text,
    Json { records: bool },
}

/// The sink of a replay: golden metrics, and a line for each flow.
#[derive(Debug)]
pub(super) struct Report {
    golden: Golden<CaptureNames>,
    lines: Lines,
    out: Output,
    totals: Totals,
}

/// Writes a line for each exchange.
#[derive(Debug)]
struct Records {
    lines: Lines,
    out: Output,
}

impl Observer for Records {
    fn exchange(&mut self, _: &Edge, flow: &FlowInfo, record: &L7Record) {
        self.out.line(|text| match self.lines {
            // Writing into memory cannot fail.
            Lines::Json { records: true } => drop(json::line(text, &json::L7::new(flow, record))),
            Lines::Text => drop(writeln!(text, "{}", shown(&sentence(flow, record)))),
            Lines::Json { records: false } | Lines::None => {}
        });
    }
}

/// Of one flow.
#[derive(Debug, Default)]
pub(super) struct PerFlow {
    cache: FlowCache,
    exchanges: u64,
    lost: u64,
    protocol: Option<Protocol>,
    sum: FlowDelta,
}

impl Report {
    pub fn new(mut golden: Golden<CaptureNames>, lines: Lines, out: &Output) -> Report {
        if matches!(lines, Lines::Text | Lines::Json { records: true }) {
            golden.observe(Box::new(Records { lines, out: out.clone() }));
        }
        Report { golden, lines, out: out.clone(), totals: Totals::default() }
    }

    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    pub fn publish(&mut self) {
        self.golden.publish();
    }
}

impl Sink for Report {
    type PerFlow = PerFlow;

    fn exchange(&mut self, flow: &FlowInfo, per: &mut PerFlow, record: &L7Record) {
        per.exchanges += 1;
        per.protocol.get_or_insert(record.protocol);
        self.golden.exchange(flow, &mut per.cache, record);
    }

    fn exchanges_lost(&mut self, flow: &FlowInfo, per: &mut PerFlow, reason: LossReason, count: u64) {
        per.lost += count;
        self.golden.exchanges_lost(flow, &mut per.cache, reason, count);
    }

    fn flow(&mut self, flow: &FlowInfo, per: &mut PerFlow, delta: &FlowDelta) {
        self.golden.flow(flow, &mut per.cache, delta);
        add(&mut per.sum, delta);
        let Some(close) = delta.closed else { return };
        match flow.tuple.transport {
            Transport::Tcp => self.totals.tcp_flows += 1,
            Transport::Udp => self.totals.udp_flows += 1,
        }
        self.totals.resets += u64::from(close == Close::Reset);
        self.totals.retransmits += per.sum.retransmits.iter().map(|&count| u64::from(count)).sum::<u64>();
        self.totals.zero_windows += per.sum.zero_windows.iter().map(|&count| u64::from(count)).sum::<u64>();
        if let Lines::Json { .. } = self.lines {
            let row = json::Flow::new(flow, &per.sum, close, per.exchanges, per.lost, per.protocol);
            // Writing into memory cannot fail.
            self.out.line(|text| drop(json::line(text, &row)));
        }
    }
}

fn add(sum: &mut FlowDelta, delta: &FlowDelta) {
    let FlowDelta { packets, bytes, retransmits, zero_windows, handshake_rtt_ns, opened, closed } = delta;
    for way in 0..2 {
        sum.packets[way] += packets[way];
        sum.bytes[way] += bytes[way];
        sum.retransmits[way] += retransmits[way];
        sum.zero_windows[way] += zero_windows[way];
    }
    sum.handshake_rtt_ns = sum.handshake_rtt_ns.or(*handshake_rtt_ns);
    sum.opened |= opened;
    sum.closed = *closed;
}

/// One exchange for people.
fn sentence(flow: &FlowInfo, record: &L7Record) -> String {
    let (client, server) = flow.client_server();
    let (what, how) = match &record.detail {
        Detail::Http(http) => {
            let status = http.status.map_or("-".to_owned(), |status| status.to_string());
            (format!("{} {}", http.method, http.target), status)
        }
        Detail::Dns(dns) => {
            let rcode = dns.rcode.map_or("-".to_owned(), json::rcode_text);
            let retries = if dns.retries > 0 { format!(" retries={}", dns.retries) } else { String::new() };
            (format!("{} {}{retries}", json::qtype_text(dns.qtype), dns.name), rcode)
        }
        Detail::Rpc(call) => (format!("{} {}/{}", call.system, call.service, call.method), or_dash(&call.status)),
        Detail::Db(operation) => {
            (format!("{} {} {}", operation.system, operation.operation, operation.collection), or_dash(&operation.code))
        }
        Detail::Messaging(operation) => {
            let what = format!("{} {} {}", operation.system, operation.operation, operation.destination);
            (what, or_dash(&operation.code))
        }
        Detail::Tls(handshake) => {
            let alert = handshake.alert.map_or("-".to_owned(), |alert| format!("alert {alert}"));
            (format!("{} {}", handshake.version, handshake.sni), alert)
        }
        Detail::Channel(traffic) => {
            let [client, _] = traffic.messages;
            let by = if client > 0 { "client" } else { "server" };
            let code = traffic.close_code.map_or("-".to_owned(), |code| code.to_string());
            (format!("{} by {by}", traffic.opcode), code)
        }
    };
    let mut notes = String::new();
    for (_, name) in Notes::NAMES.iter().filter(|(note, _)| record.notes.has(*note)) {
        notes.push(' ');
        notes.push_str(name);
    }
    let took = crate::cli::table::latency(u64::try_from(record.end.since(record.start).as_nanos()).ok());
    let (s, ns) = (record.start.0 / 1_000_000_000, record.start.0 % 1_000_000_000);
    format!(
        "{s}.{ns:09} {}:{} -> {}:{} {} {what} {how} {took}{notes}",
        client.ip,
        client.port,
        server.ip,
        server.port,
        record.protocol.as_str()
    )
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}
