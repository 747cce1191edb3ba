//! One object a line, named as OpenTelemetry names things.

use super::report::Totals;
use agent_api::EdgeRow;
use capture_engine::replay::{Damage, Summary};
use flow_model::{
    Close, Detail, Direction, Endpoint, FlowDelta, FlowInfo, HttpExchange, L7Record, LossReason, Notes, Outcome,
    Protocol, Transport,
};
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::IpAddr;

pub(super) fn line(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value).map_err(io::Error::from)?;
    out.write_all(b"\n")
}

#[derive(Debug, Serialize)]
struct End {
    address: IpAddr,
    port: u16,
}

impl From<Endpoint> for End {
    fn from(Endpoint { ip, port }: Endpoint) -> End {
        End { address: ip, port }
    }
}

/// An exchange.
#[derive(Debug, Serialize)]
pub(super) struct L7<'a> {
    r#type: &'static str,
    protocol: &'static str,
    start_unix_nano: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_start_unix_nano: Option<u64>,
    end_unix_nano: u64,
    duration_s: f64,
    client: End,
    server: End,
    #[serde(rename = "network.transport")]
    transport: &'static str,
    outcome: &'static str,
    #[serde(flatten)]
    detail: What<'a>,
    #[serde(serialize_with = "notes")]
    notes: Notes,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum What<'a> {
    Http(Http<'a>),
    Dns(Dns<'a>),
}

#[derive(Debug, Serialize)]
struct Http<'a> {
    #[serde(rename = "http.request.method", skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(rename = "url.path", skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(rename = "url.query", skip_serializing_if = "Option::is_none")]
    query: Option<&'a str>,
    #[serde(rename = "http.request.header.host", skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    #[serde(rename = "http.response.status_code", skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(rename = "network.protocol.version", skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    #[serde(rename = "http.request.size")]
    request_bytes: u64,
    #[serde(rename = "http.response.size")]
    response_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Dns<'a> {
    #[serde(rename = "dns.question.name")]
    name: &'a str,
    #[serde(rename = "dns.question.type")]
    qtype: Code,
    #[serde(rename = "dns.response.code", skip_serializing_if = "Option::is_none")]
    rcode: Option<Code>,
    #[serde(rename = "dns.id")]
    id: u16,
    #[serde(rename = "dns.opcode")]
    opcode: u8,
    #[serde(rename = "dns.answer_count")]
    answers: u16,
    #[serde(rename = "dns.answers", skip_serializing_if = "<[IpAddr]>::is_empty")]
    addresses: &'a [IpAddr],
    #[serde(rename = "dns.request.size")]
    request_bytes: u64,
    #[serde(rename = "dns.response.size")]
    response_bytes: u64,
}

/// A registered name, or the number.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Code {
    Name(&'static str),
    Number(u16),
}

impl<'a> L7<'a> {
    pub fn new(flow: &FlowInfo, record: &'a L7Record) -> L7<'a> {
        let (client, server) = flow.client_server();
        L7 {
            r#type: "l7",
            protocol: record.protocol.as_str(),
            start_unix_nano: record.start.0,
            response_start_unix_nano: record.response_start.map(|at| at.0),
            end_unix_nano: record.end.0,
            duration_s: record.end.since(record.start).as_secs_f64(),
            client: client.into(),
            server: server.into(),
            transport: transport(flow),
            outcome: match record.outcome {
                Outcome::Answered => "answered",
                Outcome::Unanswered => "unanswered",
            },
            detail: match &record.detail {
                Detail::Http(http) => What::Http(Http::new(http, record)),
                Detail::Dns(dns) => What::Dns(Dns {
                    name: if dns.name.is_empty() { "." } else { &dns.name },
                    qtype: code(&QTYPES, dns.qtype),
                    rcode: dns.rcode.map(|rcode| code(&RCODES, rcode)),
                    id: dns.id,
                    opcode: dns.opcode,
                    answers: dns.answers,
                    addresses: &dns.addresses,
                    request_bytes: record.request_bytes,
                    response_bytes: record.response_bytes,
                }),
            },
            notes: record.notes,
        }
    }
}

impl<'a> Http<'a> {
    fn new(http: &'a HttpExchange, record: &L7Record) -> Http<'a> {
        let asked = !http.method.is_empty() || !http.target.is_empty();
        let (path, query) = path_and_query(&http.target);
        Http {
            method: Some(&*http.method).filter(|method| !method.is_empty()),
            path: asked.then_some(path),
            query,
            host: Some(&*http.host).filter(|host| !host.is_empty()),
            status: http.status,
            version: Some(http.version).filter(|version| !version.is_empty()),
            request_bytes: record.request_bytes,
            response_bytes: record.response_bytes,
        }
    }
}

/// RFC 9112 3.2: origin form, absolute form (its scheme and authority left out), authority form (as it is).
fn path_and_query(target: &str) -> (&str, Option<&str>) {
    let target = target.split_once('#').map_or(target, |(before, _)| before);
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let path = match path.split_once("://") {
        Some((scheme, rest)) if !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/")
        }
        _ => path,
    };
    (path, query)
}

/// A connection or a UDP 5-tuple, when it is over. Pairs are [client to server, server to client].
#[derive(Debug, Serialize)]
pub(super) struct Flow {
    r#type: &'static str,
    transport: &'static str,
    client: End,
    server: End,
    packets: u64,
    bytes: u64,
    packets_by_direction: [u64; 2],
    bytes_by_direction: [u64; 2],
    opened_unix_nano: u64,
    joined_midway: bool,
    close: &'static str,
    exchanges: u64,
    exchanges_lost: u64,
    #[serde(rename = "network.protocol.name", skip_serializing_if = "Option::is_none")]
    application: Option<&'static str>,
    #[serde(flatten)]
    tcp: Option<TcpHealth>,
}

#[derive(Debug, Serialize)]
struct TcpHealth {
    retransmits_by_direction: [u32; 2],
    zero_windows_by_direction: [u32; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    handshake_rtt_s: Option<f64>,
}

impl Flow {
    pub fn new(
        flow: &FlowInfo,
        sum: &FlowDelta,
        close: Close,
        exchanges: u64,
        lost: u64,
        protocol: Option<Protocol>,
    ) -> Flow {
        let (client, server) = flow.client_server();
        // The client's bytes go out where the client is local.
        let out = if client == flow.tuple.local { Direction::Egress } else { Direction::Ingress };
        let ways = [out.index(), out.reverse().index()];
        let tcp = flow.tuple.transport == Transport::Tcp;
        Flow {
            r#type: "flow",
            transport: transport(flow),
            client: client.into(),
            server: server.into(),
            packets: sum.packets.iter().sum(),
            bytes: sum.bytes.iter().sum(),
            packets_by_direction: ways.map(|way| sum.packets[way]),
            bytes_by_direction: ways.map(|way| sum.bytes[way]),
            opened_unix_nano: flow.opened.0,
            joined_midway: flow.joined_midway,
            close: match close {
                Close::Fin => "fin",
                Close::Reset => "reset",
                Close::Gone => "none",
            },
            exchanges,
            exchanges_lost: lost,
            application: protocol.map(Protocol::as_str),
            tcp: tcp.then(|| TcpHealth {
                retransmits_by_direction: ways.map(|way| sum.retransmits[way]),
                zero_windows_by_direction: ways.map(|way| sum.zero_windows[way]),
                handshake_rtt_s: sum.handshake_rtt_ns.map(|ns| ns as f64 / 1e9),
            }),
        }
    }
}

/// Golden metrics of one edge. Durations in seconds.
#[derive(Debug, Serialize)]
pub(super) struct Edge<'a> {
    r#type: &'static str,
    client: &'a str,
    client_ns: &'a str,
    client_kind: &'a str,
    server: &'a str,
    server_ns: &'a str,
    server_kind: &'a str,
    server_service: &'a str,
    protocol: &'a str,
    reporter: &'a str,
    requests: u64,
    successes: u64,
    failures: u64,
    /// A capture has no "lately".
    rps: Option<f64>,
    /// Seconds.
    p50: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
    tcp_open: u64,
    bytes: u64,
}

impl<'a> From<&'a EdgeRow> for Edge<'a> {
    fn from(row: &'a EdgeRow) -> Edge<'a> {
        let EdgeRow { src, dst, service, protocol, reporter, golden } = row;
        Edge {
            r#type: "edge",
            client: &src.name,
            client_ns: &src.namespace,
            client_kind: &src.kind,
            server: &dst.name,
            server_ns: &dst.namespace,
            server_kind: &dst.kind,
            server_service: service,
            protocol,
            reporter,
            requests: golden.requests,
            successes: golden.requests.saturating_sub(golden.failures),
            failures: golden.failures,
            rps: None,
            p50: golden.p50,
            p95: golden.p95,
            p99: golden.p99,
            tcp_open: golden.tcp_connections,
            bytes: golden.bytes,
        }
    }
}

/// The last line: what was read.
#[derive(Debug, Serialize)]
pub(super) struct Capture {
    r#type: &'static str,
    packets: u64,
    wire_bytes: u64,
    cut_packets: u64,
    skipped: BTreeMap<&'static str, u64>,
    exchanges: BTreeMap<&'static str, u64>,
    exchanges_lost: BTreeMap<&'static str, u64>,
    flows_evicted: u64,
    fragments_given_up: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    damage: Option<String>,
}

impl Capture {
    pub fn new(summary: &Summary, totals: &Totals) -> Capture {
        let lost = LossReason::ALL.iter().zip(totals.lost).filter(|(_, count)| *count > 0);
        Capture {
            r#type: "capture",
            packets: summary.packets,
            wire_bytes: summary.wire_bytes,
            cut_packets: summary.cut_packets,
            skipped: super::summary::skipped(summary).into_iter().filter(|(_, count)| *count > 0).collect(),
            exchanges: BTreeMap::from([("http1", totals.http), ("dns", totals.dns)]),
            exchanges_lost: lost.map(|(reason, count)| (reason.as_str(), count)).collect(),
            flows_evicted: summary.flows_evicted,
            fragments_given_up: summary.fragments_given_up,
            damage: summary.damage.as_ref().map(Damage::to_string),
        }
    }
}

fn transport(flow: &FlowInfo) -> &'static str {
    match flow.tuple.transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    }
}

fn notes<S: Serializer>(notes: &Notes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(Notes::NAMES.iter().filter(|(note, _)| notes.has(*note)).map(|(_, name)| name))
}

/// IANA's registry of resource record types, those that are met.
const QTYPES: [(u16, &str); 36] = [
    (1, "A"),
    (2, "NS"),
    (5, "CNAME"),
    (6, "SOA"),
    (10, "NULL"),
    (12, "PTR"),
    (13, "HINFO"),
    (15, "MX"),
    (16, "TXT"),
    (28, "AAAA"),
    (29, "LOC"),
    (33, "SRV"),
    (35, "NAPTR"),
    (41, "OPT"),
    (43, "DS"),
    (44, "SSHFP"),
    (46, "RRSIG"),
    (47, "NSEC"),
    (48, "DNSKEY"),
    (50, "NSEC3"),
    (51, "NSEC3PARAM"),
    (52, "TLSA"),
    (59, "CDS"),
    (60, "CDNSKEY"),
    (61, "OPENPGPKEY"),
    (64, "SVCB"),
    (65, "HTTPS"),
    (99, "SPF"),
    (249, "TKEY"),
    (250, "TSIG"),
    (251, "IXFR"),
    (252, "AXFR"),
    (255, "ANY"),
    (256, "URI"),
    (257, "CAA"),
    (32769, "DLV"),
];

/// IANA's registry of response codes.
const RCODES: [(u16, &str); 12] = [
    (0, "NOERROR"),
    (1, "FORMERR"),
    (2, "SERVFAIL"),
    (3, "NXDOMAIN"),
    (4, "NOTIMP"),
    (5, "REFUSED"),
    (6, "YXDOMAIN"),
    (7, "YXRRSET"),
    (8, "NXRRSET"),
    (9, "NOTAUTH"),
    (10, "NOTZONE"),
    (16, "BADVERS"),
];

fn code(names: &[(u16, &'static str)], number: u16) -> Code {
    match names.iter().find(|(known, _)| *known == number) {
        Some((_, name)) => Code::Name(name),
        None => Code::Number(number),
    }
}

fn text(code: Code, prefix: &str) -> String {
    match code {
        Code::Name(name) => name.to_owned(),
        Code::Number(number) => format!("{prefix}{number}"),
    }
}

pub(super) fn qtype_text(qtype: u16) -> String {
    text(code(&QTYPES, qtype), "TYPE")
}

pub(super) fn rcode_text(rcode: u16) -> String {
    text(code(&RCODES, rcode), "RCODE")
}

#[cfg(test)]
mod tests {
    use super::path_and_query;

    #[test]
    fn path_is_that_of_any_form_of_target() {
        assert_eq!(path_and_query("/a/b?x=1#y"), ("/a/b", Some("x=1")));
        assert_eq!(path_and_query("http://h.example/a?u=http://x/"), ("/a", Some("u=http://x/")));
        assert_eq!(path_and_query("http://h.example"), ("/", None));
        assert_eq!(path_and_query("h.example:443"), ("h.example:443", None));
        assert_eq!(path_and_query("/r?u=a://b"), ("/r", Some("u=a://b")));
    }
}
