//! Reasons for which the kernel drops packets that are worth a word, and who counts them.
//!
//! The kernel has some 130 (include/net/dropreason-core.h), and most of them occur in health: a socket that
//! is closed drops what nobody read (QUEUE_PURGE), and TCP what came twice (TCP_OLD_DATA). Which number a
//! reason has differs from kernel to kernel; its name does not.

use std::fmt;

/// What such reasons have in common: what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Somebody said so.
    Policy,
    /// Something was full.
    Buffer,
    /// Nobody knows the way.
    Route,
    /// Nobody answers for the address.
    Neighbour,
    /// Too long for the way.
    Size,
    /// Damaged.
    Checksum,
    /// No memory was left.
    Memory,
}

impl Kind {
    /// What to do.
    #[must_use]
    pub fn remedy(self) -> &'static [&'static str] {
        match self {
            Kind::Policy => &[
                "if nobody wants that: look for the rule (`nft list ruleset`, a NetworkPolicy); rules with `counter` say how many packets they dropped",
            ],
            Kind::Buffer => &[
                "what empties the queue is too slow: more CPU or workers; `udp-drop`, `softnet` and `cpu-throttled` say more",
                "a larger buffer or queue helps against bursts only",
            ],
            Kind::Route => &[
                "look at the routes of the namespace, there and back (`ip route get`), and at those who send: the address may be somebody's who is gone",
            ],
            Kind::Neighbour => &[
                "nobody has the address (any more): look for who still sends to it, and why it was not told",
                "`neighbours-full` says whether the table has room",
            ],
            Kind::Size => &["lower the MTU of who sends to what the way carries; see `mtu-hole`"],
            Kind::Checksum => &[
                "compare a capture at both ends: who sends it whole has it damaged on the way, often by checksum offloading of a tunnel or a card (`ethtool -k`)",
            ],
            Kind::Memory => &[
                "the node has no memory left for packets: look at net.ipv4.tcp_mem, udp_mem, and at who uses the memory",
            ],
        }
    }
}

/// A reason.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Reason {
    /// As the kernel calls it, without `SKB_DROP_REASON_`.
    pub name: &'static str,
    /// What to do.
    pub kind: Kind,
    /// Behind "5 packets dropped".
    pub words: &'static str,
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

const fn reason(name: &'static str, kind: Kind, words: &'static str) -> Reason {
    Reason { name, kind, words }
}

/// All that are told. Left out of what the kernel has, since they occur in health: packets that nobody
/// listens for, that are not ours, that come twice or late, and that a filter of a socket leaves out; queues
/// that are cut short on purpose (QDISC_CONGESTED); and a listener's queue, which `listen-overflow` tells.
pub const REASONS: [Reason; 31] = [
    reason("NETFILTER_DROP", Kind::Policy, "by a rule of netfilter (nftables, iptables)"),
    reason("BPF_CGROUP_EGRESS", Kind::Policy, "by a BPF program of a cgroup"),
    reason("TC_INGRESS", Kind::Policy, "by a filter of traffic control, on their way in"),
    reason("TC_EGRESS", Kind::Policy, "by a filter of traffic control, on their way out"),
    reason("XDP", Kind::Policy, "by an XDP program"),
    reason("XFRM_POLICY", Kind::Policy, "by a policy of IPsec"),
    reason("SECURITY_HOOK", Kind::Policy, "by a security module"),
    reason("SOCKET_RCVBUFF", Kind::Buffer, "at a socket's full receive buffer"),
    reason("SOCKET_BACKLOG", Kind::Buffer, "at the full backlog of a socket that was in use"),
    reason("CPU_BACKLOG", Kind::Buffer, "at a processor's full queue"),
    reason("FULL_RING", Kind::Buffer, "at the full queue of a virtual interface (tun, tap)"),
    reason("QDISC_DROP", Kind::Buffer, "at an interface's full queue, or by its limit of the rate"),
    reason("QDISC_OVERLIMIT", Kind::Buffer, "at an interface's full queue, or by its limit of the rate"),
    reason("IP_RPFILTER", Kind::Route, "because the way back to their sender is another interface (rp_filter)"),
    reason("IP_OUTNOROUTES", Kind::Route, "on their way out: there is no route"),
    reason("IP_INNOROUTES", Kind::Route, "on their way in: there is no route to where they go"),
    reason(
        "IP_INADDRERRORS",
        Kind::Route,
        "on their way in: they are for somebody else, and nothing is passed on there",
    ),
    reason(
        "IP_LOCAL_SOURCE",
        Kind::Route,
        "because they come from outside with an address of this side as their sender",
    ),
    reason("IP_INVALID_SOURCE", Kind::Route, "because their sender's address can be nobody's"),
    reason("IP_INVALID_DEST", Kind::Route, "because the address that they go to can be nobody's"),
    reason("IP_LOCALNET", Kind::Route, "because they came from outside with an address of loopback"),
    reason("NEIGH_FAILED", Kind::Neighbour, "because no neighbour answers for the address that they go to"),
    reason("NEIGH_CREATEFAIL", Kind::Neighbour, "because the neighbour that they go to could not be remembered"),
    reason("NEIGH_QUEUEFULL", Kind::Neighbour, "because too many waited for a neighbour to answer"),
    reason("PKT_TOO_BIG", Kind::Size, "because they are longer than the next interface carries (its MTU)"),
    reason("IP_CSUM", Kind::Checksum, "for a wrong checksum of IP"),
    reason("TCP_CSUM", Kind::Checksum, "for a wrong checksum of TCP"),
    reason("UDP_CSUM", Kind::Checksum, "for a wrong checksum of UDP"),
    reason("SKB_CSUM", Kind::Checksum, "because their checksum could not be made"),
    reason("PROTO_MEM", Kind::Memory, "because the protocol's share of the memory is used up"),
    reason("NOMEM", Kind::Memory, "for want of memory"),
];

/// The names of all of them, in their order.
#[must_use]
pub fn names() -> Vec<&'static str> {
    REASONS.iter().map(|reason| reason.name).collect()
}

/// Packets that were dropped in one namespace for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Inode of the namespace, where it is known.
    pub netns: Option<u64>,
    /// Place of the reason among those that are told.
    pub reason: usize,
    /// So many since they are counted.
    pub count: u64,
}

/// What was counted so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    /// In no order.
    pub dropped: Vec<Dropped>,
    /// Those for which there was no room.
    pub missed: u64,
}

/// Counts dropped packets in the kernel, until it is dropped itself.
pub trait CountsDrops: Send {
    /// What was counted since it began.
    ///
    /// # Errors
    /// For a person.
    fn counts(&mut self) -> Result<Drops, String>;
}

/// Begins to count for reasons of these names.
pub type BeginsToCount = fn(&[&'static str]) -> Result<Box<dyn CountsDrops>, String>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_told_once_and_has_words_and_a_remedy() {
        let names: std::collections::BTreeSet<&str> = names().into_iter().collect();
        assert_eq!(names.len(), REASONS.len());
        assert!(REASONS.iter().all(|reason| !reason.words.is_empty() && !reason.kind.remedy().is_empty()));
        for usual in ["QUEUE_PURGE", "TCP_OLD_DATA", "NOT_SPECIFIED", "NO_SOCKET", "SOCKET_FILTER", "OTHERHOST"] {
            assert!(!names.contains(usual), "{usual} occurs in health");
        }
    }
}
