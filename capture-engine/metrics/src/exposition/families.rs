//! Which families there are, what they are called, and which labels they carry.

use super::encoder::{Descriptor, Encoder, Kind, SelfMetric, Type};
use crate::families::{Cell, Family, MOST_LABELS};
use crate::histogram::Histogram;
use crate::labels::Reporter;
use crate::series::{Edge, ExchangeSeries, TcpSeries};
use crate::snapshot::Snapshot;
use agent_api::LossRow;
use flow_model::{LossReason, Protocol};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Labels of an edge.
const EDGE_LABELS: usize = 8;
/// Of a sample: those of the edge, and its family's with `error_type`.
const MOST: usize = EDGE_LABELS + MOST_LABELS + 1;

/// Label names and values of one sample.
struct LabelSet<'a> {
    labels: [(&'a str, &'a str); MOST],
    len: usize,
}

impl<'a> LabelSet<'a> {
    /// Empty ones are left out: to Prometheus that is the same.
    fn of(edge: &'a Edge) -> LabelSet<'a> {
        let Edge { client, server, service, reporter, .. } = edge;
        let labels: [_; EDGE_LABELS] = [
            ("client_workload", &*client.workload),
            ("client_namespace", &client.namespace),
            ("client_kind", client.kind),
            ("server_workload", &server.workload),
            ("server_namespace", &server.namespace),
            ("server_kind", server.kind),
            ("server_service", service),
            ("reporter", reporter.as_str()),
        ];
        let mut set = LabelSet { labels: [("", ""); MOST], len: 0 };
        labels.into_iter().for_each(|(name, value)| set.add(name, value));
        set
    }

    fn of_exchange(series: &'a ExchangeSeries) -> LabelSet<'a> {
        let mut set = LabelSet::of(&series.edge);
        series.labels.shown.iter().for_each(|(name, value)| set.add(name, value));
        set
    }

    fn add(&mut self, name: &'a str, value: &'a str) {
        if value.is_empty() {
            return;
        }
        debug_assert!(self.len < MOST, "no family has more labels");
        if let Some(slot) = self.labels.get_mut(self.len) {
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
    for (id, series) in snapshot.families() {
        exchanges(out, id.family(), series);
    }
    tcp(out, snapshot);
    udp(out, snapshot);
    own(out, snapshot);
}

fn exchanges<E: Encoder>(out: &mut E, of: &Family, series: &[Arc<ExchangeSeries>]) {
    for duration in of.durations {
        family(out, Type::Histogram, duration.name, duration.help);
        for series in series.iter().filter(|series| duration.seen.by(series.edge.reporter)) {
            let histogram = series.duration.snapshot();
            // What asks for no answer has no duration.
            if histogram.count > 0 || series.value(Cell::OneWay) == 0 {
                out.histogram(LabelSet::of_exchange(series).as_slice(), &histogram);
            }
        }
    }
    for counter in of.counters {
        family(out, Type::Counter, counter.name, counter.help);
        for series in series {
            let value = series.value(counter.cell);
            if value > 0 || counter.cell.is_shown_at_zero() {
                out.number(LabelSet::of_exchange(series).as_slice(), value as f64);
            }
        }
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
    // The two ends are always there, at zero too, so that an absent value is not taken for none. A
    // capture only where there is one.
    let is_shown = |reporter: Reporter, value: u64| reporter != Reporter::Capture || value > 0;
    family(
        out,
        Type::Counter,
        "pilotfish_exchanges_total",
        "Exchanges that are counted in a series, each seen from one end.",
    );
    for reporter in Reporter::ALL {
        for protocol in Protocol::ALL {
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
