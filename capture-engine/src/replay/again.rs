//! A SYN that may begin another connection on the same addresses and ports: its answer decides.

use flow_model::{Direction, Ts};

#[derive(Clone, Copy, Debug)]
pub(super) struct Again {
    pub dir: Direction,
    pub seq: u32,
    /// The number after it and its payload (RFC 7413).
    pub end: u32,
    /// So often was it sent.
    pub packets: u64,
    /// IP bytes of these packets.
    pub bytes: u64,
    /// None when it was sent twice (Karn, RFC 6298 3).
    pub at: Option<Ts>,
}
