//! What was attached and is taken away afterwards: seen, put back, and what passed meanwhile counted.

use crate::bench::{Bench, PATIENCE, POD, one_interface};
use crate::counting::Counting;
use crate::leftovers::role;
use crate::place::{Pair, foreign_filter, has_clsact, our_filters, ping_pong, within};
use capture_engine::attach::{AttachConfig, AttachEvent, Mechanism, Mode};
use std::fs;
use std::time::{Duration, Instant};

pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Looks again so often that a test need not wait; or so rarely that only news can have told.
pub fn looking(mode: Mode, every: Duration) -> Bench {
    Bench::with(AttachConfig { mode, look_every: every, ..AttachConfig::default() })
}
pub const OFTEN: Duration = Duration::from_millis(100);
pub const NEVER: Duration = Duration::from_secs(3600);

pub fn check_counts_again(pair: &Pair, bench: &Bench) {
    let before = bench.programs.packets();
    ping_pong(pair, 20);
    let after = bench.programs.packets();
    assert!((0..2).all(|dir| after[dir] >= before[dir] + 20), "{before:?} {after:?}");
}

#[test]
fn a_qdisc_or_a_filter_that_somebody_removes_is_put_back_by_the_news_of_it() {
    let removals = ["tc qdisc del dev eth0 clsact", "tc filter del dev eth0 ingress", "tc filter del dev eth0 egress"];
    let (pair, bench) = (Pair::new(), looking(Mode::Auto, NEVER));
    bench.attach(&pair.pod);
    for (number, removal) in (1..).zip(removals) {
        within(&pair.pod, removal);
        until(removal, || bench.attacher.counters().removed_programs == number);
        until(removal, || our_filters(&pair.pod, "eth0") == [1, 1]);
        check_counts_again(&pair, &bench);
    }
    assert!(one_interface("eth0", Mechanism::Clsact)(&bench.attacher.snapshot()[0].interfaces));
    bench.detach(POD);
    assert!(!has_clsact(&pair.pod, "eth0"));
}

#[test]
fn what_passes_while_they_cannot_be_put_back_is_counted_and_the_namespace_says_why() {
    let (pair, bench) = (Pair::new(), looking(Mode::Auto, NEVER));
    bench.attach(&pair.pod);
    let own_news = bench.attacher.counters();
    assert_eq!((own_news.removed_programs, own_news.unseen_packets), (0, 0));
    ping_pong(&pair, 30);
    bench.programs.refuses.lock().insert(POD);
    within(&pair.pod, "tc qdisc del dev eth0 clsact");
    let reason = bench.wait("Failed", |event| match event {
        AttachEvent::Failed { reason, .. } => Some(reason),
        _ => None,
    });
    assert!(reason.contains("Cannot allocate memory"), "{reason}");
    let seen = bench.programs.packets();
    ping_pong(&pair, 100);
    assert_eq!(bench.programs.packets(), seen, "nobody sees them");
    bench.programs.refuses.lock().clear();
    bench.wait_attached();
    let unseen = bench.attacher.counters().unseen_packets;
    assert!(unseen >= 200, "{unseen} packets of 200");
    // Of what was seen before, no more than since the last look that found all in place.
    let passed = 2 * (30 + 100);
    assert!(unseen <= passed + 100, "{unseen} of {passed}, and some that the kernel sends by itself");
    check_counts_again(&pair, &bench);
    assert_eq!(bench.attacher.counters().unseen_packets, unseen, "the gap has ended");
    assert_eq!(bench.attacher.counters().removed_programs, 1);
    bench.detach(POD);
}

#[test]
fn a_program_that_others_put_before_ours_later_is_found_by_the_slow_round() {
    // A filter that ends the walk, at our own priority: the newest of a group runs first.
    let (pair, ours) = (Pair::new(), looking(Mode::Auto, OFTEN));
    ours.attach(&pair.pod);
    foreign_filter(&pair.pod, "ingress", 1, 0);
    let tcx = || one_interface("eth0", Mechanism::Tcx)(&ours.attacher.snapshot()[0].interfaces);
    until("ours goes before it", tcx);
    check_counts_again(&pair, &ours);
    let rounds = ours.attacher.counters().entries;
    until("more rounds", || ours.attacher.counters().entries > rounds + 3);
    assert_eq!(ours.attacher.counters().removed_programs, 1, "once is enough");
    ours.detach(POD);
    assert!(has_clsact(&pair.pod, "eth0"), "the qdisc is in use by others");

    // A TCX program: these run before all filters.
    let (pair, ours, theirs) = (Pair::new(), looking(Mode::Auto, OFTEN), Bench::new(Mode::Tcx));
    ours.attach(&pair.pod);
    theirs.attach(&pair.pod);
    until("ours goes before it", || one_interface("eth0", Mechanism::Tcx)(&ours.attacher.snapshot()[0].interfaces));
    check_counts_again(&pair, &ours);
    check_counts_again(&pair, &theirs);
    ours.detach(POD);
}

#[test]
fn where_nothing_changes_the_slow_round_changes_nothing() {
    for mode in [Mode::Clsact, Mode::Tcx] {
        let (pair, bench) = (Pair::new(), looking(mode, OFTEN));
        bench.attach(&pair.pod);
        until("rounds", || bench.attacher.counters().entries > 5);
        let counters = bench.attacher.counters();
        assert_eq!((counters.removed_programs, counters.unseen_packets, counters.failures), (0, 0, 0), "{mode:?}");
        check_counts_again(&pair, &bench);
        bench.detach(POD);
    }
}

#[test]
fn two_agents_that_take_the_same_place_say_so_and_the_one_that_stays_has_it_in_the_end() {
    let (pair, first, second) = (Pair::new(), looking(Mode::Clsact, NEVER), looking(Mode::Clsact, NEVER));
    first.attach(&pair.pod);
    second.attach(&pair.pod);
    let failed = |bench: &Bench| {
        let status = &bench.attacher.snapshot()[0].state;
        format!("{status:?}").contains("another agent has put its programs in our place")
    };
    until("one of them says so", || failed(&first) || failed(&second));
    second.attacher.detach(POD);
    until("the first has its place again", || {
        first.attacher.snapshot()[0].state.as_str() == "attached" && our_filters(&pair.pod, "eth0") == [1, 1]
    });
    check_counts_again(&pair, &first);
    assert!(first.attacher.counters().removed_programs > 0);
    first.detach(POD);
    assert!(!has_clsact(&pair.pod, "eth0"));
}

#[test]
fn a_tcx_link_that_somebody_takes_off_is_put_back_by_the_slow_round() {
    // In a process of its own: its links are told apart by being its only ones.
    let status = role("removed::role_tcx_link_taken_off", &[]).status().expect("start");
    assert!(status.success());
}

#[test]
#[ignore = "a role for other tests, in a process of its own"]
fn role_tcx_link_taken_off() {
    let (pair, bench) = (Pair::new(), looking(Mode::Tcx, OFTEN));
    bench.attach(&pair.pod);
    for (number, link) in (1..).zip([0, 1]) {
        within(&pair.pod, &format!("bpftool link detach id {}", own_links()[link]));
        until("it is seen", || bench.attacher.counters().removed_programs == number);
        until("both are there", || own_links().len() == 2);
        until("attached", || bench.attacher.snapshot()[0].state.as_str() == "attached");
        check_counts_again(&pair, &bench);
    }
    bench.detach(POD);
    assert_eq!(own_links(), [0; 0]);
}

#[test]
fn a_tcx_link_that_another_process_shares_ends_with_the_detach() {
    let status = role("removed::role_tcx_link_shared", &[]).status().expect("start");
    assert!(status.success());
}

#[test]
#[ignore = "a role for other tests, in a process of its own"]
fn role_tcx_link_shared() {
    let (pair, bench) = (Pair::new(), looking(Mode::Tcx, NEVER));
    bench.attach(&pair.pod);
    // As the child of a fork has them until its exec.
    let shared: Vec<_> = own_links().into_iter().map(Counting::share).collect();
    assert_eq!(shared.len(), 2);
    bench.detach(POD);
    let seen = bench.programs.packets();
    ping_pong(&pair, 10);
    assert_eq!(bench.programs.packets(), seen, "nobody sees them");
}

/// Numbers of the BPF links that this process has open, lowest first.
pub fn own_links() -> Vec<u32> {
    let mut links: Vec<u32> = fs::read_dir("/proc/self/fdinfo")
        .expect("procfs")
        .flatten()
        .filter_map(|entry| {
            let text = fs::read_to_string(entry.path()).ok()?;
            text.lines().find_map(|line| line.strip_prefix("link_id:")?.trim().parse().ok())
        })
        .collect();
    links.sort_unstable();
    links
}
