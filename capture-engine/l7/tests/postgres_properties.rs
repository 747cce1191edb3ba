//! Generated PostgreSQL conversations, cut into packets, repeated and lost; the conversation itself is
//! the reference.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "support/pg.rs"]
mod pg;
mod support;

use flow_model::{Detail, L7Record, Outcome};
use pg::*;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use support::capture::{Capture, limits, one_of};
use support::packets::{Dice, FIRST, disturbed, packets};
use support::{CLIENT, Found, Packet, SERVER};

/// How something is asked, and answered.
#[derive(Clone, Debug)]
enum Ask {
    /// A simple query with so many statements.
    Query(usize),
    /// Executes of one batch; the one with this number fails.
    Batch(usize, Option<usize>),
    /// The batch alone: nothing is executed.
    Prepare,
    CopyIn,
    CopyOut,
}

#[derive(Clone, Debug)]
struct Turn {
    ask: Ask,
    rows: Vec<usize>,
    fails: bool,
    noticed: bool,
    /// Sent together with the one before it.
    pipelined: bool,
}

fn turn() -> impl Strategy<Value = Turn> {
    let ask = prop_oneof![
        4 => (1usize..4).prop_map(Ask::Query),
        6 => (1usize..6, prop::option::weighted(0.3, 0usize..6)).prop_map(|(count, fails)| Ask::Batch(count, fails)),
        1 => Just(Ask::Prepare),
        1 => Just(Ask::CopyIn),
        1 => Just(Ask::CopyOut),
    ];
    let length = prop_oneof![6 => 0usize..60, 1 => 300usize..3000, 1 => 3000usize..20_000];
    (
        ask,
        prop::collection::vec(length, 0..5),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.5),
    )
        .prop_map(|(ask, rows, fails, noticed, pipelined)| Turn { ask, rows, fails, noticed, pipelined })
}

/// What a record has to say. The code of an error says which of the exchanges it was.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fact {
    operation: String,
    code: String,
    request_bytes: u64,
    response_bytes: u64,
}

const VERBS: [&str; 4] = ["SELECT", "INSERT", "UPDATE", "DELETE"];

#[derive(Default)]
struct Conversation {
    /// Messages of the flow, client first.
    messages: Vec<Vec<u8>>,
    facts: Vec<Fact>,
    /// How many exchanges each message of the client asks.
    asked: Vec<usize>,
}

impl Conversation {
    fn fact(&mut self, operation: &str, code: &str, request: &[u8], response: usize) {
        let (request_bytes, response_bytes) = (request.len() as u64, response as u64);
        self.facts.push(Fact { operation: operation.into(), code: code.into(), request_bytes, response_bytes });
    }

    fn say(&mut self, request: &[u8], response: &[u8], pipelined: bool, count: usize) {
        match self.messages.len() {
            length if pipelined && length > 2 => {
                self.messages[length - 2].extend(request);
                self.messages[length - 1].extend(response);
                *self.asked.last_mut().unwrap() += count;
            }
            _ => {
                self.messages.extend([request.to_vec(), response.to_vec()]);
                self.asked.push(count);
            }
        }
    }
}

/// SQLSTATE of the exchange with this number.
fn state(number: usize) -> String {
    format!("X{number:04}")
}

fn conversation(turns: &[Turn]) -> Conversation {
    let mut all = Conversation::default();
    let (request, response) = (login(), welcome());
    all.fact("startup", "", &request, response.len() - message(b'S', b"TimeZone\0UTC\0").len());
    all.say(&request, &response, false, 1);
    for (number, Turn { ask, rows, fails, noticed, pipelined }) in turns.iter().enumerate() {
        let verb = VERBS[number % VERBS.len()];
        let before = all.facts.len();
        let code = state(before);
        let rows: Vec<u8> = rows.iter().flat_map(|length| row(*length)).collect();
        let notice = if *noticed { notice() } else { Vec::new() };
        let tag = complete(&format!("{verb} 1"));
        let failure = error("ERROR", &code);
        match ask {
            Ask::Query(statements) => {
                let request = query(&vec![format!("{verb} {}", "x".repeat(number * 7 % 400)); *statements].join(";"));
                let mut response = [columns(), rows.clone(), tag].concat().repeat(*statements - usize::from(*fails));
                if *fails {
                    response.extend(&failure);
                }
                response.extend(ready());
                all.fact(verb, if *fails { &code } else { "" }, &request, response.len());
                all.say(&request, &[notice, response].concat(), *pipelined, 1);
            }
            Ask::Batch(count, failing) => {
                let (mut request, mut response) = (Vec::new(), notice);
                let mut failed = false;
                for at in 0..*count {
                    // Some are described, and some have been prepared by the one before.
                    let prepares = if at == 0 || at % 3 == 0 { parse("", &format!("{verb} $1")) } else { Vec::new() };
                    let describes = if at % 2 == 0 { describe("") } else { Vec::new() };
                    let value = vec![b'v'; (number + at) * 31 % 500];
                    let asked = [prepares.clone(), bind_with("", "", &value), describes.clone(), execute("")].concat();
                    let parsed = if prepares.is_empty() { Vec::new() } else { parsed() };
                    let described = if describes.is_empty() { Vec::new() } else { columns() };
                    let code = state(all.facts.len());
                    if failed {
                        all.fact(verb, "skipped", &asked, 0);
                    } else if *failing == Some(at) {
                        let answered = [parsed, error("ERROR", &code)].concat();
                        all.fact(verb, &code, &asked, answered.len());
                        response.extend(answered);
                        failed = true;
                    } else {
                        let answered =
                            [parsed, bound(), described, rows.clone(), complete(&format!("{verb} 1"))].concat();
                        all.fact(verb, "", &asked, answered.len());
                        response.extend(answered);
                    }
                    request.extend(asked);
                }
                request.extend(sync());
                response.extend(ready());
                all.say(&request, &response, *pipelined, *count);
            }
            Ask::Prepare => {
                let request = [parse("", verb), sync()].concat();
                all.say(&request, &[parsed(), ready()].concat(), *pipelined, 0);
            }
            Ask::CopyIn => {
                let (request, wants) = (query("COPY t FROM STDIN"), message(b'G', &[0, 0, 0]));
                let copied = [data(rows.len() / 2), data(7), message(b'c', b"")].concat();
                let end = if *fails { failure } else { complete("COPY 2") };
                let end = [end, ready()].concat();
                let code = if *fails { &*code } else { "" };
                all.fact("COPY", code, &[request.clone(), copied.clone()].concat(), wants.len() + end.len());
                all.say(&request, &wants, false, 1);
                all.say(&copied, &end, false, 0);
            }
            Ask::CopyOut => {
                let request = query("COPY t TO STDOUT");
                let response =
                    [message(b'H', &[0, 0, 0]), data(rows.len()), message(b'c', b""), complete("COPY 1"), ready()];
                let response = response.concat();
                all.fact("COPY", "", &request, response.len());
                all.say(&request, &response, *pipelined, 1);
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

/// No record has what was asked with another's answer: the code of an error is that of one exchange.
fn assert_none_wrong(found: &Found, facts: &[Fact]) {
    for record in found.records.iter().filter(|record| record.outcome == Outcome::Answered) {
        let seen = fact(record);
        // Where a Parse was not seen, nobody knows the verb.
        let named = |fact: &Fact| fact.operation == seen.operation || seen.operation == "unknown";
        // Nor what an error said of which bytes are missing.
        let coded = |fact: &Fact| fact.code == seen.code || seen.code == "other" && !fact.code.is_empty();
        assert!(facts.iter().any(|fact| named(fact) && coded(fact)), "{seen:?} of {facts:#?}");
    }
}

/// Nothing is skipped: of what nobody saw to be asked, the server's silence tells nothing.
fn none_skipped(turns: &mut [Turn]) {
    for turn in turns {
        if let Ask::Batch(count, failing) = &mut turn.ask {
            *failing = Some(*count - 1);
        }
    }
}

/// Each exchange can be told from all others by its error.
fn distinct(turns: &mut [Turn]) {
    for turn in turns {
        (turn.fails, turn.noticed) = (true, false);
        match &mut turn.ask {
            Ask::Batch(_, failing) => *failing = Some(0),
            ask @ (Ask::Prepare | Ask::CopyOut) => *ask = Ask::Query(1),
            Ask::Query(_) | Ask::CopyIn => {}
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
        seed in 1u64..,
        // Of longer ones less than those that come too early is held.
        largest in prop_oneof![Just(3usize), Just(20usize), Just(1460), Just(9000)],
    ) {
        // Packets by the hundred, not by ten thousands.
        turns.iter_mut().flat_map(|turn| &mut turn.rows).for_each(|row| *row = (*row).min(largest * 50));
        let Conversation { messages, facts, .. } = conversation(&turns);
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
        seed in 1u64..,
        rarity in 2usize..10,
    ) {
        // One exchange a message: of what nobody saw, neither asked nor answered, nothing tells the number.
        for turn in &mut turns {
            turn.ask = if matches!(turn.ask, Ask::Query(_)) { Ask::Query(1) } else { Ask::Batch(1, Some(0)) };
        }
        distinct(&mut turns);
        turns.iter_mut().for_each(|turn| turn.pipelined = false);
        let Conversation { messages, facts, .. } = conversation(&turns);
        let mut dice = Dice(seed);
        let mut capture = Capture::new(limits(false), 1 << 20);
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
    fn one_lost_record_is_told_or_lost(
        mut turns in prop::collection::vec(turn(), 3..20),
        seed in 1u64..,
    ) {
        distinct(&mut turns);
        none_skipped(&mut turns);
        let Conversation { messages, facts, .. } = conversation(&turns);
        let mut dice = Dice(seed);
        let mut capture = Capture::new(limits(false), usize::MAX >> 1);
        let cut = packets(&messages, &mut dice, 1460);
        let (at, which) = capture.take_all_but_one(&cut, &mut dice, 2);
        let found = capture.close();
        assert_none_wrong(&found, &facts);
        let seen: Vec<Fact> = found.records.iter().map(fact).collect();
        let sum = seen.len() as u64 + found.lost_count();
        prop_assert_eq!(sum, facts.len() as u64, "{} {}: {:#?} {:?}", at, which, &seen, &found.lost);
        prop_assert_eq!(found.unasked, 0);
    }

    #[test]
    fn one_dropped_packet_is_told_or_lost(
        mut turns in prop::collection::vec(turn(), 3..20),
        seed in 1u64..,
    ) {
        distinct(&mut turns);
        none_skipped(&mut turns);
        let Conversation { messages, facts, .. } = conversation(&turns);
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
        assert_none_wrong(&found, &facts);
        let seen: Vec<Fact> = found.records.iter().map(fact).collect();
        let sum = seen.len() as u64 + found.lost_count();
        prop_assert_eq!(sum, facts.len() as u64, "{} {}: {:#?} {:?}", at, which, &seen, &found.lost);
    }

    #[test]
    fn dropped_packets_make_no_wrong_record(
        mut turns in prop::collection::vec(turn(), 1..60),
        seed in 1u64..,
        rarity in 3usize..60,
    ) {
        distinct(&mut turns);
        let Conversation { messages, facts, .. } = conversation(&turns);
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
        mut turns in prop::collection::vec(turn(), 2..30),
        seed in 1u64..,
        live in any::<bool>(),
    ) {
        distinct(&mut turns);
        let Conversation { messages, facts, .. } = conversation(&turns);
        let mut dice = Dice(seed);
        let cut = packets(&messages, &mut dice, 1460);
        let all: Vec<&Packet> = cut.iter().flatten().collect();
        let skip = dice.below(all.len());
        let mut capture = Capture::joined(limits(!live));
        all[skip..].iter().for_each(|packet| capture.take(packet));
        assert_none_wrong(&capture.close(), &facts);
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
        prop_assert_ne!(capture.tcp.wire(), Some(l7::Wire::Postgres));
    }

    #[test]
    fn any_messages_do_no_harm(
        pieces in prop::collection::vec((any::<bool>(), prop::collection::vec((
            prop_oneof![4 => prop::sample::select(b"QPBDECSHFdcfpXRKZTIENA123ntsGHWv".to_vec()), 1 => any::<u8>()],
            prop::collection::vec(prop_oneof![Just(0u8), Just(b'I'), any::<u8>()], 0..40),
            prop::bool::weighted(0.05),
        ), 0..5)), 1..60),
        startup in any::<bool>(),
    ) {
        let mut capture = Capture::new(limits(false), 4096);
        let mut seqs = FIRST;
        let first = if startup { login() } else { query("SELECT 1") };
        let said = pieces.iter().map(|(client, messages)| {
            let bytes = messages.iter().flat_map(|(kind, body, cut)| {
                let mut bytes = message(*kind, body);
                if *cut {
                    bytes.pop();
                }
                bytes
            });
            (*client, bytes.collect::<Vec<u8>>())
        });
        let first = [(true, first), (false, [complete("SELECT 1"), ready()].concat())];
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
