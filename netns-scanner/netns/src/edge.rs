//! Which interfaces of a namespace a packet is counted at: a pure choice over the list of links.
//!
//! A packet of a VLAN passes the VLAN's interface and the one below it; one that a bond takes, the
//! bond's and a port's. It is counted at one of them, the one nearest to the namespace's edge. What
//! wraps packets up (tunnels, encryption) makes other packets of them, and all of it is counted.

use crate::Link;
use std::collections::{HashMap, HashSet};

/// Made on an interface of the same namespace: each of their packets passes that one, too, either way.
const ON_ANOTHER: [&str; 5] = ["vlan", "macvlan", "macvtap", "ipvlan", "ipvtap"];
/// Take their packets from ports, and give them to these.
const OF_PORTS: [&str; 4] = ["bond", "team", "bridge", "vrf"];
/// Interfaces that have `IFLA_LINK` for another reason: the other end, or the way that what they
/// wrapped up goes.
const WRAPPED: [&str; 18] = [
    "veth",
    "netkit",
    "vxlan",
    "geneve",
    "gre",
    "gretap",
    "erspan",
    "ip6gre",
    "ip6gretap",
    "ip6erspan",
    "ipip",
    "sit",
    "ip6tnl",
    "vti",
    "vti6",
    "xfrm",
    "macsec",
    "wireguard",
];
/// Made by a program: a guest behind it (Ethernet), or a tunnel's plain side.
const TUN: &str = "tun";
const ETHERNET: u16 = 1;
/// Where traffic is sent to be shaped before it goes on.
const IFB: &str = "ifb";
/// Interfaces made on each other: the kernel's own bound (`MAX_NEST_DEV`), and one.
const DEEPEST: usize = 9;

/// Doubts that are told: who may make interfaces can make any number of them.
const MOST_DOUBTS: usize = 4;

/// The choice for one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edges {
    /// Interfaces whose packets are counted at another one, sorted.
    inner: Vec<u32>,
    /// Where a packet may be counted more than once, or not at all, a sentence each: the links do not
    /// tell. The first few; names in them are escaped, because containers give them.
    pub doubts: Vec<String>,
}

impl Edges {
    /// Whether the packets of this interface are counted at another one.
    #[must_use]
    pub fn is_inner(&self, index: u32) -> bool {
        self.inner.binary_search(&index).is_ok()
    }
}

/// Chooses for all links of *one* namespace. Where the links do not tell that an interface's packets
/// pass another one, it is counted at: twice is better than never.
#[must_use]
pub fn edges(links: &[Link]) -> Edges {
    let place = Place::of(links);
    let mut doubts = Vec::new();
    // Interfaces whose packets pass these as well.
    let mut passing: Vec<(&Link, Vec<u32>)> = Vec::new();
    let mut sure: HashSet<u32> = HashSet::new();
    for link in links.iter().filter(|link| !link.loopback()) {
        match place.passed_by(link) {
            Some(others) => passing.push((link, others)),
            None => {
                sure.insert(link.index);
                doubts.extend(place.doubt(link));
            }
        }
    }
    // From the edge inwards: only what passes an interface that is counted at may be left out there.
    let mut inner = Vec::new();
    for _ in 0..DEEPEST {
        let (settled, open): (Vec<_>, Vec<_>) =
            passing.into_iter().partition(|(_, others)| others.iter().all(|other| sure.contains(other)));
        passing = open;
        if settled.is_empty() {
            break;
        }
        for (link, _) in settled {
            sure.insert(link.index);
            inner.push(link.index);
            doubts.extend(place.doubt(link));
        }
    }
    let lost = |link: &Link| format!("{} is made on an interface that is not listed", link.name.escape_debug());
    doubts.extend(passing.iter().map(|(link, _)| lost(link)));
    inner.sort_unstable();
    doubts.sort_unstable();
    doubts.truncate(MOST_DOUBTS);
    Edges { inner, doubts }
}

/// The links of a namespace by what leads from one to another.
struct Place<'a> {
    by_index: HashMap<u32, &'a Link>,
    ports: HashMap<u32, Vec<&'a Link>>,
    /// Masters with a port that is no program's.
    wired: HashSet<u32>,
}

impl<'a> Place<'a> {
    fn of(links: &'a [Link]) -> Place<'a> {
        let mut ports: HashMap<u32, Vec<&Link>> = HashMap::new();
        for link in links.iter().filter(|link| link.master != 0 && !link.loopback()) {
            ports.entry(link.master).or_default().push(link);
        }
        let is_wired = |ports: &Vec<&Link>| ports.iter().any(|port| kind(port) != TUN);
        let wired = ports.iter().filter(|(_, ports)| is_wired(ports)).map(|(master, _)| *master).collect();
        Place { by_index: links.iter().map(|link| (link.index, link)).collect(), ports, wired }
    }

    fn ports(&self, of: &Link) -> &[&'a Link] {
        self.ports.get(&of.index).map_or(&[], Vec::as_slice)
    }

    /// The bridge that this one is a port of.
    fn bridge(&self, of: &Link) -> Option<&'a Link> {
        self.by_index.get(&of.master).filter(|master| kind(master) == "bridge").copied()
    }

    /// Interfaces of which each packet of this one passes one as well; `None` where it is an edge.
    fn passed_by(&self, link: &Link) -> Option<Vec<u32>> {
        match kind(link) {
            stacked if ON_ANOTHER.contains(&stacked) && is_on_another(link) => Some(vec![link.link]),
            master if OF_PORTS.contains(&master) && !self.ports(link).is_empty() => {
                let all = !self.wired.contains(&link.index);
                let passed = self.ports(link).iter().filter(|port| all || kind(port) != TUN);
                Some(passed.map(|port| port.index).collect())
            }
            // A guest on the pod's own wire (as KubeVirt bridges it).
            TUN => {
                self.bridge(link).filter(|bridge| self.wired.contains(&bridge.index)).map(|bridge| vec![bridge.index])
            }
            // Packets come from another interface, and go on to it.
            IFB => Some(Vec::new()),
            _ => None,
        }
    }

    /// Why a packet may be counted here and elsewhere, too, or nowhere.
    fn doubt(&self, link: &Link) -> Option<String> {
        let name = link.name.escape_debug();
        let kind = kind(link);
        let several = || self.ports(link).iter().filter(|port| self::kind(port) != TUN).count() > 1;
        if kind == "bridge" && several() {
            return Some(format!("what {name} passes on is counted at each of its ports"));
        }
        if kind == TUN && self.passed_by(link).is_some() {
            return Some(format!("what goes between {name} and the namespace itself is not counted"));
        }
        if kind == TUN && link.mac_type == ETHERNET && self.bridge(link).is_none() {
            return Some(format!("what is passed on between {name} and others is counted at both"));
        }
        let is_known = [&ON_ANOTHER[..], &OF_PORTS, &WRAPPED].iter().any(|kinds| kinds.contains(&kind));
        (is_on_another(link) && !is_known && self.by_index.contains_key(&link.link))
            .then(|| format!("{name} ({kind}) is made on another interface, and counted at beside it"))
    }
}

fn kind(link: &Link) -> &str {
    link.kind.as_deref().unwrap_or_default()
}

/// Made on another one of this namespace, or its other end.
fn is_on_another(link: &Link) -> bool {
    link.link != 0 && link.link != link.index && !link.link_elsewhere
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: u32 = libc::IFF_LOOPBACK as u32;

    /// As the kernel lists it. `link`: `@5` in this namespace, `@if5` in another, as `ip link` prints it.
    fn link(index: u32, name: &str, kind: &str, link: &str, master: u32) -> Link {
        let number = link.trim_start_matches("@if").trim_start_matches('@');
        Link {
            index,
            name: name.to_owned(),
            flags: if name == "lo" { LOOPBACK } else { 0 },
            mac_type: if name.starts_with("tun") { 65_534 } else { 1 },
            mtu: 1500,
            kind: (!kind.is_empty()).then(|| kind.to_owned()),
            link: number.parse().unwrap_or(0),
            link_elsewhere: link.starts_with("@if"),
            master,
        }
    }

    /// Names of the interfaces that are counted at, and how many doubts there are.
    fn chosen(links: &[Link]) -> (String, usize) {
        let Edges { inner: _, doubts } = edges(links);
        let edges = edges(links);
        let at = links.iter().filter(|link| !link.loopback() && !edges.is_inner(link.index));
        (at.map(|link| link.name.as_str()).collect::<Vec<_>>().join(" "), doubts.len())
    }

    #[track_caller]
    fn check(links: &[Link], expected: &str, doubts: usize) {
        assert_eq!(chosen(links), (expected.to_owned(), doubts));
        let mut turned = links.to_vec();
        turned.reverse();
        let backwards: Vec<&str> = expected.split(' ').rev().collect();
        assert_eq!(chosen(&turned), (backwards.join(" "), doubts), "in whatever order they are listed");
    }

    fn lo() -> Link {
        link(1, "lo", "", "", 0)
    }

    fn eth0() -> Link {
        link(2, "eth0", "veth", "@if11", 0)
    }

    #[test]
    fn a_plain_pod_is_counted_at_all_that_it_has() {
        check(&[lo(), eth0()], "eth0", 0);
        check(&[lo(), eth0(), link(3, "net1", "veth", "@if12", 0)], "eth0 net1", 0);
        check(&[lo(), link(2, "eth0", "netkit", "@if8", 0)], "eth0", 0);
        check(&[lo(), link(2, "eth0", "", "", 0)], "eth0", 0);
    }

    #[test]
    fn what_is_made_on_an_interface_elsewhere_is_an_edge_and_on_one_here_is_not() {
        for kind in ON_ANOTHER {
            check(&[lo(), link(2, "eth0", kind, "@if2", 0)], "eth0", 0);
            check(&[lo(), eth0(), link(3, "upper", kind, "@2", 0)], "eth0", 0);
        }
    }

    #[test]
    fn a_bond_or_team_is_counted_at_its_ports_and_so_is_a_vlan_on_it() {
        for kind in ["bond", "team"] {
            check(
                &[
                    lo(),
                    link(2, "eth0", "", "", 4),
                    link(3, "eth1", "", "", 4),
                    link(4, "bond0", kind, "", 0),
                    link(5, "bond0.7", "vlan", "@4", 0),
                    link(6, "mac0", "macvlan", "@5", 0),
                ],
                "eth0 eth1",
                0,
            );
            check(&[lo(), eth0(), link(4, "bond0", kind, "", 0)], "eth0 bond0", 0);
        }
    }

    #[test]
    fn a_bridge_is_counted_at_its_ports_and_one_with_several_says_so() {
        check(&[lo(), link(2, "eth0", "veth", "@if11", 3), link(3, "br0", "bridge", "", 0)], "eth0", 0);
        check(&[lo(), eth0(), link(3, "docker0", "bridge", "", 0)], "eth0 docker0", 0);
        let docker = [
            lo(),
            eth0(),
            link(3, "docker0", "bridge", "", 0),
            link(5, "veth1", "veth", "@if4", 3),
            link(7, "veth2", "veth", "@if6", 3),
        ];
        check(&docker[..4], "eth0 veth1", 0);
        check(&docker, "eth0 veth1 veth2", 1);
    }

    #[test]
    fn a_guest_on_the_pods_wire_is_counted_at_the_wire_and_one_behind_a_bridge_of_its_own_there() {
        let wire = [
            lo(),
            link(2, "eth0-nic", "veth", "@if11", 3),
            link(3, "k6t-eth0", "bridge", "", 0),
            link(4, "tap0", "tun", "", 3),
        ];
        check(&wire, "eth0-nic", 1);
        let masqueraded = [lo(), eth0(), link(3, "k6t-eth0", "bridge", "", 0), link(4, "tap0", "tun", "", 3)];
        check(&masqueraded, "eth0 tap0", 0);
        check(&[lo(), eth0(), link(3, "tap0_kata", "tun", "", 0)], "eth0 tap0_kata", 1);
    }

    #[test]
    fn a_tunnel_is_counted_inside_and_outside() {
        check(&[lo(), eth0(), link(3, "tun0", "tun", "", 0)], "eth0 tun0", 0);
        for kind in ["vxlan", "gretap", "wireguard", "macsec"] {
            check(&[lo(), eth0(), link(3, "inside", kind, "@2", 0)], "eth0 inside", 0);
        }
    }

    #[test]
    fn both_ends_of_a_pair_that_stays_here_are_counted_at() {
        check(&[lo(), link(2, "a", "veth", "@3", 0), link(3, "b", "veth", "@2", 0)], "a b", 0);
    }

    #[test]
    fn any_number_of_interfaces_is_chosen_from_and_few_doubts_are_told() {
        let mut links = vec![lo(), link(2, "br0", "bridge", "", 0)];
        for index in (3..60_000).step_by(3) {
            links.push(link(index, "port", "veth", "@if9", 2));
            links.push(link(index + 1, "tap", "tun", "", 2));
            links.push(link(index + 2, "odd", "hsr", &format!("@{index}"), 0));
        }
        let chosen = edges(&links);
        let counted_at = links.iter().filter(|link| !link.loopback() && !chosen.is_inner(link.index));
        assert!(counted_at.clone().all(|link| link.name == "port" || link.name == "odd"));
        assert_eq!((counted_at.count(), chosen.doubts.len()), (2 * 19_999, MOST_DOUBTS));
    }

    #[test]
    fn in_doubt_it_is_counted_at_and_says_so() {
        check(&[lo(), eth0(), link(3, "hsr0", "hsr", "@2", 0)], "eth0 hsr0", 1);
        check(&[lo(), link(3, "eth0.5", "vlan", "@2", 0)], "eth0.5", 1);
        check(&[lo(), link(3, "eth0.5", "vlan", "@1", 0)], "eth0.5", 1);
        // What the kernel never lists.
        check(&[lo(), link(2, "a", "vlan", "@3", 0), link(3, "b", "vlan", "@2", 0)], "a b", 2);
        check(
            &[lo(), link(2, "a", "bond", "", 3), link(3, "b", "bond", "", 2), link(4, "eth0", "", "", 0)],
            "a b eth0",
            2,
        );
    }

    #[test]
    fn packets_of_each_interface_that_is_left_out_pass_one_that_is_not() {
        let shaped = [lo(), eth0(), link(3, "ifb0", "ifb", "", 0)];
        check(&shaped, "eth0", 0);
        let mut seed = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_nanos() as u64) | 1;
        eprintln!("seed {seed}");
        let mut next = |below: u64| {
            // xorshift64 (Marsaglia)
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed % below) as u32
        };
        let kinds = ["vlan", "bond", "bridge", "tun", "veth", "", "vrf", "macvlan", "hsr"];
        for _ in 0..20_000 {
            let links: Vec<Link> = (2..9)
                .map(|index| {
                    let on = if next(2) == 0 { format!("@{}", next(9)) } else { format!("@if{}", next(9)) };
                    let master = if next(2) == 0 { 0 } else { next(9) };
                    link(index, "x", kinds[next(kinds.len() as u64) as usize], &on, master)
                })
                .collect();
            let chosen = edges(&links);
            let place = Place::of(&links);
            for at in links.iter().filter(|link| chosen.is_inner(link.index)) {
                // Down, port by port, until one that is counted at.
                let mut way = vec![at.index];
                let mut steps = 0;
                while let Some(index) = way.pop() {
                    steps += 1;
                    assert!(steps < 10_000, "in a circle: {links:?}");
                    let Some(link) = links.iter().find(|link| link.index == index) else { panic!("{links:?}") };
                    if chosen.is_inner(index) {
                        let others = place.passed_by(link).unwrap_or_default();
                        assert!(!others.is_empty(), "{links:?}");
                        way.extend(others);
                    }
                }
            }
        }
    }
}
