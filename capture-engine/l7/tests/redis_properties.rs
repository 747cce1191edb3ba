//! Generated Redis conversations, cut into packets, repeated and lost; the conversation itself is the reference.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use flow_model::{Close, Detail, L7Record, Outcome, Role, Ts};
use l7::{Interest, Limits, Tcp};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use support::packets::{Dice, FIRST, disturbed, packets};
use support::{CLIENT, Found, Observer, Packet, SERVER, hand_over};

#[derive(Clone, Debug)]
enum Reply {
    Status,
    Number(u32),
    Error(u8),
    Value(usize),
    Values(Vec<usize>),
    Map(usize),
    Null,
}

#[derive(Clone, Debug)]
struct Exchange {
    value: Option<usize>,
    inline: bool,
    reply: Reply,
    /// Something is pushed before the reply.
    pushed: bool,
    /// Sent together with the one before it.
    pipelined: bool,
}

fn reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        3 => Just(Reply::Status),
        2 => any::<u32>().prop_map(Reply::Number),
        2 => (0u8..26).prop_map(Reply::Error),
        3 => (0usize..200).prop_map(Reply::Value),
        1 => (3000usize..20_000).prop_map(Reply::Value),
        2 => prop::collection::vec(0usize..100, 0..6).prop_map(Reply::Values),
        1 => (0usize..4).prop_map(Reply::Map),
        1 => Just(Reply::Null),
    ]
}

fn exchange() -> impl Strategy<Value = Exchange> {
    let value =
        prop_oneof![4 => Just(None), 3 => (0usize..300).prop_map(Some), 1 => (3000usize..20_000).prop_map(Some)];
    (value, prop::bool::weighted(0.2), reply(), prop::bool::weighted(0.1), prop::bool::weighted(0.5))
        .prop_map(|(value, inline, reply, pushed, pipelined)| Exchange { value, inline, reply, pushed, pipelined })
}

/// What a record has to say. The error says which of the exchanges it was.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fact {
    operation: String,
    code: String,
    request_bytes: u64,
    response_bytes: u64,
}

/// A value that looks like commands and replies.
fn value(length: usize) -> Vec<u8> {
    let mut bytes = format!("${length}\r\n").into_bytes();
    bytes.extend(b"\r\n*1\r\n$4\r\nPING\r\n+OK\r\n$-1\r\n".iter().cycle().take(length));
    bytes.extend(b"\r\n");
    bytes
}

fn response(reply: &Reply) -> Vec<u8> {
    match reply {
        Reply::Status => b"+OK\r\n".to_vec(),
        Reply::Number(number) => format!(":{number}\r\n").into_bytes(),
        Reply::Error(letter) => format!("-E{} said of a key\r\n", char::from(b'A' + letter)).into_bytes(),
        Reply::Value(length) => value(*length),
        Reply::Values(lengths) => {
            let head = format!("*{}\r\n", lengths.len()).into_bytes();
            [head, lengths.iter().flat_map(|length| value(*length)).collect()].concat()
        }
        Reply::Map(pairs) => [format!("%{pairs}\r\n").into_bytes(), b"+a\r\n:1\r\n".repeat(*pairs)].concat(),
        Reply::Null => b"$-1\r\n".to_vec(),
    }
}

const COMMANDS: [&str; 6] = ["GET", "SET", "HSET", "lpush", "ZADD", "Incr"];

/// Messages of the flow, client first.
fn conversation(exchanges: &[Exchange]) -> (Vec<Vec<u8>>, Vec<Fact>) {
    let (mut messages, mut facts): (Vec<Vec<u8>>, _) = (Vec::new(), Vec::new());
    for (number, Exchange { value: body, inline, reply, pushed, pipelined }) in exchanges.iter().enumerate() {
        let name = COMMANDS[number % COMMANDS.len()];
        let request = match (body, *inline && number > 0) {
            (_, true) => format!("{name} key {number}\r\n").into_bytes(),
            (None, _) => format!("*2\r\n${}\r\n{name}\r\n$1\r\nk\r\n", name.len()).into_bytes(),
            (Some(length), _) => {
                [format!("*3\r\n${}\r\n{name}\r\n$1\r\nk\r\n", name.len()).into_bytes(), value(*length)].concat()
            }
        };
        let response = response(reply);
        facts.push(Fact {
            operation: name.to_uppercase(),
            code: if let Reply::Error(letter) = reply {
                format!("E{}", char::from(b'A' + letter))
            } else {
                String::new()
            },
            request_bytes: request.len() as u64,
            response_bytes: response.len() as u64,
        });
        let push: &[u8] = if *pushed { b">3\r\n+message\r\n+ch\r\n$2\r\nhi\r\n" } else { b"" };
        let response = [push, &response].concat();
        match messages.len() {
            length if *pipelined && length >= 2 => {
                messages[length - 2].extend(request);
                messages[length - 1].extend(response);
            }
            _ => messages.extend([request, response]),
        }
    }
    (messages, facts)
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

struct Capture {
    tcp: Tcp,
    observer: Observer,
    found: Found,
}

impl Capture {
    fn new(replay: bool, budget: usize) -> Capture {
        let limits = Limits { report_partial: replay, ..Limits::default() };
        let mut tcp = Tcp::new(&limits, Role::Client);
        if replay {
            tcp.starts_at(CLIENT, FIRST[CLIENT.index()]);
            tcp.starts_at(SERVER, FIRST[SERVER.index()]);
        }
        tcp.seen_to_begin();
        let observer = Observer::new(budget).handshake(FIRST[CLIENT.index()], FIRST[SERVER.index()]);
        Capture { tcp, observer, found: Found::default() }
    }

    fn take(&mut self, packet: &Packet, lost: bool) {
        if let Some(event) = self.observer.see(packet.clone()).filter(|_| !lost) {
            hand_over(&mut self.tcp, &event, &mut self.found);
        }
    }

    fn close(mut self) -> Found {
        let last = self.observer.message;
        self.tcp.closed(last.last, Close::Fin, Some(&last), last.turn, &mut self.found);
        assert_eq!(self.tcp.buffered(), 0);
        self.found
    }
}

/// No record has a command with another's reply: an error tells of which it was by its word, a reply by its length.
fn assert_none_wrong(found: &Found, facts: &[Fact]) {
    for record in found.records.iter().filter(|record| record.outcome == Outcome::Answered) {
        let seen = fact(record);
        let fits = |fact: &&Fact| fact.operation == seen.operation && fact.code == seen.code;
        assert!(facts.iter().any(|fact| fits(&fact)), "{seen:?} of {facts:?}");
    }
}

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

/// Each exchange can be told from all others: by its command and its error.
fn distinct(exchanges: &mut [Exchange]) {
    for (number, exchange) in exchanges.iter_mut().enumerate() {
        exchange.reply = Reply::Error((number / COMMANDS.len() % 26) as u8);
    }
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
        let mut capture = Capture::new(true, usize::MAX >> 1);
        for packet in disturbed(packets(&messages, &mut dice, largest), &mut dice) {
            capture.take(&packet, false);
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
        let mut capture = Capture::new(false, 4096);
        let cut = packets(&messages, &mut dice, 1460);
        for packet in cut.iter().flatten() {
            capture.take(packet, false);
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
        let mut capture = Capture::new(false, 4096);
        let (mut any, mut kept) = (false, Vec::new());
        for message in packets(&messages, &mut dice, 1460) {
            let lost = dice.one_in(rarity);
            kept.push(!lost);
            for packet in &message {
                capture.take(packet, lost);
                any |= !lost;
            }
        }
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
        let mut capture = Capture::new(false, usize::MAX >> 1);
        let cut = packets(&messages, &mut dice, 1460);
        let at = 4 + dice.below(cut.len().saturating_sub(4));
        let which = dice.below(cut.get(at).map_or(0, Vec::len));
        for (number, message) in cut.iter().enumerate() {
            for (index, packet) in message.iter().enumerate() {
                capture.take(packet, (number, index) == (at, which));
            }
        }
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
        let mut capture = Capture::new(true, usize::MAX >> 1);
        for packet in packets(&messages, &mut dice, 1460).iter().flatten() {
            if !dice.one_in(rarity) {
                capture.take(packet, false);
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
        let limits = Limits { report_partial: !live, ..Limits::default() };
        let (mut found, mut tcp, mut observer) =
            (Found::default(), Tcp::new(&limits, Role::Unknown), Observer::new(1 << 30));
        for packet in &all[skip..] {
            if let Some(event) = observer.see((*packet).clone()) {
                hand_over(&mut tcp, &event, &mut found);
            }
        }
        let last = observer.message;
        tcp.closed(last.last, Close::Fin, Some(&last), last.turn, &mut found);
        assert_none_wrong(&found, &facts);
    }

    #[test]
    fn any_bytes_do_no_harm(
        pieces in prop::collection::vec((any::<bool>(), prop::collection::vec(prop_oneof![
            4 => prop::sample::select(b"*$+-:_,#(!=%~>|;.?\r\n0123456789PINGOKset ".to_vec()), 1 => any::<u8>(),
        ], 1..40)), 1..60),
    ) {
        let mut capture = Capture::new(false, 4096);
        let mut seqs = FIRST;
        let first = (true, b"*1\r\n$4\r\nPING\r\n".to_vec());
        for (now, (client, payload)) in std::iter::once(first).chain(pieces).enumerate() {
            let dir = if client { CLIENT } else { SERVER };
            let seq = seqs[dir.index()];
            seqs[dir.index()] = seq.wrapping_add(payload.len() as u32);
            let packet = Packet { dir, at: Ts(now as u64), seq, payload, snap: usize::MAX, acked: None };
            capture.take(&packet, false);
        }
        capture.close();
    }
}
