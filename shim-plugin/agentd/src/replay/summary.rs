//! A capture for people: golden metrics of each edge, then what the capture holds.

use super::totals::{Noted, Totals};
use crate::cli::table::{Align, bytes, latency, share, table};
use agent_api::EdgeRow;
use capture_engine::replay::{Skipped, Summary};
use flow_model::{LossReason, Protocol};
use golden_metrics::{Reporter, Snapshot};
use std::fmt::Write;

fn edges_table(edges: &[EdgeRow]) -> String {
    let columns = [
        ("CLIENT", Align::Left),
        ("SERVER", Align::Left),
        ("PROTOCOL", Align::Left),
        ("REQUESTS", Align::Right),
        ("SUCCESS", Align::Right),
        ("LATENCY_P50", Align::Right),
        ("LATENCY_P95", Align::Right),
        ("LATENCY_P99", Align::Right),
        ("BYTES", Align::Right),
    ];
    let time = |seconds: Option<f64>| latency(seconds.map(|seconds| (seconds * 1e9) as u64));
    let row = |edge: &EdgeRow| {
        let EdgeRow { src, dst, protocol, golden, .. } = edge;
        vec![
            src.name.clone(),
            dst.name.clone(),
            protocol.clone(),
            if golden.requests > 0 { golden.requests.to_string() } else { "-".to_owned() },
            share(golden.success),
            time(golden.p50),
            time(golden.p95),
            time(golden.p99),
            bytes(golden.bytes),
        ]
    };
    table(&columns, &edges.iter().map(row).collect::<Vec<_>>())
}

pub(super) fn text(summary: &Summary, noted: Noted, totals: &Totals, snapshot: &Snapshot) -> String {
    let Noted { flows_shed, unasked } = noted;
    let mut text = edges_table(&snapshot.edges());
    let span = summary.last.zip(summary.first).map(|(last, first)| last.since(first).as_secs_f64()).unwrap_or_default();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "\n{} packets, {} on the wire, {span:.3} s", summary.packets, bytes(summary.wire_bytes));
    let _ = writeln!(
        text,
        "flows: {} TCP, {} UDP; {} resets, {} retransmissions, {} zero windows",
        totals.tcp_flows, totals.udp_flows, totals.resets, totals.retransmits, totals.zero_windows
    );
    let exchanges = exchanges(snapshot).map(|(protocol, count)| format!("{count} {}", title(protocol)));
    let _ = writeln!(text, "exchanges: {}", exchanges.join(", "));
    list(&mut text, "exchanges lost", lost(snapshot));
    list(&mut text, "packets that belong to no flow", skipped(summary));
    for tunnel in &summary.tunnels {
        let [one, other] = tunnel.ends;
        let (packets, size) = (tunnel.packets.iter().sum::<u64>(), tunnel.bytes.iter().sum());
        let _ = writeln!(text, "{} tunnel {one} - {other}: {packets} packets, {}", tunnel.kind.as_str(), bytes(size));
    }
    let oddities = [
        ("cut by the capture", summary.cut_packets),
        ("seen again at another interface", summary.seen_again),
        ("of more tunnels", summary.tunnels_beyond),
        ("flows reported early (the table was full)", summary.flows_evicted),
        ("segments left out of order (too many were)", summary.unordered),
        ("flows that let go of what they held (64 MiB for all)", flows_shed),
        ("datagrams with fragments missing", summary.fragments_given_up),
        ("HTTP responses to nothing that was asked", unasked),
    ];
    list(&mut text, "noted", oddities);
    text
}

fn title(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http1 => "HTTP",
        Protocol::Dns => "DNS",
        Protocol::Tls => "TLS",
        Protocol::Redis => "Redis",
        Protocol::Http2 => "HTTP/2",
        Protocol::Grpc => "gRPC",
        Protocol::Postgresql => "PostgreSQL",
        Protocol::Websocket => "WebSocket",
        Protocol::Mysql => "MySQL",
        Protocol::Kafka => "Kafka",
    }
}

/// Exchanges that were counted.
pub(super) fn exchanges(snapshot: &Snapshot) -> [(Protocol, u64); Protocol::ALL.len()] {
    let of = |protocol| Reporter::ALL.iter().map(|reporter| snapshot.exchanges(*reporter, protocol)).sum();
    Protocol::ALL.map(|protocol| (protocol, of(protocol)))
}

/// Exchanges that took place and were not counted.
pub(super) fn lost(snapshot: &Snapshot) -> [(&'static str, u64); LossReason::ALL.len()] {
    let of = |reason| Reporter::ALL.iter().map(|reporter| snapshot.exchanges_lost(*reporter, reason)).sum();
    LossReason::ALL.map(|reason| (reason.as_str(), of(reason)))
}

/// Why packets belong to no flow.
pub(super) fn skipped(summary: &Summary) -> [(&'static str, u64); 5] {
    let Skipped { link_type, not_ip, other_protocol, unparsed, fragments } = summary.skipped;
    [
        ("link_type", link_type),
        ("not_ip", not_ip),
        ("other_protocol", other_protocol),
        ("unparsed", unparsed),
        ("fragments", fragments),
    ]
}

fn list(text: &mut String, title: &str, counts: impl IntoIterator<Item = (&'static str, u64)>) {
    let items: Vec<String> =
        counts.into_iter().filter(|(_, count)| *count > 0).map(|(name, count)| format!("{count} {name}")).collect();
    if !items.is_empty() {
        let _ = writeln!(text, "{title}: {}", items.join(", "));
    }
}
