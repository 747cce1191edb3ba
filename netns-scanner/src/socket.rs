use flow_model::{Endpoint, FiveTuple, Transport};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One TCP or UDP socket of some namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Socket {
    /// Inode of its network namespace.
    pub netns_ino: u64,
    /// A process that holds it; 0 where the source does not tell.
    pub pid: u32,
    /// Cgroup (v2) that it was made in; 0 where there is none or the source does not tell.
    pub cgroup_id: u64,
    /// Its two ends, seen from the socket. The remote port is 0 where it has no peer.
    pub tuple: FiveTuple,
    /// The kernel's state, coarsened.
    pub state: SocketState,
    /// Sockets that hang on this one and that the source does not show, where it tells: connections
    /// that wait at a listening socket for `accept(2)` and belong to no process yet.
    pub waiting: u16,
    /// Of a listening IPv6 socket: it takes no IPv4 connections (`IPV6_V6ONLY`). False where the
    /// source does not tell.
    pub v6only: bool,
    /// Whether a connection came from a listening socket, where the source tells. One that listened
    /// with a backlog of 0 leaves no trace.
    pub accepted: Option<bool>,
}

/// The states that matter here, of `include/net/tcp_states.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SocketState {
    /// Data can flow: ESTABLISHED and the half-closed states. Connected UDP sockets are here too.
    Open,
    /// LISTEN; TCP only.
    Listening,
    /// Not there yet, or over.
    Other,
}

impl SocketState {
    /// From the kernel's number (`TCP_ESTABLISHED` = 1 .. `TCP_NEW_SYN_RECV` = 12).
    #[must_use]
    pub fn from_kernel(state: u8) -> SocketState {
        match state {
            // ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT
            1 | 4 | 5 | 8 => SocketState::Open,
            10 => SocketState::Listening,
            _ => SocketState::Other,
        }
    }
}

/// The address in 16 bytes in network order, v4-mapped as IPv4.
pub(crate) fn address(bytes: [u8; 16]) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
}

/// The address in the first four bytes, in network order.
pub(crate) fn address_v4(bytes: [u8; 4]) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(bytes))
}

pub(crate) fn tuple(transport: Transport, local: (IpAddr, u16), remote: (IpAddr, u16)) -> FiveTuple {
    FiveTuple {
        transport,
        local: Endpoint { ip: local.0.to_canonical(), port: local.1 },
        remote: Endpoint { ip: remote.0.to_canonical(), port: remote.1 },
    }
}
