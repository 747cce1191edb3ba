//! Packet scripts without a kernel: the table of them through replay and through the kernel
//! programs as built for the host, and random ones. `kernel/scripts.rs` runs them in the kernel.
//!
//! `PILOTFISH_SCRIPTS=100000000 cargo test --release -p capture-engine --test scripts` is a long run.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod script;

use capture_engine::replay::Replay;
use script::{Packet, Told, check_table, engine, host, random};
use std::io::Cursor;

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
    random::check(30_000, |story| Ok(host::run(&story.packets)));
}
