//! From a packet's bytes to its transport: links and tunnels stripped, fragments put together.

use super::fragments::{Fragment, FragmentKey, Fragments};
use super::link::{self, Above, IPV4, IPV6, u16_at};
use super::packet::Packet;
use super::skip::Skip;
use super::tunnel::{self, Kind};
use flow_model::Ts;

/// IP in IP in IP, or in a tunnel over UDP: real stacks are one or two deep.
const MAX_NESTING: usize = 4;
/// RFC 8200 4.1 lists each kind of extension header once, one twice.
const MAX_EXTENSIONS: usize = 8;

const UDP_HEADER: usize = 8;

const HOP_BY_HOP: u8 = 0;
const IPIP: u8 = 4;
const TCP: u8 = 6;
const UDP: u8 = 17;
const IPV6_IN_IP: u8 = 41;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const GRE: u8 = 47;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;

/// One TCP segment or UDP datagram. Addresses are IPv6 or v4-mapped numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decoded<'a> {
    pub tcp: bool,
    pub source: (u128, u16),
    pub destination: (u128, u16),
    /// Bytes of the IP packet on the wire, header and payload.
    pub ip_bytes: u32,
    pub seq: u32,
    pub ack: u32,
    pub tcp_flags: u8,
    pub window: u16,
    /// Payload bytes on the wire.
    pub payload: u32,
    /// What was captured of them.
    pub held: &'a [u8],
}

/// An IP packet's payload before its transport is looked at.
struct Datagram<'a> {
    proto: u8,
    source: u128,
    destination: u128,
    ip_bytes: u32,
    /// Length on the wire.
    length: usize,
    data: &'a [u8],
    fragment: Option<Part>,
}

struct Part {
    id: u32,
    offset: usize,
    more: bool,
}

/// From a packet's bytes to its transport. Keeps what waits for more fragments, nothing else.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    pub fragments: Fragments,
    whole: Vec<u8>,
}

impl Decoder {
    /// `outer` is given the outermost tunnel over UDP that it came in.
    pub fn decode<'a>(
        &'a mut self,
        packet: &Packet<'a>,
        outer: &mut Option<(Kind, Decoded<'a>)>,
    ) -> Result<Decoded<'a>, Skip> {
        let above = link::strip(packet.link, packet.data)?;
        let wire = (packet.wire_len as usize).saturating_sub(above.header).max(above.data.len());
        let mut datagram = ip(above, wire)?;
        if let Some(part) = &datagram.fragment {
            let length = self.fragments.add(fragment_of(&datagram, part, packet.at), &mut self.whole)?;
            // Bytes as if one packet had carried it.
            let ip_bytes = datagram.ip_bytes - datagram.length as u32 + length as u32;
            datagram = Datagram { data: &self.whole, length, ip_bytes, fragment: None, ..datagram };
        }
        if datagram.proto == TCP {
            return tcp(&datagram);
        }
        for _ in 0..MAX_NESTING {
            if datagram.fragment.is_some() {
                // Fragments inside a tunnel: the outer ones are what a network makes.
                return Err(Skip::FragmentDropped);
            }
            let above = match datagram.proto {
                TCP => return tcp(&datagram),
                UDP => {
                    let plain = udp(&datagram)?;
                    let Some((kind, above)) = tunnel::open(plain.destination.1, plain.held) else { return Ok(plain) };
                    outer.get_or_insert((kind, plain));
                    let above = above?;
                    Above { header: above.header + UDP_HEADER, ..above }
                }
                IPIP | IPV6_IN_IP | GRE => inner(datagram.proto, datagram.data)?,
                _ => return Err(Skip::OtherProtocol),
            };
            let wire = datagram.length.saturating_sub(above.header);
            datagram = ip(above, wire)?;
            if datagram.ip_bytes as usize > wire {
                // No packet is larger than what it comes in.
                return Err(Skip::Unparsed);
            }
        }
        Err(Skip::OtherProtocol)
    }
}

fn fragment_of<'a>(datagram: &Datagram<'a>, part: &Part, at: Ts) -> Fragment<'a> {
    let Datagram { proto, source, destination, length, data, .. } = *datagram;
    let key = FragmentKey { source, destination, id: part.id, proto };
    Fragment { key, at, offset: part.offset, more: part.more, length, data }
}

/// The packet inside a tunnel whose outer headers make no flow of their own.
fn inner(proto: u8, data: &[u8]) -> Result<Above<'_>, Skip> {
    if proto != GRE {
        let kind = if proto == IPIP { IPV4 } else { IPV6 };
        return Ok(Above { kind, data, header: 0 });
    }
    // RFC 2784, 2890: flags and version, protocol, then what the flags announce.
    let flags = u16_at(data, 0)?;
    let kind = u16_at(data, 2)?;
    if flags & 7 != 0 || flags & 0x4000 != 0 {
        return Err(Skip::OtherProtocol);
    }
    let header = 4 + [0x8000, 0x2000, 0x1000].iter().filter(|&&bit| flags & bit != 0).count() * 4;
    match kind {
        0x6558 => link::ethernet(data, header),
        IPV4 | IPV6 => Ok(Above { kind, data: data.get(header..).ok_or(Skip::Unparsed)?, header }),
        _ => Err(Skip::OtherProtocol),
    }
}

#[inline]
fn ip(above: Above<'_>, wire: usize) -> Result<Datagram<'_>, Skip> {
    match above.kind {
        IPV4 => ipv4(above.data, wire),
        IPV6 => ipv6(above.data, wire),
        _ => Err(Skip::NotIp),
    }
}

#[inline]
fn ipv4(data: &[u8], wire: usize) -> Result<Datagram<'_>, Skip> {
    let fixed: &[u8; 20] = data.first_chunk().ok_or(Skip::Unparsed)?;
    let header = usize::from(fixed[0] & 15) * 4;
    if fixed[0] >> 4 != 4 || header < 20 {
        return Err(Skip::Unparsed);
    }
    let total = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    // 0: the sender's interface was left to cut it (TSO), or more than 64 KiB
    let total = if total == 0 { wire } else { total };
    if total < header {
        return Err(Skip::Unparsed);
    }
    let flags = u16::from_be_bytes([fixed[6], fixed[7]]);
    let (offset, more) = (usize::from(flags & 0x1fff) * 8, flags & 0x2000 != 0);
    let id = u32::from(u16::from_be_bytes([fixed[4], fixed[5]]));
    let address = |at: usize| {
        let four = data.get(at..at + 4).and_then(|bytes| bytes.first_chunk::<4>()).copied().unwrap_or_default();
        0xffff_0000_0000 | u128::from(u32::from_be_bytes(four))
    };
    Ok(Datagram {
        proto: fixed[9],
        source: address(12),
        destination: address(16),
        ip_bytes: total as u32,
        length: total - header,
        data: data.get(header..total.min(data.len())).ok_or(Skip::Unparsed)?,
        fragment: (more || offset > 0).then_some(Part { id, offset, more }),
    })
}

fn ipv6(data: &[u8], wire: usize) -> Result<Datagram<'_>, Skip> {
    let fixed: &[u8; 40] = data.first_chunk().ok_or(Skip::Unparsed)?;
    if fixed[0] >> 4 != 6 {
        return Err(Skip::Unparsed);
    }
    let payload = usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
    // 0: a jumbogram (RFC 2675) or TSO
    let total = if payload == 0 { wire } else { payload + 40 };
    let address = |at: usize| {
        let bytes = data.get(at..at + 16).and_then(|bytes| bytes.first_chunk::<16>()).copied().unwrap_or_default();
        u128::from_be_bytes(bytes)
    };
    let (mut proto, mut header) = (fixed[6], 40);
    let mut fragment = None;
    for _ in 0..MAX_EXTENSIONS {
        let byte = |at: usize| data.get(at).copied().ok_or(Skip::Unparsed);
        match proto {
            HOP_BY_HOP | ROUTING | DESTINATION => {
                let length = (usize::from(byte(header + 1)?) + 1) * 8;
                (proto, header) = (byte(header)?, header + length);
            }
            AUTHENTICATION => {
                let length = (usize::from(byte(header + 1)?) + 2) * 4;
                (proto, header) = (byte(header)?, header + length);
            }
            FRAGMENT => {
                let place = u16_at(data, header + 2)?;
                let id = u32::from(u16_at(data, header + 4)?) << 16 | u32::from(u16_at(data, header + 6)?);
                let (offset, more) = (usize::from(place & 0xfff8), place & 1 != 0);
                (proto, header) = (byte(header)?, header + 8);
                // An atomic fragment (RFC 6946) is whole.
                if more || offset > 0 {
                    fragment = Some(Part { id, offset, more });
                    break;
                }
            }
            _ => break,
        }
    }
    if total < header {
        return Err(Skip::Unparsed);
    }
    Ok(Datagram {
        proto,
        source: address(8),
        destination: address(24),
        ip_bytes: total as u32,
        length: total - header,
        data: data.get(header..total.min(data.len())).ok_or(Skip::Unparsed)?,
        fragment,
    })
}

#[inline]
fn tcp<'a>(datagram: &Datagram<'a>) -> Result<Decoded<'a>, Skip> {
    let fixed: &[u8; 20] = datagram.data.first_chunk().ok_or(Skip::Unparsed)?;
    let header = usize::from(fixed[12] >> 4) * 4;
    if header < 20 || header > datagram.length {
        return Err(Skip::Unparsed);
    }
    Ok(Decoded {
        tcp: true,
        source: (datagram.source, u16::from_be_bytes([fixed[0], fixed[1]])),
        destination: (datagram.destination, u16::from_be_bytes([fixed[2], fixed[3]])),
        ip_bytes: datagram.ip_bytes,
        seq: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
        ack: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
        tcp_flags: fixed[13],
        window: u16::from_be_bytes([fixed[14], fixed[15]]),
        payload: (datagram.length - header) as u32,
        // Options that were cut off take all payload with them.
        held: datagram.data.get(header..).unwrap_or_default(),
    })
}

fn udp<'a>(datagram: &Datagram<'a>) -> Result<Decoded<'a>, Skip> {
    let fixed: &[u8; 8] = datagram.data.first_chunk().ok_or(Skip::Unparsed)?;
    let room = datagram.length.checked_sub(8).ok_or(Skip::Unparsed)?;
    let length = usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
    // 0: a jumbogram (RFC 2675 4); more than IP has: believe IP
    let payload = if length < 8 { room } else { (length - 8).min(room) };
    let held = datagram.data.get(8..).unwrap_or_default();
    Ok(Decoded {
        tcp: false,
        source: (datagram.source, u16::from_be_bytes([fixed[0], fixed[1]])),
        destination: (datagram.destination, u16::from_be_bytes([fixed[2], fixed[3]])),
        ip_bytes: datagram.ip_bytes,
        seq: 0,
        ack: 0,
        tcp_flags: 0,
        window: 0,
        payload: payload as u32,
        held: held.get(..payload).unwrap_or(held),
    })
}
