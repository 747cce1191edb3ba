//! What a process leaves behind: after a kill, and after a thousand cycles.

use crate::bench::{Bench, PATIENCE, POD, one_interface};
use crate::place::{Pair, count, has_clsact, our_filters, path, ping_pong, within};
use crate::removed::until;
use capture_engine::attach::{Mechanism, Mode, sweep};
use netns::Netns;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

#[test]
fn leftovers_of_a_killed_process_are_replaced_and_its_qdisc_goes_only_if_it_made_it() {
    for foreign_qdisc in [false, true] {
        let pair = Pair::new();
        if foreign_qdisc {
            within(&pair.pod, "tc qdisc add dev eth0 clsact");
        }
        kill_an_agent_in(&pair.pod);
        assert_eq!(our_filters(&pair.pod, "eth0"), [1, 1], "a killed process leaves its filters");
        ping_pong(&pair, 5);

        let bench = Bench::new(Mode::Auto);
        bench.attach(&pair.pod);
        assert_eq!(our_filters(&pair.pod, "eth0"), [1, 1], "one program per direction");
        assert_eq!(bench.attacher.counters().swept_filters, 2);
        let before = bench.programs.packets();
        ping_pong(&pair, 5);
        assert!(bench.programs.packets()[0] >= before[0] + 5, "the filters are the new ones");
        bench.detach(POD);
        assert_eq!(our_filters(&pair.pod, "eth0"), [0, 0]);
        assert_eq!(has_clsact(&pair.pod, "eth0"), foreign_qdisc);
    }
}

#[test]
fn leftovers_are_swept_when_tcx_takes_over_and_by_a_sweep_alone() {
    let pair = Pair::new();
    kill_an_agent_in(&pair.pod);
    let bench = Bench::new(Mode::Tcx);
    assert!(one_interface("eth0", Mechanism::Tcx)(&bench.attach(&pair.pod)));
    assert!(!has_clsact(&pair.pod, "eth0"));
    bench.detach(POD);

    kill_an_agent_in(&pair.pod);
    assert_eq!(sweep(&pair.pod).expect("sweep"), 2);
    assert!(!has_clsact(&pair.pod, "eth0"));
    assert_eq!(sweep(&pair.pod).expect("sweep"), 0);
}

#[test]
fn a_thousand_cycles_leave_descriptors_and_threads_as_before() {
    // In a process of its own: other tests open and close theirs meanwhile.
    let status = role("leftovers::role_cycles", &[]).status().expect("start");
    assert!(status.success());
}

/// Starts an agent in a process of its own, waits until it has attached, and kills it.
pub fn kill_an_agent_in(netns: &Netns) {
    let mut child: Child =
        role("leftovers::role_victim", &[("PFA_NETNS", path(netns))]).stdout(Stdio::piped()).spawn().expect("start");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let attached = lines.map_while(Result::ok).any(|line| line.contains("victim: attached"));
    child.kill().expect("kill own child");
    child.wait().expect("wait for own child");
    assert!(attached, "the victim ended before it attached");
}

/// This program again, as one of the roles below.
pub fn role(name: &str, environment: &[(&str, String)]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("own path"));
    command.args(["--ignored", "--exact", "--nocapture", "--test-threads=1", name]);
    command.envs(environment.iter().map(|(key, value)| (*key, value)));
    command
}

#[test]
#[ignore = "a role for other tests, in a process of its own"]
#[expect(clippy::print_stdout, reason = "tells the parent process")]
fn role_victim() {
    let netns = std::env::var("PFA_NETNS").expect("started by another test");
    let netns = Arc::new(Netns::open_path(Path::new(&netns)).expect("open"));
    let bench = Bench::new(Mode::Clsact);
    bench.attach(&netns);
    println!("\nvictim: attached");
    loop {
        std::thread::park();
    }
}

#[test]
#[ignore = "a role for other tests, in a process of its own"]
fn role_cycles() {
    let ours = Netns::current().expect("own namespace").id();
    let pair = Pair::new();
    let bench = Bench::new(Mode::Auto);
    let cycle = || {
        bench.attach(&pair.pod);
        bench.detach(POD);
    };
    cycle();
    let before = (count("fd"), count("task"));
    for _ in 0..1000 {
        cycle();
    }
    // A thread of the attacher may be about to let go of what the last one left to it; a leak stays.
    until("descriptors and threads are as before", || count("fd") <= before.0 && count("task") <= before.1);
    assert_eq!(Netns::current().expect("own namespace").id(), ours);
    assert!(!has_clsact(&pair.pod, "eth0"));
    assert_eq!(bench.attacher.shutdown(PATIENCE), 0);
}
