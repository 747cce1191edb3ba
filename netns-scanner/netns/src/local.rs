//! The local table: what a namespace takes as its own, also where no link has such an address
//! (`ip route add local 192.0.2.0/24 dev lo`).

use crate::own::Network;
use crate::route::{NetlinkError, Part, RouteSocket};
use crate::wire::{self, Message};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `struct rtmsg`: family, lengths of destination and source, TOS, table, protocol, scope, type, flags.
const RTMSG: usize = 12;
const TABLE: usize = 4;
const TYPE: usize = 7;
const RTA_DST: u16 = 1;
const FAMILIES: [i32; 2] = [libc::AF_INET, libc::AF_INET6];

impl RouteSocket {
    /// Destinations of the namespace's local routes, those of its addresses among them, of `most`
    /// routes of that table in each family. Empty where the kernel cannot be asked for this table
    /// alone (before 5.0): the whole of its routes may be a million.
    ///
    /// # Errors
    /// See [`RouteSocket::dump`].
    pub fn local_networks(&mut self, most: usize) -> Result<Part<Network>, NetlinkError> {
        let mut all = Part { found: Vec::new(), is_whole: true };
        if self.set_strict(true).is_err() {
            return Ok(all);
        }
        for family in FAMILIES {
            let asked = self.dump_part(most, libc::RTM_GETROUTE, |request| request.raw(&fixed(family, 0)), network);
            let Part { found, is_whole } = match asked {
                Ok(part) => part,
                Err(error) => {
                    self.set_strict(false)?;
                    return Err(error);
                }
            };
            all.found.extend(found);
            all.is_whole &= is_whole;
            if !is_whole {
                return Ok(all);
            }
        }
        self.set_strict(false)?;
        Ok(all)
    }
}

/// `RTN_UNSPEC` asks for routes of any type: of one type alone, the kernel walks the others without a
/// pause.
fn fixed(family: i32, of_type: u8) -> [u8; RTMSG] {
    let mut fixed = [0; RTMSG];
    fixed[0] = family as u8;
    fixed[TABLE] = libc::RT_TABLE_LOCAL;
    fixed[TYPE] = of_type;
    fixed
}

/// Reads `RTM_NEWROUTE` of the local table; broadcast addresses and the like are none of these.
fn network(message: &Message<'_>) -> Option<Network> {
    let fixed = message.payload.get(..RTMSG)?;
    if message.kind != libc::RTM_NEWROUTE || fixed[TABLE] != libc::RT_TABLE_LOCAL || fixed[TYPE] != libc::RTN_LOCAL {
        return None;
    }
    let destination = wire::attrs_after(message.payload, RTMSG).find(|(kind, _)| *kind == RTA_DST);
    let destination = destination.map(|(_, value)| value);
    let ip: IpAddr = match (i32::from(fixed[0]), destination) {
        (libc::AF_INET, None) => Ipv4Addr::UNSPECIFIED.into(),
        (libc::AF_INET6, None) => Ipv6Addr::UNSPECIFIED.into(),
        (libc::AF_INET, Some(value)) => <[u8; 4]>::try_from(value).ok()?.into(),
        (libc::AF_INET6, Some(value)) => <[u8; 16]>::try_from(value).ok()?.into(),
        _ => return None,
    };
    Some(Network::of(ip, fixed[1]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Batch;

    fn read(family: i32, bits: u8, table: u8, destination: Option<&[u8]>) -> Option<Network> {
        let mut batch = Batch::new();
        batch.message(libc::RTM_NEWROUTE, 0, |message| {
            let mut fixed = fixed(family, libc::RTN_LOCAL);
            (fixed[1], fixed[TABLE]) = (bits, table);
            message.raw(&fixed);
            if let Some(destination) = destination {
                message.attr(RTA_DST, destination);
            }
        });
        wire::messages(batch.bytes()).next().and_then(|message| network(&message))
    }

    #[test]
    fn a_local_route_is_read_and_what_is_none_or_broken_is_not() {
        let local = libc::RT_TABLE_LOCAL;
        let some = |ip: [u8; 4], bits| Some(Network::of(ip.into(), bits));
        assert_eq!(read(libc::AF_INET, 24, local, Some(&[192, 0, 2, 0])), some([192, 0, 2, 0], 24));
        assert_eq!(read(libc::AF_INET, 0, local, None), some([0, 0, 0, 0], 0));
        let six = Network::of(IpAddr::from([0x20; 16]), 64);
        assert_eq!(read(libc::AF_INET6, 64, local, Some(&[0x20; 16])), Some(six));
        assert_eq!(read(libc::AF_INET, 24, libc::RT_TABLE_MAIN, Some(&[192, 0, 2, 0])), None);
        assert_eq!(read(libc::AF_INET, 24, local, Some(&[192, 0])), None);
        assert_eq!(read(libc::AF_INET6, 24, local, Some(&[192, 0, 2, 0])), None);
        assert_eq!(read(77, 24, local, Some(&[192, 0, 2, 0])), None);
        let cut = Message { kind: libc::RTM_NEWROUTE, flags: 0, seq: 0, payload: &[0; RTMSG - 1] };
        assert_eq!(network(&cut), None);
    }
}
