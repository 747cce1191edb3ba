//! Conversations of a real client and server of HTTP/2, cut into packets, reordered, repeated, lost, and
//! joined in the middle: what they meant is the reference.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "support/spoken.rs"]
mod spoken;
mod support;

use flow_model::{Close, Detail, Direction, L7Record, Notes, Outcome, Protocol, Role, Ts};
use l7::{Limits, Tcp};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use spoken::{Conversation, converse};
use support::packets::{Dice, FIRST};
use support::{CLIENT, Found, Observer, Packet, SERVER, hand_over};

/// Packets in which the preface, of 24 bytes, surely is.
const SHOWN: usize = 50;

/// As the exchanges have it; what is not known is left out.
fn fact(record: &L7Record) -> String {
    match &record.detail {
        Detail::Rpc(call) => {
            assert_eq!((call.system, record.protocol), ("grpc", Protocol::Grpc));
            format!("{}/{} {}", call.service, call.method, call.status)
        }
        Detail::Http(http) => {
            assert_eq!((http.version, record.protocol), ("2", Protocol::Http2));
            let status = http.status.map_or_else(String::new, |status| status.to_string());
            format!("{} {} {status}", http.method, http.target)
        }
        other => panic!("{other:?}"),
    }
}

/// What was written, as packets of at most `largest` bytes.
fn packets(conversation: &Conversation, dice: &mut Dice, largest: usize) -> Vec<Packet> {
    let mut seqs = FIRST;
    let mut all = Vec::new();
    for (dir, bytes) in &conversation.writes {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (payload, after) = rest.split_at(1 + dice.below(rest.len().min(largest)));
            rest = after;
            let seq = seqs[dir.index()];
            seqs[dir.index()] = seq.wrapping_add(payload.len() as u32);
            let (at, acked) = (Ts(1 + all.len() as u64), Some(seqs[dir.reverse().index()]));
            all.push(Packet { dir: *dir, at, seq, payload: payload.to_vec(), snap: usize::MAX, acked });
        }
    }
    all
}

/// The same, each write in as few packets as it fits into.
fn whole_packets(conversation: &Conversation, largest: usize) -> Vec<Packet> {
    let mut seqs = FIRST;
    let mut all = Vec::new();
    for (dir, bytes) in &conversation.writes {
        for payload in bytes.chunks(largest) {
            let seq = seqs[dir.index()];
            seqs[dir.index()] = seq.wrapping_add(payload.len() as u32);
            let at = Ts(1 + all.len() as u64);
            all.push(Packet { dir: *dir, at, seq, payload: payload.to_vec(), snap: usize::MAX, acked: None });
        }
    }
    all
}

/// The packet in which the last request begins: what comes with it, or after it, tells of all before.
fn last_asked(conversation: &Conversation, all: &[Packet]) -> usize {
    let asked: Vec<u8> =
        conversation.writes.iter().filter(|(dir, _)| *dir == CLIENT).flat_map(|w| w.1.clone()).collect();
    let last = (2 * conversation.exchanges.len() as u32 - 1).to_be_bytes();
    let mut at = 24;
    while asked[at + 3] != 1 || asked[at + 5..at + 9] != last {
        at += 9 + u32::from_be_bytes([0, asked[at], asked[at + 1], asked[at + 2]]) as usize;
    }
    let end = |packet: &Packet| packet.seq.wrapping_sub(FIRST[CLIENT.index()]) as usize + packet.payload.len();
    all.iter().position(|packet| packet.dir == CLIENT && end(packet) > at).unwrap()
}

/// Whether each packet is dropped, of those between what shows the protocol and what shows the end.
fn dropped(conversation: &Conversation, all: &[Packet], rarity: usize, dice: &mut Dice) -> Vec<bool> {
    // That the last bytes of a connection are missing, nothing tells.
    let to = last_asked(conversation, all).min(all.len().saturating_sub(60));
    (0..all.len()).map(|number| (SHOWN..to).contains(&number) && dice.one_in(rarity)).collect()
}

struct Capture {
    observer: Observer,
    tcp: Tcp,
    found: Found,
}

impl Capture {
    fn new(report_partial: bool, from_start: bool) -> Capture {
        let limits = Limits { keep_strings: true, report_partial, ..Limits::default() };
        let mut observer = Observer::new(usize::MAX >> 1);
        let mut tcp = Tcp::new(&limits, Role::Unknown);
        if from_start {
            observer = observer.handshake(FIRST[CLIENT.index()], FIRST[SERVER.index()]);
            tcp.starts_at(CLIENT, FIRST[CLIENT.index()]);
            tcp.starts_at(SERVER, FIRST[SERVER.index()]);
        }
        Capture { observer, tcp, found: Found::default() }
    }

    fn take(&mut self, packet: &Packet, told: bool) {
        if let Some(event) = self.observer.see(packet.clone()).filter(|_| told) {
            hand_over(&mut self.tcp, &event, &mut self.found);
        }
        let _ = self.tcp.headers();
    }

    fn close(mut self) -> Found {
        let last = self.observer.message;
        self.tcp.closed(last.last, Close::Fin, Some(&last), last.turn, &mut self.found);
        self.found
    }
}

fn facts(found: &Found) -> Vec<String> {
    let mut facts: Vec<String> = found.records.iter().map(fact).collect();
    facts.sort();
    facts
}

/// Nothing is told that did not happen, and no secret. What is not known is empty.
fn assert_none_wrong(found: &Found, conversation: &Conversation) {
    let mut seen = std::collections::BTreeSet::new();
    for record in &found.records {
        let text = format!("{record:?}");
        assert!(!text.contains("Bearer") && !text.contains("\"secret"), "{text}");
        assert_eq!(record.outcome, Outcome::Answered, "{text}");
        let (name, method, status) = match &record.detail {
            Detail::Rpc(call) => {
                (format!("/{}/{}", call.service, call.method), "POST", call.status.clone().into_owned())
            }
            Detail::Http(http) => (
                http.target.clone().into_string(),
                &*http.method,
                http.status.map_or_else(String::new, |s| s.to_string()),
            ),
            _ => panic!("{text}"),
        };
        if matches!(&*name, "" | "//") {
            assert_ne!(record.notes, Notes::default(), "{text}");
            continue;
        }
        assert!(seen.insert(name.clone()), "twice: {text}");
        let exchange = conversation.exchanges.iter().find(|exchange| exchange.path() == name);
        let exchange = exchange.unwrap_or_else(|| panic!("{text}"));
        let is_call = matches!(record.detail, Detail::Rpc(_));
        // A call of which not even that is known is shown as what it is in HTTP.
        assert!(exchange.grpc == is_call || exchange.grpc && record.notes != Notes::default(), "{text}");
        let meant =
            if is_call { spoken::CODES[usize::from(exchange.code)].to_owned() } else { exchange.status.to_string() };
        assert!(method.is_empty() || method == exchange.method, "{text}");
        assert!(status.is_empty() || status == meant, "{meant} {text}");
        assert!(!method.is_empty() && !status.is_empty() || record.notes != Notes::default(), "{text}");
    }
}

/// What is found where some packets are missing: a capture does not have them; live, the ring refuses them.
fn found_without(conversation: &Conversation, all: &[Packet], missing: &[bool], live: bool) -> Found {
    let mut capture = Capture::new(!live, true);
    for (packet, missing) in all.iter().zip(missing).filter(|(_, missing)| live || !**missing) {
        capture.take(packet, !missing);
    }
    let found = capture.close();
    assert_none_wrong(&found, conversation);
    found
}

proptest! {
    // A failure prints its seed and is kept beside this file, to be played again first.
    #![proptest_config(ProptestConfig {
        // Of 256, unless PROPTEST_CASES says otherwise: each is a conversation of a client and a server.
        cases: ProptestConfig::default().cases / 8 * 3,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_real_conversation_is_read_as_it_was_meant(
        seed in 1u64..,
        count in 1usize..40,
        at_once in 1usize..17,
        largest in prop_oneof![Just(7usize), Just(1460), Just(65_000)],
    ) {
        let conversation = converse(seed, count, at_once);
        let mut dice = Dice(seed);
        let mut capture = Capture::new(true, true);
        for packet in packets(&conversation, &mut dice, largest) {
            capture.take(&packet, true);
        }
        let found = capture.close();
        prop_assert_eq!(facts(&found), conversation.facts());
        prop_assert_eq!(found.lost_count(), 0);
        prop_assert!(found.records.iter().all(|record| record.notes == Notes::default()));
        assert_none_wrong(&found, &conversation);
    }

    #[test]
    fn packets_out_of_order_and_repeated_change_nothing(
        seed in 1u64..,
        count in 1usize..30,
        at_once in 1usize..17,
    ) {
        let conversation = converse(seed, count, at_once);
        let mut dice = Dice(seed);
        let mut capture = Capture::new(true, true);
        let mut all = packets(&conversation, &mut dice, 1460);
        for at in 1..all.len() {
            // Neighbours of one direction.
            if all[at].dir == all[at - 1].dir && dice.one_in(4) {
                let times = (all[at - 1].at, all[at].at);
                all.swap(at, at - 1);
                (all[at - 1].at, all[at].at) = times;
            }
        }
        for at in 0..all.len() {
            let again = all[dice.below(at + 1)].clone();
            capture.take(&all[at], true);
            if dice.one_in(6) {
                let payload = vec![b'#'; again.payload.len()];
                capture.take(&Packet { at: all[at].at, payload, ..again }, true);
            }
        }
        let found = capture.close();
        prop_assert_eq!(facts(&found), conversation.facts());
        prop_assert_eq!(found.lost_count(), 0);
    }

    #[test]
    fn dropped_packets_make_no_wrong_record(
        seed in 1u64..,
        count in 1usize..60,
        at_once in 1usize..17,
        rarity in 3usize..60,
    ) {
        let conversation = converse(seed, count, at_once);
        let mut dice = Dice(seed);
        let all = packets(&conversation, &mut dice, 1460);
        // That the last bytes of a connection are missing, nothing tells.
        let dropped: Vec<bool> = (0..all.len()).map(|number| number + 60 < all.len() && dice.one_in(rarity)).collect();
        let found = found_without(&conversation, &all, &dropped, false);
        prop_assert!(found.records.len() as u64 + found.lost_count() <= count as u64, "{:?}", found.lost);
    }

    #[test]
    fn each_exchange_among_dropped_packets_is_told_or_lost(
        seed in 1u64..,
        count in 20usize..60,
        at_once in 1usize..17,
        rarity in 3usize..60,
    ) {
        let conversation = converse(seed, count, at_once);
        let mut dice = Dice(seed);
        let all = packets(&conversation, &mut dice, 1460);
        let dropped = dropped(&conversation, &all, rarity, &mut dice);
        let found = found_without(&conversation, &all, &dropped, false);
        prop_assert_eq!(found.records.len() as u64 + found.lost_count(), count as u64, "{:?}", found.lost);
    }

    #[test]
    fn one_dropped_packet_costs_what_it_held(
        seed in 1u64..,
        count in 20usize..60,
        at_once in 1usize..17,
    ) {
        let conversation = converse(seed, count, at_once);
        let mut dice = Dice(seed);
        let all = packets(&conversation, &mut dice, 1460);
        // What it speaks shows first. That the last bytes of a connection are missing, nothing tells.
        prop_assume!(all.len() > SHOWN + 60);
        let which = SHOWN + dice.below(all.len() - SHOWN - 60);
        let dropped: Vec<bool> = (0..all.len()).map(|number| number == which).collect();
        let found = found_without(&conversation, &all, &dropped, false);
        prop_assert_eq!(found.records.len() as u64 + found.lost_count(), count as u64, "{:?}", found.lost);
    }

    #[test]
    fn a_full_ring_loses_exchanges_and_says_how_many(
        seed in 1u64..,
        count in 20usize..60,
        at_once in 1usize..17,
        rarity in 3usize..60,
    ) {
        let conversation = converse(seed, count, at_once);
        let mut dice = Dice(seed);
        let all = packets(&conversation, &mut dice, 1460);
        let refused = dropped(&conversation, &all, rarity, &mut dice);
        let found = found_without(&conversation, &all, &refused, true);
        prop_assert_eq!(found.records.len() as u64 + found.lost_count(), count as u64, "{:?}", found.lost);
    }

    #[test]
    fn what_is_missing_at_the_beginning_is_told_or_lost_once_the_connection_is_recognised(
        seed in 1u64..,
        count in 20usize..60,
        at_once in 1usize..17,
        rarity in 2usize..20,
        live in any::<bool>(),
    ) {
        let conversation = converse(seed, count, at_once);
        let mut dice = Dice(seed);
        let all = packets(&conversation, &mut dice, 1460);
        let to = last_asked(&conversation, &all).min(all.len().saturating_sub(60)).min(SHOWN);
        let missing: Vec<bool> = (0..all.len()).map(|number| number < to && dice.one_in(rarity)).collect();
        let mut capture = Capture::new(!live, true);
        for (packet, missing) in all.iter().zip(&missing).filter(|(_, missing)| live || !**missing) {
            capture.take(packet, !missing);
        }
        prop_assume!(capture.tcp.wire().is_some());
        let found = capture.close();
        assert_none_wrong(&found, &conversation);
        prop_assert_eq!(found.records.len() as u64 + found.lost_count(), count as u64, "{:?}", found.lost);
    }

    #[test]
    fn whatever_is_missing_nothing_is_told_or_counted_twice(
        seed in 1u64..,
        count in 2usize..40,
        at_once in 1usize..17,
        rarity in 3usize..60,
        live in any::<bool>(),
    ) {
        let conversation = converse(seed, count, at_once);
        let mut dice = Dice(seed);
        let all = packets(&conversation, &mut dice, 1460);
        let missing: Vec<bool> = (0..all.len()).map(|_| dice.one_in(rarity)).collect();
        let mut capture = Capture::new(!live, true);
        for (packet, missing) in all.iter().zip(&missing).filter(|(_, missing)| live || !**missing) {
            capture.take(packet, !missing);
        }
        // What is missing last may have been an answer: nothing tells.
        let found = capture.close();
        prop_assert!(found.records.len() as u64 + found.lost_count() <= count as u64, "{:?}", found.lost);
    }

    #[test]
    fn joined_in_the_middle_nothing_is_guessed(
        seed in 1u64..,
        count in 2usize..60,
        at_once in 1usize..17,
        live in any::<bool>(),
    ) {
        let conversation = converse(seed, count, at_once);
        let mut dice = Dice(seed);
        let all = packets(&conversation, &mut dice, 65_000);
        let skip = dice.below(all.len());
        let mut capture = Capture::new(!live, false);
        for packet in &all[skip..] {
            capture.take(packet, true);
        }
        let found = capture.close();
        assert_none_wrong(&found, &conversation);
        prop_assert!(found.records.len() as u64 + found.lost_count() <= count as u64, "{:?}", found.lost);
    }
}

/// The share of exchanges that are told again after a join, of a connection whose messages are small.
#[test]
fn a_joined_connection_is_recognised_with_its_next_exchanges() {
    let seed = std::time::UNIX_EPOCH.elapsed().map_or(1, |time| time.as_nanos() as u64 | 1);
    let conversation = converse(seed, 200, 1);
    let mut dice = Dice(seed);
    let all = packets(&conversation, &mut dice, 65_000);
    let skip = all.len() / 2;
    let mut capture = Capture::new(false, false);
    for packet in &all[skip..] {
        capture.take(packet, true);
    }
    let dir = |dir: Direction| all[skip..].iter().filter(|packet| packet.dir == dir).count();
    let found = capture.close();
    assert_none_wrong(&found, &conversation);
    assert!(found.records.len() >= 60, "seed {seed}: {} of {} packets", found.records.len(), dir(CLIENT));
}

/// As the kernel tells of a connection that is older than the agent: 4 KiB of each message until it has shown. The
/// server may be amid a frame for long, and the client says little meanwhile.
#[test]
fn a_live_connection_is_recognised_though_its_server_is_amid_frames() {
    let seed = std::time::UNIX_EPOCH.elapsed().map_or(1, |time| time.as_nanos() as u64 | 1);
    let (mut known, mut told, mut asked) = (0, 0, 0);
    for seed in seed..seed + 40 {
        let mut dice = Dice(seed);
        let conversation = converse(seed, 120, [4, 16][dice.below(2)]);
        let largest = [1460, 65_000][dice.below(2)];
        let all = whole_packets(&conversation, largest);
        let skip = all.len() / 4;
        let mut capture = Capture::new(false, false);
        capture.observer = Observer::new(4096);
        for packet in &all[skip..] {
            capture.take(packet, true);
            if capture.tcp.wire().is_some() {
                capture.observer.budget = usize::MAX >> 1;
            }
        }
        known += usize::from(capture.tcp.wire() == Some(l7::Wire::Http2));
        let found = capture.close();
        assert_none_wrong(&found, &conversation);
        told += found.records.len();
        asked += 90;
    }
    assert!(known >= 38 && told * 10 >= asked * 7, "seed {seed}: {known} of 40, {told} of about {asked}");
}

/// Connections of random bytes, half of them behind what a frame may begin with.
#[test]
fn random_bytes_are_never_taken_for_it() {
    let seed = std::time::UNIX_EPOCH.elapsed().map_or(1, |time| time.as_nanos() as u64 | 1);
    let mut dice = Dice(seed);
    let limits = Limits::default();
    for _ in 0..50_000 {
        let mut tcp = Tcp::new(&limits, Role::Unknown);
        let mut found = Found::default();
        let mut observer = Observer::new(4096);
        let like = dice.one_in(2);
        let mut seqs = FIRST;
        for turn in 0..4 {
            let dir = if turn % 2 == 0 { CLIENT } else { SERVER };
            let mut payload: Vec<u8> = (0..1 + dice.below(60)).map(|_| dice.below(256) as u8).collect();
            if like {
                let start = [0, 0, dice.below(40) as u8, dice.below(10) as u8, dice.below(6) as u8];
                payload.splice(0..0, start);
            }
            let seq = seqs[dir.index()];
            seqs[dir.index()] = seq.wrapping_add(payload.len() as u32);
            let packet = Packet { dir, at: Ts(1 + turn), seq, payload, snap: usize::MAX, acked: None };
            if let Some(event) = observer.see(packet) {
                hand_over(&mut tcp, &event, &mut found);
            }
        }
        assert_ne!(tcp.wire(), Some(l7::Wire::Http2), "seed {seed}");
        assert!(found.records.is_empty(), "seed {seed}");
    }
}

#[test]
fn what_is_not_asked_for_is_not_kept() {
    let seed = std::time::UNIX_EPOCH.elapsed().map_or(1, |time| time.as_nanos() as u64 | 1);
    let conversation = converse(seed, 40, 4);
    let limits = Limits { keep_strings: false, ..Limits::default() };
    let mut capture = Capture::new(false, true);
    capture.tcp = Tcp::new(&limits, Role::Unknown);
    for packet in packets(&conversation, &mut Dice(seed), 1460) {
        capture.take(&packet, true);
    }
    let kept = format!("{:?}", capture.tcp);
    assert!(!kept.contains("secret") && !kept.contains("Bearer"), "seed {seed}: {kept}");
    let found = capture.close();
    assert_eq!(found.records.len(), 40, "seed {seed}");
    let told = format!("{:?}", found.records);
    assert!(!told.contains("secret") && !told.contains("items"), "seed {seed}: {told}");
}

#[test]
fn asking_for_strings_in_the_middle_changes_nothing_else() {
    let seed = std::time::UNIX_EPOCH.elapsed().map_or(1, |time| time.as_nanos() as u64 | 1);
    for seed in seed..seed + 20 {
        let mut dice = Dice(seed);
        let conversation = converse(seed, 40, 4);
        let all = packets(&conversation, &mut dice, 1460);
        let [mut never, mut sometimes, mut always] = [false, true, true].map(|keep| {
            let mut capture = Capture::new(false, true);
            capture.tcp.keep_strings(keep);
            capture
        });
        for packet in &all {
            sometimes.tcp.keep_strings(dice.one_in(2));
            [&mut never, &mut sometimes, &mut always].into_iter().for_each(|capture| capture.take(packet, true));
        }
        let told = [never, sometimes, always].map(|capture| capture.close().records);
        let target = |record: &L7Record| match &record.detail {
            Detail::Http(http) => http.target.clone().into_string(),
            _ => String::new(),
        };
        let plain = |record: &L7Record| {
            let mut record = record.clone();
            if let Detail::Http(http) = &mut record.detail {
                (http.target, http.host) = Default::default();
            }
            format!("{record:?}")
        };
        let [never, sometimes, always] = &told;
        let shapes = told.each_ref().map(|records| records.iter().map(plain).collect::<Vec<_>>());
        assert!(shapes[0] == shapes[1] && shapes[1] == shapes[2], "seed {seed}");
        assert!(never.iter().all(|record| target(record).is_empty()), "seed {seed}");
        for (some, whole) in sometimes.iter().zip(always) {
            let some = target(some);
            assert!(some.is_empty() || some == target(whole), "seed {seed}: {some}");
        }
        let kept = |records: &[L7Record]| records.iter().filter(|record| !target(record).is_empty()).count();
        assert!(kept(always) > 0, "seed {seed}");
    }
}
