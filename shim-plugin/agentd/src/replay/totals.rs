//! Sums over the flows of a capture.

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub tcp_flows: u64,
    pub udp_flows: u64,
    pub resets: u64,
    pub retransmits: u64,
    pub zero_windows: u64,
}

/// What is said of a capture beside its sums.
#[derive(Clone, Copy, Debug)]
pub(super) struct Noted {
    /// Flows that let go of what they held.
    pub flows_shed: u64,
    /// Responses of servers to nothing that was asked.
    pub unasked: u64,
}
