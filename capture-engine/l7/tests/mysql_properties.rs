//! Generated MySQL conversations, cut into packets, repeated and lost; the conversation itself is
//! the reference.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "support/my.rs"]
mod my;
mod support;

use flow_model::{Detail, L7Record, Outcome, Protocol};
use my::*;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use support::capture::{Capture, limits, one_of};
use support::packets::{Dice, FIRST, disturbed, packets};
use support::{CLIENT, Found, Packet, SERVER};

/// How something is asked, and answered.
#[derive(Clone, Debug)]
enum Ask {
    /// A query with so many results.
    Query(usize),
    /// Prepared, executed so often, closed.
    Prepare(usize),
    /// Prepared and executed before there is an answer.
    Together,
    File,
    Ping,
}

#[derive(Clone, Debug)]
struct Turn {
    ask: Ask,
    rows: Vec<usize>,
    fails: bool,
    progress: bool,
}

fn turn() -> impl Strategy<Value = Turn> {
    let ask = prop_oneof![
        6 => (1usize..4).prop_map(Ask::Query),
        3 => (0usize..4).prop_map(Ask::Prepare),
        1 => Just(Ask::Together),
        1 => Just(Ask::File),
        1 => Just(Ask::Ping),
    ];
    let length = prop_oneof![6 => 0usize..60, 1 => 240usize..3000, 1 => 3000usize..20_000];
    (ask, prop::collection::vec(length, 0..5), prop::bool::weighted(0.3), prop::bool::weighted(0.1))
        .prop_map(|(ask, rows, fails, progress)| Turn { ask, rows, fails, progress })
}

/// What a record has to say. The code of an error says which of the exchanges it was.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fact {
    operation: String,
    code: String,
    request_bytes: u64,
    response_bytes: u64,
}

const VERBS: [&str; 5] = ["SELECT", "INSERT", "UPDATE", "DELETE", "SHOW"];

#[derive(Default)]
struct Conversation {
    /// Messages of the flow. The server begins: the first one, of the client, is empty.
    messages: Vec<Vec<u8>>,
    facts: Vec<Fact>,
}

impl Conversation {
    fn fact(&mut self, operation: &str, code: u16, request: &[u8], response: usize) {
        let (request_bytes, response_bytes) = (request.len() as u64, response as u64);
        let code = if code == 0 { String::new() } else { code.to_string() };
        self.facts.push(Fact { operation: operation.into(), code, request_bytes, response_bytes });
    }

    fn say(&mut self, request: Vec<u8>, response: Vec<u8>) {
        self.messages.extend([request, response]);
    }

    fn exchange(&mut self, operation: &str, code: u16, request: Vec<u8>, response: Vec<u8>) {
        self.fact(operation, code, &request, response.len());
        self.say(request, response);
    }
}

/// What somebody stores: commands and small numbers among other bytes.
fn data(length: usize, seed: usize) -> Vec<u8> {
    let mut dice = Dice(seed as u64 * 2 + 1);
    let kinds = [command(1, b""), close(1), command(14, b""), command(0x18, &[1, 0, 0, 0, 0, 0, 7]), query("SET 1")];
    let mut bytes = Vec::new();
    while bytes.len() < length {
        match dice.below(8) {
            0 => bytes.extend(vec![0; dice.below(9)]),
            1 => bytes.extend(vec![b'x'; dice.below(90)]),
            2 => bytes.extend((dice.below(7) as u32).to_le_bytes()),
            kind => bytes.extend(&kinds[kind - 3]),
        }
    }
    bytes.truncate(length);
    bytes
}

/// Code of the exchange with this number.
fn state(number: usize) -> u16 {
    1000 + number as u16
}

fn conversation(turns: &[Turn], eof: bool) -> Conversation {
    let mut all = Conversation::default();
    let capabilities = if eof { 0 } else { DEPRECATE_EOF };
    all.say(Vec::new(), greeting(capabilities));
    all.exchange("login", 0, login(capabilities), answer_from(2).say(b"\x01\x03").ok(0).bytes);
    for (number, Turn { ask, rows, fails, progress }) in turns.iter().enumerate() {
        let verb = VERBS[number % VERBS.len()];
        let code = if *fails { state(all.facts.len()) } else { 0 };
        let text = format!("{verb} {}", "x".repeat(number * 7 % 400));
        let start = |number: u8| {
            let answer = answer_from(number);
            if *progress { answer.say(b"\xff\xff\xff\x01\x01\x02\x10\x27\0\x01x") } else { answer }
        };
        let finish = |answer: Answer| if *fails { answer.error(code) } else { answer.end(eof, 0) };
        let result = |answer: Answer| finish(answer.columns(2, eof, 0).rows(rows));
        match ask {
            Ask::Query(results) => {
                let mut answer = start(1);
                for _ in 1..*results {
                    answer = answer.columns(1, eof, 0).rows(rows).end(eof, MORE);
                }
                let answer = match (rows.is_empty(), *fails) {
                    (true, true) => answer.error(code),
                    (true, false) => answer.ok(0),
                    (false, _) => result(answer),
                };
                all.exchange(verb, code, query(&text), answer.bytes);
            }
            Ask::Prepare(executes) => {
                let statement = number as u32;
                let wants = number as u8 % 3;
                all.exchange("stmt_prepare", 0, prepare(&text), answer().prepared(statement, wants, 2, eof).bytes);
                for at in 0..*executes {
                    let sent = rows.get(at).map(|length| {
                        let long =
                            command(0x18, &[&statement.to_le_bytes()[..], &[0, 0], &data(*length, number)].concat());
                        all.fact("stmt_send_long_data", 0, &long, 0);
                        long
                    });
                    let code = if *fails { state(all.facts.len()) } else { 0 };
                    let answer = answer().columns(2, eof, 0).say(&[0, 0, 1, b'a']);
                    let answer = if *fails { answer.error(code) } else { answer.end(eof, 0) };
                    let execute = execute(statement);
                    all.fact(verb, code, &execute, answer.bytes.len());
                    all.say([sent.unwrap_or_default(), execute].concat(), answer.bytes);
                }
                let (close, ping) = (close(statement), command(14, b""));
                all.fact("stmt_close", 0, &close, 0);
                all.fact("ping", 0, &ping, answer().ok(0).bytes.len());
                all.say([close, ping].concat(), answer().ok(0).bytes);
            }
            Ask::Together => {
                let (prepare, execute) = (prepare(&text), execute(u32::MAX));
                let prepared = answer().prepared(number as u32, 1, 2, eof).bytes;
                let code = if *fails { state(all.facts.len() + 1) } else { 0 };
                let answer = answer().columns(2, eof, 0).say(&[0, 0, 1, b'a']);
                let answer = if *fails { answer.error(code) } else { answer.end(eof, 0) }.bytes;
                all.fact("stmt_prepare", 0, &prepare, prepared.len());
                all.fact(verb, code, &execute, answer.len());
                all.say([prepare, execute].concat(), [prepared, answer].concat());
            }
            Ask::File => {
                let query = query("LOAD DATA LOCAL INFILE 'x' INTO TABLE t");
                let lengths = rows.iter().filter(|length| **length > 0).zip(2u8..);
                let mut file: Vec<u8> = lengths.flat_map(|(length, at)| packet(at, &data(*length, number))).collect();
                let count = rows.iter().filter(|length| **length > 0).count() as u8;
                file.extend(packet(2 + count, b""));
                let wants = answer().say(b"\xfbx").bytes;
                let end = start(3 + count);
                let end = if *fails { end.error(code) } else { end.ok(0) }.bytes;
                all.fact("LOAD", code, &[query.clone(), file.clone()].concat(), wants.len() + end.len());
                all.say(query, wants);
                all.say(file, end);
            }
            Ask::Ping => {
                let answer = if *fails { answer().error(code) } else { answer().ok(0) };
                all.exchange("ping", code, command(14, b""), answer.bytes);
            }
        }
    }
    all
}

fn fact(record: &L7Record) -> Fact {
    let Detail::Db(db) = &record.detail else { panic!("{record:?}") };
    assert!(record.start <= record.end, "{record:?}");
    Fact {
        operation: db.operation.to_string(),
        code: db.code.to_string(),
        request_bytes: record.request_bytes,
        response_bytes: record.response_bytes,
    }
}

/// No record has what was asked with another's answer: the code of an error is that of one exchange. Nor has one
/// what nobody has asked, with an answer or without.
fn assert_none_wrong(found: &Found, facts: &[Fact], unseen: &[(usize, usize)]) {
    for record in &found.records {
        let seen = fact(record);
        // Where a statement was not seen, nobody knows the verb.
        let named = |fact: &Fact| fact.operation == seen.operation || seen.operation == "unknown";
        let ends = |fact: &Fact| match record.outcome {
            Outcome::Answered => fact.code == seen.code,
            Outcome::OneWay => fact.response_bytes == 0 && fact.request_bytes == seen.request_bytes,
            _ => seen.code.is_empty(),
        };
        let right = facts.iter().any(|fact| named(fact) && ends(fact));
        assert!(right, "{record:?} {:?} without {unseen:?} of {facts:#?}", found.lost);
    }
}

/// Each exchange has an answer, and can be told from all others by its error.
fn distinct(turns: &mut [Turn]) {
    for turn in turns {
        (turn.fails, turn.progress) = (true, false);
        if !matches!(turn.ask, Ask::Query(_)) {
            turn.ask = if turn.rows.len() % 2 == 0 { Ask::Ping } else { Ask::Query(1) };
        }
    }
}

/// Where a capture without one packet tells and loses more than there is: what, without which packet.
fn count_without(cut: &[Vec<Packet>], facts: &[Fact], (at, which): (usize, usize)) -> Option<String> {
    let mut capture = Capture::new(limits(true), usize::MAX >> 1);
    for (number, message) in cut.iter().enumerate() {
        for (index, packet) in message.iter().enumerate() {
            if (number, index) != (at, which) {
                capture.take(packet);
            }
        }
    }
    let found = capture.close();
    assert_none_wrong(&found, facts, &[(at, which)]);
    let seen: Vec<Fact> = found.records.iter().map(fact).collect();
    let sum = seen.len() + found.lost_count() as usize;
    (sum > facts.len()).then(|| {
        let packets: Vec<String> = cut[at].iter().map(|packet| packet.payload.escape_ascii().to_string()).collect();
        format!("{at} {which} of {packets:?}: {sum} of {}: {seen:#?} {:?}", facts.len(), found.lost)
    })
}

/// A conversation with data that hold commands up to the end of their packet, cut right before them.
#[test]
fn any_packet_of_a_conversation_may_be_dropped() {
    let turn = |ask: Ask, rows: &[usize]| Turn { ask, rows: rows.to_vec(), fails: false, progress: false };
    let turns = [
        turn(Ask::Prepare(2), &[24]),
        turn(Ask::Prepare(3), &[]),
        turn(Ask::Ping, &[]),
        turn(Ask::Prepare(0), &[]),
        turn(Ask::Query(1), &[13, 29]),
    ];
    let Conversation { messages, facts, .. } = conversation(&turns, true);
    let cut = packets(&messages, &mut Dice(13_742_140_216_324_313_862), 1460);
    for (at, message) in cut.iter().enumerate().skip(2) {
        for which in 0..message.len() {
            let wrong = count_without(&cut, &facts, (at, which));
            assert!(wrong.is_none(), "{}", wrong.unwrap_or_default());
        }
    }
}

fn cases() -> ProptestConfig {
    // A failure prints its seed and is kept beside this file, to be played again first.
    let failure_persistence = Some(Box::new(FileFailurePersistence::WithSource("regressions")) as _);
    ProptestConfig { failure_persistence, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn cutting_reordering_and_repeating_changes_nothing(
        mut turns in prop::collection::vec(turn(), 1..25),
        eof in any::<bool>(),
        seed in 1u64..,
        // Of longer ones less than those that come too early is held.
        largest in prop_oneof![Just(3usize), Just(20usize), Just(1460), Just(9000)],
    ) {
        // Packets by the hundred, not by ten thousands.
        turns.iter_mut().flat_map(|turn| &mut turn.rows).for_each(|row| *row = (*row).min(largest * 50));
        let Conversation { messages, facts, .. } = conversation(&turns, eof);
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
    fn a_full_ring_loses_exchanges_and_says_how_many(
        mut turns in prop::collection::vec(turn(), 1..40),
        eof in any::<bool>(),
        seed in 1u64..,
        rarity in 2usize..10,
    ) {
        // One exchange a message: of what nobody saw, neither asked nor answered, nothing tells the number.
        distinct(&mut turns);
        let Conversation { messages, facts, .. } = conversation(&turns, eof);
        let mut dice = Dice(seed);
        let mut capture = Capture::new(limits(false), 1 << 20);
        let cut = packets(&messages, &mut dice, 1460);
        let (any, kept) = capture.take_some(&cut, &mut dice, rarity);
        let shown = capture.tcp.wire().is_some();
        capture.tcp.sampled_turns(capture.observer.message.turn, &mut capture.found);
        let found = capture.close();
        assert_none_wrong(&found, &facts, &[]);
        if any && shown {
            let sum = found.records.len() as u64 + found.lost_count();
            prop_assert_eq!(sum, facts.len() as u64, "{:?} of {:?}, {:?}", found.lost, kept, found.records);
        }
    }

    #[test]
    fn one_lost_record_is_told_or_lost(
        mut turns in prop::collection::vec(turn(), 3..20),
        eof in any::<bool>(),
        seed in 1u64..,
    ) {
        distinct(&mut turns);
        let Conversation { messages, facts, .. } = conversation(&turns, eof);
        let mut dice = Dice(seed);
        let mut capture = Capture::new(limits(false), usize::MAX >> 1);
        let cut = packets(&messages, &mut dice, 1460);
        let (at, which) = capture.take_all_but_one(&cut, &mut dice, 2);
        let found = capture.close();
        assert_none_wrong(&found, &facts, &[(at, which)]);
        let seen: Vec<Fact> = found.records.iter().map(fact).collect();
        let sum = seen.len() as u64 + found.lost_count();
        prop_assert_eq!(sum, facts.len() as u64, "{} {}: {:#?} {:?}", at, which, &seen, &found.lost);
        prop_assert_eq!(found.unasked, 0);
    }

    #[test]
    fn one_dropped_packet_is_told_or_lost(
        mut turns in prop::collection::vec(turn(), 3..20),
        eof in any::<bool>(),
        seed in 1u64..,
    ) {
        distinct(&mut turns);
        let Conversation { messages, facts, .. } = conversation(&turns, eof);
        let mut dice = Dice(seed);
        let mut capture = Capture::new(limits(true), usize::MAX >> 1);
        let cut = packets(&messages, &mut dice, 1460);
        let (at, which) = one_of(&cut, &mut dice, 2);
        for (number, message) in cut.iter().enumerate() {
            for (index, packet) in message.iter().enumerate() {
                if (number, index) != (at, which) {
                    capture.take(packet);
                }
            }
        }
        let found = capture.close();
        assert_none_wrong(&found, &facts, &[(at, which)]);
        let seen: Vec<Fact> = found.records.iter().map(fact).collect();
        let sum = seen.len() as u64 + found.lost_count();
        prop_assert_eq!(sum, facts.len() as u64, "{} {}: {:#?} {:?}", at, which, &seen, &found.lost);
    }

    /// Of what nobody saw it tells no number, and none that is too large.
    #[test]
    fn one_dropped_packet_is_not_counted_twice(
        turns in prop::collection::vec(turn(), 3..20),
        eof in any::<bool>(),
        seed in 1u64..,
    ) {
        let Conversation { messages, facts, .. } = conversation(&turns, eof);
        let mut dice = Dice(seed);
        let cut = packets(&messages, &mut dice, 1460);
        let wrong = count_without(&cut, &facts, one_of(&cut, &mut dice, 2));
        prop_assert!(wrong.is_none(), "{}", wrong.unwrap_or_default());
    }

    #[test]
    fn dropped_packets_make_no_wrong_record(
        mut turns in prop::collection::vec(turn(), 1..60),
        eof in any::<bool>(),
        seed in 1u64..,
        rarity in 3usize..60,
        distinctly in prop::bool::weighted(0.6),
    ) {
        if distinctly {
            distinct(&mut turns);
        }
        let Conversation { messages, facts, .. } = conversation(&turns, eof);
        let mut dice = Dice(seed);
        let mut capture = Capture::new(limits(true), usize::MAX >> 1);
        let mut unseen = Vec::new();
        for (number, message) in packets(&messages, &mut dice, 1460).iter().enumerate() {
            for (index, packet) in message.iter().enumerate() {
                if dice.one_in(rarity) {
                    unseen.push((number, index));
                } else {
                    capture.take(packet);
                }
            }
        }
        assert_none_wrong(&capture.close(), &facts, &unseen);
    }

    #[test]
    fn starting_in_the_middle_makes_no_wrong_record(
        mut turns in prop::collection::vec(turn(), 2..30),
        eof in any::<bool>(),
        distinctly in any::<bool>(),
        seed in 1u64..,
        live in any::<bool>(),
    ) {
        if distinctly {
            distinct(&mut turns);
        }
        let Conversation { messages, facts, .. } = conversation(&turns, eof);
        let mut dice = Dice(seed);
        let cut = packets(&messages, &mut dice, 1460);
        let all: Vec<&Packet> = cut.iter().flatten().collect();
        for _ in 0..20 {
            let skip = dice.below(all.len());
            let mut capture = Capture::joined(limits(!live));
            all[skip..].iter().for_each(|packet| capture.take(packet));
            let mut found = capture.close();
            // A file has bytes of any protocol, and what is joined in one may be taken for another.
            found.records.retain(|record| record.protocol == Protocol::Mysql);
            assert_none_wrong(&found, &facts, &[]);
        }
    }

    #[test]
    fn random_bytes_are_not_taken_for_it(
        pieces in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 1..200)), 1..12),
    ) {
        let mut capture = Capture::new(limits(false), 4096);
        let mut seqs = FIRST;
        for (now, (client, payload)) in pieces.into_iter().enumerate() {
            let dir = if client { CLIENT } else { SERVER };
            let seq = seqs[dir.index()];
            seqs[dir.index()] = seq.wrapping_add(payload.len() as u32);
            let at = flow_model::Ts(now as u64);
            capture.take(&Packet { dir, at, seq, payload, snap: usize::MAX, acked: None });
        }
        prop_assert_ne!(capture.tcp.wire(), Some(l7::Wire::Mysql));
    }

    #[test]
    fn any_packets_do_no_harm(
        pieces in prop::collection::vec((any::<bool>(), prop::collection::vec((
            prop_oneof![4 => 0u8..4, 1 => any::<u8>()],
            prop_oneof![6 => prop::sample::select(b"\x00\xff\xfe\xfb\x03\x16\x17\x19\x1c\x11\x12\x01\x02".to_vec()), 1 => any::<u8>()],
            prop::collection::vec(prop_oneof![Just(0u8), Just(1u8), any::<u8>()], 0..40),
            prop::bool::weighted(0.05),
        ), 0..5)), 1..60),
        greeted in any::<bool>(),
    ) {
        let mut capture = Capture::new(limits(false), 4096);
        let mut seqs = FIRST;
        let first = if greeted {
            [(false, greeting(0)), (true, login(0))]
        } else {
            [(true, query("SELECT 1")), (false, answer().ok(0).bytes)]
        };
        let said = pieces.iter().map(|(client, packets)| {
            let bytes = packets.iter().flat_map(|(number, kind, body, cut)| {
                let mut bytes = packet(*number, &[&[*kind][..], body].concat());
                if *cut {
                    bytes.pop();
                }
                bytes
            });
            (*client, bytes.collect::<Vec<u8>>())
        });
        for (now, (client, payload)) in first.into_iter().chain(said).enumerate() {
            let dir = if client { CLIENT } else { SERVER };
            let seq = seqs[dir.index()];
            seqs[dir.index()] = seq.wrapping_add(payload.len() as u32);
            let packet = Packet { dir, at: flow_model::Ts(now as u64), seq, payload, snap: usize::MAX, acked: None };
            capture.take(&packet);
        }
        capture.close();
    }
}
