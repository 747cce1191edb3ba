//! Generated conversations, cut into packets, reordered, repeated and lost; the conversation itself is the reference.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod conversation;
#[path = "../support/mod.rs"]
mod support;

use conversation::*;
use flow_model::{Outcome, Ts};
use l7::Limits;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use support::capture::Capture;
use support::packets::{Dice, disturbed, messages_of_a_few_packets, packets};
use support::{Packet, hand_over};

/// Every byte is copied.
const IN_FULL: usize = usize::MAX >> 1;

fn live() -> Limits {
    Limits { keep_strings: true, ..Limits::default() }
}

fn replay() -> Limits {
    Limits { report_partial: true, ..live() }
}

proptest! {
    // A failure prints its seed and is kept beside this file, to be played again first.
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn cutting_reordering_and_repeating_changes_nothing(
        exchanges in prop::collection::vec(exchange(), 1..12),
        seed in 1u64..,
        largest in prop_oneof![Just(20usize), Just(1460), Just(65_000)],
    ) {
        let Conversation { messages, facts } = conversation(&exchanges);
        let mut dice = Dice(seed);
        let mut capture = Capture::new(replay(), IN_FULL);
        for packet in disturbed(packets(&messages, &mut dice, largest), &mut dice) {
            capture.take(&packet);
        }
        let found = capture.close();
        let seen: Vec<Fact> = found.records.iter().map(fact).collect();
        prop_assert_eq!(seen, facts);
        prop_assert_eq!(found.lost_count(), 0);
    }

    #[test]
    fn copying_heads_alone_changes_nothing_without_pipelining(
        mut exchanges in prop::collection::vec(exchange(), 1..12),
        seed in 1u64..,
    ) {
        exchanges.iter_mut().for_each(|exchange| exchange.pipelined = false);
        let Conversation { messages, facts } = conversation(&exchanges);
        let mut dice = Dice(seed);
        let mut capture = Capture::new(live(), 4096);
        let cut = packets(&messages, &mut dice, 1460);
        for packet in cut.iter().flatten() {
            capture.take(packet);
            if dice.one_in(3) && capture.tcp.waiting_for_end() {
                let so_far = capture.observer.message;
                capture.tcp.progress(&so_far, Ts(so_far.last.0 + 1_000_000_000), &mut capture.found);
            }
        }
        let found = capture.close();
        let seen: Vec<Fact> = found.records.iter().map(fact).collect();
        prop_assert_eq!(seen, facts);
        prop_assert_eq!(found.lost_count(), 0);
        // The end is the time of the last packet of the response.
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
        exchanges.iter_mut().for_each(|exchange| exchange.pipelined = false);
        let Conversation { messages, facts } = conversation(&exchanges);
        let mut dice = Dice(seed);
        let mut capture = Capture::new(live(), 4096);
        let mut any = false;
        for message in packets(&messages, &mut dice, 1460) {
            // Where every second or third record is lost, a message is lost as a whole: of its parts so little is
            // left that the count may be wrong by one.
            let whole = rarity < 4 || dice.one_in(2);
            let lost = dice.one_in(rarity);
            for packet in &message {
                let event = capture.see(packet);
                // Before the protocol has shown, a message is lost as a whole or not at all: what the rest of one
                // says of its kind is little.
                let lost = if whole || capture.tcp.wire().is_none() { lost } else { dice.one_in(rarity) };
                if let Some(event) = event.filter(|_| !lost) {
                    hand_over(&mut capture.tcp, &event, &mut capture.found);
                    any = true;
                }
            }
        }
        let shown = capture.tcp.wire().is_some();
        capture.tcp.sampled_turns(capture.observer.message.turn, &mut capture.found);
        let unsettled = u64::from(capture.tcp.unsettled());
        let found = capture.close();
        assert_none_wrong(&found, &facts);
        if any && !shown {
            // What it speaks never showed: the pipeline settles pairs of messages by what others speak there.
            prop_assert_eq!((unsettled.div_ceil(2), found.records.len()), (facts.len() as u64, 0));
        } else if any {
            prop_assert_eq!(found.records.len() as u64 + found.lost_count(), facts.len() as u64, "{:?}", found.lost);
        }
    }

    #[test]
    fn one_lost_record_costs_what_it_held_and_no_more(
        exchanges in prop::collection::vec(exchange(), 3..20),
        pipelined in any::<bool>(),
        seed in 1u64..,
    ) {
        let mut exchanges = exchanges;
        if pipelined {
            // Whether a client waits for all of its responses shows with the first of its pipelines.
            exchanges[1].pipelined = true;
            exchanges[2].pipelined = false;
        } else {
            exchanges.iter_mut().for_each(|exchange| exchange.pipelined = false);
        }
        let Conversation { messages, facts } = conversation(&exchanges);
        let mut dice = Dice(seed);
        // A pipeline is copied in full, once it has shown.
        let mut capture = if pipelined { Capture::new(live(), IN_FULL) } else { Capture::new(live(), 4096) };
        let cut: Vec<Vec<Packet>> = messages_of_a_few_packets(&messages, &mut dice);
        let first = if pipelined { 4 } else { 0 };
        let (at, _) = capture.take_all_but_one(&cut, &mut dice, first);
        let found = capture.close();
        assert_none_wrong(&found, &facts);
        let seen: Vec<Fact> = found.records.iter().map(fact).collect();
        prop_assert_eq!(seen.len() as u64 + found.lost_count(), facts.len() as u64, "{:?} {:?}", &seen, &found.lost);
        prop_assert_eq!(found.unasked, 0);
        // What was asked in the next message of the client is told of again, and so is all behind it.
        let heads = |message: &Vec<u8>| message.windows(5).filter(|bytes| bytes.starts_with(b"POST ") || bytes == b"HEAD ").count();
        let before: usize = messages.iter().take(at + 1 + at % 2 + 1).step_by(2).map(heads).sum();
        for fact in facts.iter().skip(before) {
            prop_assert!(seen.iter().any(|seen| seen.target == fact.target), "{:?} is missing of {:?}", fact, &seen);
        }
    }

    #[test]
    fn a_client_that_does_not_wait_is_never_answered_with_what_is_anothers(
        exchanges in prop::collection::vec(exchange(), 6..40),
        window in 2usize..6,
        seed in 1u64..,
        rarity in 3usize..60,
        dropped in any::<bool>(),
    ) {
        let mut exchanges = exchanges;
        exchanges.iter_mut().for_each(|exchange| exchange.interim = false);
        let mut dice = Dice(seed);
        let Overlapping { packets, facts, shown } = overlapping(&exchanges, window, &mut dice);
        let mut capture = Capture::new(if dropped { replay() } else { live() }, IN_FULL).counting();
        let (mut any, mut counted) = (false, false);
        for (number, packet) in packets.iter().enumerate() {
            let lost = number > shown && dice.one_in(rarity);
            if dropped && lost {
                continue;
            }
            if let Some(event) = capture.see(packet).filter(|_| !lost) {
                hand_over(&mut capture.tcp, &event, &mut capture.found);
            }
            // From before the first loss on.
            counted |= lost && !any && capture.observer.requests.now().is_some();
            any |= lost;
        }
        counted &= !capture.observer.requests.stopped;
        let found = capture.close();
        assert_none_wrong(&found, &facts);
        let (sum, sent) = (found.records.len() as u64 + found.lost_count(), facts.len() as u64);
        prop_assert!(dropped || sum == sent || sum < sent && any && !counted, "{} of {}, counted: {}", sum, sent, counted);
    }

    #[test]
    fn dropped_packets_make_no_wrong_record(
        exchanges in prop::collection::vec(exchange(), 1..30),
        seed in 1u64..,
        rarity in 3usize..60,
        live in any::<bool>(),
    ) {
        let Conversation { messages, facts } = conversation(&exchanges);
        let mut dice = Dice(seed);
        // No kernel misses a packet, so this is a capture, whatever it copies.
        let limits = Limits { keep_strings: true, report_partial: true, ..Limits::default() };
        let mut capture = Capture::new(limits, if live { 4096 } else { usize::MAX >> 1 });
        for packet in packets(&messages, &mut dice, 1460).iter().flatten() {
            if !dice.one_in(rarity) {
                capture.take(packet);
            }
        }
        assert_none_wrong(&capture.close(), &facts);
    }

    #[test]
    fn a_packet_dropped_in_a_hundred_costs_what_it_held_and_little_more(
        mut exchanges in prop::collection::vec(exchange(), 300..400),
        seed in 1u64..,
    ) {
        exchanges.iter_mut().for_each(|exchange| exchange.pipelined = false);
        let Conversation { messages, facts } = conversation(&exchanges);
        let mut dice = Dice(seed);
        let mut capture = Capture::new(replay(), IN_FULL);
        let mut dropped = 0;
        for packet in messages_of_a_few_packets(&messages, &mut dice).iter().flatten() {
            if dice.one_in(100) {
                dropped += 1;
            } else {
                capture.take(packet);
            }
        }
        let found = capture.close();
        assert_none_wrong(&found, &facts);
        // An exchange, the next one where nothing else tells of the hole, and until it is in step.
        let read = found.records.iter().filter(|record| record.outcome == Outcome::Answered).count();
        prop_assert!(read + 4 * dropped + 8 >= facts.len(), "{read} of {}, {dropped} packets dropped", facts.len());
    }

    #[test]
    fn starting_in_the_middle_makes_no_wrong_record(
        mut exchanges in prop::collection::vec(exchange(), 2..12),
        seed in 1u64..,
    ) {
        // What was asked before we looked and is still to be answered nobody can know.
        exchanges.iter_mut().for_each(|exchange| exchange.pipelined = false);
        let Conversation { messages, facts } = conversation(&exchanges);
        let mut dice = Dice(seed);
        let all: Vec<Packet> = packets(&messages, &mut dice, 1460).into_iter().flatten().collect();
        let skip = dice.below(all.len());
        let mut capture = Capture::joined(replay());
        all[skip..].iter().for_each(|packet| capture.take(packet));
        assert_none_wrong(&capture.close(), &facts);
    }
}
