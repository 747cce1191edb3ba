//! SYNs without a kernel behind them.

use anyhow::Result;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd;
use std::sync::atomic::AtomicU64;

/// Two hundred SYNs to the target's ports, every other one from an address that is nobody's.
pub fn syns(target: SocketAddrV4, number: u64, _: &AtomicU64) -> Result<()> {
    let socket = socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)?;
    // IPPROTO_RAW: the IP header comes with the packet (raw(7)).
    let to = SockaddrIn::from(target);
    for one in 0..200_u64 {
        let id = number * 200 + one;
        let source =
            if one % 2 == 0 { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::from(0x0a14_0000 | (id as u32 & 0xffff)) };
        let ports = [(1024 + id % 60_000) as u16, if one % 4 == 1 { target.port() } else { (id % 65_000) as u16 }];
        sendto(socket.as_raw_fd(), &syn(source, *target.ip(), ports, id as u32), &to, MsgFlags::empty())?;
    }
    Ok(())
}

/// An IPv4 packet (RFC 791) with a SYN (RFC 9293). The kernel fills in an unspecified source and the
/// header's checksum.
#[allow(clippy::cast_possible_truncation, reason = "a header of 40 bytes")]
fn syn(source: Ipv4Addr, destination: Ipv4Addr, ports: [u16; 2], sequence: u32) -> [u8; 40] {
    let mut packet = [0; 40];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&40_u16.to_be_bytes());
    packet[8] = 64;
    packet[9] = 6;
    packet[12..16].copy_from_slice(&source.octets());
    packet[16..20].copy_from_slice(&destination.octets());
    packet[20..22].copy_from_slice(&ports[0].to_be_bytes());
    packet[22..24].copy_from_slice(&ports[1].to_be_bytes());
    packet[24..28].copy_from_slice(&sequence.to_be_bytes());
    packet[32] = 5 << 4;
    packet[33] = 2;
    packet[34..36].copy_from_slice(&1024_u16.to_be_bytes());
    let mut sum = 6 + 20;
    for two in packet[12..].chunks_exact(2) {
        sum += u32::from(u16::from_be_bytes([two[0], two[1]]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    packet[36..38].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    packet
}
