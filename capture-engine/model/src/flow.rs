use crate::Ts;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;

/// A network namespace as the kernel names it: device and inode of its nsfs file. Inodes are reused after a namespace
/// dies, so the pair is an identity only while somebody holds the namespace or its `Slot`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetnsId {
    /// `st_dev` of the nsfs file.
    pub dev: u64,
    /// `st_ino` of the nsfs file: the number in `net:[4026531840]`.
    pub ino: u64,
}

/// As a link below `/proc/<pid>/ns` reads.
impl fmt::Display for NetnsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "net:[{}]", self.ino)
    }
}

/// The agent's own number of an attached namespace, carried by every packet event. Never reused within a process.
/// 0 is no namespace at all: a replayed capture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

impl Slot {
    /// The first one of the node's own sockets: a cgroup has it, and no namespace.
    pub const FIRST_OF_NODE: Slot = Slot(1 << 31);

    /// Whether it is of sockets of the namespace that the agent runs in.
    #[must_use]
    pub fn is_of_node(self) -> bool {
        self >= Slot::FIRST_OF_NODE
    }
}

/// What lies above IP. Other protocols have no flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// IP protocol number 6.
    Tcp,
    /// IP protocol number 17.
    Udp,
}

/// An address and a port: one end of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// v4-mapped IPv6 addresses are stored as IPv4.
    pub ip: IpAddr,
    /// In host byte order.
    pub port: u16,
}

/// The two ends of a flow as its namespace sees them: `local` is the pod. In a replayed capture `local` is the source
/// of the first packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FiveTuple {
    /// The same for both ends.
    pub transport: Transport,
    /// The end that lives in the namespace.
    pub local: Endpoint,
    /// The other end, with the address that the namespace sees: a Service's, where a Service was
    /// called and nothing rewrote it before.
    pub remote: Endpoint,
}

/// Two or five words instead of the dozen pieces that the derived one would feed: tables are asked
/// with this for every segment.
impl Hash for FiveTuple {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let FiveTuple { transport, local, remote } = *self;
        let ports = u64::from(local.port) << 16 | u64::from(remote.port);
        state.write_u64(ports << 1 | u64::from(transport == Transport::Udp));
        match (local.ip, remote.ip) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => {
                state.write_u64(u64::from(local.to_bits()) << 32 | u64::from(remote.to_bits()));
            }
            (local, remote) => {
                for ip in [local, remote] {
                    let bits = match ip {
                        IpAddr::V4(ip) => u128::from(ip.to_bits()),
                        IpAddr::V6(ip) => ip.to_bits(),
                    };
                    state.write_u64((bits >> 64) as u64);
                    state.write_u64(bits as u64);
                }
            }
        }
    }
}

/// Which way bytes travel, *from the pod*: `Egress` is local to remote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// To the pod: remote to local.
    Ingress,
    /// From the pod: local to remote.
    Egress,
}

impl Direction {
    /// The way of the answer.
    #[must_use]
    pub fn reverse(self) -> Direction {
        match self {
            Direction::Ingress => Direction::Egress,
            Direction::Egress => Direction::Ingress,
        }
    }

    /// 0 for ingress, 1 for egress: the order of every two-element array in the wire format and in the state machines.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Direction::Ingress => 0,
            Direction::Egress => 1,
        }
    }
}

/// What the local end is in the exchanges of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// It asks: requests are egress.
    Client,
    /// It is asked: requests are ingress.
    Server,
    /// Neither a handshake, a seed nor the bytes told yet.
    #[default]
    Unknown,
}

impl Role {
    /// The direction in which the client's bytes travel, where the role is known.
    #[must_use]
    pub fn request_direction(self) -> Option<Direction> {
        match self {
            Role::Client => Some(Direction::Egress),
            Role::Server => Some(Direction::Ingress),
            Role::Unknown => None,
        }
    }
}

/// What is known of one flow; passed along with everything that is observed on it.
#[derive(Clone, Debug)]
pub struct FlowInfo {
    /// Where it was seen; `Slot(0)` in a replayed capture.
    pub slot: Slot,
    /// Its ends, as that namespace sees them.
    pub tuple: FiveTuple,
    /// What its local end is. `Unknown` at first where no SYN and no seed told.
    pub role: Role,
    /// First packet seen, or the seed's time.
    pub opened: Ts,
    /// The connection existed before we looked (no SYN seen).
    pub joined_midway: bool,
    /// Where the other end is seen, if that is at one of the node's own sockets: its address, which
    /// all of these share, does not tell who it is.
    pub peer: Option<Slot>,
}

impl FlowInfo {
    /// (client, server) by role; an unknown role takes the lower port for the server, the remote end on a tie.
    #[must_use]
    pub fn client_server(&self) -> (Endpoint, Endpoint) {
        let FiveTuple { local, remote, .. } = self.tuple;
        match self.role {
            Role::Client => (local, remote),
            Role::Server => (remote, local),
            Role::Unknown if local.port < remote.port => (remote, local),
            Role::Unknown => (local, remote),
        }
    }
}

/// How a flow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Close {
    /// Both ends sent a FIN.
    Fin,
    /// Either end sent a RST.
    Reset,
    /// Nothing was seen of its end: the table or the namespace let go of it.
    Gone,
}

/// What a flow did since it was last reported. Bytes are IP bytes (header and payload), indexed by `Direction::index`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowDelta {
    /// As the interface hands them over: one GSO packet is one.
    pub packets: [u64; 2],
    /// IP bytes, header and payload; retransmissions are counted again.
    pub bytes: [u64; 2],
    /// Segments whose sequence numbers had been seen in full before.
    pub retransmits: [u32; 2],
    /// Packets that advertised a receive window of 0 (RFC 9293 section 3.8.6), SYN, FIN and RST
    /// left out.
    pub zero_windows: [u32; 2],
    /// Set once, with the report in which it became known. At the client: SYN to SYN-ACK; at the
    /// server: SYN-ACK to ACK.
    pub handshake_rtt_ns: Option<u64>,
    /// Set once: the handshake of a TCP connection completed, and its beginning was seen.
    pub opened: bool,
    /// Set once, when the end became known; `None` while the flow lives.
    pub closed: Option<Close>,
}

/// A connection that existed before the agent saw a packet of it (`netns-scanner`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowSeed {
    /// The namespace, or the cgroup of the node, that its socket was found in.
    pub slot: Slot,
    /// Its ends, as that namespace sees them.
    pub tuple: FiveTuple,
    /// What the local end is, where the source could tell.
    pub role: Role,
    /// Owner of the socket where the source tells, else 0.
    pub pid: u32,
}
