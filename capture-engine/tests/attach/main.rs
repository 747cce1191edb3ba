//! Attaching to real interfaces in real namespaces. Needs root and iproute2, and says so instead of skipping.

mod bench;
mod blind;
mod counting;
mod crowded;
mod joint;
mod last_words;
mod late;
mod leftovers;
mod measure;
mod others;
mod own;
mod paced;
mod place;
mod removed;
mod several;
mod soon;
mod trouble;

use bench::{Bench, PATIENCE, POD, one_interface};
use capture_engine::attach::{AttachConfig, AttachEvent, Attacher, Mechanism, Mode, Priority};
use counting::Counting;
use place::{Pair, has_clsact, new_netns, our_filters, ping_pong, within};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Instant;

#[test]
fn traffic_passes_unchanged_and_is_seen_in_both_directions_by_either_mechanism() {
    for (mode, mechanism) in
        [(Mode::Auto, Mechanism::Clsact), (Mode::Clsact, Mechanism::Clsact), (Mode::Tcx, Mechanism::Tcx)]
    {
        let (pair, bench) = (Pair::new(), Bench::new(mode));
        let interfaces = bench.attach(&pair.pod);
        assert!(one_interface("eth0", mechanism)(&interfaces), "{mode:?}: {interfaces:?}");
        let [before_in, before_out] = bench.programs.packets();
        ping_pong(&pair, 100);
        let [seen_in, seen_out] = bench.programs.packets();
        assert!(seen_in - before_in >= 100 && seen_out - before_out >= 100, "{mode:?}");
        assert_eq!(our_filters(&pair.pod, "eth0"), if mechanism == Mechanism::Clsact { [1, 1] } else { [0, 0] });

        bench.detach(POD);
        let seen = bench.programs.packets();
        ping_pong(&pair, 10);
        assert_eq!(bench.programs.packets(), seen, "{mode:?}: nothing is seen after a detach");
        assert!(!has_clsact(&pair.pod, "eth0"));
        assert_eq!(bench.attacher.snapshot().len(), 0);
    }
}

#[test]
fn interfaces_that_come_later_get_their_programs_and_those_that_go_are_forgotten() {
    for mode in [Mode::Auto, Mode::Tcx] {
        let bench = Bench::new(mode);
        let pair = Pair { pod: new_netns(), peer: new_netns() };
        assert_eq!(bench.attach(&pair.pod), [], "loopback is left alone");
        pair.wire("eth0");
        bench.wait_for_interfaces(&["eth0"]);
        within(&pair.pod, "ip address add 10.77.0.1/24 dev eth0");
        bench.wait("the new address", |event| match event {
            AttachEvent::Addresses { addresses, .. } => {
                addresses.iter().any(|address| address.ip == IpAddr::from([10, 77, 0, 1])).then_some(())
            }
            _ => None,
        });
        pair.wire("eth1");
        bench.wait_for_interfaces(&["eth0", "eth1"]);
        within(&pair.pod, "ip link del eth0");
        bench.wait_for_interfaces(&["eth1"]);
        bench.detach(POD);
    }
}

#[test]
fn loopback_is_attached_when_asked_for() {
    let (tell, events) = channel();
    let config = AttachConfig { include_loopback: true, ..AttachConfig::default() };
    let attacher =
        Attacher::start(config, Arc::new(Counting::new()), move |event| drop(tell.send(event))).expect("start");
    let netns = new_netns();
    attacher.attach(POD, Arc::clone(&netns), Priority::Urgent).expect("room");
    let event = events.recv_timeout(PATIENCE).expect("an event");
    assert!(
        matches!(event, AttachEvent::Attached { interfaces, .. } if one_interface("lo", Mechanism::Clsact)(&interfaces))
    );
    assert_eq!(attacher.shutdown(PATIENCE), 0);
    assert_eq!(our_filters(&netns, "lo"), [0, 0]);
}

#[test]
fn after_a_detach_nothing_of_ours_keeps_the_namespace_alive() {
    let (pair, bench) = (Pair::new(), Bench::new(Mode::Auto));
    bench.attach(&pair.pod);
    let Pair { pod, peer } = pair;
    drop(pod);
    assert!(within(&peer, "ip link").contains("eth0"), "attached: the namespace lives");
    bench.detach(POD);
    // The kernel takes namespaces down in the background; the peer's end goes with the pod's.
    let deadline = Instant::now() + PATIENCE;
    while within(&peer, "ip link").contains("eth0") {
        assert!(Instant::now() < deadline, "the namespace is still held");
    }
}
