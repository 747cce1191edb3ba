use crate::{Socket, SocketState, socket};
use flow_model::Transport;
use netns::wire::{self, Message};
use netns::{InNetns, NetlinkError};
use std::net::IpAddr;

// linux/inet_diag.h
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// Fixed part of `inet_diag_msg`.
const ANSWER: usize = 72;
const INET_DIAG_SKV6ONLY: u16 = 11;
const INET_DIAG_CGROUP_ID: u16 = 21;
const EXTENSIONS_NONE: u8 = 0;
const ALL_STATES: u32 = 0xffff_ffff;

/// All TCP and UDP sockets of the namespace that the caller is in. Costs about 3 ms and 0.3 us for
/// each socket of the *node*: the kernel walks its one hash table for every namespace.
///
/// # Errors
/// The dump was refused (sock_diag modules missing) or cut short.
pub fn dump(inside: &InNetns<'_>) -> Result<Vec<Socket>, NetlinkError> {
    let mut socket = inside.sock_diag()?;
    let mut found = Vec::new();
    for (transport, protocol) in [(Transport::Tcp, 6u8), (Transport::Udp, 17u8)] {
        for family in [AF_INET, AF_INET6] {
            let part = socket.dump_sockets((family, protocol), ALL_STATES, EXTENSIONS_NONE, |answer| {
                decode(answer, inside.id().ino, transport)
            })?;
            found.extend(part);
        }
    }
    Ok(found)
}

fn decode(message: &Message<'_>, netns_ino: u64, transport: Transport) -> Option<Socket> {
    let bytes = message.payload.get(..ANSWER)?;
    let port = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let ip = |at: usize| -> Option<IpAddr> {
        match *bytes.first()? {
            AF_INET => Some(socket::address_v4(bytes.get(at..at + 4)?.try_into().ok()?)),
            AF_INET6 => Some(socket::address(bytes.get(at..at + 16)?.try_into().ok()?)),
            _ => None,
        }
    };
    let attribute =
        |wanted| wire::attrs_after(message.payload, ANSWER).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let cgroup_id = attribute(INET_DIAG_CGROUP_ID)
        .and_then(|value| Some(u64::from_ne_bytes(value.get(..8)?.try_into().ok()?)))
        .unwrap_or(0);
    Some(Socket {
        netns_ino,
        pid: 0,
        cgroup_id,
        tuple: socket::tuple(transport, (ip(8)?, port(4)?), (ip(24)?, port(6)?)),
        state: SocketState::from_kernel(*bytes.get(1)?),
        waiting: 0,
        // Told of listening sockets alone.
        v6only: attribute(INET_DIAG_SKV6ONLY).and_then(|value| value.first()).is_some_and(|flag| *flag != 0),
        accepted: None,
    })
}
