//! What may stand on a page: the name, the type and the labels of each metric. Rules and dashboards are
//! held to it.

use super::encoder::Kind;
use super::walk::EDGE;
use crate::families::FamilyId;

/// A metric that a page may have, whether or not it has one now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// As it is written for Prometheus: a counter's ends in `_total`.
    pub name: &'static str,
    /// As on its `# TYPE`: counter, gauge or histogram.
    pub kind: &'static str,
    /// Those that its series may have. One without a value is left out on the page.
    pub labels: Vec<&'static str>,
}

impl Known {
    /// A counter, if the name ends like one; else a gauge.
    #[must_use]
    pub fn number(name: &'static str, labels: &[&'static str]) -> Known {
        let kind = if name.ends_with("_total") { Kind::Counter } else { Kind::Gauge };
        Known { name, kind: kind.as_str(), labels: labels.to_vec() }
    }

    /// A line for each, in the order of their names: name, type, and labels with commas between.
    #[must_use]
    pub fn list(mut all: Vec<Known>) -> String {
        all.sort_by_key(|known| known.name);
        let line = |Known { name, kind, labels }: &Known| format!("{name} {kind} {}", labels.join(","));
        all.iter().map(|known| format!("{}\n", line(known).trim_end())).collect()
    }
}

/// Numbers of an edge, with the label that they have beside the edge's.
const OF_EDGES: [(&str, Option<&str>); 12] = [
    ("pilotfish_tcp_sent_bytes_total", None),
    ("pilotfish_tcp_received_bytes_total", None),
    ("pilotfish_tcp_connections_opened_total", None),
    ("pilotfish_tcp_resets_total", None),
    ("pilotfish_tcp_connections_closed_total", Some("reason")),
    ("pilotfish_tcp_retransmits_total", Some("direction")),
    ("pilotfish_tcp_zero_windows_total", Some("direction")),
    ("pilotfish_tcp_open_connections", None),
    ("pilotfish_udp_sent_bytes_total", None),
    ("pilotfish_udp_received_bytes_total", None),
    ("pilotfish_tcp_exchanges_lost_total", None),
    ("pilotfish_udp_exchanges_lost_total", None),
];

/// What was counted and what was lost, all edges together.
const TOTALS: [(&str, &[&str]); 3] = [
    ("pilotfish_exchanges_total", &["reporter", "protocol"]),
    ("pilotfish_exchanges_lost_total", &["reporter", "reason"]),
    ("pilotfish_lost_total", &["stage", "reason"]),
];

/// What is said of the table of series.
const OWN: [(&str, &[&str]); 3] = [
    ("pilotfish_metrics_series", &["family"]),
    ("pilotfish_metrics_edges", &[]),
    ("pilotfish_metrics_series_expired_total", &[]),
];

/// All that this crate writes of traffic and of its counting.
pub(super) fn known() -> Vec<Known> {
    let mut all = pushed();
    all.extend(OWN.into_iter().map(|(name, labels)| Known::number(name, labels)));
    all
}

/// Of that, what agents push.
pub(super) fn pushed() -> Vec<Known> {
    let mut all = Vec::new();
    for family in FamilyId::ALL.map(FamilyId::family) {
        let labels: Vec<_> = EDGE.into_iter().chain(family.places().map(|(_, name, _)| name)).collect();
        let duration = |name| Known { name, kind: "histogram", labels: labels.clone() };
        all.extend(family.durations.iter().map(|histogram| duration(histogram.name)));
        all.extend(family.counters.iter().map(|counter| Known::number(counter.name, &labels)));
    }
    let rtt = "pilotfish_tcp_handshake_rtt_seconds";
    all.push(Known { name: rtt, kind: "histogram", labels: EDGE.to_vec() });
    all.extend(OF_EDGES.into_iter().map(|(name, label)| {
        let labels: Vec<_> = EDGE.into_iter().chain(label).collect();
        Known::number(name, &labels)
    }));
    all.extend(TOTALS.into_iter().map(|(name, labels)| Known::number(name, labels)));
    all
}
