//! More SYNs, connections or datagrams in one namespace than the flow table has room for: the others
//! lose nothing by it, and what it loses itself is counted.

use crate::frames::{Bench, PEER, POD, Seen, Tcp};
use crate::script::refused::Crowd;
use crate::script::{host, random};
use capture_engine::event::Sample;
use capture_engine::kernel::KernelConfig;
use etherparse::PacketBuilder;
use flow_model::Direction::{self, Egress, Ingress};
use flow_model::Slot;

const FLOWS: u32 = 2048;
const SHARE: u64 = 32;

fn bench() -> Bench {
    Bench::new(&KernelConfig { ring_bytes: 1 << 20, flows: FLOWS, head_bytes: 16, ..Default::default() })
}

fn flows(bench: &Bench) -> Vec<Sample> {
    let mut sampler = bench.kernel.sampler();
    let mut flows = Vec::new();
    loop {
        let page = sampler.turn(256).expect("a turn");
        flows.extend(page.samples());
        if page.last {
            return flows;
        }
    }
}

/// Whole connections; returns how many of their requests and responses were told.
fn talk(bench: &mut Bench, ports: std::ops::Range<u16>) -> (usize, usize) {
    for peer_port in ports {
        let flow = Tcp { bench, peer_port };
        flow.handshake();
        flow.request(1000, b"ask");
        flow.response(1000, b"answer");
    }
    let seen = bench.drain();
    let of = |dir| seen.iter().filter_map(Seen::segment).filter(|segment| segment.dir == dir).count();
    (of(Ingress), of(Egress))
}

#[test]
fn a_flood_of_syns_in_one_namespace_costs_the_others_nothing() {
    let mut bench = bench();
    for peer_port in 1..=3 * FLOWS as u16 {
        let flow = Tcp { bench: &mut bench, peer_port };
        flow.send(Ingress, 999, "S", b"");
        flow.send(Egress, 999, "SA", b"");
    }
    let stats = bench.kernel.stats().expect("stats");
    assert_eq!((stats.flows_full, stats.opening_full), (0, u64::from(3 * FLOWS) - SHARE));
    for slot in [8, 9, 1 << 31] {
        bench.go_to(Slot(slot));
        assert_eq!(talk(&mut bench, 20_000..20_300), (300, 300), "in {slot}");
    }
    assert!(flows(&bench).iter().filter(|flow| flow.key.slot != Slot(7)).all(|flow| !flow.joined_midway));
    // Nor are exchanges lost where the flood is: a connection is followed from its first payload on.
    bench.go_to(Slot(7));
    assert_eq!(talk(&mut bench, 20_000..20_300), (300, 300));
    assert_eq!(flows(&bench).iter().filter(|flow| flow.joined_midway).count(), 300);
}

#[test]
fn a_scan_that_is_refused_costs_the_others_nothing() {
    let mut bench = bench();
    for peer_port in 1..=3 * FLOWS as u16 {
        let flow = Tcp { bench: &mut bench, peer_port };
        flow.send(Ingress, 999, "S", b"");
        flow.send(Egress, 0, "RA", b"");
        flow.bench.drain();
    }
    assert_eq!(bench.kernel.stats().expect("stats").flows_full, 0);
    bench.go_to(Slot(8));
    assert_eq!(talk(&mut bench, 20_000..20_300), (300, 300));
}

#[test]
fn what_was_answered_or_removed_takes_no_share() {
    let mut bench = bench();
    // Many connections, of which few are half open at any time.
    assert_eq!(talk(&mut bench, 1..1000), (999, 999));
    assert_eq!(bench.kernel.stats().expect("stats").opening_full, 0);
    for round in 0..3 {
        for peer_port in 30_000..30_000 + SHARE as u16 + 5 {
            Tcp { bench: &mut bench, peer_port }.send(Ingress, 999, "S", b"");
        }
        assert_eq!(bench.kernel.stats().expect("stats").opening_full, 5 * (round + 1), "round {round}");
        let half_open: Vec<_> = flows(&bench).iter().filter(|flow| !flow.established).map(|flow| flow.key).collect();
        assert_eq!(half_open.len() as u64, SHARE);
        bench.kernel.sampler().remove(&half_open).expect("removed");
        assert_eq!(flows(&bench).len(), 999, "a round finds that they are gone");
    }
}

/// A namespace may have three quarters of an empty table, and three quarters of what is left then.
const FIRST_SHARE: u64 = FLOWS as u64 / 4 * 3;

/// Whole connections that nobody closes; none of their events matters.
fn open(bench: &mut Bench, ports: std::ops::RangeInclusive<u16>) {
    for peer_port in ports {
        Tcp { bench, peer_port }.handshake();
        bench.drain();
    }
}

#[test]
fn a_flood_of_connections_that_stay_open_in_one_namespace_costs_the_others_nothing() {
    let mut bench = bench();
    open(&mut bench, 1..=3 * FLOWS as u16);
    let stats = bench.kernel.stats().expect("stats");
    // Of the SYN and the SYN-ACK of each; its ACK is a stray.
    assert_eq!((stats.flows_full, stats.flows_share), (0, 2 * (u64::from(3 * FLOWS) - FIRST_SHARE)));
    assert_eq!(stats.opening_full, 0);
    for slot in [8, 9, 1 << 31] {
        bench.go_to(Slot(slot));
        assert_eq!(talk(&mut bench, 20_000..20_090), (90, 90), "in {slot}");
    }
    let stats = bench.kernel.stats().expect("stats");
    assert_eq!((stats.flows_full, stats.flows_share), (0, 2 * (u64::from(3 * FLOWS) - FIRST_SHARE)));
    assert_eq!(flows(&bench).iter().filter(|flow| flow.key.slot == Slot(7)).count() as u64, FIRST_SHARE);
}

#[test]
fn a_flood_of_datagrams_in_one_namespace_costs_the_others_nothing() {
    let mut bench = bench();
    for port in 1..=3 * FLOWS as u16 {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4(POD, PEER, 64)
            .udp(port, 53)
            .write(&mut frame, b"a question of no meaning")
            .expect("a frame");
        bench.run(Egress, &frame);
        bench.drain();
    }
    let stats = bench.kernel.stats().expect("stats");
    assert_eq!((stats.flows_full, stats.flows_share), (0, u64::from(3 * FLOWS) - FIRST_SHARE));
    bench.go_to(Slot(8));
    assert_eq!(talk(&mut bench, 20_000..20_300), (300, 300));
}

#[test]
fn each_namespace_that_floods_leaves_something_for_the_next() {
    let mut bench = bench();
    let mut had = Vec::new();
    for slot in 1..=4 {
        bench.go_to(Slot(slot));
        open(&mut bench, 1..=FLOWS as u16);
        had.push(flows(&bench).iter().filter(|flow| flow.key.slot == Slot(slot)).count());
    }
    // 2048 flows: three quarters of what is free each time, but 16 at least while there is any room.
    assert_eq!(had, [1536, 384, 96, 24]);
    for slot in 5..=6 {
        bench.go_to(Slot(slot));
        open(&mut bench, 1..=FLOWS as u16);
        had.push(flows(&bench).iter().filter(|flow| flow.key.slot == Slot(slot)).count());
    }
    assert_eq!(had[4..], [8, 0], "the table is full in the end");
    assert!(bench.kernel.stats().expect("stats").flows_full > 0);
}

#[test]
fn what_was_removed_makes_room_in_its_namespace_s_share() {
    let mut bench = bench();
    for round in 0..3 {
        open(&mut bench, 1..=FLOWS as u16);
        let refused = 2 * (u64::from(FLOWS) - FIRST_SHARE);
        assert_eq!(bench.kernel.stats().expect("stats").flows_share, refused * (round + 1), "round {round}");
        let keys: Vec<_> = flows(&bench).iter().map(|flow| flow.key).collect();
        let sampler = bench.kernel.sampler();
        assert!(sampler.take(&keys[0]).expect("taken").is_some() && sampler.take(&keys[0]).expect("gone").is_none());
        assert_eq!(sampler.remove(&keys).expect("removed") as u64, FIRST_SHARE - 1);
    }
}

#[test]
fn an_answer_without_a_flow_tells_of_an_exchange_once() {
    let mut bench = bench();
    open(&mut bench, 1..=FLOWS as u16);
    let answers = |bench: &Bench| bench.kernel.sampler().answers();
    assert_eq!(answers(&bench), [0, 0]);
    let flow = Tcp { bench: &mut bench, peer_port: 50_000 };
    let answer = b"HTTP/1.1 200 OK\r\n\r\n";
    flow.request(1000, b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(answers(flow.bench), [0, 0], "its answer may be followed");
    for seq in [1000, 1000, 1200, 1000, 1400, 1200] {
        flow.response(seq, answer);
    }
    assert_eq!(answers(flow.bench), [0, 3], "three answers, three repetitions");
    for (seq, other) in (2000u32..).step_by(100).zip([
        &b"HTTP/1.1 100 Continue\r\n\r\n"[..],
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"some bytes of a body",
        b"HTTP/1.1 20",
    ]) {
        flow.response(seq, other);
    }
    assert_eq!(answers(flow.bench), [0, 3], "nothing that is one for sure");
    // The pod as a client.
    flow.request(3000, answer);
    assert_eq!(answers(flow.bench), [1, 3]);

    let dns = |bench: &Bench, dir, id: u8, second: u8| {
        let (from, to) = if dir == Ingress { (PEER, POD) } else { (POD, PEER) };
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4(from, to, 64)
            .udp(53, 60_000)
            .write(&mut frame, &[7, id, second, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0])
            .expect("a frame");
        bench.run(dir, &frame);
    };
    let before = answers(flow.bench);
    for (dir, id, second) in [(Ingress, 1, 0x81), (Ingress, 1, 0x81), (Ingress, 2, 0x81), (Egress, 3, 0x85)] {
        dns(flow.bench, dir, id, second);
    }
    dns(flow.bench, Ingress, 4, 1);
    assert_eq!(answers(flow.bench), [before[0] + 2, before[1] + 1], "a query is no answer");
}

/// Of a quarter as many connections in a second as there are places for answers, four in a thousand
/// find none; of half as many as there are, it would be ten times that.
#[test]
fn answers_without_a_flow_have_16384_places() {
    const CONNECTIONS: u16 = 4096;
    let mut bench = bench();
    open(&mut bench, 1..=FLOWS as u16);
    for peer_port in 20_000..20_000 + CONNECTIONS {
        let flow = Tcp { bench: &mut bench, peer_port };
        for _ in 0..2 {
            flow.response(1000, b"HTTP/1.1 200 OK\r\n\r\n");
        }
    }
    let [_, told] = bench.kernel.sampler().answers();
    assert!((u64::from(CONNECTIONS) * 99 / 100..=u64::from(CONNECTIONS)).contains(&told), "{told}");
}

fn datagram(bench: &Bench, dir: Direction, payload: &[u8]) {
    let (from, to, ports) = if dir == Ingress { (PEER, POD, (53, 60_000)) } else { (POD, PEER, (60_000, 53)) };
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4(from, to, 64)
        .udp(ports.0, ports.1)
        .write(&mut frame, payload)
        .expect("a frame");
    bench.run(dir, &frame);
}

/// The room comes when its answer has been told.
#[test]
fn what_was_told_without_a_flow_begins_no_message_when_there_is_room() {
    let mut bench = no_room();
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n";
    let rest = 1000 + answer.len() as u32;
    let flow = Tcp { bench: &mut bench, peer_port: 2 };
    flow.request(1000, b"GET / HTTP/1.1\r\n\r\n");
    flow.response(1000, answer);
    let (question, reply) = ([7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0], [7, 7, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0, 0]);
    datagram(flow.bench, Egress, &question);
    datagram(flow.bench, Ingress, &reply);
    assert_eq!(flow.bench.kernel.sampler().answers(), [1, 1]);
    let filler = flows(flow.bench)[0].key;
    flow.bench.kernel.sampler().remove(&[filler]).expect("removed");
    flow.request(1000, b"GET / HTTP/1.1\r\n\r\n");
    flow.response(1000, answer);
    datagram(flow.bench, Ingress, &reply);
    datagram(flow.bench, Egress, &question);
    assert_eq!(flows(flow.bench).len(), 0, "all of it was sent again");
    // Put together with what was not seen.
    flow.response(1000, &[answer, &[b'x'; 20][..]].concat());
    flow.response(rest + 20, &[b'x'; 40]);
    assert_eq!(flow.bench.only_flow().turns, 0, "of an exchange that is told");
    flow.request(1000, b"GET / HTTP/1.1\r\n\r\n");
    flow.response(rest, &[b'x'; 20]);
    assert_eq!(flow.bench.only_flow().turns, 0, "sent again");
    flow.request(1018, b"GET /next HTTP/1.1\r\n\r\n");
    flow.response(rest + 60, answer);
    assert_eq!(flow.bench.only_flow().turns, 2);
    assert_eq!(flow.bench.copied().len(), 2);
    assert_eq!(flow.bench.kernel.sampler().answers(), [1, 1]);
}

/// A table for one flow, which has it.
fn no_room() -> Bench {
    let mut bench = Bench::new(&KernelConfig { ring_bytes: 1 << 16, flows: 1, ..Default::default() });
    Tcp { bench: &mut bench, peer_port: 1 }.handshake();
    assert_eq!(flows(&bench).len(), 1);
    bench
}

/// Answers from the pod that were told, and those that found no place.
fn refused(bench: &Bench) -> [u64; 2] {
    let [to, from] = bench.kernel.sampler().answers();
    assert_eq!(to, 0);
    [from, bench.kernel.stats().expect("stats").answers_full]
}

/// As fast as it goes: places are in use for a second.
fn pass(bench: &Bench, crowd: &Crowd) {
    let frames: Vec<(bool, Vec<u8>)> = crowd.frames().collect();
    for (from_client, frame) in &frames {
        bench.run(if *from_client { Ingress } else { Egress }, frame);
    }
}

/// Twice as many as there are places for answers, most of them in a second.
#[test]
fn short_connections_without_room_are_told_however_many_they_are() {
    let bench = no_room();
    let (_, seed) = random::scale(1);
    // Elsewhere is an emulated machine, which would take far longer than a second.
    let crowd = Crowd::new(seed, if host::can_run() { 35_000 } else { 2000 }, 0);
    pass(&bench, &crowd);
    assert_eq!(refused(&bench), [crowd.answers, 0], "PILOTFISH_SCRIPTS_SEED={seed}");
}

#[test]
fn of_random_connections_without_room_the_kernel_tells_what_there_was_and_the_host_says() {
    let mut bench = no_room();
    let (count, first) = random::scale(100);
    eprintln!("{count} crowds from PILOTFISH_SCRIPTS_SEED={first} on");
    for (seed, slot) in (first..first.saturating_add(count)).zip(100..) {
        let crowd = Crowd::new(seed, 60, 2);
        // Those that stay have their places for longer than it takes.
        bench.go_to(Slot(slot));
        let before = refused(&bench);
        pass(&bench, &crowd);
        let after = refused(&bench);
        let told = [after[0] - before[0], after[1] - before[1]];
        assert_eq!(told, [crowd.answers, 0], "PILOTFISH_SCRIPTS=1 PILOTFISH_SCRIPTS_SEED={seed}");
        if host::can_run() {
            let frames: Vec<(bool, Vec<u8>)> = crowd.frames().collect();
            let host = host::refused(frames.iter().map(|(client, frame)| (slot, *client, frame.as_slice())));
            assert_eq!(host, [0, told[0], told[1]], "PILOTFISH_SCRIPTS=1 PILOTFISH_SCRIPTS_SEED={seed}");
        }
    }
}
