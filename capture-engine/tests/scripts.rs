//! Packet scripts without a kernel: the table of them through replay and through the kernel
//! programs as built for the host, and random ones. `kernel/scripts.rs` runs them in the kernel.
//!
//! `PILOTFISH_SCRIPTS=100000000 PILOTFISH_SCRIPTS_JOBS=$(nproc) cargo test --release -p capture-engine
//! --test scripts` is a long run in so many processes. `PILOTFISH_SCRIPTS_SEED` is that of its first
//! script, and each script's is one more than the one before: a run can be cut into parts.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod script;

use capture_engine::replay::Replay;
use script::{Packet, Told, check_table, engine, host, random};
use std::io::Cursor;
use std::process::{Child, Command};

/// A capture of the packets, a millisecond apart.
fn file(packets: &[Packet]) -> Vec<u8> {
    let mut file = [0xa1b2_3c4d_u32, 0x0004_0002, 0, 0, 262_144, 1].map(u32::to_le_bytes).concat();
    for (packet, ms) in packets.iter().zip(0u32..) {
        let frame = packet.ethernet();
        let length = frame.len() as u32;
        file.extend([ms / 1000, ms % 1000 * 1_000_000, length, length].map(u32::to_le_bytes).concat());
        file.extend(frame);
    }
    file
}

#[test]
fn replay_tells_what_the_table_of_scripts_says() {
    check_table(|packets| {
        let mut told = Told::default();
        Replay::new(Cursor::new(file(packets))).unwrap().run(|event| engine::hear(&mut told, &event));
        told.sorted()
    });
}

#[test]
#[cfg_attr(no_bpf, ignore = "built without clang")]
fn the_programs_for_the_host_tell_what_the_table_of_scripts_says() {
    assert!(host::can_run(), "the sources are here");
    check_table(host::run);
}

#[test]
#[cfg_attr(no_bpf, ignore = "built without clang")]
fn the_programs_tell_of_random_scripts_what_both_ends_know() {
    let jobs = std::env::var("PILOTFISH_SCRIPTS_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(1);
    if jobs > 1 {
        return in_processes(jobs);
    }
    random::check(30_000, |story| Ok(host::run(&story.packets)));
}

/// The programs have one set of maps in each process, so that threads would wait for each other.
fn in_processes(jobs: u64) {
    let (count, first) = random::scale(30_000);
    let each = count.div_ceil(jobs);
    let job = |job: u64| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "the_programs_tell_of_random_scripts_what_both_ends_know"])
            .env("PILOTFISH_SCRIPTS", each.min(count.saturating_sub(job * each)).to_string())
            .env("PILOTFISH_SCRIPTS_SEED", first.saturating_add(job * each).to_string())
            .env("PILOTFISH_SCRIPTS_JOBS", "1")
            .spawn()
            .unwrap()
    };
    let running: Vec<Child> = (0..jobs).map(job).collect();
    let failed = running.into_iter().filter_map(|mut child| (!child.wait().unwrap().success()).then_some(())).count();
    assert_eq!(failed, 0, "of {jobs} processes");
}
