//! What the table says of itself, for the agent's own metrics.

use crate::index::IdentityIndex;
use std::sync::atomic::{AtomicU64, Ordering};

/// One value of the agent's own metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableMetric {
    /// Counters end in `_total`, all others are gauges.
    pub name: &'static str,
    /// One sentence, for the line `# HELP` of the exposition.
    pub help: &'static str,
    /// Now for a gauge, since the table was made for a counter.
    pub value: u64,
}

impl IdentityIndex {
    /// Sizes and evictions. With several readers, those of names by DNS are the last reader's.
    #[must_use]
    pub fn metrics(&self) -> [TableMetric; 7] {
        let shared = self.shared();
        let stats = &shared.stats;
        let metric = |name, help, value: &AtomicU64| TableMetric { name, help, value: value.load(Ordering::Relaxed) };
        [
            metric("pilotfish_identity_addresses", "Addresses with a known holder, now or of late.", &stats.addresses),
            metric("pilotfish_identity_spans", "Spans of time in which it is known who held an address.", &stats.spans),
            metric("pilotfish_identity_slots", "Network namespaces in the table of names.", &stats.slots),
            metric(
                "pilotfish_identity_evicted_total",
                "Spans dropped because their address had too many.",
                &stats.evicted,
            ),
            metric(
                "pilotfish_identity_refused_total",
                "Names not taken in because a table was full; what they name stays unknown.",
                &stats.refused,
            ),
            metric(
                "pilotfish_identity_dns_names",
                "Addresses that pods know by a name, from DNS or a handshake of TLS.",
                &stats.dns_names,
            ),
            metric(
                "pilotfish_identity_dns_evicted_total",
                "Such names dropped because a table was full.",
                &stats.dns_evicted,
            ),
        ]
    }
}
