//! Tunnels over UDP: overlays between nodes, VXLAN (RFC 7348) and Geneve (RFC 8926). What they carry
//! are flows like any others; the tunnels themselves are counted here, apart from them.

use super::link::{self, Above, IPV4, IPV6, u16_at};
use super::skip::Skip;
use flow_model::Ts;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

/// Pairs of ends that are told apart; an overlay of a cluster of 100 nodes, seen at one of them, has 99.
const MAX_TUNNELS: usize = 4096;

/// What encloses a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// RFC 7348.
    Vxlan,
    /// RFC 8926.
    Geneve,
}

impl Kind {
    /// The name in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Vxlan => "vxlan",
            Kind::Geneve => "geneve",
        }
    }
}

/// What went through the tunnels between two ends, whatever their ports: those differ by the flow
/// that is carried. Pairs are [from the first end, to it].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// What encloses the packets.
    pub kind: Kind,
    /// The one that sent first, and the other.
    pub ends: [IpAddr; 2],
    /// Packets of the tunnel, however many it carries.
    pub packets: [u64; 2],
    /// Bytes of its IP packets.
    pub bytes: [u64; 2],
    /// When the first one was seen.
    pub first: Ts,
}

/// All tunnels of a capture.
#[derive(Debug, Default)]
pub(super) struct Tunnels {
    places: HashMap<(Kind, u128, u128), usize>,
    seen: Vec<Tunnel>,
    /// Packets of tunnels beyond the bound.
    pub beyond: u64,
}

impl Tunnels {
    /// A packet of `bytes` went from one end to the other.
    pub fn count(&mut self, kind: Kind, [from, to]: [u128; 2], bytes: u32, at: Ts) {
        let key = (kind, from.min(to), from.max(to));
        let full = self.seen.len() >= MAX_TUNNELS;
        let place = match self.places.get(&key) {
            Some(&place) => place,
            None if full => {
                self.beyond += 1;
                return;
            }
            None => {
                let ends = [from, to].map(|address| IpAddr::V6(Ipv6Addr::from_bits(address)).to_canonical());
                self.seen.push(Tunnel { kind, ends, packets: [0; 2], bytes: [0; 2], first: at });
                self.places.insert(key, self.seen.len() - 1);
                self.seen.len() - 1
            }
        };
        let Some(tunnel) = self.seen.get_mut(place) else { return };
        let way = usize::from(tunnel.ends.first() != Some(&IpAddr::V6(Ipv6Addr::from_bits(from)).to_canonical()));
        tunnel.packets[way] += 1;
        tunnel.bytes[way] += u64::from(bytes);
    }

    pub fn into_seen(self) -> Vec<Tunnel> {
        self.seen
    }
}

/// The packet inside, where the payload of a datagram is one of a tunnel: by the port that it goes to
/// and by its header. `None` for any other.
pub(super) fn open(port: u16, payload: &[u8]) -> Option<(Kind, Result<Above<'_>, Skip>)> {
    match port {
        // IANA's, and Linux's own from before, which flannel keeps.
        4789 | 8472 => vxlan(payload).map(|above| (Kind::Vxlan, above)),
        6081 => geneve(payload).map(|above| (Kind::Geneve, above)),
        _ => None,
    }
}

fn vxlan(bytes: &[u8]) -> Option<Result<Above<'_>, Skip>> {
    let &[flags, a, b, c, _, _, _, last] = bytes.first_chunk::<8>()?;
    // The network is given; all else is reserved, but for the group policy that Linux may put there.
    let policy = flags & 0x80 != 0;
    let vxlan = flags & 0x7f == 0x08 && last == 0 && (policy || [a, b, c] == [0; 3]);
    vxlan.then(|| link::ethernet(bytes, 8))
}

fn geneve(bytes: &[u8]) -> Option<Result<Above<'_>, Skip>> {
    let &[version, flags, _, _, _, _, _, last] = bytes.first_chunk::<8>()?;
    // Version 0; of the flags two are known.
    if version >> 6 != 0 || flags & 0x3f != 0 || last != 0 {
        return None;
    }
    let header = 8 + usize::from(version & 0x3f) * 4;
    Some(match u16_at(bytes, 2).ok()? {
        0x6558 => link::ethernet(bytes, header),
        kind @ (IPV4 | IPV6) => bytes.get(header..).ok_or(Skip::Unparsed).map(|data| Above { kind, data, header }),
        // Control messages, and what is no IP.
        _ => Err(Skip::NotIp),
    })
}
