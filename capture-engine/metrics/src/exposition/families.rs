//! Which families there are, what they are called, and which labels they carry.

use super::{Descriptor, Encoder, Kind, SelfMetric, Type};
use crate::histogram::Histogram;
use crate::labels::{DnsEnd, HttpEnd, OTHER, Reporter, UNANSWERED};
use crate::series::{Edge, HttpSeries, TcpSeries};
use crate::snapshot::Snapshot;
use agent_api::LossRow;
use flow_model::{LossReason, Protocol};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Label names and values of one sample. 16: eight of the edge, at most three more.
struct LabelSet<'a> {
    labels: [(&'a str, &'a str); 16],
    len: usize,
}

impl<'a> LabelSet<'a> {
    /// Labels of design section 7. Empty ones are left out: to Prometheus that is the same.
    fn of(edge: &'a Edge) -> LabelSet<'a> {
        let Edge { client, server, service, reporter, .. } = edge;
        let mut set = LabelSet { labels: [("", ""); 16], len: 0 };
        set.add("client_workload", &client.workload);
        set.add("client_namespace", &client.namespace);
        set.add("client_kind", client.kind);
        set.add("server_workload", &server.workload);
        set.add("server_namespace", &server.namespace);
        set.add("server_kind", server.kind);
        set.add("server_service", service);
        set.add("reporter", reporter.as_str());
        set
    }

    fn add(&mut self, name: &'a str, value: &'a str) {
        if !value.is_empty()
            && let Some(slot) = self.labels.get_mut(self.len)
        {
            *slot = (name, value);
            self.len += 1;
        }
    }

    fn as_slice(&self) -> &[(&'a str, &'a str)] {
        &self.labels[..self.len]
    }
}

fn family<E: Encoder>(out: &mut E, kind: Type, name: &str, help: &str) {
    out.family(Descriptor { name, help, kind });
}

pub(super) fn write<E: Encoder>(out: &mut E, snapshot: &Snapshot) {
    http(out, snapshot);
    dns(out, snapshot);
    tcp(out, snapshot);
    udp(out, snapshot);
    own(out, snapshot);
}

fn http<E: Encoder>(out: &mut E, snapshot: &Snapshot) {
    // OpenTelemetry has a metric for each end. A replayed capture was seen from neither; it counts what the server did.
    let is_client = |s: &HttpSeries| s.edge.reporter == Reporter::Client;
    let durations = [
        (
            true,
            "http_client_request_duration_seconds",
            "Duration of HTTP requests, from the first byte of the request to the last of the response, at the client's pod.",
        ),
        (
            false,
            "http_server_request_duration_seconds",
            "Duration of HTTP requests, from the first byte of the request to the last of the response, at the server's pod.",
        ),
    ];
    for (client, name, help) in durations {
        family(out, Type::Histogram, name, help);
        for series in snapshot.published.http.iter().filter(|s| is_client(s) == client) {
            with_http_labels(series, |labels| out.histogram(labels, &series.duration.snapshot()));
        }
    }
    type Cell = fn(&HttpSeries) -> &AtomicU64;
    let sizes: [(&str, &str, Cell); 2] = [
        ("pilotfish_http_request_bytes_total", "Bytes of HTTP requests, heads and framing included.", |s| {
            &s.request_bytes
        }),
        ("pilotfish_http_response_bytes_total", "Bytes of HTTP responses, heads and framing included.", |s| {
            &s.response_bytes
        }),
    ];
    for (name, help, of) in sizes {
        family(out, Type::Counter, name, help);
        for series in &snapshot.published.http {
            with_http_labels(series, |labels| out.number(labels, of(series).load(Relaxed) as f64));
        }
    }
}

fn with_http_labels(series: &HttpSeries, write: impl FnOnce(&[(&str, &str)])) {
    let mut digits = [0; 3];
    let mut labels = LabelSet::of(&series.edge);
    labels.add("http_request_method", series.method.as_str());
    match series.end {
        HttpEnd::Status(status) => {
            digits.copy_from_slice(&[status / 100, status / 10 % 10, status % 10].map(|d| b'0' + d as u8));
            let status = std::str::from_utf8(&digits).unwrap_or(OTHER);
            labels.add("http_response_status_code", status);
            // OpenTelemetry: the status, where it is an error.
            labels.add("error_type", if series.end.is_success() { "" } else { status });
        }
        HttpEnd::OtherStatus => labels.add("http_response_status_code", OTHER),
        HttpEnd::Unanswered => labels.add("error_type", UNANSWERED),
    }
    write(labels.as_slice());
}

fn dns<E: Encoder>(out: &mut E, snapshot: &Snapshot) {
    family(
        out,
        Type::Histogram,
        "dns_lookup_duration_seconds",
        "Duration of DNS lookups, from the query to its answer.",
    );
    for series in &snapshot.published.dns {
        let mut labels = LabelSet::of(&series.edge);
        labels.add("dns_question_type", series.question.as_str());
        if series.end != DnsEnd::Unanswered {
            labels.add("dns_response_code", series.end.as_str());
        }
        labels.add("error_type", if series.end.is_success() { "" } else { series.end.as_str() });
        out.histogram(labels.as_slice(), &series.duration.snapshot());
    }
}

fn tcp<E: Encoder>(out: &mut E, snapshot: &Snapshot) {
    let series = &snapshot.published.tcp;
    let mut plain = |name, help, of: fn(&TcpSeries) -> u64| {
        family(out, Type::Counter, name, help);
        series.iter().for_each(|s| out.number(LabelSet::of(&s.edge).as_slice(), of(s) as f64));
    };
    plain("pilotfish_tcp_sent_bytes_total", "IP bytes of TCP packets that the reporter sent.", |s| {
        s.bytes[0].load(Relaxed)
    });
    plain("pilotfish_tcp_received_bytes_total", "IP bytes of TCP packets that the reporter received.", |s| {
        s.bytes[1].load(Relaxed)
    });
    plain("pilotfish_tcp_connections_opened_total", "TCP connections whose opening was seen.", |s| {
        s.opened.load(Relaxed)
    });
    plain("pilotfish_tcp_resets_total", "TCP connections that ended with a reset.", |s| s.closed[1].load(Relaxed));

    let mut by = |name, help, label, values: &[&str], of: fn(&TcpSeries) -> &[AtomicU64]| {
        family(out, Type::Counter, name, help);
        for s in series {
            for (cell, value) in of(s).iter().zip(values) {
                let mut labels = LabelSet::of(&s.edge);
                labels.add(label, value);
                out.number(labels.as_slice(), cell.load(Relaxed) as f64);
            }
        }
    };
    let closed = "TCP connections that ended, by what was seen of the end; gone: nothing was.";
    by("pilotfish_tcp_connections_closed_total", closed, "reason", &["fin", "reset", "gone"], |s| &s.closed);
    let retransmits = "TCP segments that had been seen in full before, by whether the reporter sent or received them.";
    by("pilotfish_tcp_retransmits_total", retransmits, "direction", &["sent", "received"], |s| &s.retransmits);
    let zero_windows = "TCP packets that announced a window of zero, by whether the reporter sent or received them.";
    by("pilotfish_tcp_zero_windows_total", zero_windows, "direction", &["sent", "received"], |s| &s.zero_windows);

    let open = "TCP connections that are open now, whether or not their opening was seen.";
    family(out, Type::Gauge, "pilotfish_tcp_open_connections", open);
    series.iter().for_each(|s| out.number(LabelSet::of(&s.edge).as_slice(), s.edge.open_connections() as f64));

    let rtt = "Round trip of the TCP handshake: at the client SYN to SYN-ACK, at the server SYN-ACK to ACK.";
    family(out, Type::Histogram, "pilotfish_tcp_handshake_rtt_seconds", rtt);
    for (s, histogram) in series.iter().filter_map(|s| Some((s, s.handshake_rtt.get()?))) {
        out.histogram(LabelSet::of(&s.edge).as_slice(), &Histogram::snapshot(histogram));
    }
}

fn udp<E: Encoder>(out: &mut E, snapshot: &Snapshot) {
    let families = [
        ("pilotfish_udp_sent_bytes_total", "IP bytes of UDP packets that the reporter sent."),
        ("pilotfish_udp_received_bytes_total", "IP bytes of UDP packets that the reporter received."),
    ];
    for (i, (name, help)) in families.into_iter().enumerate() {
        family(out, Type::Counter, name, help);
        snapshot
            .published
            .udp
            .iter()
            .for_each(|s| out.number(LabelSet::of(&s.edge).as_slice(), s.bytes[i].load(Relaxed) as f64));
    }
}

/// What the agent says of itself: counted, lost, and why.
fn own<E: Encoder>(out: &mut E, snapshot: &Snapshot) {
    // The two ends are always there, at zero too, so that an absent value is not taken for none. A capture only where there is one.
    let is_shown = |reporter: Reporter, value: u64| reporter != Reporter::Capture || value > 0;
    family(
        out,
        Type::Counter,
        "pilotfish_exchanges_total",
        "Exchanges that are counted in a series, each seen from one end.",
    );
    for reporter in Reporter::ALL {
        for protocol in [Protocol::Http1, Protocol::Dns] {
            let value = snapshot.exchanges(reporter, protocol);
            if is_shown(reporter, value) {
                out.number(&[("reporter", reporter.as_str()), ("protocol", protocol.as_str())], value as f64);
            }
        }
    }
    family(
        out,
        Type::Counter,
        "pilotfish_exchanges_lost_total",
        "Exchanges that took place and are in no series, each seen from one end.",
    );
    for reporter in Reporter::ALL {
        for reason in LossReason::ALL {
            let value = snapshot.exchanges_lost(reporter, reason);
            if is_shown(reporter, value) {
                out.number(&[("reporter", reporter.as_str()), ("reason", reason.as_str())], value as f64);
            }
        }
    }
    let rows = snapshot.lost();
    family(out, Type::Counter, "pilotfish_lost_total", &help_of_losses(&rows));
    for row in &rows {
        out.number(&[("stage", &*row.stage), ("reason", &*row.reason)], row.total as f64);
    }
    family(out, Type::Gauge, "pilotfish_metrics_series", "Series in the table, by family.");
    for (name, len) in snapshot.series_by_family() {
        out.number(&[("family", name)], len as f64);
    }
    family(
        out,
        Type::Gauge,
        "pilotfish_metrics_edges",
        "Pairs of workloads that a series or an open flow refers to, for each reporter.",
    );
    out.number(&[], snapshot.edges_known() as f64);
    family(
        out,
        Type::Counter,
        "pilotfish_metrics_series_expired_total",
        "Series that left because nothing was added to them for long.",
    );
    out.number(&[], snapshot.expired() as f64);
}

/// Names the unit of each place.
fn help_of_losses(rows: &[LossRow]) -> String {
    let mut help = String::from("What was dropped and where, in the unit of the place.");
    for row in rows {
        help.push_str(&format!(" {}/{}: {}.", row.stage, row.reason, row.unit));
    }
    help
}

pub(super) fn write_others<E: Encoder>(out: &mut E, others: &[SelfMetric]) {
    let mut families: BTreeMap<&str, Vec<&SelfMetric>> = BTreeMap::new();
    for metric in others {
        families.entry(&metric.name).or_default().push(metric);
    }
    for (name, metrics) in families {
        let Some(SelfMetric { help, kind, .. }) = metrics.first() else { continue };
        let kind = match kind {
            Kind::Counter => Type::Counter,
            Kind::Gauge => Type::Gauge,
        };
        // OpenMetrics has no counter without it.
        let name = match kind {
            Type::Counter if !name.ends_with("_total") => Cow::Owned(format!("{name}_total")),
            _ => Cow::Borrowed(name),
        };
        family(out, kind, &name, help);
        for metric in metrics {
            let labels: Vec<(&str, &str)> = metric.labels.iter().map(|(n, v)| (n.as_ref(), v.as_ref())).collect();
            out.number(&labels, metric.value);
        }
    }
}
