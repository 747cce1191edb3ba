use crate::wire::{self, Message, Payload};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `struct ifinfomsg`: family, pad, type, index, flags, change.
const IFINFOMSG: usize = 16;
/// `struct ifaddrmsg`: family, prefix length, flags, scope, index.
const IFADDRMSG: usize = 8;
/// `RTEXT_FILTER_SKIP_STATS`: no counters, which are most of an entry's bytes.
const SKIP_STATS: u32 = 8;

const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_INFO_KIND: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;

/// A network interface. `index` means something only together with its namespace: it repeats in every one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number of the interface (`ifi_index`), from 1 on.
    pub index: u32,
    /// `IFLA_IFNAME`; what is not UTF-8 in it is replaced. Empty where the message has none.
    pub name: String,
    /// `IFF_*`.
    pub flags: u32,
    /// `ARPHRD_*`: 1 for Ethernet, 772 for loopback, 65534 for links without a link-layer header (tun, WireGuard).
    pub mac_type: u16,
    /// Bytes.
    pub mtu: u32,
    /// The driver's name for virtual links ("veth", "bridge"); none for loopback and hardware.
    pub kind: Option<String>,
    /// The interface that this one is made on, or its other end (`IFLA_LINK`), in its own namespace
    /// or in another; 0 where there is none.
    pub link: u32,
    /// Whether `link` is a number of another namespace (`IFLA_LINK_NETNSID` is there).
    pub link_elsewhere: bool,
    /// The bridge, bond or the like that this one is a port of (`IFLA_MASTER`); 0 for none.
    pub master: u32,
}

impl Link {
    /// Whether it leads out of its namespace by itself: its other end or what it is made upon is in
    /// another one, or it is hardware. Whatever a container makes for itself (a bridge, a dummy, a
    /// VLAN or a veth pair within its namespace, a tunnel) does not.
    #[must_use]
    pub fn leads_out(&self) -> bool {
        !self.loopback() && (self.link_elsewhere || (self.kind.is_none() && self.link == 0))
    }

    /// Switched on by its administrator (`IFF_UP`). It may still have no carrier.
    #[must_use]
    pub fn up(&self) -> bool {
        self.flags & (libc::IFF_UP as u32) != 0
    }

    /// `IFF_LOOPBACK`: the namespace's own `lo`.
    #[must_use]
    pub fn loopback(&self) -> bool {
        self.flags & (libc::IFF_LOOPBACK as u32) != 0
    }

    /// Reads `RTM_NEWLINK` and `RTM_DELLINK`.
    #[must_use]
    pub fn parse(message: &Message<'_>) -> Option<Link> {
        if message.kind != libc::RTM_NEWLINK && message.kind != libc::RTM_DELLINK {
            return None;
        }
        let fixed = message.payload.get(..IFINFOMSG)?;
        // Bridges send RTM_NEWLINK and RTM_DELLINK of their ports in their own family; the port
        // itself neither comes nor goes.
        if fixed.first() != Some(&0) {
            return None;
        }
        let mut link = Link {
            index: wire::read_u32(fixed, 4)?,
            name: String::new(),
            flags: wire::read_u32(fixed, 8)?,
            mac_type: wire::read_u16(fixed, 2)?,
            mtu: 0,
            kind: None,
            link: 0,
            link_elsewhere: false,
            master: 0,
        };
        for (kind, value) in wire::attrs_after(message.payload, IFINFOMSG) {
            match kind {
                IFLA_IFNAME => link.name = wire::text(value),
                IFLA_MTU => link.mtu = wire::read_u32(value, 0).unwrap_or(0),
                IFLA_LINK => link.link = wire::read_u32(value, 0).unwrap_or(0),
                IFLA_LINK_NETNSID => link.link_elsewhere = true,
                IFLA_MASTER => link.master = wire::read_u32(value, 0).unwrap_or(0),
                IFLA_LINKINFO => {
                    link.kind =
                        wire::attrs(value).find(|(kind, _)| *kind == IFLA_INFO_KIND).map(|(_, name)| wire::text(name));
                }
                _ => {}
            }
        }
        Some(link)
    }
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IfAddress {
    /// The interface that has it, as [`Link::index`].
    pub index: u32,
    /// Our own end's, on point-to-point links too.
    pub ip: IpAddr,
    /// Bits of the network part: 0 to 32 or 128.
    pub prefix: u8,
    /// `RT_SCOPE_*`: 0 global, 253 link, 254 host.
    pub scope: u8,
    /// [`Link::leads_out`] of its interface, where that was read, too ([`IfAddress::among`]).
    pub leads_out: bool,
}

impl IfAddress {
    /// Says of each address whether its interface leads out. `links` are all of the namespace.
    pub fn among(addresses: &mut [IfAddress], links: &[Link]) {
        let mut out: Vec<u32> = links.iter().filter(|link| link.leads_out()).map(|link| link.index).collect();
        out.sort_unstable();
        for address in addresses {
            address.leads_out = out.binary_search(&address.index).is_ok();
        }
    }

    /// Reads `RTM_NEWADDR` and `RTM_DELADDR`.
    #[must_use]
    pub fn parse(message: &Message<'_>) -> Option<IfAddress> {
        if message.kind != libc::RTM_NEWADDR && message.kind != libc::RTM_DELADDR {
            return None;
        }
        let fixed = message.payload.get(..IFADDRMSG)?;
        let family = i32::from(*fixed.first()?);
        let value_of = |wanted| wire::attrs_after(message.payload, IFADDRMSG).find(|(kind, _)| *kind == wanted);
        // On a point-to-point link IFA_ADDRESS is the peer's; IFA_LOCAL, when there, is always
        // ours. IPv6 has it only with a peer.
        let (_, value) = value_of(IFA_LOCAL).or_else(|| value_of(IFA_ADDRESS))?;
        let ip = address(family, value)?;
        let index = wire::read_u32(fixed, 4)?;
        Some(IfAddress { index, ip, prefix: *fixed.get(1)?, scope: *fixed.get(3)?, leads_out: false })
    }
}

fn address(family: i32, value: &[u8]) -> Option<IpAddr> {
    match family {
        libc::AF_INET => Some(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?).into()),
        libc::AF_INET6 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?).into()),
        _ => None,
    }
}

pub(crate) fn link_request(request: &mut Payload<'_>) {
    request.raw(&[0; IFINFOMSG]);
    request.attr_u32(IFLA_EXT_MASK, SKIP_STATS);
}

pub(crate) fn one_link_request(request: &mut Payload<'_>, index: u32) {
    let mut fixed = [0; IFINFOMSG];
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    request.raw(&fixed);
    request.attr_u32(IFLA_EXT_MASK, SKIP_STATS);
}

/// Of one link and family, where dumps are strict.
pub(crate) fn addresses_of_request(request: &mut Payload<'_>, family: i32, index: u32) {
    let mut fixed = [0; IFADDRMSG];
    fixed[0] = family as u8;
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    request.raw(&fixed);
}

pub(crate) fn address_request(request: &mut Payload<'_>) {
    request.raw(&[0; IFADDRMSG]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Batch;

    fn message(kind: u16, fill: impl FnOnce(&mut Payload<'_>)) -> Batch {
        let mut batch = Batch::new();
        batch.message(kind, 0, fill);
        batch
    }

    fn read<T>(batch: &Batch, parse: impl Fn(&Message<'_>) -> Option<T>) -> Option<T> {
        wire::messages(batch.bytes()).find_map(|message| parse(&message))
    }

    #[test]
    fn a_link_is_read_with_its_name_flags_mtu_and_driver() {
        let batch = message(libc::RTM_NEWLINK, |payload| {
            payload.raw(&[0, 0, 1, 0, 4, 0, 0, 0, 0x43, 0x10, 0, 0, 0, 0, 0, 0]);
            payload.attr_str(IFLA_IFNAME, "eth0");
            payload.attr_u32(IFLA_MTU, 1450);
            payload.nest(IFLA_LINKINFO, |inner| inner.attr_str(IFLA_INFO_KIND, "veth"));
            payload.attr_u32(IFLA_LINK, 7);
            payload.attr_u32(IFLA_LINK_NETNSID, 0);
            payload.attr_u32(IFLA_MASTER, 9);
        });
        let link = read(&batch, Link::parse).expect("a link");
        assert_eq!((link.link, link.link_elsewhere, link.master), (7, true, 9));
        assert_eq!((link.index, link.name.as_str(), link.mtu, link.kind.as_deref()), (4, "eth0", 1450, Some("veth")));
        assert!(link.up() && !link.loopback());
        assert_eq!(link.mac_type, 1);
    }

    #[test]
    fn a_bridges_news_of_its_ports_is_no_link() {
        let batch =
            message(libc::RTM_DELLINK, |payload| payload.raw(&[7, 0, 1, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
        assert_eq!(read(&batch, Link::parse), None);
    }

    #[test]
    fn the_address_of_a_point_to_point_link_is_the_local_one_in_either_order() {
        let ours = IpAddr::from([10, 0, 0, 1]);
        for (first, second) in [
            ((IFA_ADDRESS, [10, 0, 0, 2]), (IFA_LOCAL, [10, 0, 0, 1])),
            ((IFA_LOCAL, [10, 0, 0, 1]), (IFA_ADDRESS, [10, 0, 0, 2])),
        ] {
            let batch = message(libc::RTM_NEWADDR, |payload| {
                payload.raw(&[2, 32, 0, 0, 4, 0, 0, 0]);
                payload.attr(first.0, &first.1);
                payload.attr(second.0, &second.1);
            });
            assert_eq!(
                read(&batch, IfAddress::parse),
                Some(IfAddress { index: 4, ip: ours, prefix: 32, scope: 0, leads_out: false })
            );
        }
    }

    #[test]
    fn what_a_container_makes_for_itself_does_not_lead_out() {
        // (flags, kind, what it is made upon, in another namespace)
        let link = |flags: i32, kind: Option<&str>, below: Option<u32>, elsewhere: bool| {
            let batch = message(libc::RTM_NEWLINK, |payload| {
                payload.raw(&[0, 0, 1, 0, 4, 0, 0, 0]);
                payload.raw(&flags.to_ne_bytes());
                payload.raw(&[0; 4]);
                below.iter().for_each(|below| payload.attr_u32(IFLA_LINK, *below));
                if elsewhere {
                    payload.attr_u32(IFLA_LINK_NETNSID, 0);
                }
                kind.iter().for_each(|kind| {
                    payload.nest(IFLA_LINKINFO, |inner| inner.attr_str(IFLA_INFO_KIND, kind));
                });
            });
            read(&batch, Link::parse).expect("a link").leads_out()
        };
        for (kind, below) in [("veth", 7), ("macvlan", 2), ("ipvlan", 2), ("netkit", 7), ("vlan", 2)] {
            assert!(link(0, Some(kind), Some(below), true), "{kind} of another namespace");
            assert!(!link(0, Some(kind), Some(below), false), "{kind} within this one");
        }
        assert!(link(0, None, None, false), "hardware");
        assert!(!link(libc::IFF_LOOPBACK, None, None, false), "lo");
        for kind in ["dummy", "bridge", "tun", "wireguard", "ifb", "vxlan", "ipip", "bond"] {
            assert!(!link(0, Some(kind), None, false), "{kind}");
        }
        // An unbound tunnel says that it is upon interface 0.
        assert!(!link(0, Some("sit"), Some(0), false));
    }

    #[test]
    fn an_address_of_the_wrong_length_is_none() {
        let batch = message(libc::RTM_NEWADDR, |payload| {
            payload.raw(&[2, 32, 0, 0, 4, 0, 0, 0]);
            payload.attr(IFA_LOCAL, &[10, 0, 0]);
        });
        assert_eq!(read(&batch, IfAddress::parse), None);
    }
}
