//! What belongs to a namespace is told with its first look, and again whenever it changes.

use crate::bench::{Bench, POD};
use crate::place::{Pair, within};
use capture_engine::attach::{AttachEvent, Mode, Priority};
use netns::Own;
use std::net::IpAddr;

const OTHERS: [u8; 4] = [10, 99, 0, 1];
const PEER: [u8; 4] = [10, 77, 0, 2];

fn passes_on(own: &Own, local: [u8; 4], remote: [u8; 4]) -> bool {
    own.passes_on(IpAddr::from(local), IpAddr::from(remote))
}

impl Bench {
    /// Waits until what is told is so.
    fn wait_own(&self, what: &str, is_so: impl Fn(&Own) -> bool) {
        self.wait(what, |event| match event {
            AttachEvent::Attached { own, .. } | AttachEvent::Addresses { own, .. } => is_so(&own).then_some(()),
            _ => None,
        });
    }
}

#[test]
fn addresses_that_come_and_go_are_its_own_as_long_as_they_are_there() {
    let (pair, bench) = (Pair::new(), Bench::new(Mode::Auto));
    bench.attacher.attach(POD, pair.pod.clone(), Priority::Urgent).expect("room");
    bench.wait_own("its address", |own| !passes_on(own, [10, 77, 0, 1], PEER) && passes_on(own, OTHERS, PEER));
    within(&pair.pod, "ip link set lo up");
    for link in ["lo", "eth0"] {
        within(&pair.pod, &format!("ip address add 10.99.0.1/32 dev {link}"));
        bench.wait_own("an address on it", |own| !passes_on(own, OTHERS, PEER));
        within(&pair.pod, &format!("ip address del 10.99.0.1/32 dev {link}"));
        bench.wait_own("none", |own| passes_on(own, OTHERS, PEER));
    }
    within(&pair.pod, "ip address flush dev eth0");
    bench.wait_own("of what has no address all is its own", |own| !passes_on(own, OTHERS, PEER));
    bench.detach(POD);
}

#[test]
fn what_a_local_route_sends_to_it_is_its_own_without_an_address() {
    let (pair, bench) = (Pair::new(), Bench::new(Mode::Auto));
    within(&pair.pod, "ip link set lo up");
    bench.attacher.attach(POD, pair.pod.clone(), Priority::Urgent).expect("room");
    bench.wait_own("its address", |own| passes_on(own, OTHERS, PEER));
    within(&pair.pod, "ip route add local 10.99.0.0/24 dev lo");
    // The kernel tells of no link or address.
    bench.attacher.recheck(POD);
    bench.wait_own("a range of addresses", |own| !passes_on(own, OTHERS, PEER) && passes_on(own, [10, 99, 1, 1], PEER));
    within(&pair.pod, "ip -6 route add local 2001:db8::/64 dev lo");
    within(&pair.pod, "ip address add fd00::5/64 dev eth0");
    let six = |text: &str| text.parse::<IpAddr>().expect("an address");
    bench.wait_own("one of IPv6", |own| {
        let passes_on = |local| own.passes_on(six(local), six("fd00::9"));
        !passes_on("2001:db8::7") && passes_on("2001:db8:1::7")
    });
    bench.detach(POD);
}

#[test]
fn a_guest_that_comes_later_is_the_namespace() {
    let (pair, bench) = (Pair::new(), Bench::new(Mode::Auto));
    bench.attacher.attach(POD, pair.pod.clone(), Priority::Urgent).expect("room");
    bench.wait_own("its address", |own| passes_on(own, OTHERS, PEER));
    // Of another wire, so that the addresses stay as they are.
    pair.wire("eth1");
    within(&pair.pod, "ip link add br0 type bridge");
    within(&pair.pod, "ip tuntap add tap0 mode tap");
    bench.wait_own("a guest's address is its own", |own| !passes_on(own, OTHERS, PEER));
    within(&pair.pod, "ip link del tap0");
    bench.wait_own("it has left", |own| passes_on(own, OTHERS, PEER));
    within(&pair.pod, "ip link set eth1 master br0");
    bench.wait_own("so is one behind a bridge without address", |own| !passes_on(own, OTHERS, PEER));
    bench.detach(POD);
}
