//! What is none of the protocols is taken for none: connections of random bytes, and of bytes as files and frames
//! of others have them. `PROPTEST_CASES` says how many hundreds (256 where it does not).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use flow_model::{Role, Ts};
use l7::{Limits, Tcp};
use support::packets::{Dice, FIRST};
use support::{CLIENT, Found, Observer, Packet, SERVER, hand_over};

/// Connections for each case of `PROPTEST_CASES`.
const HUNDRED: u64 = 100;

/// What a message of a connection is made of.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Any bytes.
    Any,
    /// Zeros, small numbers of one to four bytes in either order, and lengths that are right or nearly so.
    Numbers,
    /// As above, in frames that say their length in two to four bytes.
    Framed,
}

fn payload(kind: Kind, dice: &mut Dice) -> Vec<u8> {
    let length = 1 + dice.below(80);
    match kind {
        Kind::Any => (0..length).map(|_| dice.below(256) as u8).collect(),
        Kind::Numbers => numbers(length, dice),
        Kind::Framed => {
            let mut bytes = Vec::new();
            for _ in 0..1 + dice.below(3) {
                let body = numbers(1 + dice.below(60), dice);
                let length = (body.len() as u32).wrapping_add(dice.below(3) as u32).wrapping_sub(1);
                match dice.below(4) {
                    0 => bytes.extend(&length.to_be_bytes()[2..]),
                    1 => bytes.extend(length.to_be_bytes()),
                    2 => bytes.extend([&length.to_le_bytes()[..3], &[dice.below(4) as u8]].concat()),
                    _ => bytes.extend(length.to_le_bytes()),
                }
                bytes.extend(body);
            }
            bytes
        }
    }
}

fn numbers(length: usize, dice: &mut Dice) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < length {
        let number = dice.below(7) as u32;
        match dice.below(6) {
            0 => bytes.extend(vec![0; dice.below(9)]),
            1 => bytes.extend(&number.to_be_bytes()[2..]),
            2 => bytes.extend(number.to_be_bytes()),
            3 => bytes.extend(number.to_le_bytes()),
            4 => bytes.extend(vec![b'x'; dice.below(9)]),
            _ => bytes.push(dice.below(256) as u8),
        }
    }
    bytes
}

/// One connection, from its handshake on or from somewhere in the middle. What it was taken for.
fn taken_for(kind: Kind, seed: u64) -> Option<String> {
    let mut dice = Dice(seed);
    let limits = Limits { report_partial: dice.one_in(2), ..Limits::default() };
    let mut tcp = Tcp::new(&limits, Role::Unknown);
    let (mut found, mut observer, mut seqs) = (Found::default(), Observer::new(4096), FIRST);
    if dice.one_in(2) {
        observer = observer.handshake(FIRST[CLIENT.index()], FIRST[SERVER.index()]);
        tcp.starts_at(CLIENT, FIRST[CLIENT.index()]);
        tcp.starts_at(SERVER, FIRST[SERVER.index()]);
    }
    let mut said = Vec::new();
    for at in 0..2 + dice.below(5) as u64 {
        let dir = if dice.one_in(2) { CLIENT } else { SERVER };
        let payload = payload(kind, &mut dice);
        said.push((dir, payload.escape_ascii().to_string()));
        let seq = seqs[dir.index()];
        seqs[dir.index()] = seq.wrapping_add(payload.len() as u32);
        let packet = Packet { dir, at: Ts(1 + at), seq, payload, snap: usize::MAX, acked: None };
        if let Some(event) = observer.see(packet) {
            hand_over(&mut tcp, &event, &mut found);
        }
        if let Some(wire) = tcp.wire() {
            return Some(format!("{wire:?}, seed {seed}: {said:#?}"));
        }
    }
    None
}

#[test]
fn connections_of_nothing_that_is_read_are_taken_for_nothing() {
    let first = std::time::UNIX_EPOCH.elapsed().map_or(1, |time| time.as_nanos() as u64 | 1);
    let cases = u64::from(proptest::test_runner::Config::default().cases);
    let mut taken = Vec::new();
    for seed in first..first + cases * HUNDRED {
        let kind = [Kind::Any, Kind::Numbers, Kind::Framed][(seed % 3) as usize];
        // Neighbours have little in common.
        if let Some(of) = taken_for(kind, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1) {
            taken.push(format!("{kind:?} {of}"));
        }
    }
    // A message of MySQL has little to be known by: one of some three million short frames is one. What is
    // more often wrong is a fault.
    let few = 1 + cases * HUNDRED / 1_000_000;
    assert!(taken.len() as u64 <= few, "{} of {}: {}", taken.len(), cases * HUNDRED, taken.join("\n"));
    taken.iter().for_each(|of| eprintln!("by chance: {of}"));
}

#[test]
fn numbers_that_mysql_might_begin_with_have_no_user_and_no_version() {
    assert_eq!(taken_for(Kind::Numbers, 12_946_945_461_790_244_177), None);
    // An empty name, and no length of what authenticates it.
    assert_eq!(taken_for(Kind::Framed, 17_761_907_083_102_643_055), None);
    // A greeting of version 3.
    assert_eq!(taken_for(Kind::Framed, 15_459_229_960_522_188_567), None);
}

#[test]
fn requests_of_kafka_that_are_not_whole_say_nothing_by_a_name() {
    assert_eq!(taken_for(Kind::Framed, 5_294_983_282_017_829_217), None);
}
