//! One packet that passes several interfaces of a namespace is seen at one of them.

use crate::bench::{Bench, POD, one_interface};
use crate::leftovers::kill_an_agent_in;
use crate::place::{Pair, has_clsact, our_filters, ping_pong, within};
use capture_engine::attach::{AttachEvent, Interface, Mechanism, Mode};

const ROUNDS: u32 = 200;

/// Each datagram of some rounds is seen once each way, and a few packets of neighbour discovery with them.
#[track_caller]
fn each_packet_once(pair: &Pair, bench: &Bench, what: &str) {
    let before = bench.programs.packets();
    ping_pong(pair, ROUNDS);
    let after = bench.programs.packets();
    for (after, before) in after.iter().zip(before) {
        let seen = after - before;
        assert!((u64::from(ROUNDS)..u64::from(ROUNDS) * 3 / 2).contains(&seen), "{what}: {seen} of {ROUNDS}");
    }
}

fn doubts(bench: &Bench) -> Vec<String> {
    let status = bench.attacher.snapshot();
    status.into_iter().filter(|status| status.slot == POD).flat_map(|status| status.doubts.to_vec()).collect()
}

#[test]
fn a_macvlan_on_the_pods_interface_is_counted_there() {
    for mode in [Mode::Auto, Mode::Tcx] {
        let (pair, bench) = (Pair::new(), Bench::new(mode));
        bench.attach(&pair.pod);
        within(&pair.pod, "ip link add mac0 link eth0 type macvlan mode bridge");
        within(&pair.pod, "ip address del 10.77.0.1/24 dev eth0");
        within(&pair.pod, "ip address add 10.77.0.1/24 dev mac0");
        within(&pair.pod, "ip link set mac0 up");
        // A later interface comes with the news of this one, or after it.
        pair.wire("eth1");
        bench.wait_for_interfaces(&["eth0", "eth1"]);
        assert!(!has_clsact(&pair.pod, "mac0"));
        each_packet_once(&pair, &bench, "macvlan");
        assert_eq!(doubts(&bench), Vec::<String>::new());
        bench.detach(POD);
    }
}

#[test]
fn a_bridge_is_let_go_of_when_it_gets_a_port_and_taken_again_without() {
    for mode in [Mode::Auto, Mode::Tcx] {
        let (pair, bench) = (Pair::new(), Bench::new(mode));
        within(&pair.pod, "ip link add br0 type bridge");
        within(&pair.pod, "ip link set br0 up");
        let names = |interfaces: Vec<Interface>| -> Vec<String> {
            interfaces.into_iter().map(|interface| interface.name).collect()
        };
        let mut attached = names(bench.attach(&pair.pod));
        attached.sort_unstable();
        assert_eq!(attached, ["br0", "eth0"]);
        within(&pair.pod, "ip link set eth0 master br0");
        bench.wait_for_interfaces(&["eth0"]);
        assert_eq!((our_filters(&pair.pod, "br0"), has_clsact(&pair.pod, "br0")), ([0, 0], false), "{mode:?}");
        within(&pair.pod, "ip address del 10.77.0.1/24 dev eth0");
        within(&pair.pod, "ip address add 10.77.0.1/24 dev br0");
        each_packet_once(&pair, &bench, "bridge");
        within(&pair.pod, "ip link set eth0 nomaster");
        bench.wait("both again", |event| match event {
            AttachEvent::Interfaces { interfaces, .. } => (interfaces.len() == 2).then_some(()),
            _ => None,
        });
        bench.detach(POD);
        assert!(!has_clsact(&pair.pod, "br0") && !has_clsact(&pair.pod, "eth0"));
    }
}

#[test]
fn what_an_earlier_process_left_on_an_inner_interface_goes() {
    let pair = Pair::new();
    within(&pair.pod, "ip link add br0 type bridge");
    kill_an_agent_in(&pair.pod);
    assert_eq!(our_filters(&pair.pod, "br0"), [1, 1]);
    within(&pair.pod, "ip link set eth0 master br0");
    let bench = Bench::new(Mode::Auto);
    assert!(one_interface("eth0", Mechanism::Clsact)(&bench.attach(&pair.pod)));
    assert_eq!((our_filters(&pair.pod, "br0"), has_clsact(&pair.pod, "br0")), ([0, 0], false));
    assert_eq!(bench.attacher.counters().swept_filters, 4, "two at each");
    bench.detach(POD);
}

#[test]
fn a_guest_on_the_pods_wire_is_counted_at_the_wire_and_a_tunnel_inside_and_outside() {
    let (pair, bench) = (Pair::new(), Bench::new(Mode::Auto));
    within(&pair.pod, "ip link add br0 type bridge");
    within(&pair.pod, "ip link set br0 up");
    within(&pair.pod, "ip link set eth0 master br0");
    within(&pair.pod, "ip address del 10.77.0.1/24 dev eth0");
    within(&pair.pod, "ip address add 10.77.0.1/24 dev br0");
    bench.attach(&pair.pod);
    within(&pair.pod, "ip tuntap add tap0 mode tap");
    within(&pair.pod, "ip link set tap0 up master br0");
    within(&pair.pod, "ip tuntap add tun0 mode tun");
    bench.wait_for_interfaces(&["eth0", "tun0"]);
    each_packet_once(&pair, &bench, "guest");
    assert_eq!(doubts(&bench), ["what goes between tap0 and the namespace itself is not counted"]);
    // On its own nobody can tell where its packets go on to.
    within(&pair.pod, "ip link set tap0 nomaster");
    bench.wait("the tap", |event| match event {
        AttachEvent::Interfaces { interfaces, .. } => (interfaces.len() == 3).then_some(()),
        _ => None,
    });
    assert_eq!(doubts(&bench), ["what is passed on between tap0 and others is counted at both"]);
    bench.detach(POD);
}
