//! What all connections add to.

use std::collections::BTreeMap;

/// Slowest samples decide nothing that is reported below this many; beyond it, latencies are no
/// longer kept (8 bytes each: 32 MB).
pub const MAX_SAMPLES: usize = 4 << 20;

/// What is printed at the end, and only then: nothing is written while it measures.
#[derive(Debug, Default)]
pub struct Totals {
    pub sent: u64,
    pub answered: u64,
    pub failed: u64,
    pub reconnects: u64,
    pub by_status: BTreeMap<u16, u64>,
    pub latencies_ns: Vec<u64>,
}
