//! Attaching to real interfaces in real namespaces. Needs root and iproute2, and says so instead of skipping.

mod counting;
mod place;

use capture_engine::attach::{AttachConfig, AttachEvent, Attacher, Interface, Mechanism, Mode, Priority, sweep};
use counting::Counting;
use flow_model::Slot;
use netns::Netns;
use place::{Pair, count, foreign_filter, has_clsact, new_netns, our_filters, path, within};
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const POD: Slot = Slot(7);
/// Far beyond anything that these machines take; a test that reaches it has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// An attacher, its programs, and what it told.
struct Bench {
    attacher: Attacher,
    programs: Arc<Counting>,
    events: Receiver<AttachEvent>,
}

impl Bench {
    fn new(mode: Mode) -> Bench {
        let (tell, events) = channel();
        let programs = Arc::new(Counting::new());
        let config = AttachConfig { mode, ..AttachConfig::default() };
        let attacher = Attacher::start(config, Arc::clone(&programs) as _, move |event| drop(tell.send(event)));
        Bench { attacher: attacher.expect("start"), programs, events }
    }

    fn wait<T>(&self, what: &str, pick: impl Fn(AttachEvent) -> Option<T>) -> T {
        loop {
            let event = self.events.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no {what} within {PATIENCE:?}"));
            if let Some(found) = pick(event) {
                return found;
            }
        }
    }

    fn attach(&self, netns: &Arc<Netns>) -> Vec<Interface> {
        self.attacher.attach(POD, Arc::clone(netns), Priority::Urgent).expect("room");
        self.wait("Attached", |event| match event {
            AttachEvent::Attached { slot: POD, interfaces, .. } => Some(interfaces),
            AttachEvent::Failed { reason, .. } => panic!("failed: {reason}"),
            _ => None,
        })
    }

    fn wait_attached(&self) -> Duration {
        self.wait("Attached", |event| match event {
            AttachEvent::Attached { took, .. } => Some(took),
            _ => None,
        })
    }

    fn detach(&self, slot: Slot) {
        self.attacher.detach(slot);
        self.wait("Detached", |event| (event == AttachEvent::Detached { slot }).then_some(()));
        assert_eq!(self.attacher.counters().failed_detaches, 0);
    }

    /// Waits until exactly these interfaces carry programs.
    fn wait_for_interfaces(&self, names: &[&str]) {
        self.wait("change of interfaces", |event| match event {
            AttachEvent::Interfaces { interfaces, .. } | AttachEvent::Attached { interfaces, .. } => {
                (interfaces.iter().map(|interface| interface.name.as_str()).eq(names.iter().copied())).then_some(())
            }
            _ => None,
        });
    }
}

/// `rounds` datagrams to the peer and back, each compared.
fn ping_pong(pair: &Pair, rounds: u32) {
    let open = |netns: &Netns, address| netns.run(|_| UdpSocket::bind((address, 7000)).expect("bind")).expect("enter");
    let (pod, peer) = (open(&pair.pod, "10.77.0.1"), open(&pair.peer, "10.77.0.2"));
    for socket in [&pod, &peer] {
        socket.set_read_timeout(Some(PATIENCE)).expect("timeout");
    }
    let mut buffer = [0; 2048];
    for round in 0..rounds {
        let text = format!("datagram {round} ").repeat(1 + round as usize % 60);
        pod.send_to(text.as_bytes(), ("10.77.0.2", 7000)).expect("send");
        let (length, from) = peer.recv_from(&mut buffer).expect("arrives");
        assert_eq!(&buffer[..length], text.as_bytes());
        peer.send_to(&buffer[..length], from).expect("answer");
        let (length, _) = pod.recv_from(&mut buffer).expect("comes back");
        assert_eq!(&buffer[..length], text.as_bytes());
    }
}

fn one_interface(name: &str, mechanism: Mechanism) -> impl Fn(&[Interface]) -> bool {
    move |interfaces| matches!(interfaces, [only] if only.name == name && only.mechanism == mechanism)
}

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
fn what_somebody_removed_is_put_back_by_a_recheck() {
    let (pair, bench) = (Pair::new(), Bench::new(Mode::Auto));
    bench.attach(&pair.pod);
    within(&pair.pod, "tc qdisc del dev eth0 clsact");
    assert!(!has_clsact(&pair.pod, "eth0"));
    bench.attacher.recheck(POD);
    let deadline = Instant::now() + PATIENCE;
    while our_filters(&pair.pod, "eth0") != [1, 1] {
        assert!(Instant::now() < deadline, "not repaired");
    }
    bench.detach(POD);
}

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

/// Runs a command in the namespace of the calling thread.
fn here(words: &str) {
    let mut words = words.split(' ');
    let status = Command::new(words.next().unwrap_or_default()).args(words).status();
    assert!(status.is_ok_and(|status| status.success()));
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

#[test]
fn a_full_table_and_a_known_slot_are_refused() {
    let config = AttachConfig { max_namespaces: 1, ..AttachConfig::default() };
    let attacher = Attacher::start(config, Arc::new(Counting::new()), |_| {}).expect("start");
    let netns = new_netns();
    let attach =
        |slot| attacher.attach(slot, Arc::clone(&netns), Priority::Background).map_err(|error| error.to_string());
    assert_eq!(attach(POD), Ok(()));
    assert_eq!(attach(POD), Err("slot 7 is attached already".to_owned()));
    assert_eq!(attach(Slot(8)), Err("all 1 attachments are in use (max_namespaces)".to_owned()));
    attacher.detach(Slot(99));
    assert_eq!(attacher.shutdown(PATIENCE), 0);
}

#[test]
fn a_thousand_cycles_leave_descriptors_and_threads_as_before() {
    // In a process of its own: other tests open and close theirs meanwhile.
    let status = role("cycles", &[]).status().expect("start");
    assert!(status.success());
}

/// Starts an agent in a process of its own, waits until it has attached, and kills it.
fn kill_an_agent_in(netns: &Netns) {
    let mut child: Child = role("victim", &[("PFA_NETNS", path(netns))]).stdout(Stdio::piped()).spawn().expect("start");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let attached = lines.map_while(Result::ok).any(|line| line.contains("victim: attached"));
    child.kill().expect("kill own child");
    child.wait().expect("wait for own child");
    assert!(attached, "the victim ended before it attached");
}

/// This program again, as one of the roles below.
fn role(name: &str, environment: &[(&str, String)]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("own path"));
    command.args(["--ignored", "--exact", "--nocapture", "--test-threads=1", &format!("role_{name}")]);
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
    assert_eq!((count("fd"), count("task")), before);
    assert_eq!(Netns::current().expect("own namespace").id(), ours);
    assert!(!has_clsact(&pair.pod, "eth0"));
    assert_eq!(bench.attacher.shutdown(PATIENCE), 0);
}

/// `cargo test -p capture-engine --test attach -- --ignored --nocapture measure`
#[test]
#[ignore = "a measurement"]
fn measure() {
    let root = new_netns();
    let wired = |number| {
        let netns = new_netns();
        within(&netns, &format!("ip link add eth0 type veth peer name v{number} netns {}", path(&root)));
        within(&netns, "ip link set eth0 up");
        netns
    };
    let many: Vec<Arc<Netns>> = (0..500).map(wired).collect();
    let late = wired(500);
    for mode in [Mode::Clsact, Mode::Auto, Mode::Tcx] {
        let bench = Bench::new(mode);
        let mut single: Vec<Duration> = (0..if mode == Mode::Tcx { 60 } else { 1000 })
            .map(|_| {
                bench.attacher.attach(POD, Arc::clone(&many[0]), Priority::Urgent).expect("room");
                let took = bench.wait_attached();
                bench.detach(POD);
                took
            })
            .collect();
        single.sort();
        let at = |share: f64| single[((single.len() - 1) as f64 * share) as usize];
        eprintln!(
            "{mode:?}: one namespace, {} times: p50 {:?} p99 {:?} max {:?}",
            single.len(),
            at(0.5),
            at(0.99),
            at(1.0)
        );

        let start = Instant::now();
        for (number, netns) in (1000..).zip(&many) {
            bench.attacher.attach(Slot(number), Arc::clone(netns), Priority::Background).expect("room");
        }
        bench.attacher.attach(POD, Arc::clone(&late), Priority::Urgent).expect("room");
        let mut urgent = None;
        for _ in 0..=many.len() {
            let took = bench.wait("Attached", |event| match event {
                AttachEvent::Attached { slot: POD, took, .. } => Some(Some(took)),
                AttachEvent::Attached { .. } => Some(None),
                _ => None,
            });
            urgent = urgent.or(took);
        }
        eprintln!("{mode:?}: 500 namespaces in {:?}; a new one in between took {urgent:?}", start.elapsed());
        let start = Instant::now();
        assert_eq!(bench.attacher.shutdown(Duration::from_secs(60)), 0);
        eprintln!("{mode:?}: 501 detached in {:?}", start.elapsed());
    }
}
