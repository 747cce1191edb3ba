//! The table of packet scripts through replay. The kernel programs run it in `kernel/scripts.rs`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod script;

use capture_engine::replay::Replay;
use script::{Packet, Told, check_table, engine};
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
