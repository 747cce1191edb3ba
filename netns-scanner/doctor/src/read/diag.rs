//! Sockets of a namespace by `sock_diag(7)`: TCP's with `tcp_info`, and UDP's with their drops.

use crate::sample::{Connection, ListenQueue, TcpInfo, UdpSocket};
use flow_model::Endpoint;
use netns::wire::{self, Message};
use netns::{InNetns, NetlinkError};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

// linux/inet_diag.h
const FAMILIES: [u8; 2] = [2, 10];
const TCP: u8 = 6;
const UDP: u8 = 17;
const INET_DIAG_INFO: u16 = 2;
const INET_DIAG_SKMEMINFO: u16 = 7;
/// Bits of what is asked for beyond the fixed part.
const WITH_INFO: u8 = 1 << (INET_DIAG_INFO - 1);
const WITH_MEMORY: u8 = 1 << (INET_DIAG_SKMEMINFO - 1);
/// `SK_MEMINFO_DROPS` of linux/sock_diag.h, in words of four bytes.
const DROPS: usize = 8;
/// Fixed part of `inet_diag_msg`.
const ANSWER: usize = 72;
/// Its `idiag_timer` where what was sent waits for an acknowledgement (net/ipv4/tcp_diag.c).
const RETRANSMIT: u8 = 1;

const LISTEN: u8 = 10;
const LISTENING: u32 = 1 << LISTEN;
/// ESTABLISHED, FIN_WAIT1, FIN_WAIT2, TIME_WAIT, CLOSE_WAIT, LAST_ACK, CLOSING: not what only asks
/// or listens.
const CONNECTED: u32 = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 8 | 1 << 9 | 1 << 11;
const ANY_STATE: u32 = u32::MAX;

/// Some of a table, and how many of it there was no room for.
#[derive(Debug)]
pub struct Bounded<T> {
    pub found: Vec<T>,
    pub left_out: usize,
}

/// All connections, those in TIME_WAIT included. Costs about 1 us each, and 1 to 3 ms for the walk
/// over the node's hash table.
pub fn connections(inside: &InNetns<'_>, most: usize) -> Result<Bounded<Connection>, NetlinkError> {
    dump(inside, TCP, CONNECTED, WITH_INFO, most, connection)
}

/// Listening sockets with their queues.
pub fn listening(inside: &InNetns<'_>, most: usize) -> Result<Bounded<ListenQueue>, NetlinkError> {
    dump(inside, TCP, LISTENING, 0, most, queue)
}

/// UDP sockets that ever dropped a datagram.
///
/// Not by `/proc/net/udp`: each read(2) of it goes on at a number of sockets from the table's
/// beginning, so that it passes over one wherever another was closed in between.
pub fn lossy(inside: &InNetns<'_>, most: usize) -> Result<Bounded<UdpSocket>, NetlinkError> {
    dump(inside, UDP, ANY_STATE, WITH_MEMORY, most, udp_socket)
}

fn dump<T>(
    inside: &InNetns<'_>,
    protocol: u8,
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
        let part = socket.dump_sockets((family, protocol), states, extensions, |answer: &Message<'_>| {
            if first != Some(answer.seq) {
                (first, taken, over) = (Some(answer.seq), 0, 0);
            }
            let value = decode(answer.payload)?;
            if taken == room {
                over += 1;
                return None;
            }
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
    let expires = Duration::from_millis(u64::from(wire::read_u32(fixed, 52)?));
    let timer = (*fixed.get(2)? == RETRANSMIT).then_some(expires);
    let mut attributes = wire::attrs_after(payload, ANSWER);
    let info = attributes.find(|(kind, _)| *kind == INET_DIAG_INFO).and_then(|(_, value)| info(value, timer));
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

fn udp_socket(payload: &[u8]) -> Option<UdpSocket> {
    let fixed = payload.get(..ANSWER)?;
    let memory = wire::attrs_after(payload, ANSWER).find(|(kind, _)| *kind == INET_DIAG_SKMEMINFO)?.1;
    let drops = wire::read_u32(memory, 4 * DROPS)?;
    (drops > 0).then_some(UdpSocket { port: u16_at(fixed, 4)?, drops: drops.into() })
}

/// `struct tcp_info` of linux/tcp.h, which only ever grows at its end; `expires` is when the timer does
/// after which what was sent is sent again.
fn info(bytes: &[u8], expires: Option<Duration>) -> Option<TcpInfo> {
    let u32_at = |at| wire::read_u32(bytes, at);
    let millis = |at| Some(Duration::from_millis(u64::from(u32_at(at)?)));
    let u64_at = |at: usize| Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    // Kernels before 4.19 have no count of what was sent.
    let sent = || Some(u64_at(200)?.saturating_sub(u64_at(208)?));
    let bytes_acked = u64_at(120)?;
    // The timer doubles with each time that the segment is sent again (RFC 6298 section 5.5). How long
    // this one runs is not told by when something was sent last: what still waits for the neighbour's
    // address is not sent again, though its time is over.
    let doubled = 1_u32.checked_shl(u32::from(*bytes.get(4)?)).unwrap_or(u32::MAX);
    let timer = Duration::from_micros(u64::from(u32_at(8)?));
    let runs_for = expires.map_or(Duration::ZERO, |expires| timer.saturating_sub(expires));
    Some(TcpInfo {
        sacked: u32_at(28)?,
        mss: u32_at(16)?,
        bytes_acked,
        unanswered_for: timer / doubled * (doubled - 1) + runs_for,
        bytes_in_flight: sent().unwrap_or(0).saturating_sub(bytes_acked),
        retransmits: *bytes.get(2)?,
        probes: *bytes.get(3)?,
        unacked: u32_at(24)?,
        since_data: millis(52)?,
        since_ack: millis(56)?,
        data_segments: u64::from(u32_at(152)?) + u64::from(u32_at(156)?),
        data_segments_out: u32_at(156)?.into(),
        bytes_received: u64_at(128)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use netns::wire::Batch;
    use proptest::prelude::*;

    fn answer(state: u8, family: u8, (kind, extension): (u16, &[u8])) -> Vec<u8> {
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
            message.attr(kind, extension);
        });
        wire::messages(batch.bytes()).next().expect("one message").payload.to_vec()
    }

    #[test]
    fn a_connection_is_read_field_by_field() {
        let mut bytes = [0_u8; 248];
        (bytes[2], bytes[3], bytes[4]) = (4, 1, 3);
        bytes[8..12].copy_from_slice(&1_600_000_u32.to_ne_bytes());
        // Sent last at its beginning: none of what came again left this node.
        bytes[44..48].copy_from_slice(&1_900_u32.to_ne_bytes());
        bytes[16..20].copy_from_slice(&1448_u32.to_ne_bytes());
        bytes[24..28].copy_from_slice(&7_u32.to_ne_bytes());
        bytes[28..32].copy_from_slice(&2_u32.to_ne_bytes());
        bytes[120..128].copy_from_slice(&301_u64.to_ne_bytes());
        bytes[128..136].copy_from_slice(&77_u64.to_ne_bytes());
        bytes[200..208].copy_from_slice(&10_000_u64.to_ne_bytes());
        bytes[208..216].copy_from_slice(&4_000_u64.to_ne_bytes());
        bytes[52..56].copy_from_slice(&1500_u32.to_ne_bytes());
        bytes[56..60].copy_from_slice(&2500_u32.to_ne_bytes());
        bytes[152..156].copy_from_slice(&10_u32.to_ne_bytes());
        bytes[156..160].copy_from_slice(&20_u32.to_ne_bytes());
        let mut told = answer(Connection::CLOSE_WAIT, 2, (INET_DIAG_INFO, &bytes));
        told[2] = RETRANSMIT;
        told[52..56].copy_from_slice(&1_100_u32.to_ne_bytes());
        let read = connection(&told).expect("a connection");
        assert_eq!((read.local.ip.to_string(), read.local.port), ("10.0.0.2".to_owned(), 40_000));
        assert_eq!((read.remote.ip.to_string(), read.remote.port), ("10.0.0.9".to_owned(), 80));
        assert_eq!(read.state, Connection::CLOSE_WAIT);
        let expected = TcpInfo {
            retransmits: 4,
            probes: 1,
            unacked: 7,
            sacked: 2,
            mss: 1448,
            bytes_acked: 301,
            bytes_in_flight: 5_699,
            unanswered_for: Duration::from_millis(1900),
            since_data: Duration::from_millis(1500),
            since_ack: Duration::from_millis(2500),
            data_segments: 30,
            data_segments_out: 20,
            bytes_received: 77,
        };
        assert_eq!(read.info, Some(expected));
        // Another timer, or one that is late.
        told[2] = 2;
        let unanswered = |told: &[u8]| connection(told).and_then(|read| read.info).map(|info| info.unanswered_for);
        assert_eq!(unanswered(&told), Some(Duration::from_millis(1400)));
        told[2] = RETRANSMIT;
        told[52..56].copy_from_slice(&9_999_u32.to_ne_bytes());
        assert_eq!(unanswered(&told), Some(Duration::from_millis(1400)));
        let waits = connection(&answer(6, 2, (INET_DIAG_INFO, &[]))).expect("a connection");
        assert_eq!((waits.state, waits.info), (6, None));
    }

    #[test]
    fn a_listening_socket_tells_its_queue_and_another_family_is_nothing() {
        let read = queue(&answer(LISTEN, 2, (INET_DIAG_INFO, &[]))).expect("a queue");
        assert_eq!((read.local.port, read.queue, read.backlog), (40_000, 5, 4));
        assert_eq!(queue(&answer(1, 2, (INET_DIAG_INFO, &[]))), None);
        assert_eq!(connection(&answer(1, 1, (INET_DIAG_INFO, &[]))), None);
    }

    #[test]
    fn a_socket_that_dropped_is_told_by_its_port() {
        let memory = |drops: u32| {
            let mut memory = [7_u8; 36];
            memory[32..].copy_from_slice(&drops.to_ne_bytes());
            memory
        };
        let read = udp_socket(&answer(7, 10, (INET_DIAG_SKMEMINFO, &memory(1991))));
        assert_eq!(read, Some(UdpSocket { port: 40_000, drops: 1991 }));
        for (kind, bytes) in [
            (INET_DIAG_SKMEMINFO, &memory(0)[..]),
            (INET_DIAG_SKMEMINFO, &memory(5)[..32]),
            (INET_DIAG_INFO, &memory(5)),
        ] {
            assert_eq!(udp_socket(&answer(7, 2, (kind, bytes))), None);
        }
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (connection(&bytes), queue(&bytes), info(&bytes, None), udp_socket(&bytes));
        }
    }
}
