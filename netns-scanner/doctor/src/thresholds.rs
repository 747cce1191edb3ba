//! Every threshold and window of the checks, in one table that tests set.

use flow_model::Ts;
use std::time::Duration;

/// From where a finding is one. The defaults are those that people alert on elsewhere, where there
/// are such; the others are judgement and say so.
#[derive(Clone, Debug, PartialEq)]
pub struct Thresholds {
    /// Between the two samples of a look on demand. 2 s: a client whose SYN was dropped tries again
    /// after 1 s, so one that suffers is seen suffering.
    pub window: Duration,
    /// SYNs dropped at a full listen queue, for each second: an error from here on, a warning below.
    /// Netdata's two thresholds (`tcp_listen_overflows`: 1 and 5).
    pub overflows_per_second: f64,
    /// Datagrams dropped at full receive buffers within a window that are still nothing: Netdata's
    /// `1m_ipv4_udp_receive_buffer_errors`. A window shorter than its minute has fewer, so nothing
    /// is found too early.
    pub udp_drops: u64,
    /// Share of a namespace's ports that one address:port may take before it is a warning.
    pub ports_warning: f64,
    /// The same for an error: the search for a free port fails or takes very long.
    pub ports_error: f64,
    /// How long a connection may stay in CLOSE_WAIT. A server that drains takes seconds.
    pub close_wait_age: Duration,
    /// Share of one core that the owner of such a connection may use. Judgement: polling takes a
    /// whole core, and a busy server rarely keeps connections that its clients closed a minute ago.
    pub close_wait_cpu: f64,
    /// Connections that one process may leave in CLOSE_WAIT so long: more is a leak. Judgement.
    pub close_wait_leak: usize,
    /// How long a peer may be silent to what is sent again and again. The kernel gives up after
    /// about 15 min (`tcp_retries2`).
    pub dead_silence: Duration,
    /// Segments with data that a process may exchange with itself in a second, by an address that
    /// is no loopback one. Judgement.
    pub self_segments_per_second: f64,
    /// Share that they may be of what it serves. Judgement.
    pub self_share: f64,
    /// Connections to the API server that one workload may open in a second. Judgement: each costs the
    /// server a handshake and who that is, and a thousand nodes may have such a client. The kubelet of a
    /// node that kubeadm made asks its own API server 1.1 times a second whether it is ready and lives.
    pub api_connections_per_second: f64,
    /// Questions, by segments with data, that one process may send to it in a second. Judgement: client-go's
    /// own limit is 5, the controller manager's 20.
    pub api_segments_per_second: f64,
    /// How long it has to have gone on: a rollout or a start takes minutes. Judgement.
    pub api_lasting: Duration,
    /// Windows of an agent that are so long.
    pub api_windows: usize,
    /// How long before a container's exit what closed was cut by it: the exit is told late.
    pub cut_before: Duration,
    /// The same where it was killed: its end waits for all its processes, and on a busy node for who tells it.
    /// Its connections have closed before, more than a second in two of a hundred times.
    pub cut_before_kill: Duration,
    /// How long after it: the kernel closes the last connections milliseconds later.
    pub cut_after: Duration,
    /// Share of its timeout that the slowest hundredth of a probe may take. Judgement: twice as slow
    /// once, and it fails.
    pub probe_share: f64,
    /// The time of which a probe's slowest hundredth is.
    pub probe_window: Duration,
    /// How long after the grace period an exit is still the kubelet's doing.
    pub probe_kill_after: Duration,
    /// Share of a container's CPU periods that may be throttled before it is told beside a probe's
    /// finding: the alert `CPUThrottlingHigh` of kubernetes-mixin.
    pub throttled_share: f64,
    /// Periods in which a container ran from where that share says anything: a second of work.
    /// Judgement.
    pub throttled_periods: u64,
    /// After how long a question that is asked again was waited for: from 2 s (musl asks again after
    /// 2.5 s, glibc, Go and c-ares after 5 s) to 6 s.
    pub retry_after: (Duration, Duration),
    /// Lookups of a client without an answer to the first question that are worth a word: one may be
    /// lost anywhere. Judgement.
    pub retries: u64,
    /// Share of its lookups that they may be before it is a warning.
    pub retry_warning: f64,
    /// The same for an error.
    pub retry_error: f64,
    /// Share of an edge's requests that may fail before its client may storm. Judgement.
    pub storm_failures: f64,
    /// How many times the usual rate it then asks. Judgement: who tries once more doubles it.
    pub storm_times: f64,
    /// Requests in a second from where that is a storm. Judgement.
    pub storm_rate: f64,
    /// How many times as much as is usual the client itself may be asked and have no reason in that.
    /// Judgement.
    pub storm_own: f64,
    /// Windows after which what is usual is known: two minutes.
    pub storm_windows: usize,
    /// Share of the table of connections that may be taken. Others warn between 75 and 90 %.
    pub conntrack_share: f64,
    /// How often in a row a long segment was sent again: once or twice is bad luck. Judgement.
    pub hole_repeats: u8,
    /// How long after a long segment was lost another connection has to hear of the address for it to
    /// live. What it said before it went arrives a round trip later, and connections are read one after
    /// the other: 200 ms, the least after which the kernel sends again (`TCP_RTO_MIN`).
    pub hole_heard: Duration,
    /// Connections to one address that are so.
    pub hole_connections: usize,
    /// Share of all connections to that address from where it is an error. Judgement.
    pub hole_error: f64,
    /// Memory cgroups that are removed and not gone. Judgement: they are usual by the hundred.
    pub dying_cgroups: u64,
    /// How many times as many as live they are. Judgement.
    pub dying_times: f64,
    /// What one read of the root's `memory.stat` may take; it takes 10 to 100 us. Judgement.
    pub read_warning: Duration,
    /// How long it is waited for.
    pub read_error: Duration,
    /// Share of the node's table of neighbours that may be taken. Judgement.
    pub neighbours_share: f64,
    /// Packets by the wrong way that the node's own network may drop within a window of an agent: those with
    /// a forged sender come now and then to a node that the internet reaches. Judgement.
    pub strays: u64,
    /// Packets dropped at full queues of processors within a window that are still nothing: Netdata's
    /// `1min_netdev_backlog_exceeded`. A window shorter than its minute has fewer, so nothing is found too
    /// early.
    pub softnet_drops: u64,
    /// Packets that the kernel may drop in a second for one reason, in one namespace: of those reasons alone
    /// that are told ([`REASONS`](crate::drops::REASONS)). Judgement: a few are lost anywhere.
    pub drops_per_second: f64,
    /// Share of its file descriptors that a process may have open before it is a warning. Judgement.
    pub fd_warning: f64,
    /// The same for an error: the next burst of connections fails.
    pub fd_error: f64,
    /// Share of the node's files: the alert `NodeFileDescriptorLimit` of node-mixin.
    pub files_warning: f64,
    /// The same for an error, of that alert as well.
    pub files_error: f64,
    /// How wrong a clock may be that nobody keeps right: the kernel's own bound (`NTP_PHASE_LIMIT`), and the
    /// alert `NodeClockNotSynchronising` of node-mixin.
    pub clock_error: Duration,
    /// By how much a clock may be off that somebody keeps: the alert `NodeClockSkewDetected` of node-mixin.
    pub clock_offset: Duration,
    /// Share of a client's lookups that may be of names with a suffix that does not exist.
    pub search_share: f64,
    /// How many of them in a second are worth a word.
    pub searches_per_second: f64,
    /// Windows in a row that a finding must hold before it is shown (by an agent, not on demand).
    pub up_after: u32,
    /// Windows in a row without it before it is gone.
    pub down_after: u32,
}

impl Default for Thresholds {
    fn default() -> Thresholds {
        Thresholds {
            window: Duration::from_secs(2),
            overflows_per_second: 5.0,
            udp_drops: 10,
            ports_warning: 0.8,
            ports_error: 0.99,
            close_wait_age: Duration::from_secs(60),
            close_wait_cpu: 0.8,
            close_wait_leak: 100,
            dead_silence: Duration::from_secs(10),
            self_segments_per_second: 50.0,
            self_share: 0.3,
            api_connections_per_second: 2.0,
            api_segments_per_second: 20.0,
            api_lasting: Duration::from_secs(300),
            api_windows: 10,
            cut_before: Duration::from_secs(1),
            cut_before_kill: Duration::from_secs(3),
            cut_after: Duration::from_secs(2),
            probe_share: 0.5,
            probe_window: Duration::from_secs(300),
            probe_kill_after: Duration::from_secs(5),
            throttled_share: 0.25,
            throttled_periods: 10,
            retry_after: (Duration::from_secs(2), Duration::from_secs(6)),
            retries: 2,
            retry_warning: 0.01,
            retry_error: 0.05,
            storm_failures: 0.2,
            storm_times: 2.0,
            storm_rate: 5.0,
            storm_own: 1.5,
            storm_windows: 4,
            conntrack_share: 0.8,
            hole_repeats: 3,
            hole_heard: Duration::from_millis(200),
            hole_connections: 2,
            hole_error: 0.8,
            dying_cgroups: 2_000,
            dying_times: 10.0,
            read_warning: Duration::from_millis(100),
            read_error: Duration::from_secs(1),
            neighbours_share: 0.75,
            strays: 10,
            softnet_drops: 10,
            drops_per_second: 10.0,
            fd_warning: 0.8,
            fd_error: 0.95,
            files_warning: 0.7,
            files_error: 0.9,
            clock_error: Duration::from_secs(16),
            clock_offset: Duration::from_millis(50),
            search_share: 0.6,
            searches_per_second: 5.0,
            up_after: 2,
            down_after: 5,
        }
    }
}

impl Thresholds {
    /// From when on what closed may have been cut by an exit `at` this time. The kernel's kill for memory is told by
    /// who hears of it, on a busy node long after the connections have closed: it makes the time longer and never
    /// shorter.
    #[must_use]
    pub fn cut_from(&self, at: Ts, oom: Option<Ts>, killed: bool) -> Ts {
        let before = if killed { self.cut_before_kill } else { self.cut_before };
        let from = Ts(at.0.saturating_sub(u64::try_from(before.as_nanos()).unwrap_or(u64::MAX)));
        from.min(oom.unwrap_or(at))
    }
}
