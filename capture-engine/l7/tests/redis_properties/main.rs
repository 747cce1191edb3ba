//! Generated Redis conversations, cut into packets, repeated and lost; the conversation itself is the reference.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod conversation;
#[path = "../support/mod.rs"]
mod support;

use conversation::*;
use flow_model::Ts;
use l7::Interest;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use support::capture::{Capture, limits};
use support::packets::{Dice, FIRST, disturbed, packets};
use support::{CLIENT, Packet, SERVER};

/// Whether packet `skip` is not the first of its message and looks like a command, with which a value ends.
fn is_command_in_value(messages: &[Vec<Packet>], mut skip: usize) -> bool {
    for message in messages {
        if let Some(rest) = message.get(skip..).filter(|rest| !rest.is_empty()) {
            let rest: Vec<u8> = rest.iter().flat_map(|packet| packet.payload.iter().copied()).collect();
            let command = rest.strip_prefix(b"*1\r\n$4\r\n").unwrap_or(&rest).strip_prefix(b"PING");
            // Where the value goes on, no command comes next.
            return skip > 0 && command.is_some_and(|behind| !behind.trim_ascii_start().starts_with(b"+"));
        }
        skip -= message.len();
    }
    false
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
        seed in 1u64..,
        largest in prop_oneof![Just(3usize), Just(20usize), Just(1460), Just(65_000)],
    ) {
        let (messages, facts) = conversation(&exchanges);
        let mut dice = Dice(seed);
        let mut capture = Capture::new(limits(true), usize::MAX >> 1);
        for packet in disturbed(packets(&messages, &mut dice, largest), &mut dice) {
            capture.take(&packet);
        }
        let found = capture.close();
        let seen: Vec<Fact> = found.records.iter().map(fact).collect();
        prop_assert_eq!(seen, facts);
        prop_assert_eq!((found.lost_count(), found.unasked), (0, 0));
    }

    #[test]
    fn copying_heads_alone_changes_nothing_without_pipelining(
        mut exchanges in prop::collection::vec(exchange(), 1..20),
        seed in 1u64..,
    ) {
        exchanges.iter_mut().for_each(|exchange| exchange.pipelined = false);
        let (messages, facts) = conversation(&exchanges);
        let mut dice = Dice(seed);
        let mut capture = Capture::new(limits(false), 4096);
        let cut = packets(&messages, &mut dice, 1460);
        for packet in cut.iter().flatten() {
            capture.take(packet);
            if dice.one_in(3) && capture.tcp.waiting_for_end() {
                let so_far = capture.observer.message;
                capture.tcp.progress(&so_far, Ts(so_far.last.0 + 1_000_000_000), &mut capture.found);
            }
        }
        prop_assert_eq!(capture.tcp.interest(), Interest::Heads);
        let found = capture.close();
        let seen: Vec<Fact> = found.records.iter().map(fact).collect();
        prop_assert_eq!(seen, facts);
        prop_assert_eq!(found.lost_count(), 0);
        for (record, response) in found.records.iter().zip(cut.iter().skip(1).step_by(2)) {
            prop_assert_eq!(record.end, response.last().unwrap().at);
        }
    }

    #[test]
    fn a_full_ring_loses_exchanges_and_says_how_many(
        mut exchanges in prop::collection::vec(exchange(), 1..40),
        seed in 1u64..,
        rarity in 2usize..10,
    ) {
        // A command in a line shows the protocol only where it is the first one.
        for exchange in &mut exchanges {
            (exchange.pipelined, exchange.pushed, exchange.inline) = (false, false, false);
        }
        distinct(&mut exchanges);
        let (messages, facts) = conversation(&exchanges);
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
            prop_assert_eq!(sum, facts.len() as u64, "{:?} of {:?}, {:?}", found.lost, kept, found.records);
        }
    }

    #[test]
    fn one_lost_record_costs_what_it_held_and_no_more(
        mut exchanges in prop::collection::vec(exchange(), 3..20),
        seed in 1u64..,
    ) {
        exchanges.iter_mut().for_each(|exchange| exchange.pushed = false);
        distinct(&mut exchanges);
        // Whether a client waits for all of its replies shows with the first of its pipelines.
        exchanges[1].pipelined = true;
        exchanges[2].pipelined = false;
        let (messages, facts) = conversation(&exchanges);
        let mut dice = Dice(seed);
        let mut capture = Capture::new(limits(false), usize::MAX >> 1);
        let cut = packets(&messages, &mut dice, 1460);
        capture.take_all_but_one(&cut, &mut dice, 4);
        let found = capture.close();
        assert_none_wrong(&found, &facts);
        let seen: Vec<Fact> = found.records.iter().map(fact).collect();
        prop_assert_eq!(seen.len() as u64 + found.lost_count(), facts.len() as u64, "{:?} {:?}", &seen, &found.lost);
        prop_assert_eq!(found.unasked, 0);
    }

    #[test]
    fn dropped_packets_make_no_wrong_record(
        mut exchanges in prop::collection::vec(exchange(), 1..60),
        seed in 1u64..,
        rarity in 3usize..60,
    ) {
        distinct(&mut exchanges);
        let (messages, facts) = conversation(&exchanges);
        let mut dice = Dice(seed);
        let mut capture = Capture::new(limits(true), usize::MAX >> 1);
        for packet in packets(&messages, &mut dice, 1460).iter().flatten() {
            if !dice.one_in(rarity) {
                capture.take(packet);
            }
        }
        assert_none_wrong(&capture.close(), &facts);
    }

    #[test]
    fn starting_in_the_middle_makes_no_wrong_record(
        mut exchanges in prop::collection::vec(exchange(), 2..30),
        seed in 1u64..,
        live in any::<bool>(),
    ) {
        distinct(&mut exchanges);
        let (messages, facts) = conversation(&exchanges);
        let mut dice = Dice(seed);
        let cut = packets(&messages, &mut dice, 1460);
        let all: Vec<&Packet> = cut.iter().flatten().collect();
        let skip = dice.below(all.len());
        // Joined amid a value whose end is a command, right where that begins: nobody could tell.
        prop_assume!(!is_command_in_value(&cut, skip));
        let mut capture = Capture::joined(limits(!live));
        all[skip..].iter().for_each(|packet| capture.take(packet));
        assert_none_wrong(&capture.close(), &facts);
    }

    #[test]
    fn any_bytes_do_no_harm(
        pieces in prop::collection::vec((any::<bool>(), prop::collection::vec(prop_oneof![
            4 => prop::sample::select(b"*$+-:_,#(!=%~>|;.?\r\n0123456789PINGOKset ".to_vec()), 1 => any::<u8>(),
        ], 1..40)), 1..60),
    ) {
        let mut capture = Capture::new(limits(false), 4096);
        let mut seqs = FIRST;
        let first = (true, b"*1\r\n$4\r\nPING\r\n".to_vec());
        for (now, (client, payload)) in std::iter::once(first).chain(pieces).enumerate() {
            let dir = if client { CLIENT } else { SERVER };
            let seq = seqs[dir.index()];
            seqs[dir.index()] = seq.wrapping_add(payload.len() as u32);
            let packet = Packet { dir, at: Ts(now as u64), seq, payload, snap: usize::MAX, acked: None };
            capture.take(&packet);
        }
        capture.close();
    }
}
