//! One object a line, named as OpenTelemetry names things.

mod detail;
mod tls;

pub(super) use detail::{qtype_text, rcode_text};

use super::totals::Noted;
use agent_api::EdgeRow;
use capture_engine::replay::{self, Damage, Summary};
use detail::What;
use flow_model::{Close, Direction, Endpoint, FlowDelta, FlowInfo, L7Record, Notes, Protocol, Transport};
use golden_metrics::Snapshot;
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
            outcome: record.outcome.as_str(),
            detail: What::of(record),
            notes: record.notes,
        }
    }
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

/// What went through the tunnels between two ends; what they carry is among the flows. Pairs are
/// [from the source, to it].
#[derive(Debug, Serialize)]
pub(super) struct Tunnel {
    r#type: &'static str,
    protocol: &'static str,
    source: Address,
    destination: Address,
    packets: u64,
    bytes: u64,
    packets_by_direction: [u64; 2],
    bytes_by_direction: [u64; 2],
    opened_unix_nano: u64,
}

#[derive(Debug, Serialize)]
struct Address {
    address: IpAddr,
}

impl From<&replay::Tunnel> for Tunnel {
    fn from(tunnel: &replay::Tunnel) -> Tunnel {
        let replay::Tunnel { kind, ends, packets, bytes, first } = *tunnel;
        let [source, destination] = ends.map(|address| Address { address });
        Tunnel {
            r#type: "tunnel",
            protocol: kind.as_str(),
            source,
            destination,
            packets: packets.iter().sum(),
            bytes: bytes.iter().sum(),
            packets_by_direction: packets,
            bytes_by_direction: bytes,
            opened_unix_nano: first.0,
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
    unordered: u64,
    flows_shed: u64,
    fragments_given_up: u64,
    packets_seen_again: u64,
    tunnel_packets_beyond: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    responses_unasked: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    damage: Option<String>,
}

impl Capture {
    pub fn new(summary: &Summary, noted: Noted, snapshot: &Snapshot) -> Capture {
        let Noted { flows_shed, unasked } = noted;
        Capture {
            r#type: "capture",
            packets: summary.packets,
            wire_bytes: summary.wire_bytes,
            cut_packets: summary.cut_packets,
            skipped: super::summary::skipped(summary).into_iter().filter(|(_, count)| *count > 0).collect(),
            exchanges: super::summary::exchanges(snapshot).map(|(protocol, count)| (protocol.as_str(), count)).into(),
            exchanges_lost: super::summary::lost(snapshot).into_iter().filter(|(_, count)| *count > 0).collect(),
            flows_evicted: summary.flows_evicted,
            unordered: summary.unordered,
            flows_shed,
            fragments_given_up: summary.fragments_given_up,
            packets_seen_again: summary.seen_again,
            tunnel_packets_beyond: summary.tunnels_beyond,
            responses_unasked: (unasked > 0).then_some(unasked),
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
