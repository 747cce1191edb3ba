//! Strips what lies below IP: link headers, tags and shims.

use super::skip::Skip;

pub(super) const IPV4: u16 = 0x0800;
pub(super) const IPV6: u16 = 0x86dd;

/// Tags and shims in front of IP; real networks stack three at most.
const MAX_SHIMS: usize = 8;

/// What lies above the link: an Ethernet type and its bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Above<'a> {
    pub kind: u16,
    pub data: &'a [u8],
    /// Bytes in front of `data`.
    pub header: usize,
}

/// Strips the link header. Numbers are those of tcpdump.org/linktypes.html.
pub(super) fn strip(link: u16, packet: &[u8]) -> Result<Above<'_>, Skip> {
    match link {
        1 => ethernet(packet, 0),
        // BSD loopback: an address family in the writer's order, or (108) in network order. The IP
        // version says the same with certainty.
        0 | 108 => by_version(packet, 4),
        12 | 14 | 101 => by_version(packet, 0),
        228 => at(packet, IPV4, 0),
        229 => at(packet, IPV6, 0),
        113 => shims(packet, u16_at(packet, 14)?, 16),
        276 => shims(packet, u16_at(packet, 0)?, 20),
        239 => nflog(packet),
        _ => Err(Skip::LinkType),
    }
}

/// Which side of which interface a capture of several of them saw the packet at, where its link header
/// tells: an interface's index and whether it went out (SLL2), or only the latter (SLL).
pub(super) fn side(link: u16, packet: &[u8]) -> Option<u64> {
    const OUTGOING: u8 = 4;
    let byte = |at: usize| packet.get(at).copied();
    match link {
        113 => Some(u64::from(byte(1)? == OUTGOING)),
        276 => {
            let index = u32::from_be_bytes(*packet.get(4..)?.first_chunk()?);
            Some(u64::from(index) << 1 | u64::from(byte(10)? == OUTGOING))
        }
        _ => None,
    }
}

pub(super) fn ethernet(packet: &[u8], start: usize) -> Result<Above<'_>, Skip> {
    shims(packet, u16_at(packet, start + 12)?, start + 14)
}

/// VLAN tags (802.1Q, 802.1ad and the older numbers of the outer one), 802.1BR/VN tags, PPPoE sessions.
fn shims(packet: &[u8], mut kind: u16, mut here: usize) -> Result<Above<'_>, Skip> {
    for _ in 0..MAX_SHIMS {
        match kind {
            0x8100 | 0x88a8 | 0x9100 | 0x9200 => {
                kind = u16_at(packet, here + 2)?;
                here += 4;
            }
            0x8926 => {
                kind = u16_at(packet, here + 4)?;
                here += 6;
            }
            0x8864 => {
                // RFC 2516 4; PPP's own protocol numbers (RFC 1332, 5072)
                kind = match u16_at(packet, here + 6)? {
                    0x0021 => IPV4,
                    0x0057 => IPV6,
                    _ => return Err(Skip::NotIp),
                };
                here += 8;
            }
            _ => break,
        }
    }
    at(packet, kind, here)
}

fn at(packet: &[u8], kind: u16, header: usize) -> Result<Above<'_>, Skip> {
    let data = packet.get(header..).ok_or(Skip::Unparsed)?;
    Ok(Above { kind, data, header })
}

fn by_version(packet: &[u8], header: usize) -> Result<Above<'_>, Skip> {
    match packet.get(header).ok_or(Skip::Unparsed)? >> 4 {
        4 => at(packet, IPV4, header),
        6 => at(packet, IPV6, header),
        _ => Err(Skip::NotIp),
    }
}

/// Netfilter's log: a header of 4 bytes, then type-length-values in the byte order of the host that
/// wrote it; 9 is the packet.
fn nflog(packet: &[u8]) -> Result<Above<'_>, Skip> {
    let mut here = 4;
    loop {
        let (length, kind) = (u16_at(packet, here)?, u16_at(packet, here + 2)?);
        // Types are small numbers: a large one was written in the other order.
        let swapped = kind > 255;
        let (length, kind) = if swapped { (length.swap_bytes(), kind.swap_bytes()) } else { (length, kind) };
        if kind == 9 {
            return by_version(packet, here + 4);
        }
        if length < 4 {
            return Err(Skip::Unparsed);
        }
        here += usize::from(length).next_multiple_of(4);
    }
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Result<u16, Skip> {
    let bytes = bytes.get(at..).and_then(|rest| rest.first_chunk()).ok_or(Skip::Unparsed)?;
    Ok(u16::from_be_bytes(*bytes))
}
