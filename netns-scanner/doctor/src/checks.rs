//! The checks by their ids, and what each means to a person: the pages of `--explain`.

use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// One thing that may be wrong on a node. The ids are stable: scripts and alerts name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CheckId {
    /// A process accepts its connections too slowly.
    ListenOverflow,
    /// A process reads its datagrams too slowly.
    UdpDrop,
    /// One destination has taken a client's ports.
    PortsGone,
    /// A process of a container was killed for memory, and the container lives.
    OomInside,
    /// A process polls connections that their peers closed.
    ClosedWatch,
    /// A peer does not answer any more, and nobody has noticed.
    DeadPeer,
    /// A process asks itself by way of an address that leads back to it.
    SelfCall,
    /// A container ended, and requests that it had begun were cut.
    CutByExit,
    /// A container did not end on SIGTERM.
    TermIgnored,
    /// A probe is near its timeout, or fails.
    ProbeSlow,
    /// A container was ended because its probe failed.
    ProbeKill,
    /// Names are looked up with every suffix before they are looked up as they are.
    DnsSearch,
    /// A container is stopped by its CPU limit, and something else is wrong with it.
    CpuThrottled,
    /// Lookups have to be made again.
    DnsRetry,
    /// A client asks the more, the more of its requests fail.
    RetryStorm,
    /// The kernel has no room to follow new connections.
    ConntrackFull,
    /// Long packets to a peer are lost, short ones arrive.
    MtuHole,
    /// Memory cgroups are removed and not gone.
    MemcgDying,
    /// Reading a cgroup's figures takes long.
    SlowRead,
    /// A client asks the API server all the time.
    ApiStorm,
    /// The node's table of neighbours has no room.
    NeighboursFull,
    /// Packets come faster than a processor takes them in.
    Softnet,
    /// The kernel throws packets away.
    Drops,
    /// Packets come by another interface than the way back.
    RpFilter,
    /// A process, or the node, has no file descriptor left.
    FdLimit,
    /// Nobody can watch files any more.
    InotifyLimit,
    /// Nobody keeps the clock right.
    Clock,
}

/// What a check looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// What an agent saw before.
    Past,
    /// Processes that hold sockets, and their cgroups.
    Processes,
    /// Counters of each network namespace.
    Counters,
    /// Connections of each namespace.
    Connections,
    /// What the kernel drops meanwhile.
    Drops,
    /// The node as a whole, once.
    Node,
    /// The same, twice.
    NodeTwice,
}

/// What `--explain` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// Its id.
    pub id: CheckId,
    /// What a person sees who does not know of it.
    pub sees: &'static str,
    /// How it is found.
    pub found_by: &'static str,
    /// From where it is a finding.
    pub threshold: &'static str,
    /// What to do.
    pub remedy: &'static [&'static str],
}

impl CheckId {
    /// All, in the order in which they are told.
    pub const ALL: [CheckId; 27] = [
        CheckId::CutByExit,
        CheckId::TermIgnored,
        CheckId::ProbeSlow,
        CheckId::ProbeKill,
        CheckId::DnsSearch,
        CheckId::DnsRetry,
        CheckId::RetryStorm,
        CheckId::ListenOverflow,
        CheckId::UdpDrop,
        CheckId::PortsGone,
        CheckId::OomInside,
        CheckId::ClosedWatch,
        CheckId::DeadPeer,
        CheckId::SelfCall,
        CheckId::ApiStorm,
        CheckId::CpuThrottled,
        CheckId::ConntrackFull,
        CheckId::MtuHole,
        CheckId::MemcgDying,
        CheckId::SlowRead,
        CheckId::NeighboursFull,
        CheckId::Softnet,
        CheckId::Drops,
        CheckId::RpFilter,
        CheckId::FdLimit,
        CheckId::InotifyLimit,
        CheckId::Clock,
    ];

    /// By what it is made: the one table of who looks where.
    #[must_use]
    pub fn by(self) -> By {
        match self {
            CheckId::CutByExit
            | CheckId::TermIgnored
            | CheckId::ProbeSlow
            | CheckId::ProbeKill
            | CheckId::DnsSearch
            | CheckId::DnsRetry
            | CheckId::RetryStorm => By::Past,
            CheckId::OomInside | CheckId::CpuThrottled | CheckId::FdLimit => By::Processes,
            CheckId::ListenOverflow | CheckId::UdpDrop | CheckId::ConntrackFull | CheckId::RpFilter => By::Counters,
            CheckId::PortsGone
            | CheckId::ClosedWatch
            | CheckId::DeadPeer
            | CheckId::SelfCall
            | CheckId::MtuHole
            | CheckId::ApiStorm => By::Connections,
            CheckId::Drops => By::Drops,
            CheckId::NeighboursFull | CheckId::Softnet => By::NodeTwice,
            CheckId::MemcgDying | CheckId::SlowRead | CheckId::InotifyLimit | CheckId::Clock => By::Node,
        }
    }

    /// Of the node as a whole, and of no workload.
    #[must_use]
    pub fn is_of_node(self) -> bool {
        matches!(self.by(), By::Node | By::NodeTwice)
    }

    /// Two looks a moment apart can make it. The others need what an agent saw before.
    #[must_use]
    pub fn is_on_demand(self) -> bool {
        self.by() != By::Past
    }

    /// Those that are made so, in the order in which they are told.
    pub fn made_by(by: By) -> impl Iterator<Item = CheckId> {
        CheckId::ALL.into_iter().filter(move |id| id.by() == by)
    }

    /// All that a look on demand can make, in the order in which they are told.
    pub fn on_demand() -> impl Iterator<Item = CheckId> {
        CheckId::ALL.into_iter().filter(|id| id.is_on_demand())
    }

    /// As it is typed and written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            CheckId::ListenOverflow => "listen-overflow",
            CheckId::UdpDrop => "udp-drop",
            CheckId::PortsGone => "ports-gone",
            CheckId::OomInside => "oom-inside",
            CheckId::ClosedWatch => "closed-watch",
            CheckId::DeadPeer => "dead-peer",
            CheckId::SelfCall => "self-call",
            CheckId::CutByExit => "cut-by-exit",
            CheckId::TermIgnored => "term-ignored",
            CheckId::ProbeSlow => "probe-slow",
            CheckId::ProbeKill => "probe-kill",
            CheckId::DnsSearch => "dns-search",
            CheckId::CpuThrottled => "cpu-throttled",
            CheckId::DnsRetry => "dns-retry",
            CheckId::RetryStorm => "retry-storm",
            CheckId::ConntrackFull => "conntrack-full",
            CheckId::MtuHole => "mtu-hole",
            CheckId::MemcgDying => "memcg-dying",
            CheckId::SlowRead => "slow-read",
            CheckId::ApiStorm => "api-storm",
            CheckId::NeighboursFull => "neighbours-full",
            CheckId::Softnet => "softnet",
            CheckId::Drops => "drops",
            CheckId::RpFilter => "rp-filter",
            CheckId::FdLimit => "fd-limit",
            CheckId::InotifyLimit => "inotify-limit",
            CheckId::Clock => "clock",
        }
    }

    /// What it means, and what to do.
    #[must_use]
    pub fn check(self) -> Check {
        match self {
            CheckId::ListenOverflow => Check {
                id: self,
                sees: "connects take 1, 3 or 7 seconds, now and then",
                found_by: "TcpExt ListenOverflows of the namespace rises; the listening socket whose queue is full names the port",
                threshold: "more than 0 in the window: warning; 5 a second: error",
                remedy: &[
                    "the process accepts too slowly: give it more CPU or more replicas",
                    "or raise its backlog and net.core.somaxconn of its namespace: both, the smaller one counts",
                ],
            },
            CheckId::UdpDrop => Check {
                id: self,
                sees: "DNS answers or metrics are lost, and nobody logs an error",
                found_by: "Udp RcvbufErrors of the namespace rises; sock_diag's count of drops names the socket",
                threshold: "more than 10 in the window: warning; on port 53: error",
                remedy: &[
                    "the reader is too slow: give it more CPU or more workers",
                    "a larger receive buffer helps against bursts only",
                ],
            },
            CheckId::PortsGone => Check {
                id: self,
                sees: "\"cannot assign requested address\" on connects to one service",
                found_by: "connections, TIME_WAIT included, from one address to one address and port, of the namespace's ip_local_port_range",
                threshold: "more than 80 % of the range: warning; 99 %: error",
                remedy: &[
                    "keep connections open and use them again (keep-alive, a pool)",
                    "or give the server more addresses or ports; bind with IP_BIND_ADDRESS_NO_PORT where a client binds",
                ],
            },
            CheckId::OomInside => Check {
                id: self,
                sees: "a worker vanishes, and the pod looks healthy",
                found_by: "oom_kill of the cgroup (memory.events, or memory.oom_control) counts, and the cgroup's first process lives",
                threshold: "1 in the window, or 1 in the life of a container that began within --since: warning; older ones: info",
                remedy: &[
                    "raise the memory limit, or find the leak",
                    "the main process must notice that it lost a child, and end or replace it",
                ],
            },
            CheckId::ClosedWatch => Check {
                id: self,
                sees: "a process uses a whole core, and there is no traffic",
                found_by: "connections that have been in CLOSE_WAIT for at least 60 s, and the CPU that their owner uses in the window",
                threshold: "1 such connection and more than 80 % of a core, or more than 100 such connections of one process: warning",
                remedy: &[
                    "upgrade or restart the process: it takes the end of a stream for \"nothing there yet\"",
                    "where it uses no CPU but the connections pile up, it forgets to close them",
                ],
            },
            CheckId::DeadPeer => Check {
                id: self,
                sees: "requests hang for up to 15 minutes after a node or a pod went away",
                found_by: "tcp_info of open connections: segments are sent again, or probes, and nothing has come back",
                threshold: "10 s of silence: warning",
                remedy: &[
                    "set TCP_USER_TIMEOUT (20 s) on such connections, or HTTP/2 pings, or keepalive",
                    "restarting the client frees it at once",
                ],
            },
            CheckId::SelfCall => Check {
                id: self,
                sees: "CPU and load of a server grow, and no client has more to do",
                found_by: "both ends of a connection belong to one process, reached by an address that is no loopback one; rates by tcp_info",
                threshold: "more than 50 data segments a second and 30 % of what the process serves: warning",
                remedy: &[
                    "let its server URL name another node, or leave itself out of its peers",
                    "look at the backends of the virtual IP or Service that it asks",
                ],
            },
            CheckId::CutByExit => Check {
                id: self,
                sees: "clients get empty answers and resets, at odd times",
                found_by: "a container's exit, or the kernel's kill for memory, and the requests without an answer that closed around it",
                threshold: "1 request: warning; killed for memory: error",
                remedy: &[
                    "killed for memory: raise the limit, or find the leak",
                    "exit 0 or 143: on SIGTERM answer what is under way; a preStop sleep of 5 s helps",
                    "else: its log tells why it ended",
                ],
            },
            CheckId::TermIgnored => Check {
                id: self,
                sees: "roll-outs take 30 seconds for each pod, and cut requests",
                found_by: "exit 137, without a kill for memory, when the pod's grace period was over",
                threshold: "1: warning",
                remedy: &["handle SIGTERM; a process that is PID 1 has no default for it, and an init gives it one"],
            },
            CheckId::ProbeSlow => Check {
                id: self,
                sees: "pods restart, or leave their Service, under load",
                found_by: "plain HTTP probes of the kubelet, their times and the timeout of the pod's spec",
                threshold: "p99 of 5 minutes above half of the timeout: warning; one failure before the threshold: error",
                remedy: &[
                    "raise timeoutSeconds, give it more CPU, or do less in the probe",
                    "a container that starts slowly wants a startupProbe",
                ],
            },
            CheckId::ProbeKill => Check {
                id: self,
                sees: "\"it just restarts\"",
                found_by: "an exit within grace period + 5 s of as many failed liveness or startup probes as the spec allows",
                threshold: "1: error",
                remedy: &[
                    "raise timeoutSeconds or failureThreshold, or give it more CPU",
                    "a liveness probe must not ask what others can break",
                ],
            },
            CheckId::DnsSearch => Check {
                id: self,
                sees: "the cluster's DNS is busy with answers that a name does not exist",
                found_by: "names with a search suffix that do not exist, asked for again without it",
                threshold: "60 % of a client's lookups and 5 a second: warning",
                remedy: &[
                    "write outside names with a trailing dot, or set ndots:2 in the pod's dnsConfig",
                    "a node-local cache, or CoreDNS's autopath",
                ],
            },
            CheckId::CpuThrottled => Check {
                id: self,
                sees: "a container is slow, and on average it uses little CPU",
                found_by: "cpu.stat of the container: periods of its limit in which it ran, and those in which it was stopped",
                threshold: "more than 25 % of at least 10 periods, beside another finding of the workload: info; beside a slow or killing probe: warning",
                remedy: &[
                    "raise or drop the CPU limit",
                    "or run fewer threads: all of them use up the same share, and then all wait",
                ],
            },
            CheckId::DnsRetry => Check {
                id: self,
                sees: "lookups take 2.5 or 5 seconds, now and then",
                found_by: "a client that asks for a name again after 2 to 6 s, because the first question got no answer",
                threshold: "2 lookups and 1 % of a client's: warning; 5 %: error",
                remedy: &[
                    "see `udp-drop` of the DNS server and `conntrack-full` of the node",
                    "a node-local DNS cache, or `options single-request-reopen` in resolv.conf (glibc)",
                ],
            },
            CheckId::RetryStorm => Check {
                id: self,
                sees: "the load of a server rises while fewer of its answers are good",
                found_by: "requests of an edge and their failures, beside those of the 10 minutes in which few failed, and what the client itself is asked",
                threshold: "more than 20 % fail, at twice the usual rate or more, while the client is not asked more: warning",
                remedy: &[
                    "give retries a budget (10 % of all requests) and a back-off with jitter",
                    "retry at one level only, and not what the server refuses because it is overloaded",
                ],
            },
            CheckId::ConntrackFull => Check {
                id: self,
                sees: "new connections fail at random, on the whole node",
                found_by: "stat/nf_conntrack of each network namespace, and the node's nf_conntrack_max",
                threshold: "a packet dropped for want of room: error; connections pushed out, or more than 80 % of the table taken: warning",
                remedy: &[
                    "find who opens most (`pilotfish edges`), and let it keep its connections",
                    "raise net.netfilter.nf_conntrack_max and nf_conntrack_buckets of the node; shorter UDP timeouts free the table sooner",
                ],
            },
            CheckId::MtuHole => Check {
                id: self,
                sees: "connections open, and then hang: at the TLS handshake, at the first long answer",
                found_by: "tcp_info of open connections: long segments are sent again and again and never acknowledged, short ones are",
                threshold: "2 connections to one address: warning; 80 % of those to it: error",
                remedy: &[
                    "lower the MTU of the pods' interfaces to what the path carries (tunnels take 20 to 80 bytes)",
                    "let ICMP type 3 code 4 and ICMPv6 type 2 pass: they tell the sender the path's size",
                ],
            },
            CheckId::MemcgDying => Check {
                id: self,
                sees: "the kubelet, or whoever reads cgroups, uses more and more CPU",
                found_by: "/proc/cgroups, or cgroup.stat of the root: memory cgroups that were removed and are kept by pages",
                threshold: "more than 2,000, and ten times as many as live: info; on kernels before 5.2: warning",
                remedy: &[
                    "a kernel from 5.2 on (RHEL: 4.18.0-176) keeps totals, and they only cost memory",
                    "jobs that run every minute make most of them: let one container live longer",
                ],
            },
            CheckId::SlowRead => Check {
                id: self,
                sees: "the kubelet's CPU and its calls for statistics take seconds",
                found_by: "one timed read of memory.stat of the root cgroup, by a process of its own",
                threshold: "more than 100 ms: warning; not back in 1 s: error",
                remedy: &[
                    "look at `memcg-dying`: the kernel walks over all of them",
                    "a newer kernel; let nobody read memory.stat every second",
                ],
            },
            CheckId::ApiStorm => Check {
                id: self,
                sees: "the API server is slow for everybody",
                found_by: "handshakes of each client with the API server, of connections in TIME_WAIT those to it, and tcp_info of those that are open",
                threshold: "more than 2 connections a second for 5 minutes (without an agent: of the last minute, where the client closes first), or more than 20 segments with data a second of a process that has sent as many for 5 minutes: warning",
                remedy: &[
                    "let it watch instead of asking again and again: an informer, or list with resourceVersion=0",
                    "let it keep its connection; spread what all do at once (jitter)",
                    "a FlowSchema with a priority of its own keeps the others served",
                ],
            },
            CheckId::NeighboursFull => Check {
                id: self,
                sees: "\"No buffer space available\", and new pods cannot be reached",
                found_by: "net/stat/arp_cache and ndisc_cache of the node: one table for all its namespaces, and its gc_thresh3",
                threshold: "one neighbour refused in the window: error; more than 75 % of the table taken: warning",
                remedy: &[
                    "raise net.ipv4.neigh.default.gc_thresh1, 2 and 3 of the node (and those of ipv6): 3 to more than all pods and nodes that it talks to",
                    "look for somebody who asks one address after the other (a scanner)",
                ],
            },
            CheckId::Softnet => Check {
                id: self,
                sees: "packets are lost at high rates, of all pods alike",
                found_by: "net/softnet_stat of the node: packets for which a processor's queue had no room",
                threshold: "more than 10 in the window: warning; a budget that ran out is told beside them",
                remedy: &[
                    "spread the load over more processors (queues of the card, RPS)",
                    "a longer queue (net.core.netdev_max_backlog) helps against bursts only, a larger budget (netdev_budget, netdev_budget_usecs) where it ran out",
                ],
            },
            CheckId::Drops => Check {
                id: self,
                sees: "packets are lost on the node, and nobody says where",
                found_by: "the kernel's tracepoint of dropped packets (kfree_skb, Linux 5.17 and later), by reason and network namespace",
                threshold: "more than 10 a second for one of the reasons that are no health: warning; what `udp-drop` or `rp-filter` tells of the same workload is left to them",
                remedy: &[
                    "by a policy (netfilter, a BPF program): look for the rule, if nobody wants that",
                    "at a full buffer or queue: who empties it is too slow",
                    "for want of a route or a neighbour: look at the routes there and back, and for who sends to somebody who is gone",
                    "too long, or a wrong checksum: the MTU of who sends; checksum offloading of tunnels and cards",
                ],
            },
            CheckId::RpFilter => Check {
                id: self,
                sees: "packets arrive and nobody answers; one direction works",
                found_by: "TcpExt IPReversePathFilter of the namespace rises",
                threshold: "more than 0 in the window: warning; on the node's own network, where packets with a forged sender count, too, it is likely",
                remedy: &[
                    "set rp_filter to 2 (loose) on the interface by which they come, or to 0; the higher of it and of `all` counts",
                    "or let the way back use that interface: a route, or a rule of policy routing",
                ],
            },
            CheckId::FdLimit => Check {
                id: self,
                sees: "\"too many open files\"",
                found_by: "size of /proc/PID/fd (Linux 6.2 and later) and `limits` of processes that hold sockets; file-nr of the node",
                threshold: "more than 80 % open: warning; 95 %: error; of the node's own table 70 and 90 %",
                remedy: &[
                    "find the leak: /proc/PID/fd says what is open",
                    "or raise LimitNOFILE of the service, or the limit of the container runtime",
                ],
            },
            CheckId::InotifyLimit => Check {
                id: self,
                sees: "\"too many open files\" or \"no space left on device\" with few files open; pods fail to start",
                found_by: "one inotify instance with one watch is opened and closed again",
                threshold: "none is left: error",
                remedy: &[
                    "raise fs.inotify.max_user_instances (128 is little; 8192) or max_user_watches of the node",
                    "they are counted for each user: all containers that run as root share root's",
                ],
            },
            CheckId::Clock => Check {
                id: self,
                sees: "tokens are \"not yet valid\", certificates too; leases flap",
                found_by: "adjtimex: whether anybody keeps the clock right, and by how much it may be wrong",
                threshold: "off by more than 50 ms: warning; nobody keeps it, and it may be wrong by 16 s or more: info",
                remedy: &[
                    "let chrony or another NTP client run on the node",
                    "afterwards restart pods that have tokens of the future",
                ],
            },
        }
    }
}

impl fmt::Display for CheckId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for CheckId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

/// No check has this id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no check is called {0:?}")]
pub struct UnknownCheck(String);

impl FromStr for CheckId {
    type Err = UnknownCheck;

    fn from_str(text: &str) -> Result<CheckId, UnknownCheck> {
        CheckId::ALL.into_iter().find(|id| id.as_str() == text).ok_or_else(|| UnknownCheck(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_check_has_an_id_of_its_own_and_a_whole_page() {
        let ids: BTreeSet<&str> = CheckId::ALL.iter().map(|id| id.as_str()).collect();
        assert_eq!(ids.len(), CheckId::ALL.len());
        for id in CheckId::ALL {
            let Check { id: told, sees, found_by, threshold, remedy } = id.check();
            assert_eq!((told, id.as_str().parse()), (id, Ok(id)));
            assert!([sees, found_by, threshold].iter().all(|text| !text.is_empty()) && !remedy.is_empty(), "{id}");
        }
        assert_eq!("dns".parse::<CheckId>(), Err(UnknownCheck("dns".to_owned())));
    }
}
