//! Which addresses are a namespace's own, and which packets it only passes on: a pure choice over
//! its links, addresses and local routes.
//!
//! A namespace that routes (Docker in a pod, a VPN, an egress gateway) shows packets that are none
//! of its processes'. They are told by their addresses: what it is an end of has one of its own.
//! Where the addresses do not tell, it is an end: to count twice is better than never.

use crate::{IfAddress, Link};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses that are told apart. A namespace that has more is an end of all it shows: whoever may
/// add addresses can add any number of them.
pub const MOST: usize = 1024;
/// Networks, likewise.
const MOST_NETWORKS: usize = 64;
/// A guest or a bridge of its makes packets with addresses that no link here has.
const OF_GUESTS: [&str; 2] = ["macvtap", "ipvtap"];
/// What hands on packets of its ports, and has addresses of its own if anything has.
const MASTERS: [&str; 4] = ["bridge", "bond", "team", "vrf"];
const TUN: &str = "tun";
const ETHERNET: u16 = 1;

/// What belongs to one namespace. The default is one of which nothing is known: an end of all it shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// Sorted.
    addresses: Vec<IpAddr>,
    networks: Vec<Network>,
    /// Whether it has an address that others reach, in IPv4 and in IPv6.
    is_known: [bool; 2],
    /// There are guests whose addresses may be in none of the above.
    has_guests: bool,
}

/// A range of addresses: a prefix and the number of its bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network {
    first: IpAddr,
    bits: u8,
}

impl Network {
    /// The one that `ip` is in. More bits than an address has are all of them.
    #[must_use]
    pub fn of(ip: IpAddr, bits: u8) -> Network {
        let first = match ip {
            IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() & mask4(bits)).into(),
            IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & mask6(bits)).into(),
        };
        Network { first, bits }
    }

    fn has(&self, ip: IpAddr) -> bool {
        Network::of(ip, self.bits).first == self.first
    }

    /// The only address in it.
    fn single(&self) -> Option<IpAddr> {
        let all = if self.first.is_ipv4() { 32 } else { 128 };
        (self.bits >= all).then_some(self.first)
    }

    /// The address that means all of them, where there is one.
    fn broadcast(&self) -> Option<IpAddr> {
        match self.first {
            IpAddr::V4(first) if self.bits < 31 => {
                Some(Ipv4Addr::from_bits(first.to_bits() | !mask4(self.bits)).into())
            }
            _ => None,
        }
    }
}

fn mask4(bits: u8) -> u32 {
    u32::MAX.checked_shl(32_u32.saturating_sub(bits.into())).unwrap_or(0)
}

fn mask6(bits: u8) -> u128 {
    u128::MAX.checked_shl(128_u32.saturating_sub(bits.into())).unwrap_or(0)
}

impl Own {
    /// `links` and `addresses` are all of *one* namespace, `local` what its local routes send to
    /// itself.
    #[must_use]
    pub fn of(links: &[Link], addresses: &[IfAddress], local: &[Network]) -> Own {
        if addresses.len() > MOST {
            return Own::default();
        }
        let (guests, has_guests) = guests(links, addresses);
        let (single, local): (Vec<Network>, Vec<Network>) = local.iter().partition(|local| local.single().is_some());
        let mut networks: Vec<Network> = guests.into_iter().chain(local).collect();
        networks.sort_unstable();
        networks.dedup();
        let mut own: Vec<IpAddr> = addresses
            .iter()
            .flat_map(|address| [Some(address.ip), Network::of(address.ip, address.prefix).broadcast()])
            .flatten()
            .chain(single.iter().filter_map(Network::single))
            .collect();
        own.sort_unstable();
        own.dedup();
        if own.len() > MOST || networks.len() > MOST_NETWORKS {
            return Own::default();
        }
        let is_known =
            [false, true].map(|six| addresses.iter().any(|a| a.ip.is_ipv6() == six && is_reached_by_others(a)));
        Own { addresses: own, networks, is_known, has_guests }
    }

    /// Whether a packet between these two is only passed on. `local` is the end that the namespace
    /// would be: the destination of what comes in, the source of what goes out.
    #[must_use]
    pub fn passes_on(&self, local: IpAddr, remote: IpAddr) -> bool {
        if !self.is_known[usize::from(local.is_ipv6())] || self.has(local) || is_never_passed_on(local) {
            return false;
        }
        // Where the other end is its own, this one is surely not: it is the way of a guest's packet
        // between the guest and the namespace's edge, where it is counted.
        !self.has_guests || self.has(remote)
    }

    fn has(&self, ip: IpAddr) -> bool {
        ip.is_loopback()
            || self.addresses.binary_search(&ip).is_ok()
            || self.networks.iter().any(|network| network.has(ip))
    }
}

/// For all who are near, or for nobody.
fn is_never_passed_on(ip: IpAddr) -> bool {
    let is_near = match ip {
        IpAddr::V4(ip) => ip.is_broadcast(),
        // IPv4's are passed on where an administrator has it so: metadata services of clouds.
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    ip.is_multicast() || ip.is_unspecified() || is_near
}

fn is_reached_by_others(address: &IfAddress) -> bool {
    let is_link_local = match address.ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !is_link_local && !address.ip.is_loopback()
}

/// Networks that guests live in, and whether there may be guests elsewhere.
fn guests(links: &[Link], addresses: &[IfAddress]) -> (Vec<Network>, bool) {
    let kinds: HashMap<u32, &str> = links.iter().map(|link| (link.index, kind(link))).collect();
    let is_port = |link: &Link| kinds.get(&link.master) == Some(&"bridge");
    let mut by_link: HashMap<u32, Vec<&IfAddress>> = HashMap::new();
    for address in addresses.iter().filter(|address| is_reached_by_others(address)) {
        by_link.entry(address.index).or_default().push(address);
    }
    let has_wire = links.iter().any(|link| link.leads_out() && !is_port(link));
    let mut networks = Vec::new();
    let mut has_guests = false;
    for link in links.iter().filter(|link| !link.loopback()) {
        let on = match link.master {
            0 => link.index,
            master => master,
        };
        let of_on = || by_link.get(&on).into_iter().flatten();
        let is_tap = kind(link) == TUN && link.mac_type == ETHERNET;
        if is_tap {
            networks.extend(of_on().map(|address| Network::of(address.ip, address.prefix)));
        }
        let master = kinds.get(&link.master).copied().unwrap_or_default();
        // A bridge without an address, or with the only way out among its ports, joins them: who
        // lives behind them has addresses of the pod's network.
        let is_joined = link.master != 0
            && (!MASTERS.contains(&master) || (master == "bridge" && (!has_wire || of_on().next().is_none())));
        has_guests |= is_tap || is_joined || OF_GUESTS.contains(&kind(link));
    }
    (networks, has_guests)
}

fn kind(link: &Link) -> &str {
    link.kind.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LOOPBACK: u32 = libc::IFF_LOOPBACK as u32;

    /// `name kind@if5 master`, as `ip link` would tell of number 1 and up; `-` for no kind. A name
    /// that begins with "tap" is Ethernet.
    fn links(all: &[&str]) -> Vec<Link> {
        let link = |(place, text): (usize, &&str)| {
            let mut words = text.split(' ');
            let (name, kind) = (words.next().unwrap_or_default(), words.next().unwrap_or("-"));
            let master =
                words.next().and_then(|master| all.iter().position(|other| other.split(' ').next() == Some(master)));
            let (kind, elsewhere) = kind.split_once("@if").map_or((kind, None), |(kind, link)| (kind, Some(link)));
            Link {
                index: place as u32 + 1,
                name: name.to_owned(),
                flags: if name == "lo" { LOOPBACK } else { 0 },
                mac_type: if kind == TUN && !name.starts_with("tap") { 65_534 } else { ETHERNET },
                mtu: 1500,
                kind: (kind != "-").then(|| kind.to_owned()),
                link: elsewhere.map_or(0, |link| link.parse().expect("a number")),
                link_elsewhere: elsewhere.is_some(),
                master: master.map_or(0, |place| place as u32 + 1),
            }
        };
        all.iter().enumerate().map(link).collect()
    }

    /// `name 10.0.0.1/24`.
    fn addresses(links: &[Link], all: &[&str]) -> Vec<IfAddress> {
        let address = |text: &&str| {
            let (name, address) = text.split_once(' ').expect("a name and an address");
            let (ip, prefix) = address.split_once('/').expect("a prefix");
            let link = links.iter().find(|link| link.name == name).expect("a link of this name");
            let (ip, prefix) = (ip.parse().expect("an address"), prefix.parse().expect("a length"));
            IfAddress { index: link.index, ip, prefix, scope: 0, leads_out: link.leads_out() }
        };
        all.iter().map(address).collect()
    }

    fn own(links: &[&str], all: &[&str]) -> Own {
        let links = self::links(links);
        Own::of(&links, &addresses(&links, all), &[])
    }

    /// `local remote` of flows that it is an end of, and of those that it passes on.
    #[track_caller]
    fn check(own: &Own, ends: &[&str], passed_on: &[&str]) {
        let is_passed_on = |flow: &&str| {
            let (local, remote) = flow.split_once(' ').expect("two addresses");
            own.passes_on(local.parse().expect("an address"), remote.parse().expect("an address"))
        };
        let (wrong, right): (Vec<&str>, Vec<&str>) = ends.iter().chain(passed_on).partition(|flow| is_passed_on(flow));
        assert_eq!(wrong, passed_on, "passed on");
        assert_eq!(right, ends, "ends");
    }

    const POD: [&str; 2] = ["lo", "eth0 veth@if11"];
    const ETH0: [&str; 2] = ["lo 127.0.0.1/8", "eth0 10.1.0.5/24"];

    #[test]
    fn a_router_is_an_end_of_what_has_its_own_address_alone() {
        let router = own(
            &["lo", "eth0 veth@if11", "net1 veth@if12"],
            &[
                "lo 127.0.0.1/8",
                "lo 192.0.2.9/32",
                "eth0 10.1.0.5/24",
                "net1 10.2.0.1/24",
                "eth0 fd00::5/64",
                "eth0 fe80::5/64",
            ],
        );
        check(
            &router,
            &[
                "10.1.0.5 10.9.0.1",
                "10.2.0.1 10.2.0.7",
                "192.0.2.9 10.1.0.7",
                "fd00::5 fd00::9",
                "fe80::5 fe80::9",
                "127.0.0.1 127.0.0.1",
                "127.0.0.53 127.0.0.1",
            ],
            &[
                "10.9.0.1 10.2.0.7",
                "10.2.0.7 10.9.0.1",
                // Of its own networks, but others'.
                "10.1.0.6 10.2.0.7",
                "fd00::9 fd01::1",
                // Somebody else has its address, too.
                "10.9.0.1 10.1.0.5",
                // A cloud's metadata service behind an egress gateway.
                "169.254.169.254 10.2.0.7",
            ],
        );
    }

    #[test]
    fn what_all_hear_is_not_passed_on() {
        check(
            &own(&POD, &["eth0 10.1.0.5/24", "eth0 fd00::5/64"]),
            &[
                "224.0.0.251 10.1.0.7",
                "255.255.255.255 10.1.0.7",
                "10.1.0.255 10.1.0.7",
                "0.0.0.0 255.255.255.255",
                "ff02::fb fe80::7",
                "fe80::1 fe80::7",
                ":: ff02::16",
            ],
            &["10.2.0.255 10.1.0.7"],
        );
    }

    #[test]
    fn of_what_nothing_is_known_all_are_ends() {
        let flows = ["10.9.0.1 10.2.0.7", "fd00::9 fd01::1", "10.9.0.1 10.1.0.5"];
        check(&Own::default(), &flows, &[]);
        // As a sandbox leaves it that has taken the addresses for itself (gVisor).
        check(&own(&POD, &["lo 127.0.0.1/8", "eth0 fe80::5/64"]), &flows, &[]);
        check(&own(&POD, &["eth0 169.254.7.5/16"]), &flows, &[]);
        // Known in one of both only.
        check(&own(&POD, &ETH0), &flows[1..2], &[flows[0], flows[2]]);
        check(&own(&POD, &["eth0 fd00::5/64"]), &[flows[0], flows[2]], &flows[1..2]);
    }

    #[test]
    fn containers_in_a_pod_are_passed_on_between_it_and_them() {
        let docker = own(
            &["lo", "eth0 veth@if11", "docker0 bridge", "veth1 veth@if4 docker0", "veth2 veth@if6 docker0"],
            &["lo 127.0.0.1/8", "eth0 10.1.0.5/24", "docker0 172.17.0.1/16"],
        );
        check(
            &docker,
            // At eth0, with the pod's address; and what the pod itself says to them.
            &["10.1.0.5 10.9.0.1", "172.17.0.1 172.17.0.2"],
            &["10.9.0.1 172.17.0.2", "172.17.0.3 172.17.0.2"],
        );
        let vpn = own(
            &["lo", "eth0 veth@if11", "wg0 wireguard", "tun0 tun"],
            &["eth0 10.1.0.5/24", "wg0 10.8.0.1/24", "tun0 10.7.0.1/24"],
        );
        check(
            &vpn,
            &["10.8.0.1 10.8.0.2", "10.1.0.5 198.51.100.7"],
            &["10.9.0.1 10.8.0.2", "10.8.0.2 10.9.0.1", "10.9.0.1 10.7.0.2"],
        );
    }

    #[test]
    fn a_guest_on_the_pods_wire_is_the_pod() {
        let bridged = ["lo", "eth0-nic veth@if11 k6t-eth0", "k6t-eth0 bridge", "tap0 tun k6t-eth0"];
        let at_the_wire = ["10.1.0.5 10.9.0.1", "10.1.0.5 10.1.0.7"];
        check(&own(&bridged, &["lo 127.0.0.1/8", "k6t-eth0 169.254.75.10/32"]), &at_the_wire, &[]);
        // The pod has another interface, or keeps its guest's address on one that leads nowhere.
        let more = [&bridged[..], &["net1 veth@if12", "eth0 dummy"]].concat();
        check(&own(&more, &["net1 10.3.0.5/24"]), &at_the_wire, &[]);
        check(&own(&more, &["eth0 10.1.0.5/24"]), &at_the_wire, &["10.9.0.1 10.1.0.5"]);
        // A bridge with nothing but an address of its own, and guests behind it that have others.
        let lxc = ["lo", "eth0 veth@if11 br0", "br0 bridge", "veth1 veth@if4 br0"];
        check(&own(&lxc, &["br0 10.1.0.5/24"]), &["10.1.0.5 10.9.0.1", "10.1.0.6 10.9.0.1"], &["10.9.0.1 10.1.0.5"]);
        check(&own(&lxc, &[]), &["10.1.0.6 10.9.0.1"], &[]);
        for kind in OF_GUESTS {
            let passed_through = own(&["lo", "eth0 veth@if11", &format!("net1 {kind}@if3")], &ETH0);
            check(&passed_through, &["10.1.0.5 10.9.0.1", "10.3.0.9 10.9.0.1"], &[]);
        }
        let switched = own(&["lo", "eth0 veth@if11", "ovs-system openvswitch", "p1 veth@if4 ovs-system"], &ETH0);
        check(&switched, &["10.3.0.9 10.9.0.1"], &[]);
    }

    #[test]
    fn a_guest_behind_its_pods_address_is_an_end_at_the_pods_edge_alone() {
        let kubevirt = ["lo", "eth0 veth@if11", "k6t-eth0 bridge", "tap0 tun k6t-eth0"];
        check(
            &own(&kubevirt, &["eth0 10.1.0.5/24", "k6t-eth0 10.0.2.1/24"]),
            // At eth0; what the pod says to its guest; a guest without masquerade, at eth0.
            &["10.1.0.5 10.9.0.1", "10.0.2.1 10.0.2.2", "10.0.2.2 10.9.0.1"],
            &["10.9.0.1 10.0.2.2"],
        );
        // The guest has the address of the pod's interface, and both have it.
        let kata = own(&["lo", "eth0 veth@if11", "tap0_kata tun"], &ETH0);
        check(&kata, &["10.1.0.5 10.9.0.1", "10.1.0.5 10.1.0.7"], &["10.9.0.1 10.1.0.5"]);
        let firecracker = own(&["lo", "eth0 veth@if11", "tap0 tun"], &["eth0 10.1.0.5/24", "tap0 172.16.0.1/30"]);
        check(&firecracker, &["10.1.0.5 10.9.0.1", "172.16.0.2 10.9.0.1"], &["10.9.0.1 172.16.0.2"]);
    }

    #[test]
    fn what_its_local_routes_send_to_itself_is_its_own() {
        let links = links(&POD);
        let any_ip = [Network::of([192, 0, 2, 77].into(), 24), Network::of([127, 0, 0, 1].into(), 8)];
        let own = Own::of(&links, &addresses(&links, &ETH0), &any_ip);
        check(&own, &["192.0.2.200 10.9.0.1", "10.1.0.5 10.9.0.1"], &["192.0.3.1 10.9.0.1", "10.9.0.1 192.0.2.200"]);
        // A route for each address is no network: there may be many.
        let each: Vec<Network> = (0..200).map(|n| Network::of([198, 51, 100, n].into(), 32)).collect();
        let own = Own::of(&links, &addresses(&links, &ETH0), &each);
        check(&own, &["198.51.100.7 10.9.0.1"], &["198.51.100.201 10.9.0.1"]);
        let everything = Own::of(&links, &addresses(&links, &ETH0), &[Network::of([0, 0, 0, 0].into(), 0)]);
        check(&everything, &["10.9.0.1 10.2.0.7"], &[]);
    }

    #[test]
    fn who_adds_addresses_without_end_is_an_end_of_all() {
        let links = links(&POD);
        let many = |count: u32| -> Vec<IfAddress> {
            let address = |n: u32| IfAddress {
                index: 2,
                ip: Ipv4Addr::from_bits(0x0a00_0000 + n).into(),
                prefix: 32,
                scope: 0,
                leads_out: true,
            };
            (0..count).map(address).collect()
        };
        let flow = ["10.9.0.1 10.2.0.7"];
        check(&Own::of(&links, &many(1000), &[]), &[], &flow);
        check(&Own::of(&links, &many(27_000), &[]), &flow, &[]);
        let networks: Vec<Network> = (0..100_u8).map(|n| Network::of([192, 0, n, 0].into(), 24)).collect();
        check(&Own::of(&links, &many(1), &networks), &flow, &[]);
    }

    proptest! {
        #[test]
        fn what_is_its_own_is_never_passed_on(
            bits in 0_u8..=255, local in any::<[u8; 4]>(), remote in any::<[u8; 4]>(), six in any::<[u8; 16]>(),
        ) {
            let (local, remote) = (IpAddr::from(local), IpAddr::from(remote));
            let of = |ip| IfAddress { index: 2, ip, prefix: bits, scope: 0, leads_out: true };
            for own in [local, remote, six.into()].map(|ip| Own::of(&[], &[of(ip)], &[Network::of(ip, bits)])) {
                for ip in [local, remote, six.into()] {
                    prop_assert!(!own.has(ip) || !own.passes_on(ip, remote));
                }
            }
            prop_assert!(Network::of(six.into(), bits).has(six.into()));
        }
    }
}
