//! A namespace whose table of connections is full.

use crate::room::{Room, brief, number};
use doctor::{CheckId, Severity, Thresholds};
use netns::wire::{Batch, Payload};
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, sendto, socket};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;

/// Makes the kernel follow what the namespace sends.
const FOLLOWED: &str = "nft add table ip t && nft 'add chain ip t o { type filter hook output priority 0; }' \
    && nft add rule ip t o ct state invalid accept";

// linux/netfilter/nfnetlink.h and nfnetlink_conntrack.h
const CT_NEW: u16 = 1 << 8;
const CREATE: u16 = 0x600;
const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const STATUS: u16 = 3;
const TIMEOUT: u16 = 7;
/// Seen in both directions, in the table, and none of those that make room.
const LASTING: u32 = 1 << 1 | 1 << 2 | 1 << 3;
const UDP: u8 = 17;

fn tuple(payload: &mut Payload<'_>, kind: u16, from: (Ipv4Addr, u16), to: (Ipv4Addr, u16)) {
    payload.nest(kind, |tuple| {
        tuple.nest(1, |ip| {
            ip.attr(1, &from.0.octets());
            ip.attr(2, &to.0.octets());
        });
        tuple.nest(2, |protocol| {
            protocol.attr(1, &[UDP]);
            protocol.attr(2, &from.1.to_be_bytes());
            protocol.attr(3, &to.1.to_be_bytes());
        });
    });
}

/// Fills this process's own namespace with so many flows that were answered.
pub fn fill(count: u32) {
    let netfilter =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkNetFilter)
            .expect("a socket");
    let kernel = NetlinkAddr::new(0, 0);
    let flows = (0..count).collect::<Vec<u32>>();
    for some in flows.chunks(200) {
        let mut batch = Batch::new();
        for flow in some {
            let client = (Ipv4Addr::from(0x0a00_0000 | flow >> 15), 1024 + (flow & 0x7fff) as u16);
            let server = (Ipv4Addr::new(10, 200, 0, 1), 53);
            batch.message(CT_NEW, CREATE, |message| {
                message.raw(&[2, 0, 0, 0]);
                tuple(message, TUPLE_ORIG, client, server);
                tuple(message, TUPLE_REPLY, server, client);
                message.attr(STATUS, &LASTING.to_be_bytes());
                message.attr(TIMEOUT, &600_u32.to_be_bytes());
            });
        }
        // What is refused is answered, and nobody reads that: the table is full.
        let sent = sendto(netfilter.as_raw_fd(), batch.bytes(), &kernel, MsgFlags::MSG_DONTWAIT);
        assert_eq!(sent, Ok(batch.bytes().len()));
    }
}

/// Sends to one port after the other, so that each datagram is a flow of its own.
pub fn send_forever() -> ! {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
    for port in (1_u16..=60_000).cycle() {
        // Refused where the table is full: the kernel says that it is not permitted.
        let _ = socket.send_to(b"x", (Ipv4Addr::LOCALHOST, port));
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    unreachable!("the ports begin again");
}

#[test]
fn a_full_table_is_found_with_what_was_dropped_and_one_with_room_is_fine() {
    let most: f64 = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max")
        .expect("the kernel follows connections")
        .trim()
        .parse()
        .expect("a number");
    let room = Room::new("is_followed", FOLLOWED, &(most as u64 + 200).to_string());
    let found = room.comes_to(CheckId::ConntrackFull, brief, |found| number(found, "dropped") > 50.0);
    assert_eq!((found.severity, found.subject.kind.as_str()), (Severity::Error, "Process"), "{found:?}");
    assert_eq!([number(&found, "max"), number(&found, "share")], [most, 1.0], "{found:?}");
    assert!(number(&found, "entries") >= most, "{found:?}");
    drop(room);
    // As many datagrams, and a table with room.
    let room = Room::new("is_followed", FOLLOWED, "3000");
    room.finds_nothing(CheckId::ConntrackFull, brief());
    let smaller = Thresholds { conntrack_share: 3000.0 / most, ..brief() };
    let found = room.finds(CheckId::ConntrackFull, smaller);
    assert_eq!((found.severity, number(&found, "dropped")), (Severity::Warning, 0.0), "{found:?}");
    assert!(number(&found, "entries") > 3000.0, "{found:?}");
}
