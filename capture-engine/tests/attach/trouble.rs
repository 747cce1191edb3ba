//! What goes wrong in one place and must not reach another.

use crate::bench::{Bench, PATIENCE, POD, here};
use crate::counting::Counting;
use crate::place::{Pair, has_clsact, new_netns, our_filters, ping_pong, within};
use capture_engine::attach::{AttachConfig, AttachEvent, AttachState, Attacher, Mode, Priority};
use flow_model::Slot;
use std::sync::Arc;
use std::time::Instant;

#[test]
fn one_namespace_that_fails_blocks_no_other_and_is_tried_again() {
    let (bad, good, bench) = (Pair::new(), Pair::new(), Bench::new(Mode::Auto));
    bench.programs.refuses.lock().insert(Slot(1));
    bench.attacher.attach(Slot(1), Arc::clone(&bad.pod), Priority::Urgent).expect("room");
    let reason = bench.wait("Failed", |event| match event {
        AttachEvent::Failed { slot: Slot(1), reason } => Some(reason),
        _ => None,
    });
    assert!(reason.contains("Cannot allocate memory"), "{reason}");
    bench.attach(&good.pod);
    bench.programs.refuses.lock().clear();
    bench.wait("second try", |event| matches!(event, AttachEvent::Attached { slot: Slot(1), .. }).then_some(()));
    assert_eq!(our_filters(&bad.pod, "eth0"), [1, 1]);
    assert_eq!(bench.attacher.shutdown(PATIENCE), 0);
    for pair in [bad, good] {
        assert!(!has_clsact(&pair.pod, "eth0"));
    }
}

#[test]
fn why_a_namespace_fails_is_told_until_it_is_detached_and_it_is_then_forgotten_at_once() {
    let (pair, bench) = (Pair::new(), Bench::new(Mode::Auto));
    bench.programs.refuses.lock().insert(POD);
    bench.attacher.attach(POD, Arc::clone(&pair.pod), Priority::Urgent).expect("room");
    for _ in 0..2 {
        bench.wait("Failed", |event| matches!(event, AttachEvent::Failed { .. }).then_some(()));
    }
    let [status] = &bench.attacher.snapshot()[..] else { panic!("one namespace") };
    assert!(matches!(&status.state, AttachState::Failed { reason } if reason.contains("Cannot allocate memory")));
    assert_eq!(status.failures, 2);
    // The next try is 2 s away.
    bench.detach(POD);
    assert_eq!(bench.attacher.snapshot().len(), 0);
    assert_eq!(bench.attacher.counters().failures, 2);
}

#[test]
fn an_interface_that_goes_in_the_middle_of_an_attach_is_a_counter_and_no_failure() {
    for mode in [Mode::Clsact, Mode::Tcx] {
        let (pair, bench) = (Pair::new(), Bench::new(mode));
        pair.wire("eth1");
        *bench.programs.meanwhile.lock() = Some(|| here("ip link del eth0"));
        let interfaces = bench.attach(&pair.pod);
        assert!(matches!(&interfaces[..], [only] if only.name == "eth1"), "{mode:?}: {interfaces:?}");
        assert_eq!(bench.attacher.counters().vanished_interfaces, 1);
        bench.detach(POD);
    }
}

#[test]
fn a_panic_within_an_entry_is_that_namespaces_failure_and_is_tried_again() {
    let (pair, bench) = (Pair::new(), Bench::new(Mode::Auto));
    *bench.programs.meanwhile.lock() = Some(|| panic!("scripted"));
    bench.attacher.attach(POD, Arc::clone(&pair.pod), Priority::Urgent).expect("room");
    let reason = bench.wait("Failed", |event| match event {
        AttachEvent::Failed { reason, .. } => Some(reason),
        _ => None,
    });
    assert!(reason.contains("scripted"), "{reason}");
    bench.wait_attached();
    assert_eq!(our_filters(&pair.pod, "eth0"), [1, 1]);
    bench.detach(POD);
}

#[test]
fn interfaces_that_come_and_go_all_the_time_end_in_the_truth() {
    let (pair, bench) = (Pair::new(), Bench::new(Mode::Auto));
    bench.attach(&pair.pod);
    for _ in 0..60 {
        within(&pair.pod, "ip link add pfa0 type veth peer name pfa1");
        within(&pair.pod, "ip link del pfa0");
    }
    within(&pair.pod, "ip link add pfa2 type veth peer name pfa3");
    let deadline = Instant::now() + PATIENCE;
    let settled = || {
        let status = bench.attacher.snapshot();
        let mut names: Vec<String> = status[0].interfaces.iter().map(|interface| interface.name.clone()).collect();
        names.sort();
        status[0].state.as_str() == "attached" && names == ["eth0", "pfa2", "pfa3"]
    };
    while !settled() {
        assert!(Instant::now() < deadline, "{:?}", bench.attacher.snapshot());
        std::thread::yield_now();
    }
    for link in ["eth0", "pfa2", "pfa3"] {
        assert_eq!(our_filters(&pair.pod, link), [1, 1]);
    }
    bench.detach(POD);
}

#[test]
fn a_namespace_that_is_attached_anew_while_it_is_detached_ends_attached() {
    let (pair, bench) = (Pair::new(), Bench::new(Mode::Auto));
    let attach = |slot| bench.attacher.attach(slot, Arc::clone(&pair.pod), Priority::Background);
    attach(Slot(1)).expect("room");
    assert_eq!(
        attach(Slot(2)).map_err(|error| error.to_string()),
        Err("its namespace is attached as slot 1 already".to_owned())
    );
    for number in 1..=100 {
        // Sometimes the first attach is over by now, sometimes under way, sometimes not begun.
        if number % 3 == 0 {
            bench.wait_attached();
        }
        bench.attacher.detach(Slot(number));
        attach(Slot(number + 1)).expect("room");
    }
    let deadline = Instant::now() + PATIENCE;
    let settled = || matches!(&bench.attacher.snapshot()[..], [only] if only.slot == Slot(101) && only.state.as_str() == "attached");
    while !settled() {
        assert!(Instant::now() < deadline, "{:?}", bench.attacher.snapshot());
        std::thread::yield_now();
    }
    assert_eq!(our_filters(&pair.pod, "eth0"), [1, 1]);
    let before = bench.programs.packets();
    ping_pong(&pair, 5);
    assert!(bench.programs.packets()[0] >= before[0] + 5);
    bench.detach(Slot(101));
    assert!(!has_clsact(&pair.pod, "eth0"));
}

#[test]
fn a_full_table_and_a_known_slot_are_refused() {
    let config = AttachConfig { max_namespaces: 1, ..AttachConfig::default() };
    let attacher = Attacher::start(config, Arc::new(Counting::new()), |_| {}).expect("start");
    let netns = new_netns();
    let attach = |slot| {
        let netns = if slot == POD { Arc::clone(&netns) } else { new_netns() };
        attacher.attach(slot, netns, Priority::Background).map_err(|error| error.to_string())
    };
    assert_eq!(attach(POD), Ok(()));
    assert_eq!(attach(POD), Err("slot 7 is attached already".to_owned()));
    assert_eq!(attach(Slot(8)), Err("all 1 attachments are in use (max_namespaces)".to_owned()));
    attacher.detach(Slot(99));
    assert_eq!(attacher.shutdown(PATIENCE), 0);
}
