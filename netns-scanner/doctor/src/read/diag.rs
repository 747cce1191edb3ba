//! TCP sockets of a namespace by `sock_diag(7)`, with `tcp_info`.

use crate::sample::{Connection, ListenQueue, TcpInfo};
use flow_model::Endpoint;
use netns::wire::{self, Message};
use netns::{InNetns, NetlinkError};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

// linux/inet_diag.h
const FAMILIES: [u8; 2] = [2, 10];
const TCP: u8 = 6;
const INET_DIAG_INFO: u16 = 2;
/// Bit of an extension that is asked for.
const WITH_INFO: u8 = 1 << (INET_DIAG_INFO - 1);
/// Fixed part of `inet_diag_msg`.
const ANSWER: usize = 72;

const LISTEN: u8 = 10;
const LISTENING: u32 = 1 << LISTEN;
/// ESTABLISHED, FIN_WAIT1, FIN_WAIT2, TIME_WAIT, CLOSE_WAIT, LAST_ACK, CLOSING: not what only asks
/// or listens.
const CONNECTED: u32 = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 8 | 1 << 9 | 1 << 11;

/// Some of a table, and how many of it there was no room for.
#[derive(Debug)]
pub struct Bounded<T> {
    pub found: Vec<T>,
    pub left_out: usize,
}

/// All connections, those in TIME_WAIT included. Costs about 1 us each, and 1 to 3 ms for the walk
/// over the node's hash table.
pub fn connections(inside: &InNetns<'_>, most: usize) -> Result<Bounded<Connection>, NetlinkError> {
    dump(inside, CONNECTED, WITH_INFO, most, connection)
}

/// Listening sockets with their queues.
pub fn listening(inside: &InNetns<'_>, most: usize) -> Result<Bounded<ListenQueue>, NetlinkError> {
    dump(inside, LISTENING, 0, most, queue)
}

fn dump<T>(
    inside: &InNetns<'_>,
    states: u32,
    extensions: u8,
    most: usize,
    decode: impl Fn(&[u8]) -> Option<T>,
) -> Result<Bounded<T>, NetlinkError> {
    let mut socket = inside.sock_diag()?;
    let mut all = Bounded { found: Vec::new(), left_out: 0 };
    for family in FAMILIES {
        let room = most.saturating_sub(all.found.len());
        // Of the last attempt, where the table changed under one and it was begun anew.
        let mut taken = 0_usize;
        let mut over = 0_usize;
        let mut first = None;
        let part = socket.dump_sockets((family, TCP), states, extensions, |answer: &Message<'_>| {
            if first != Some(answer.seq) {
                (first, taken, over) = (Some(answer.seq), 0, 0);
            }
            if taken == room {
                over += 1;
                return None;
            }
            let value = decode(answer.payload)?;
            taken += 1;
            Some(value)
        })?;
        all.found.extend(part);
        all.left_out += over;
    }
    Ok(all)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// `at` is where its address begins, `port` where its port does.
fn end(bytes: &[u8], at: usize, port: usize) -> Option<Endpoint> {
    let ip = match *bytes.first()? {
        2 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?)),
        10 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(at..at + 16)?).ok()?)).to_canonical(),
        _ => return None,
    };
    Some(Endpoint { ip, port: u16_at(bytes, port)? })
}

fn connection(payload: &[u8]) -> Option<Connection> {
    let fixed = payload.get(..ANSWER)?;
    let info = wire::attrs_after(payload, ANSWER).find(|(kind, _)| *kind == INET_DIAG_INFO).and_then(|(_, v)| info(v));
    Some(Connection { local: end(fixed, 8, 4)?, remote: end(fixed, 24, 6)?, state: *fixed.get(1)?, info })
}

fn queue(payload: &[u8]) -> Option<ListenQueue> {
    let fixed = payload.get(..ANSWER)?;
    (*fixed.get(1)? == LISTEN).then_some(())?;
    Some(ListenQueue {
        local: end(fixed, 8, 4)?,
        queue: wire::read_u32(fixed, 56)?,
        backlog: wire::read_u32(fixed, 60)?,
    })
}

/// `struct tcp_info` of linux/tcp.h, which only ever grows at its end.
fn info(bytes: &[u8]) -> Option<TcpInfo> {
    let u32_at = |at| wire::read_u32(bytes, at);
    let millis = |at| Some(Duration::from_millis(u64::from(u32_at(at)?)));
    Some(TcpInfo {
        retransmits: *bytes.get(2)?,
        probes: *bytes.get(3)?,
        unacked: u32_at(24)?,
        since_data: millis(52)?,
        since_ack: millis(56)?,
        data_segments: u64::from(u32_at(152)?) + u64::from(u32_at(156)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use netns::wire::Batch;
    use proptest::prelude::*;

    fn answer(state: u8, family: u8, info: &[u8]) -> Vec<u8> {
        let mut fixed = [0_u8; ANSWER];
        (fixed[0], fixed[1]) = (family, state);
        fixed[4..6].copy_from_slice(&40_000_u16.to_be_bytes());
        fixed[6..8].copy_from_slice(&80_u16.to_be_bytes());
        fixed[8..12].copy_from_slice(&[10, 0, 0, 2]);
        fixed[24..28].copy_from_slice(&[10, 0, 0, 9]);
        fixed[56..60].copy_from_slice(&5_u32.to_ne_bytes());
        fixed[60..64].copy_from_slice(&4_u32.to_ne_bytes());
        let mut batch = Batch::new();
        batch.message(0, 0, |message| {
            message.raw(&fixed);
            message.attr(INET_DIAG_INFO, info);
        });
        wire::messages(batch.bytes()).next().expect("one message").payload.to_vec()
    }

    #[test]
    fn a_connection_is_read_field_by_field() {
        let mut bytes = [0_u8; 248];
        (bytes[2], bytes[3]) = (4, 1);
        bytes[24..28].copy_from_slice(&7_u32.to_ne_bytes());
        bytes[52..56].copy_from_slice(&1500_u32.to_ne_bytes());
        bytes[56..60].copy_from_slice(&2500_u32.to_ne_bytes());
        bytes[152..156].copy_from_slice(&10_u32.to_ne_bytes());
        bytes[156..160].copy_from_slice(&20_u32.to_ne_bytes());
        let read = connection(&answer(Connection::CLOSE_WAIT, 2, &bytes)).expect("a connection");
        assert_eq!((read.local.ip.to_string(), read.local.port), ("10.0.0.2".to_owned(), 40_000));
        assert_eq!((read.remote.ip.to_string(), read.remote.port), ("10.0.0.9".to_owned(), 80));
        assert_eq!(read.state, Connection::CLOSE_WAIT);
        let expected = TcpInfo {
            retransmits: 4,
            probes: 1,
            unacked: 7,
            since_data: Duration::from_millis(1500),
            since_ack: Duration::from_millis(2500),
            data_segments: 30,
        };
        assert_eq!(read.info, Some(expected));
        let waits = connection(&answer(6, 2, &[])).expect("a connection");
        assert_eq!((waits.state, waits.info), (6, None));
    }

    #[test]
    fn a_listening_socket_tells_its_queue_and_another_family_is_nothing() {
        let read = queue(&answer(LISTEN, 2, &[])).expect("a queue");
        assert_eq!((read.local.port, read.queue, read.backlog), (40_000, 5, 4));
        assert_eq!(queue(&answer(1, 2, &[])), None);
        assert_eq!(connection(&answer(1, 1, &[])), None);
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (connection(&bytes), queue(&bytes), info(&bytes));
        }
    }
}
