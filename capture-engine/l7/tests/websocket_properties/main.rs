//! Generated WebSockets, cut into packets, repeated and lost; the conversation itself is the reference.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod conversation;
#[path = "../support/mod.rs"]
mod support;

use conversation::*;
use flow_model::{Detail, Ts};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use support::capture::{Capture, limits};
use support::packets::{Dice, FIRST, disturbed, packets};
use support::{CLIENT, Packet, SERVER};

proptest! {
    // A failure prints its seed and is kept beside this file, to be played again first.
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn cutting_reordering_and_repeating_changes_nothing(
        mut messages in prop::collection::vec(message(), 1..30),
        seed in 1u64..,
        // What is held out of order stays within its bound.
        largest in prop_oneof![Just(3usize), Just(20usize), Just(1460), Just(8_000)],
    ) {
        if largest < 1000 {
            messages.iter_mut().for_each(|message| message.length = message.length.min(500));
        }
        let (flow, sent) = conversation(&messages, seed);
        let mut dice = Dice(seed);
        let mut capture = Capture::new(limits(true), usize::MAX >> 1);
        for packet in disturbed(packets(&flow, &mut dice, largest), &mut dice) {
            capture.take(&packet);
        }
        let found = capture.close();
        assert_none_wrong(&found, &sent);
        prop_assert_eq!(facts(&found).len(), sent.len());
        prop_assert_eq!((found.records.len(), found.lost_count(), found.unasked), (sent.len() + 1, 0, 0));
    }

    /// Where one message answers another, the head of each is all that it takes.
    #[test]
    fn copying_heads_alone_changes_nothing_where_each_message_is_answered(
        mut messages in prop::collection::vec(message(), 1..20),
        seed in 1u64..,
    ) {
        for (number, message) in messages.iter_mut().enumerate() {
            (message.by_client, message.fragments) = (number % 2 == 0, 1);
        }
        let (flow, sent) = conversation(&messages, seed);
        let mut dice = Dice(seed);
        let mut capture = Capture::new(limits(false), 4096);
        let cut = packets(&flow, &mut dice, 1460);
        cut.iter().flatten().for_each(|packet| capture.take(packet));
        let found = capture.close();
        prop_assert_eq!(facts(&found), sent);
        prop_assert_eq!(found.lost_count(), 0);
        for (record, message) in found.records.iter().skip(1).zip(&cut[2..]) {
            prop_assert_eq!((record.start, record.end), (message[0].at, message.last().unwrap().at));
        }
    }

    /// One message a message of the flow: each is told or lost.
    #[test]
    fn a_full_ring_loses_messages_and_says_how_many(
        mut messages in prop::collection::vec(message(), 1..40),
        seed in 1u64..,
        rarity in 2usize..10,
    ) {
        for (number, message) in messages.iter_mut().enumerate() {
            (message.by_client, message.fragments, message.compressed) = (number % 2 == 0, 1, false);
            // Of one that is longer than what is copied, and ends amid what is not known, nobody knows the end.
            message.length = message.length.clamp(1, 3000);
            if message.kind == Kind::Ping || message.kind == Kind::Pong {
                message.length = message.length.min(125);
            }
        }
        let (flow, sent) = conversation(&messages, seed);
        let mut dice = Dice(seed);
        let mut capture = Capture::new(limits(false), 4096);
        let cut = packets(&flow, &mut dice, 65_000);
        cut[..2].iter().flatten().for_each(|packet| capture.take(packet));
        let whole: Vec<Vec<Packet>> = cut[2..].to_vec();
        capture.take_some(&whole, &mut dice, rarity);
        capture.tcp.sampled_turns(capture.observer.message.turn, &mut capture.found);
        let found = capture.close();
        assert_none_wrong(&found, &sent);
        let sum = facts(&found).len() as u64 + found.lost_count();
        prop_assert_eq!(sum, sent.len() as u64, "{:?} {:?}", facts(&found), found.lost);
    }

    /// A loss is told, it is never more than what was sent, and what is told was sent.
    #[test]
    fn dropped_packets_make_no_wrong_record(
        messages in prop::collection::vec(message(), 1..60),
        seed in 1u64..,
        rarity in 3usize..60,
        live in any::<bool>(),
        largest in prop_oneof![Just(60usize), Just(1460), Just(65_000)],
    ) {
        let (flow, sent) = conversation(&messages, seed);
        let mut dice = Dice(seed);
        // Of what is dropped at the end of a direction a capture has no sign.
        let mut tail = [false; 2];
        let mut capture = Capture::new(limits(!live), usize::MAX >> 1);
        for packet in packets(&flow, &mut dice, largest).iter().flatten() {
            let lost = dice.one_in(rarity) && packet.at > Ts(200);
            tail[packet.dir.index()] = lost && !live;
            if live {
                capture.take_unless(lost, packet);
            } else if !lost {
                capture.take(packet);
            }
        }
        let shown = capture.tcp.wire().is_some();
        let found = capture.close();
        assert_none_wrong(&found, &sent);
        let told = facts(&found).len();
        let lost = found.lost_count() as usize;
        prop_assert!(!shown || told == sent.len() || lost > 0 || tail != [false; 2], "{} of {}", told, sent.len());
        prop_assert!(told + lost <= sent.len(), "{} and {:?} of {:?}", told, found.lost, sent);
    }

    #[test]
    fn starting_in_the_middle_makes_no_record(
        messages in prop::collection::vec(message(), 2..30),
        seed in 1u64..,
        live in any::<bool>(),
    ) {
        let (flow, _) = conversation(&messages, seed);
        let mut dice = Dice(seed);
        let cut = packets(&flow, &mut dice, 1460);
        let all: Vec<&Packet> = cut[2..].iter().flatten().collect();
        for _ in 0..20 {
            let skip = dice.below(all.len());
            let mut capture = Capture::joined(limits(!live));
            all[skip..].iter().for_each(|packet| capture.take(packet));
            let found = capture.close();
            let channel = found.records.iter().any(|record| matches!(record.detail, Detail::Channel(_)));
            prop_assert!(!channel, "{:?}", found.records);
        }
    }

    #[test]
    fn any_bytes_do_no_harm(
        pieces in prop::collection::vec((any::<bool>(), prop::collection::vec(prop_oneof![
            4 => prop::sample::select(b"\x81\x82\x01\x02\x00\x80\x88\x89\x8a\xc1\x7e\x7f\xfe\xff\x05".to_vec()), 1 => any::<u8>(),
        ], 1..40)), 1..60),
        live in any::<bool>(),
    ) {
        let mut capture = Capture::new(limits(!live), 4096);
        let mut seqs = FIRST;
        let first = [(true, ASK.to_vec()), (false, AGREE.to_vec())];
        for (now, (client, payload)) in first.into_iter().chain(pieces).enumerate() {
            let dir = if client { CLIENT } else { SERVER };
            let seq = seqs[dir.index()];
            seqs[dir.index()] = seq.wrapping_add(payload.len() as u32);
            capture.take(&Packet { dir, at: Ts(now as u64), seq, payload, snap: usize::MAX, acked: None });
        }
        capture.close();
    }
}
