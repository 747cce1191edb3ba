//! Which families there are, what they are called, and which labels they carry.

use super::encoder::{Descriptor, Encoder, Kind, SelfMetric, Type};
use super::walk::Walk;
use crate::families::FamilyId;
use crate::labels::Reporter;
use crate::rows::{Numbers, Of};
use crate::snapshot::Snapshot;
use agent_api::LossRow;
use flow_model::{LossReason, Protocol};
use std::borrow::Cow;
use std::collections::BTreeMap;

fn family<E: Encoder>(out: &mut E, kind: Type, name: &str, help: &str) {
    out.family(Descriptor { name, help, kind });
}

pub(super) fn write<E: Encoder>(out: &mut E, snapshot: &Snapshot) {
    series(out, snapshot);
    own(out, snapshot);
}

/// All that is counted of edges.
pub(super) fn series<E: Encoder>(out: &mut E, walk: &impl Walk) {
    for id in FamilyId::ALL.into_iter().filter(|id| id.family().always || walk.has(Of::Exchanges(*id))) {
        exchanges(out, id, walk);
    }
    tcp(out, walk);
    udp(out, walk);
}

fn exchanges<E: Encoder>(out: &mut E, id: FamilyId, walk: &impl Walk) {
    let of = id.family();
    for duration in of.durations {
        family(out, Type::Histogram, duration.name, duration.help);
        walk.histograms(Of::Exchanges(id), &|reporter| duration.seen.by(reporter), &mut |labels, histogram| {
            out.histogram(labels.as_slice(), histogram);
        });
    }
    for counter in of.counters {
        family(out, Type::Counter, counter.name, counter.help);
        walk.numbers(Of::Exchanges(id), &mut |labels, numbers| {
            let value = numbers.value(counter.cell);
            if value > 0 || counter.cell.is_shown_at_zero() {
                out.number(labels.as_slice(), value as f64);
            }
        });
    }
}

fn tcp<E: Encoder>(out: &mut E, walk: &impl Walk) {
    let mut plain = |kind, name, help, of: fn(&Numbers) -> u64| {
        family(out, kind, name, help);
        walk.numbers(Of::Tcp, &mut |labels, numbers| out.number(labels.as_slice(), of(numbers) as f64));
    };
    let counter = Type::Counter;
    plain(counter, "pilotfish_tcp_sent_bytes_total", "IP bytes of TCP packets that the reporter sent.", |n| n.bytes[0]);
    plain(counter, "pilotfish_tcp_received_bytes_total", "IP bytes of TCP packets that the reporter received.", |n| {
        n.bytes[1]
    });
    plain(counter, "pilotfish_tcp_connections_opened_total", "TCP connections whose opening was seen.", |n| n.opened);
    plain(counter, "pilotfish_tcp_resets_total", "TCP connections that ended with a reset.", |n| n.closed[1]);

    let mut by = |name, help, label, values: &[&str], of: fn(&Numbers) -> &[u64]| {
        family(out, Type::Counter, name, help);
        walk.numbers(Of::Tcp, &mut |labels, numbers| {
            for (value, text) in of(numbers).iter().zip(values) {
                out.number(labels.with(label, text).as_slice(), *value as f64);
            }
        });
    };
    let closed = "TCP connections that ended, by what was seen of the end; gone: nothing was.";
    by("pilotfish_tcp_connections_closed_total", closed, "reason", &["fin", "reset", "gone"], |n| &n.closed);
    let retransmits = "TCP segments that had been seen in full before, by whether the reporter sent or received them.";
    by("pilotfish_tcp_retransmits_total", retransmits, "direction", &["sent", "received"], |n| &n.retransmits);
    let zero_windows = "TCP packets that announced a window of zero, by whether the reporter sent or received them.";
    by("pilotfish_tcp_zero_windows_total", zero_windows, "direction", &["sent", "received"], |n| &n.zero_windows);

    let open = "TCP connections that are open now, whether or not their opening was seen.";
    family(out, Type::Gauge, "pilotfish_tcp_open_connections", open);
    walk.numbers(Of::Tcp, &mut |labels, numbers| out.number(labels.as_slice(), numbers.open as f64));

    let rtt = "Round trip of the TCP handshake: at the client SYN to SYN-ACK, at the server SYN-ACK to ACK.";
    family(out, Type::Histogram, "pilotfish_tcp_handshake_rtt_seconds", rtt);
    walk.histograms(Of::Tcp, &|_| true, &mut |labels, histogram| out.histogram(labels.as_slice(), histogram));

    lost(out, walk, Of::Tcp, "pilotfish_tcp_exchanges_lost_total");
}

/// Most edges have none.
fn lost<E: Encoder>(out: &mut E, walk: &impl Walk, of: Of, name: &'static str) {
    family(out, Type::Counter, name, "Those of pilotfish_exchanges_lost_total whose connection is known, by edge.");
    walk.numbers(of, &mut |labels, numbers| {
        if numbers.lost > 0 {
            out.number(labels.as_slice(), numbers.lost as f64);
        }
    });
}

fn udp<E: Encoder>(out: &mut E, walk: &impl Walk) {
    let families = [
        ("pilotfish_udp_sent_bytes_total", "IP bytes of UDP packets that the reporter sent."),
        ("pilotfish_udp_received_bytes_total", "IP bytes of UDP packets that the reporter received."),
    ];
    for (i, (name, help)) in families.into_iter().enumerate() {
        family(out, Type::Counter, name, help);
        walk.numbers(Of::Udp, &mut |labels, numbers| out.number(labels.as_slice(), numbers.bytes[i] as f64));
    }
    lost(out, walk, Of::Udp, "pilotfish_udp_exchanges_lost_total");
}

const COUNTED: (&str, &str) =
    ("pilotfish_exchanges_total", "Exchanges that are counted in a series, each seen from one end.");
const MISSED: (&str, &str) =
    ("pilotfish_exchanges_lost_total", "Exchanges that took place and are in no series, each seen from one end.");
const LOST: &str = "pilotfish_lost_total";

/// The totals of other agents.
pub(super) fn totals<E: Encoder>(out: &mut E, walk: &impl Walk, losses: &[LossRow]) {
    let help = help_of_losses(losses);
    for (of, (name, help)) in [(Of::Counted, COUNTED), (Of::Missed, MISSED), (Of::Lost, (LOST, &*help))] {
        family(out, Type::Counter, name, help);
        walk.numbers(of, &mut |labels, numbers| out.number(labels.as_slice(), numbers.total as f64));
    }
}

/// What the agent says of itself: counted, lost, and why.
fn own<E: Encoder>(out: &mut E, snapshot: &Snapshot) {
    // The two ends are always there, at zero too, so that an absent value is not taken for none. A
    // capture only where there is one.
    let is_shown = |reporter: Reporter, value: u64| reporter != Reporter::Capture || value > 0;
    family(out, Type::Counter, COUNTED.0, COUNTED.1);
    for reporter in Reporter::ALL {
        for protocol in Protocol::ALL {
            let value = snapshot.exchanges(reporter, protocol);
            if is_shown(reporter, value) {
                out.number(&[("reporter", reporter.as_str()), ("protocol", protocol.as_str())], value as f64);
            }
        }
    }
    family(out, Type::Counter, MISSED.0, MISSED.1);
    for reporter in Reporter::ALL {
        for reason in LossReason::ALL {
            let value = snapshot.exchanges_lost(reporter, reason);
            if is_shown(reporter, value) {
                out.number(&[("reporter", reporter.as_str()), ("reason", reason.as_str())], value as f64);
            }
        }
    }
    let rows = snapshot.lost();
    family(out, Type::Counter, LOST, &help_of_losses(&rows));
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
