//! What the readers hand to the decisions: plain figures with the time at which they were read.

use flow_model::{Endpoint, Ts};
use std::time::Duration;

/// A counter as it was read at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    /// When, by the monotonic clock.
    pub at: Ts,
    /// Since it began.
    pub value: u64,
}

/// What a counter counted in between two looks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Delta {
    /// So many.
    pub count: u64,
    /// Within this time.
    pub window: Duration,
}

impl Delta {
    /// A counter that is smaller than before began anew in between: what it shows is then the
    /// least that was counted. None without time in between: a delta of nothing says nothing.
    #[must_use]
    pub fn between(before: Counter, after: Counter) -> Option<Delta> {
        let window = after.at.since(before.at);
        let count = after.value.checked_sub(before.value).unwrap_or(after.value);
        (!window.is_zero()).then_some(Delta { count, window })
    }

    /// For each second.
    #[must_use]
    pub fn rate(self) -> f64 {
        self.count as f64 / self.window.as_secs_f64()
    }
}

/// A listening socket's queue of connections that wait for `accept(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenQueue {
    /// Where it listens.
    pub local: Endpoint,
    /// How many wait.
    pub queue: u32,
    /// How many may: the smaller one of `listen(2)`'s argument and somaxconn. The kernel lets one
    /// more in.
    pub backlog: u32,
}

/// A UDP socket that lost datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpSocket {
    /// Its port.
    pub port: u16,
    /// Datagrams that it dropped since it was opened.
    pub drops: u64,
}

/// A TCP connection as `sock_diag(7)` tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The namespace's own end.
    pub local: Endpoint,
    /// The other one.
    pub remote: Endpoint,
    /// As the kernel numbers them (`include/net/tcp_states.h`).
    pub state: u8,
    /// None for what is no full socket any more (TIME_WAIT).
    pub info: Option<TcpInfo>,
}

impl Connection {
    /// `TCP_ESTABLISHED`.
    pub const ESTABLISHED: u8 = 1;
    /// `TCP_FIN_WAIT1`: our end is closed and the peer has not acknowledged it.
    pub const FIN_WAIT1: u8 = 4;
    /// `TCP_TIME_WAIT`: our end closed first, and both did.
    pub const TIME_WAIT: u8 = 6;
    /// `TCP_CLOSE_WAIT`: the peer has closed, and our end has not.
    pub const CLOSE_WAIT: u8 = 8;
    /// `TCP_LAST_ACK`: both are closed, and the peer has not acknowledged it.
    pub const LAST_ACK: u8 = 9;

    /// By which it is told from the others of its namespace.
    #[must_use]
    pub fn ends(&self) -> (Endpoint, Endpoint) {
        (self.local, self.remote)
    }
}

/// What `tcp_info` tells that is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpInfo {
    /// Times in a row that the first unacknowledged segment was sent again.
    pub retransmits: u8,
    /// Probes (keepalive, zero window) without an answer.
    pub probes: u8,
    /// Segments that are not acknowledged in a row, those included that arrived behind a gap.
    pub unacked: u32,
    /// Of them, those that arrived behind a gap.
    pub sacked: u32,
    /// Bytes of its longest segments.
    pub mss: u32,
    /// Bytes acknowledged since it opened.
    pub bytes_acked: u64,
    /// Bytes sent and not acknowledged in a row.
    pub bytes_in_flight: u64,
    /// At least how long ago the first unacknowledged segment was sent first.
    pub unanswered_for: Duration,
    /// Since data came.
    pub since_data: Duration,
    /// Since any acknowledgement came: every segment of a connection carries one.
    pub since_ack: Duration,
    /// Segments with data, in both directions, since it opened.
    pub data_segments: u64,
    /// Of them, those that were sent.
    pub data_segments_out: u64,
    /// Bytes received since it opened.
    pub bytes_received: u64,
}

/// A namespace's table of connections that the kernel follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conntrack {
    /// How many there are.
    pub entries: u64,
    /// How many there may be: the node's limit, of each namespace; 0 where it is not known.
    pub most: u64,
    /// Packets that were dropped, since the namespace began.
    pub drops: Counter,
    /// Connections that made room for new ones.
    pub pushed_out: Counter,
    /// Of the drops, those that met another packet of their own connection.
    pub insert_failed: Counter,
}

/// Who holds a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The connection.
    pub connection: Connection,
    /// A process that holds it.
    pub pid: u32,
    /// It came from a listening socket.
    pub accepted: bool,
}

/// Processor time of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuTime {
    /// When it was read.
    pub at: Ts,
    /// In user and in system mode, since it began.
    pub used: Duration,
}

impl CpuTime {
    /// Share of one core that it used in between; above 1 with several threads.
    #[must_use]
    pub fn share(before: CpuTime, after: CpuTime) -> Option<f64> {
        let window = after.at.since(before.at);
        (!window.is_zero()).then(|| after.used.saturating_sub(before.used).as_secs_f64() / window.as_secs_f64())
    }
}

/// Processes that the kernel killed for memory in one cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OomKills {
    /// Since the cgroup was made.
    pub kills: Counter,
    /// How long its first process has lived.
    pub age: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, value: u64) -> Counter {
        Counter { at: Ts(seconds * 1_000_000_000), value }
    }

    #[test]
    fn a_counter_that_began_anew_counts_from_there_and_no_time_is_no_delta() {
        let delta = |before, after| Delta::between(before, after).map(|delta| (delta.count, delta.window.as_secs()));
        assert_eq!(delta(at(1, 10), at(3, 14)), Some((4, 2)));
        assert_eq!(delta(at(1, 10), at(3, 4)), Some((4, 2)));
        assert_eq!(delta(at(3, 10), at(3, 14)), None);
        assert_eq!(delta(at(3, 10), at(1, 14)), None, "a clock that went backwards");
        assert!(Delta::between(at(1, 0), at(3, 5)).is_some_and(|delta| (delta.rate() - 2.5).abs() < 1e-9));
    }

    #[test]
    fn a_process_that_used_nothing_or_was_replaced_has_no_share() {
        let time =
            |seconds: u64, millis| CpuTime { at: Ts(seconds * 1_000_000_000), used: Duration::from_millis(millis) };
        assert_eq!(CpuTime::share(time(1, 500), time(3, 2500)), Some(1.0));
        assert_eq!(CpuTime::share(time(1, 500), time(3, 100)), Some(0.0));
        assert_eq!(CpuTime::share(time(3, 500), time(3, 900)), None);
    }
}
