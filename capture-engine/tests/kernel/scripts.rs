//! The table of packet scripts through the kernel programs.

use crate::frames::Bench;
use crate::script::{Packet, Told, check_table, engine, host, random};
use capture_engine::kernel::KernelConfig;
use flow_model::Direction;

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
