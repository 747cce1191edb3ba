//! Living with what others put onto an interface.

use crate::bench::{Bench, PATIENCE, POD, here, one_interface};
use crate::place::{Pair, foreign_filter, has_clsact, our_filters, ping_pong, within};
use capture_engine::attach::{AttachEvent, Mechanism, Mode, Priority};
use std::sync::Arc;
use std::time::Instant;

#[test]
fn a_qdisc_and_a_filter_of_others_survive_us() {
    for mode in [Mode::Auto, Mode::Clsact] {
        let (pair, bench) = (Pair::new(), Bench::new(mode));
        within(&pair.pod, "tc qdisc add dev eth0 clsact");
        within(&pair.pod, "tc filter add dev eth0 ingress prio 5 protocol ip u32 match u32 0 0 flowid 1:1");
        foreign_filter(&pair.pod, "ingress", 2, 0);
        let theirs = within(&pair.pod, "tc filter show dev eth0 ingress");
        let interfaces = bench.attach(&pair.pod);
        assert!(one_interface("eth0", Mechanism::Clsact)(&interfaces));
        assert_eq!(our_filters(&pair.pod, "eth0"), [1, 1]);
        let before = bench.programs.packets();
        ping_pong(&pair, 10);
        assert!(bench.programs.packets()[0] >= before[0] + 10, "we come before a filter that ends the walk");
        bench.detach(POD);
        assert!(has_clsact(&pair.pod, "eth0"));
        assert_eq!(within(&pair.pod, "tc filter show dev eth0 ingress"), theirs);
    }
}

#[test]
fn behind_a_filter_that_is_first_tcx_is_taken_and_without_it_the_next_free_priority() {
    for (mode, mechanism) in [(Mode::Auto, Mechanism::Tcx), (Mode::Clsact, Mechanism::Clsact)] {
        let (pair, bench) = (Pair::new(), Bench::new(mode));
        within(&pair.pod, "tc qdisc add dev eth0 clsact");
        foreign_filter(&pair.pod, "ingress", 1, -1);
        let theirs = within(&pair.pod, "tc filter show dev eth0 ingress");
        let interfaces = bench.attach(&pair.pod);
        assert!(one_interface("eth0", mechanism)(&interfaces), "{mode:?}: {interfaces:?}");
        let before = bench.programs.packets();
        ping_pong(&pair, 10);
        assert!(bench.programs.packets()[0] >= before[0] + 10);
        bench.detach(POD);
        assert_eq!(within(&pair.pod, "tc filter show dev eth0 ingress"), theirs);
        assert!(has_clsact(&pair.pod, "eth0"));
    }
}

#[test]
fn an_ingress_qdisc_in_the_way_means_tcx_or_a_failure_that_says_so() {
    let pair = Pair::new();
    within(&pair.pod, "tc qdisc add dev eth0 ingress");
    let bench = Bench::new(Mode::Auto);
    assert!(one_interface("eth0", Mechanism::Tcx)(&bench.attach(&pair.pod)));
    bench.detach(POD);
    let bench = Bench::new(Mode::Clsact);
    bench.attacher.attach(POD, Arc::clone(&pair.pod), Priority::Urgent).expect("room");
    let reason = bench.wait("Failed", |event| match event {
        AttachEvent::Failed { reason, .. } => Some(reason),
        _ => None,
    });
    assert!(reason.contains("eth0") && reason.contains("ingress qdisc"), "{reason}");
    assert_eq!(bench.attacher.snapshot()[0].state.as_str(), "failed");
}

#[test]
fn a_filter_that_others_put_onto_our_qdisc_keeps_it_alive() {
    let (pair, bench) = (Pair::new(), Bench::new(Mode::Auto));
    bench.attach(&pair.pod);
    foreign_filter(&pair.pod, "egress", 9, 0);
    let theirs = within(&pair.pod, "tc filter show dev eth0 egress pref 9");
    assert!(theirs.contains("bytecode"));
    bench.detach(POD);
    assert!(has_clsact(&pair.pod, "eth0"));
    assert_eq!(our_filters(&pair.pod, "eth0"), [0, 0]);
    assert_eq!(within(&pair.pod, "tc filter show dev eth0 egress pref 9"), theirs);
}

#[test]
fn a_qdisc_that_somebody_makes_in_the_same_moment_is_used_and_stays_theirs() {
    let (pair, bench) = (Pair::new(), Bench::new(Mode::Auto));
    *bench.programs.meanwhile.lock() = Some(|| here("tc qdisc add dev eth0 clsact"));
    assert!(one_interface("eth0", Mechanism::Clsact)(&bench.attach(&pair.pod)));
    assert_eq!(our_filters(&pair.pod, "eth0"), [1, 1]);
    bench.detach(POD);
    assert_eq!(our_filters(&pair.pod, "eth0"), [0, 0]);
    assert!(has_clsact(&pair.pod, "eth0"));
}

#[test]
fn where_others_have_tcx_programs_ours_goes_before_them() {
    let (pair, theirs, ours) = (Pair::new(), Bench::new(Mode::Tcx), Bench::new(Mode::Auto));
    theirs.attach(&pair.pod);
    assert!(one_interface("eth0", Mechanism::Tcx)(&ours.attach(&pair.pod)));
    let before = [theirs.programs.packets()[0], ours.programs.packets()[0]];
    ping_pong(&pair, 10);
    assert!(theirs.programs.packets()[0] >= before[0] + 10 && ours.programs.packets()[0] >= before[1] + 10);
    ours.detach(POD);
    let before = theirs.programs.packets()[0];
    ping_pong(&pair, 10);
    assert!(theirs.programs.packets()[0] >= before + 10, "theirs stays");
}

#[test]
fn what_somebody_removed_is_put_back_by_a_recheck() {
    let (pair, bench) = (Pair::new(), Bench::new(Mode::Auto));
    bench.attach(&pair.pod);
    // Until the recheck: the news of the removal alone would have it put back in a moment.
    bench.programs.refuses.lock().insert(POD);
    within(&pair.pod, "tc qdisc del dev eth0 clsact");
    assert!(!has_clsact(&pair.pod, "eth0"));
    bench.programs.refuses.lock().clear();
    bench.attacher.recheck(POD);
    let deadline = Instant::now() + PATIENCE;
    while our_filters(&pair.pod, "eth0") != [1, 1] {
        assert!(Instant::now() < deadline, "not repaired");
    }
    bench.detach(POD);
}
