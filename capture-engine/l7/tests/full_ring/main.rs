//! A ring so full that it refuses records anywhere, of one or of both directions, also in the middle of a message:
//! every exchange is told or counted as lost, and none of them twice or with what is another's.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "../properties/conversation.rs"]
mod http1;
#[path = "../kafka_properties/conversation.rs"]
mod kafka;
#[path = "../support/kf.rs"]
mod kf;
#[path = "../redis_properties/conversation.rs"]
mod redis;
mod stories;
#[path = "../support/mod.rs"]
mod support;

use l7::Limits;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use support::capture::Capture;
use support::packets::{Dice, messages_of_a_few_packets};
use support::{Found, Packet, hand_over};

/// Messages of a pipelining client that are left whole: with the first of its pipelines it shows whether it waits for
/// all of its responses.
const SHOWN: usize = 4;

/// What is found where the ring refuses one record in `rarity`.
struct Refused {
    found: Found,
    /// Records that it refused.
    records: usize,
    /// Requests were counted from before that on to the end.
    counted: bool,
}

fn refused(cut: &[Vec<Packet>], pipelined: bool, rarity: usize, dice: &mut Dice) -> Refused {
    let limits = Limits { keep_strings: true, ..Limits::default() };
    // A pipeline is copied in full, once it has shown.
    let mut capture = Capture::new(limits, if pipelined { usize::MAX >> 1 } else { 4096 }).counting();
    let (mut refused, mut full, mut counted) = (0, false, false);
    for (number, message) in cut.iter().enumerate() {
        let spared = pipelined && number < SHOWN;
        // Before the protocol has shown, a message is lost as a whole or not at all: what the rest of one says of its
        // kind is little.
        let whole = capture.tcp.wire().is_none() || dice.one_in(3);
        let mut lost = full || dice.one_in(rarity);
        for packet in message {
            let event = capture.see(packet);
            if !whole {
                lost = full || dice.one_in(rarity);
                // It stays full for a while.
                full = dice.one_in(if full { 2 } else { 3 * rarity }) != full;
            }
            if lost && !spared {
                counted |= refused == 0 && capture.observer.requests.now().is_some();
                refused += usize::from(event.is_some());
            } else if let Some(event) = event {
                hand_over(&mut capture.tcp, &event, &mut capture.found);
            }
        }
    }
    let shown = capture.tcp.wire().is_some();
    counted &= !capture.observer.requests.stopped;
    let found = capture.close();
    if !shown {
        // What it speaks never showed: the pipeline settles pairs of messages by what others speak there.
        refused = usize::MAX;
    }
    Refused { found, records: refused, counted }
}

/// All are told or counted. Of what is lost in several places of one pipeline the count is a lower bound where
/// nobody counts requests (decisions 0019 and 0072).
fn accounts(refused: &Refused, pipelined: bool, sent: usize) -> Result<(), String> {
    let Refused { found, records: refused, counted } = refused;
    let (refused, counted) = (*refused, *counted);
    let sum = found.records.len() as u64 + found.lost_count();
    let sent = sent as u64;
    let right = match refused {
        usize::MAX => true,
        _ if pipelined && refused > 1 && !counted => sum <= sent,
        _ => sum == sent,
    };
    if right && found.unasked == 0 {
        return Ok(());
    }
    Err(format!(
        "{sum} of {sent} told, {} unasked, {refused} refused, counted: {counted}, {:?}",
        found.unasked, found.lost
    ))
}

fn http1(mut exchanges: Vec<http1::Exchange>, pipelined: bool, rarity: usize, seed: u64) -> Result<(), String> {
    if pipelined {
        (exchanges[1].pipelined, exchanges[2].pipelined) = (true, false);
    } else {
        exchanges.iter_mut().for_each(|exchange| exchange.pipelined = false);
    }
    let http1::Conversation { messages, facts } = http1::conversation(&exchanges);
    let mut dice = Dice(seed);
    let cut = messages_of_a_few_packets(&messages, &mut dice);
    let refused = refused(&cut, pipelined, rarity, &mut dice);
    http1::assert_none_wrong(&refused.found, &facts);
    accounts(&refused, pipelined, facts.len())
}

fn redis(mut exchanges: Vec<redis::Exchange>, pipelined: bool, rarity: usize, seed: u64) -> Result<(), String> {
    // A command in a line shows the protocol only where it is the first one.
    for exchange in &mut exchanges {
        exchange.pipelined &= pipelined;
        (exchange.pushed, exchange.inline) = (false, false);
    }
    if pipelined {
        (exchanges[1].pipelined, exchanges[2].pipelined) = (true, false);
    }
    let mut dice = Dice(seed);
    // An error tells of which command it was. In between there are replies of all kinds and lengths.
    let replies: Vec<_> = exchanges.iter().map(|exchange| exchange.reply.clone()).collect();
    redis::distinct(&mut exchanges);
    for (exchange, reply) in exchanges.iter_mut().zip(replies) {
        if dice.one_in(2) && !matches!(reply, redis::Reply::Error(_)) {
            exchange.reply = reply;
        }
    }
    let (messages, facts) = redis::conversation(&exchanges);
    let cut = messages_of_a_few_packets(&messages, &mut dice);
    let refused = refused(&cut, pipelined, rarity, &mut dice);
    redis::assert_none_wrong(&refused.found, &facts);
    accounts(&refused, pipelined, facts.len())
}

fn kafka(mut exchanges: Vec<kafka::Exchange>, pipelined: bool, rarity: usize, seed: u64) -> Result<(), String> {
    for exchange in &mut exchanges {
        exchange.pipelined &= pipelined;
        if let kafka::Ask::OneWay(bytes) = exchange.ask {
            exchange.ask = kafka::Ask::Produce(bytes);
        }
    }
    (exchanges[0].pipelined, exchanges[1].pipelined) = (false, false);
    let (messages, facts) = kafka::conversation(&exchanges, kafka::Numbers::ByOne, (seed % 100_000) as i32);
    let mut dice = Dice(seed);
    let cut = messages_of_a_few_packets(&messages, &mut dice);
    let refused = refused(&cut, pipelined, rarity, &mut dice);
    kafka::assert_none_wrong(&refused.found, &facts);
    accounts(&refused, pipelined, facts.len())
}

proptest! {
    // A failure prints its seed and is kept beside this file, to be played again first.
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn http1_is_told_or_counted_wherever_the_ring_refuses(
        exchanges in prop::collection::vec(http1::exchange(), 3..40),
        pipelined in any::<bool>(),
        rarity in 3usize..40,
        seed in 1u64..,
    ) {
        prop_assert_eq!(http1(exchanges, pipelined, rarity, seed), Ok(()));
    }

    #[test]
    fn redis_is_told_or_counted_wherever_the_ring_refuses(
        exchanges in prop::collection::vec(redis::exchange(), 3..40),
        pipelined in any::<bool>(),
        rarity in 3usize..40,
        seed in 1u64..,
    ) {
        prop_assert_eq!(redis(exchanges, pipelined, rarity, seed), Ok(()));
    }

    #[test]
    fn kafka_is_told_or_counted_wherever_the_ring_refuses(
        exchanges in prop::collection::vec(kafka::exchange(), 3..40),
        pipelined in any::<bool>(),
        rarity in 3usize..40,
        seed in 1u64..,
    ) {
        prop_assert_eq!(kafka(exchanges, pipelined, rarity, seed), Ok(()));
    }
}
