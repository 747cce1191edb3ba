//! Programs that are in place and do not see what passes: noticed by the interfaces' counts, or by
//! what runs before them.

use crate::bench::{Bench, POD, one_interface};
use crate::counting::{Counting, NEXT, PASS};
use crate::place::{Pair, ping_pong};
use crate::removed::{OFTEN, check_counts_again, looking, until};
use capture_engine::attach::{CgroupLinks, Mechanism, Mode};
use capture_engine::kernel::{Kernel, KernelConfig};
use flow_model::{Direction, Slot};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering;

const BOTH: [Direction; 2] = [Direction::Ingress, Direction::Egress];

fn state(bench: &Bench) -> String {
    format!("{:?}", bench.attacher.snapshot()[0].state)
}

#[test]
fn packets_that_pass_while_none_is_seen_fail_the_namespace_and_are_counted() {
    // By clsact alone there is no way around a TCX program that ends the way.
    let (pair, ours, theirs) = (Pair::new(), looking(Mode::Clsact, OFTEN), Counting::new());
    ours.attach(&pair.pod);
    ping_pong(&pair, 10);
    let greedy = BOTH.map(|dir| theirs.overtake(&pair.pod, "greedy", dir, PASS));
    let seen = ours.programs.packets();
    let mut passed = 0;
    until("it is attached anew", || {
        ping_pong(&pair, 50);
        passed += 100;
        ours.attacher.counters().removed_programs == 1
    });
    until("it fails", || {
        ping_pong(&pair, 50);
        passed += 100;
        state(&ours).contains("our programs saw none of them, though they are in place")
    });
    let before = ours.attacher.counters().unseen_packets;
    assert_eq!(ours.programs.packets(), seen, "nobody saw them");
    ping_pong(&pair, 50);
    passed += 100;
    drop(greedy);
    check_counts_again(&pair, &ours);
    until("it is well", || state(&ours) == "Attached");
    let counters = ours.attacher.counters();
    assert_eq!(counters.removed_programs, 1, "what is in place is not attached again and again");
    assert!(counters.unseen_packets > before);
    assert!(counters.unseen_packets >= passed, "{} of {passed}", counters.unseen_packets);
    ours.detach(POD);
}

#[test]
fn what_blinds_a_filter_and_cannot_be_seen_is_evaded_by_tcx() {
    let (pair, bench) = (Pair::new(), looking(Mode::Auto, OFTEN));
    bench.attach(&pair.pod);
    ping_pong(&pair, 10);
    let rounds = bench.attacher.counters().entries;
    until("a look", || bench.attacher.counters().entries > rounds + 1);
    bench.programs.stands_still.store(true, Ordering::Relaxed);
    until("it goes before whatever that is", || {
        ping_pong(&pair, 50);
        one_interface("eth0", Mechanism::Tcx)(&bench.attacher.snapshot()[0].interfaces)
    });
    bench.programs.stands_still.store(false, Ordering::Relaxed);
    until("it is well", || state(&bench) == "Attached");
    check_counts_again(&pair, &bench);
    assert_eq!(bench.attacher.counters().removed_programs, 1);
    bench.detach(POD);
}

#[test]
fn a_tcx_program_that_others_put_before_ours_is_gone_before_again() {
    for dir in BOTH {
        let (pair, ours, theirs) = (Pair::new(), looking(Mode::Tcx, OFTEN), Counting::new());
        ours.attach(&pair.pod);
        let _greedy = theirs.overtake(&pair.pod, "greedy", dir, PASS);
        until("it is found", || ours.attacher.counters().removed_programs == 1);
        until("it is attached", || state(&ours) == "Attached");
        check_counts_again(&pair, &ours);
        let rounds = ours.attacher.counters().entries;
        until("more rounds", || ours.attacher.counters().entries > rounds + 3);
        assert_eq!(ours.attacher.counters().removed_programs, 1, "once is enough");
        ours.detach(POD);
    }
}

#[test]
fn another_agent_of_ours_may_be_before_us_since_it_lets_all_pass() {
    let (pair, ours, theirs) = (Pair::new(), looking(Mode::Tcx, OFTEN), Counting::new());
    ours.attach(&pair.pod);
    let _links = BOTH.map(|dir| theirs.overtake(&pair.pod, "pilotfish_stub", dir, NEXT));
    let rounds = ours.attacher.counters().entries;
    until("rounds", || ours.attacher.counters().entries > rounds + 3);
    check_counts_again(&pair, &ours);
    assert_eq!(ours.attacher.counters().removed_programs, 0);
    ours.detach(POD);
}

#[test]
fn two_that_both_want_to_be_first_do_not_fight() {
    let (pair, one, other) = (Pair::new(), looking(Mode::Tcx, OFTEN), looking(Mode::Tcx, OFTEN));
    for bench in [&one, &other] {
        *bench.programs.name.lock() = "of_others";
        bench.attach(&pair.pod);
    }
    let entries = |bench: &Bench| bench.attacher.counters().entries;
    let begin = [entries(&one), entries(&other)];
    until("rounds", || entries(&one) > begin[0] + 15 && entries(&other) > begin[1] + 15);
    let taken = |bench: &Bench| bench.attacher.counters().removed_programs;
    // At once, after 2, 4 and 8 seconds: the rounds take less than two.
    assert!((1..=6).contains(&(taken(&one) + taken(&other))), "{} and {}", taken(&one), taken(&other));
    one.detach(POD);
    other.detach(POD);
}

/// A cgroup of version 2, alone or beside version 1; none of this process' threads is in it.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new() -> Cgroup {
        let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
        let root = roots.into_iter().find(|root| root.join("cgroup.procs").exists()).expect("cgroup v2 is mounted");
        let path = root.join(format!("pfa-{}", std::process::id()));
        std::fs::create_dir(&path).expect("a cgroup");
        Cgroup(path)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn a_link_that_somebody_takes_off_a_cgroup_is_not_in_place() {
    let kernel = Kernel::load(&KernelConfig { ring_bytes: 1 << 16, flows: 16, ..KernelConfig::default() });
    let (kernel, cgroup) = (kernel.expect("the programs"), Cgroup::new());
    for direction in ["ingress", "egress"] {
        let links = CgroupLinks::attach(&kernel, Slot::FIRST_OF_NODE, &cgroup.0, None).expect("attached");
        assert!(links.in_place());
        let shown = Command::new("bpftool").args(["link", "show"]).output().expect("bpftool");
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        // `12: cgroup  prog 34` and a line with `cgroup_id 56  attach_type cgroup_inet_ingress`.
        let of = format!("cgroup_id {}  attach_type ", links.id());
        let lines: Vec<&str> = shown.lines().collect();
        let number = lines.windows(2).find(|pair| pair[1].contains(&of) && pair[1].contains(direction));
        let number = number.and_then(|pair| pair[0].split(':').next()).unwrap_or_else(|| panic!("{of} in {shown}"));
        let detached = Command::new("bpftool").args(["link", "detach", "id", number]).status();
        assert!(detached.is_ok_and(|status| status.success()));
        assert!(!links.in_place(), "{direction}");
    }
}
