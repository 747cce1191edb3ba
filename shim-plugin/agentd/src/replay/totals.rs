//! Sums over the flows of a capture.

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub tcp_flows: u64,
    pub udp_flows: u64,
    pub resets: u64,
    pub retransmits: u64,
    pub zero_windows: u64,
}
