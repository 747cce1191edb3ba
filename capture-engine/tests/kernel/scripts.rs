//! The table of packet scripts through the kernel programs.

use crate::frames::Bench;
use crate::script::walks::{self, Told as Walk, Walking};
use crate::script::{Packet, Told, check_table, engine, frames, host, lines, random};
use capture_engine::kernel::KernelConfig;
use flow_model::Direction;
use l7::Interest;

pub fn bench() -> Bench {
    Bench::new(&KernelConfig { ring_bytes: 1 << 18, flows: 64, ..KernelConfig::default() })
}

/// What the programs tell of the packets, at the server's interface. The table is empty afterwards.
pub fn run(bench: &mut Bench, packets: &[Packet]) -> Told {
    let mut told = Told::default();
    for packet in packets {
        let dir = if packet.from_client { Direction::Ingress } else { Direction::Egress };
        bench.run(dir, &packet.ethernet());
    }
    bench.hear(&mut |event| engine::hear(&mut told, &event));
    bench.hear_aside(&mut |end| engine::end(&mut told, &end));
    let mut sampler = bench.kernel.sampler();
    let mut keys = Vec::new();
    for sample in sampler.turn(16).expect("a turn").samples() {
        engine::end(&mut told, &sample);
        keys.push(sample.key);
    }
    sampler.remove(&keys).expect("removed");
    told.sorted()
}

#[test]
fn the_programs_tell_what_the_table_of_scripts_says() {
    let mut bench = bench();
    check_table(|packets| run(&mut bench, packets));
}

/// `PILOTFISH_SCRIPTS=1000000` for a long run.
#[test]
fn the_kernel_tells_of_random_scripts_what_their_ends_know_and_the_host_says() {
    let mut bench = bench();
    // Elsewhere is an emulated machine.
    let few = if host::can_run() { 10_000 } else { 1000 };
    random::check(few, |story| {
        let told = run(&mut bench, &story.packets);
        if !host::can_run() {
            return Ok(told);
        }
        let host = host::run(&story.packets);
        if told == host { Ok(told) } else { Err(format!("in the kernel\n{told}for the host\n{host}")) }
    });
}

/// What the walker in the kernel tells of the packets that are walked. The table is empty afterwards.
fn walk(bench: &mut Bench, walking: Walking<'_>) -> Vec<Walk> {
    let Walking { packets, from, walk, headers } = walking;
    let mut told = Vec::new();
    for (number, packet) in packets.iter().enumerate() {
        if number == from {
            bench.drain();
            let flow = bench.only_flow();
            let overrides = bench.kernel.overrides();
            overrides.set(&flow.key, flow.id, Interest::Frames(walk)).expect("an override");
            overrides.straighten(&flow.key, flow.id, headers.map(Some)).expect("a command");
        }
        let dir = if packet.from_client { Direction::Ingress } else { Direction::Egress };
        bench.run(dir, &packet.ethernet());
        bench.hear(&mut |event| {
            if number >= from {
                told.extend(Walk::heard(&event));
            }
        });
    }
    let key = bench.only_flow().key;
    bench.kernel.sampler().remove(&[key]).expect("removed");
    told
}

#[test]
fn the_kernel_walks_as_the_table_of_frames_says() {
    let mut bench = bench();
    frames::check(|walking| walk(&mut bench, walking));
    frames::check_rows(|walking| walk(&mut bench, walking));
}

#[test]
fn the_kernel_walks_random_frames_as_the_host_does() {
    let mut bench = Bench::new(&KernelConfig { ring_bytes: 1 << 20, flows: 64, ..KernelConfig::default() });
    let (count, first) = random::scale(if host::can_run() { 1000 } else { 100 });
    eprintln!("{count} scripts from PILOTFISH_SCRIPTS_SEED={first} on");
    for seed in first..first.saturating_add(count) {
        // What the kernel takes from a test in one piece is less than a page.
        let mut story = walks::Story::new(seed, 3000);
        let told = walk(&mut bench, story.walking());
        let wrong = story.differs(&told);
        assert_eq!(wrong, None, "PILOTFISH_SCRIPTS=1 PILOTFISH_SCRIPTS_SEED={seed} {}", story.name);
        if host::can_run() {
            let host = walks::on_the_host(story.walking());
            assert_eq!(told, host, "PILOTFISH_SCRIPTS=1 PILOTFISH_SCRIPTS_SEED={seed} {}", story.name);
        }
    }
}

/// What the kernel tells of a client whose requests are counted. The table is empty afterwards.
fn count(bench: &mut Bench, story: &lines::Story) -> lines::Heard {
    let mut heard = lines::Heard::default();
    for (number, packet) in story.packets.iter().enumerate() {
        if number == story.from {
            let flow = bench.only_flow();
            let interest = Interest::Pipeline(Direction::Ingress);
            bench.kernel.overrides().set(&flow.key, flow.id, interest).expect("an override");
        }
        let dir = if packet.from_client { Direction::Ingress } else { Direction::Egress };
        bench.run(dir, &packet.ethernet());
        bench.hear(&mut |event| heard.told.extend(Walk::heard(&event).map(|told| (number, told))));
    }
    let flow = bench.only_flow();
    heard.last = flow.message.and_then(|message| message.asked);
    bench.kernel.overrides().clear(&flow.key).expect("no override");
    bench.kernel.sampler().remove(&[flow.key]).expect("removed");
    heard
}

#[test]
fn the_kernel_counts_of_random_clients_how_often_they_ask_as_the_host_does() {
    let mut bench = Bench::new(&KernelConfig { ring_bytes: 1 << 20, flows: 64, ..KernelConfig::default() });
    let (number, first) = random::scale(if host::can_run() { 500 } else { 100 });
    eprintln!("{number} scripts from PILOTFISH_SCRIPTS_SEED={first} on");
    for seed in first..first.saturating_add(number) {
        // What the kernel takes from a test in one piece is less than a page.
        let story = lines::Story::new(seed, if seed % 2 == 0 { 3000 } else { 200 }, seed % 3 == 0);
        let heard = count(&mut bench, &story);
        if let Err(wrong) = story.differs(&heard) {
            panic!("PILOTFISH_SCRIPTS=1 PILOTFISH_SCRIPTS_SEED={seed} {wrong}");
        }
        if host::can_run() {
            assert_eq!(heard, story.on_the_host(), "PILOTFISH_SCRIPTS=1 PILOTFISH_SCRIPTS_SEED={seed}");
        }
    }
}
