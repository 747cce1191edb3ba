//! Generated conversations with a broker, cut into packets, repeated and lost; the conversation itself is the
//! reference.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod conversation;
#[path = "../support/kf.rs"]
mod kf;
#[path = "../support/mod.rs"]
mod support;

use conversation::*;
use flow_model::Ts;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use support::capture::{Capture, limits};
use support::packets::{Dice, FIRST, disturbed, packets};
use support::{CLIENT, Packet, SERVER};

/// Where a client begins to count.
fn first() -> impl Strategy<Value = i32> {
    prop_oneof![-1..1000, any::<i32>(), i32::MAX - 20..i32::MAX]
}

/// The first exchange shows the protocol: it is answered.
fn shown(mut exchanges: Vec<Exchange>) -> Vec<Exchange> {
    (exchanges[0].ask, exchanges[0].pipelined) = (Ask::Metadata, false);
    if let Some(second) = exchanges.get_mut(1) {
        second.pipelined = false;
    }
    exchanges
}

proptest! {
    // A failure prints its seed and is kept beside this file, to be played again first.
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn cutting_reordering_and_repeating_changes_nothing(
        exchanges in prop::collection::vec(exchange(), 1..30),
        numbers in numbers(),
        first in first(),
        seed in 1u64..,
        largest in prop_oneof![Just(3usize), Just(20usize), Just(1460), Just(65_000)],
    ) {
        let (messages, facts) = conversation(&shown(exchanges), numbers, first);
        let mut dice = Dice(seed);
        let mut capture = Capture::new(limits(true), usize::MAX >> 1);
        for packet in disturbed(packets(&messages, &mut dice, largest), &mut dice) {
            capture.take(&packet);
        }
        let found = capture.close();
        prop_assert_eq!(in_order(&found), facts);
        prop_assert_eq!((found.lost_count(), found.unasked), (0, 0));
    }

    #[test]
    fn copying_heads_alone_changes_nothing_without_pipelining(
        mut exchanges in prop::collection::vec(exchange(), 1..20),
        numbers in numbers(),
        first in first(),
        seed in 1u64..,
    ) {
        for exchange in &mut exchanges {
            exchange.pipelined = false;
            if let Ask::OneWay(bytes) = exchange.ask {
                exchange.ask = Ask::Produce(bytes);
            }
        }
        let (messages, facts) = conversation(&exchanges, numbers, first);
        let mut dice = Dice(seed);
        let mut capture = Capture::new(limits(false), 4096);
        for packet in packets(&messages, &mut dice, 1460).iter().flatten() {
            capture.take(packet);
        }
        let found = capture.close();
        prop_assert_eq!(in_order(&found), facts);
        prop_assert_eq!(found.lost_count(), 0);
    }

    #[test]
    fn a_full_ring_loses_exchanges_and_says_how_many(
        mut exchanges in prop::collection::vec(exchange(), 1..40),
        numbers in numbers(),
        first in first(),
        seed in 1u64..,
        rarity in 2usize..10,
    ) {
        for exchange in &mut exchanges {
            exchange.pipelined = false;
            if let Ask::OneWay(bytes) = exchange.ask {
                exchange.ask = Ask::Produce(bytes);
            }
        }
        let (messages, facts) = conversation(&exchanges, numbers, first);
        let mut dice = Dice(seed);
        let mut capture = Capture::new(limits(false), 4096);
        let cut = packets(&messages, &mut dice, 1460);
        let (any, kept) = capture.take_some(&cut, &mut dice, rarity);
        let shown = capture.tcp.wire().is_some();
        capture.tcp.sampled_turns(capture.observer.message.turn, &mut capture.found);
        let found = capture.close();
        assert_none_wrong(&found, &facts);
        if any && shown {
            let sum = found.records.len() as u64 + found.lost_count();
            prop_assert_eq!(sum, facts.len() as u64, "{:?} of {:?}, {:?}", found.lost, kept, in_order(&found));
        }
    }

    #[test]
    fn one_lost_record_costs_what_it_held_and_no_more(
        exchanges in prop::collection::vec(exchange(), 5..25),
        jumps in any::<bool>(),
        first in first(),
        seed in 1u64..,
    ) {
        let mut exchanges = shown(exchanges);
        // Of what is not answered, and is lost, nothing tells but the numbers of a client that counts by one.
        for exchange in &mut exchanges {
            if let Ask::OneWay(bytes) = exchange.ask {
                exchange.ask = Ask::Produce(bytes);
            }
        }
        let numbers = if jumps { Numbers::Jumps } else { Numbers::ByOne };
        let (messages, facts) = conversation(&exchanges, numbers, first);
        let mut dice = Dice(seed);
        let mut capture = Capture::new(limits(false), usize::MAX >> 1);
        let cut = packets(&messages, &mut dice, 1460);
        capture.take_all_but_one(&cut, &mut dice, 4);
        let found = capture.close();
        assert_none_wrong(&found, &facts);
        let seen = in_order(&found);
        prop_assert_eq!(seen.len() as u64 + found.lost_count(), facts.len() as u64, "{:?} {:?}", &seen, &found.lost);
        prop_assert_eq!(found.unasked, 0);
    }

    #[test]
    fn dropped_packets_make_no_wrong_record(
        exchanges in prop::collection::vec(exchange(), 1..60),
        numbers in numbers(),
        first in first(),
        seed in 1u64..,
        rarity in 3usize..60,
        largest in prop_oneof![Just(200usize), Just(1460)],
    ) {
        let (messages, facts) = conversation(&exchanges, numbers, first);
        let mut dice = Dice(seed);
        let mut capture = Capture::new(limits(true), usize::MAX >> 1);
        let mut dropped = false;
        for packet in packets(&messages, &mut dice, largest).iter().flatten() {
            // Behind a loss a request in the records of another one begins where a request may: nobody could tell.
            if dropped && packet.payload.starts_with(&kf::records(8)) {
                return Ok(());
            }
            dropped = dice.one_in(rarity);
            if !dropped {
                capture.take(packet);
            }
        }
        let found = capture.close();
        assert_none_wrong(&found, &facts);
        let sum = found.records.len() as u64 + found.lost_count();
        prop_assert!(sum <= facts.len() as u64, "{} of {}: {:?}", sum, facts.len(), found.lost);
    }

    #[test]
    fn starting_in_the_middle_makes_no_wrong_record(
        exchanges in prop::collection::vec(exchange(), 2..30),
        numbers in numbers(),
        first in first(),
        seed in 1u64..,
        live in any::<bool>(),
    ) {
        let (messages, facts) = conversation(&exchanges, numbers, first);
        let mut dice = Dice(seed);
        let cut = packets(&messages, &mut dice, 1460);
        let all: Vec<&Packet> = cut.iter().flatten().collect();
        let skip = dice.below(all.len());
        let mut capture = Capture::joined(limits(!live));
        all[skip..].iter().for_each(|packet| capture.take(packet));
        let found = capture.close();
        assert_none_wrong(&found, &facts);
        let sum = found.records.len() as u64 + found.lost_count();
        prop_assert!(sum <= facts.len() as u64, "{} of {}: {:?}", sum, facts.len(), found.lost);
    }

    #[test]
    fn any_bytes_do_no_harm(
        pieces in prop::collection::vec((any::<bool>(), prop::collection::vec(prop_oneof![
            8 => prop::sample::select(b"\0\0\0\x01\x02\x03\x04\x0a\x12app\xff".to_vec()), 1 => any::<u8>(),
        ], 1..60)), 1..60),
    ) {
        let mut capture = Capture::new(limits(false), 4096);
        let mut seqs = FIRST;
        let opening = [(true, kf::metadata(0, "a")), (false, kf::metadata_is(0, "a", 0))];
        for (now, (client, payload)) in opening.into_iter().chain(pieces).enumerate() {
            let dir = if client { CLIENT } else { SERVER };
            let seq = seqs[dir.index()];
            seqs[dir.index()] = seq.wrapping_add(payload.len() as u32);
            let packet = Packet { dir, at: Ts(now as u64), seq, payload, snap: usize::MAX, acked: None };
            capture.take(&packet);
        }
        capture.close();
    }
}
