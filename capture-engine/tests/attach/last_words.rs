//! A process ends and leaves data in its sockets, which a slow reader takes later: it is seen to its
//! last packet, and nobody waits for it without a bound.

use crate::bench::{Bench, PATIENCE, POD};
use crate::place::{Pair, has_clsact, our_filters, within};
use capture_engine::attach::{AttachConfig, AttachError, AttachEvent, AttachState, Mode, Priority};
use flow_model::Slot;
use nix::sys::socket::{setsockopt, sockopt};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the process writes before it ends, and what its reader takes at once of that, at most.
const LEFT: usize = 200_000;
const WINDOW: usize = 4096;

/// A connection of a process that has written everything and ended; its reader has not read yet.
fn leave_data(pair: &Pair) -> TcpStream {
    let listener = pair.peer.run(|_| TcpListener::bind("10.77.0.2:0").expect("bind")).expect("enter");
    setsockopt(&listener, sockopt::RcvBuf, &WINDOW).expect("a small window");
    let to = listener.local_addr().expect("bound");
    let mut left = pair.pod.run(|_| TcpStream::connect(to).expect("connect")).expect("enter");
    setsockopt(&left, sockopt::SndBuf, &(2 * LEFT)).expect("room for all of it");
    let (reader, _) = listener.accept().expect("accept");
    left.write_all(&[7; LEFT]).expect("all of it fits");
    reader
}

/// As that, of a pod that is left then; it waits.
fn lingering(bench: &Bench, pair: &Pair) -> TcpStream {
    bench.attach(&pair.pod);
    let reader = leave_data(pair);
    bench.attacher.leave(POD);
    wait(|| bench.attacher.counters().lingered == 1);
    reader
}

fn wait(until: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !until() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn detached(bench: &Bench, slot: Slot) {
    bench.wait("Detached", |event| (event == AttachEvent::Detached { slot }).then_some(()));
}

/// `(lingered, ended late, ended for want of room)`
fn counts(bench: &Bench) -> [u64; 3] {
    let counters = bench.attacher.counters();
    [counters.lingered, counters.ended_late, counters.ended_full]
}

/// Packets that the pod's interface has sent.
fn sent(pair: &Pair) -> u64 {
    let text = within(&pair.pod, "ip -j -s link show dev eth0");
    let count = text.split("\"tx\":").nth(1).and_then(|tx| tx.split("\"packets\":").nth(1));
    let digits = count.map(|count| count.chars().take_while(char::is_ascii_digit).collect::<String>());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("{text}"))
}

#[test]
fn what_a_process_left_in_its_socket_is_seen_to_its_last_packet() {
    for mode in [Mode::Auto, Mode::Tcx] {
        let (pair, bench) = (Pair::new(), Bench::new(mode));
        bench.attach(&pair.pod);
        let seen_before = bench.programs.packets()[1];
        let sent_before = sent(&pair);
        let mut reader = leave_data(&pair);
        bench.attacher.leave(POD);
        wait(|| counts(&bench) == [1, 0, 0]);
        assert_eq!(bench.attacher.snapshot()[0].state, AttachState::Leaving);
        let mut read = vec![0; LEFT + 1];
        let mut length = 0;
        while let taken @ 1.. = reader.read(&mut read[length..]).expect("read") {
            length += taken;
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(length, LEFT);
        let sent = sent(&pair) - sent_before;
        let seen = bench.programs.packets()[1] - seen_before;
        assert!(seen >= sent && sent > 10, "{mode:?}: {seen} of {sent} were seen");
        drop(reader);
        detached(&bench, POD);
        assert!(!has_clsact(&pair.pod, "eth0"));
        assert_eq!(counts(&bench), [1, 0, 0], "{mode:?}: not for want of time");
    }
}

#[test]
fn whose_sockets_are_done_is_left_at_once() {
    let (pair, bench) = (Pair::new(), Bench::new(Mode::Auto));
    bench.attach(&pair.pod);
    bench.attacher.leave(POD);
    detached(&bench, POD);
    assert_eq!(counts(&bench), [0; 3]);
    assert_eq!(our_filters(&pair.pod, "eth0"), [0, 0]);
}

#[test]
fn nobody_is_waited_for_longer_than_his_time() {
    let linger = Duration::from_millis(300);
    let (pair, bench) = (Pair::new(), Bench::with(AttachConfig { linger, ..AttachConfig::default() }));
    bench.attach(&pair.pod);
    let reader = leave_data(&pair);
    let ended = Instant::now();
    bench.attacher.leave(POD);
    detached(&bench, POD);
    assert!(ended.elapsed() >= linger, "{:?}", ended.elapsed());
    assert_eq!(counts(&bench), [1, 1, 0], "for want of time");
    assert_eq!(our_filters(&pair.pod, "eth0"), [0, 0]);
    drop(reader);
}

#[test]
fn where_there_is_no_room_to_wait_it_is_left_at_once_and_counted() {
    let none = AttachConfig { max_lingering: 0, ..AttachConfig::default() };
    let (pair, bench) = (Pair::new(), Bench::with(none));
    bench.attach(&pair.pod);
    let reader = leave_data(&pair);
    bench.attacher.leave(POD);
    detached(&bench, POD);
    assert_eq!(counts(&bench), [0, 0, 1]);
    drop(reader);
}

#[test]
fn a_new_namespace_takes_the_room_of_those_that_wait() {
    let (pair, other) = (Pair::new(), Pair::new());
    let bench = Bench::with(AttachConfig { max_namespaces: 1, ..AttachConfig::default() });
    let reader = lingering(&bench, &pair);
    let attach = || bench.attacher.attach(Slot(8), Arc::clone(&other.pod), Priority::New);
    assert_eq!(attach(), Err(AttachError::Full(1)));
    detached(&bench, POD);
    assert_eq!(attach(), Ok(()));
    assert_eq!(counts(&bench), [1, 0, 1]);
    drop(reader);
}

#[test]
fn who_comes_to_the_same_namespace_takes_it_over() {
    for mode in [Mode::Auto, Mode::Tcx] {
        let (pair, bench) = (Pair::new(), Bench::new(mode));
        let reader = lingering(&bench, &pair);
        let next = Slot(8);
        assert_eq!(bench.attacher.attach(next, Arc::clone(&pair.pod), Priority::New), Ok(()));
        detached(&bench, POD);
        wait(|| bench.attacher.snapshot().iter().any(|row| row.slot == next && row.state == AttachState::Attached));
        assert_eq!(counts(&bench), [1, 0, 0], "{mode:?}");
        let ours = if mode == Mode::Tcx { [0, 0] } else { [1, 1] };
        assert_eq!(our_filters(&pair.pod, "eth0"), ours, "{mode:?}");
        bench.detach(next);
        drop(reader);
    }
}

#[test]
fn interfaces_that_are_taken_away_end_the_wait() {
    let (pair, bench) = (Pair::new(), Bench::new(Mode::Auto));
    let reader = lingering(&bench, &pair);
    within(&pair.peer, "ip link del eth0");
    detached(&bench, POD);
    assert_eq!(counts(&bench), [1, 0, 0], "not for want of time");
    drop(reader);
}

#[test]
fn the_end_of_the_agent_waits_for_nobody() {
    // Who waited would wait for longer than the end may take.
    let (pair, bench) = (Pair::new(), Bench::with(AttachConfig { linger: 2 * PATIENCE, ..AttachConfig::default() }));
    let reader = lingering(&bench, &pair);
    assert_eq!(bench.attacher.shutdown(PATIENCE), 0);
    assert_eq!(our_filters(&pair.pod, "eth0"), [0, 0]);
    drop(reader);
}

#[test]
fn a_namespace_lives_no_longer_than_by_its_own_sockets() {
    let (pair, bench) = (Pair::new(), Bench::new(Mode::Auto));
    let mut reader = lingering(&bench, &pair);
    let Pair { pod, peer } = pair;
    drop(pod);
    let mut all = Vec::new();
    reader.read_to_end(&mut all).expect("its sockets keep it, and its interface");
    assert_eq!(all.len(), LEFT);
    drop(reader);
    detached(&bench, POD);
    wait(|| !within(&peer, "ip link").contains("eth0"));
    assert_eq!(counts(&bench), [1, 0, 0]);
}
