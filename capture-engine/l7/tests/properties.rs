//! Generated conversations, cut into packets, reordered, repeated and lost; the conversation itself is the reference.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use flow_model::{Close, Detail, L7Record, Notes, Outcome, Role, Ts};
use l7::{Limits, Tcp};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use std::fmt;
use support::{CLIENT, Event, Found, Observer, Packet, SERVER, hand_over};

#[derive(Clone, Copy, Debug)]
enum Body {
    None,
    Length(usize),
    Chunked(usize),
    Trailers(usize),
}

#[derive(Clone, Copy)]
struct Exchange {
    head: bool,
    request: Body,
    response: Body,
    interim: bool,
    /// Sent together with the one before it.
    pipelined: bool,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Exchange { head, request, response, interim, pipelined } = *self;
        let flags = [(head, " head"), (interim, " interim"), (pipelined, " pipelined")];
        let flags: String = flags.into_iter().filter_map(|(is, name)| is.then_some(name)).collect();
        write!(f, "{request:?} -> {response:?}{flags}")
    }
}

/// What a record has to say.
#[derive(Clone, PartialEq, Eq)]
struct Fact {
    target: String,
    status: Option<u16>,
    request_bytes: u64,
    response_bytes: u64,
}

impl fmt::Debug for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {}>{}", self.target, self.status, self.request_bytes, self.response_bytes)
    }
}

fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        3 => Just(Body::None),
        4 => (1usize..300).prop_map(Body::Length),
        1 => (3000usize..20_000).prop_map(Body::Length),
        2 => (1usize..300).prop_map(Body::Chunked),
        1 => (3000usize..20_000).prop_map(Body::Chunked),
        1 => (1usize..300).prop_map(Body::Trailers),
    ]
}

fn exchange() -> impl Strategy<Value = Exchange> {
    (prop::bool::weighted(0.1), body(), body(), prop::bool::weighted(0.1), prop::bool::weighted(0.3)).prop_map(
        |(head, request, response, interim, pipelined)| Exchange { head, request, response, interim, pipelined },
    )
}

fn message(start: &str, body: Body, no_body: bool) -> Vec<u8> {
    let mut bytes = start.as_bytes().to_vec();
    let framing = match body {
        Body::None => "Content-Length: 0\r\n\r\n".to_owned(),
        Body::Length(length) => format!("Content-Length: {length}\r\n\r\n"),
        Body::Chunked(_) | Body::Trailers(_) => "Transfer-Encoding: chunked\r\n\r\n".to_owned(),
    };
    bytes.extend_from_slice(framing.as_bytes());
    if no_body {
        return bytes;
    }
    match body {
        Body::None => {}
        Body::Length(length) => bytes.resize(bytes.len() + length, b'.'),
        Body::Chunked(length) | Body::Trailers(length) => {
            for part in [length / 3, length - length / 3] {
                if part > 0 {
                    bytes.extend_from_slice(format!("{part:x};ext=1\r\n").as_bytes());
                    bytes.resize(bytes.len() + part, b'.');
                    bytes.extend_from_slice(b"\r\n");
                }
            }
            bytes.extend_from_slice(if matches!(body, Body::Trailers(_)) {
                b"0\r\nX-T: 1\r\n\r\n"
            } else {
                b"0\r\n\r\n"
            });
        }
    }
    bytes
}

struct Conversation {
    /// Messages of the flow, client first.
    messages: Vec<Vec<u8>>,
    facts: Vec<Fact>,
}

fn conversation(exchanges: &[Exchange]) -> Conversation {
    let mut messages: Vec<Vec<u8>> = Vec::new();
    let mut facts = Vec::new();
    for (number, exchange) in exchanges.iter().enumerate() {
        // Each has a status of its own, so that a wrong pair shows.
        let status = 400 + (number % 500) as u16;
        let method = if exchange.head { "HEAD" } else { "POST" };
        let target = format!("/{number}");
        let request = message(&format!("{method} {target} HTTP/1.1\r\nHost: h\r\n"), exchange.request, false);
        let mut response = if exchange.interim { b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec() } else { Vec::new() };
        response.extend(message(&format!("HTTP/1.1 {status} S\r\n"), exchange.response, exchange.head));
        facts.push(Fact {
            target,
            status: Some(status),
            request_bytes: request.len() as u64,
            response_bytes: response.len() as u64,
        });
        match messages.len() {
            length if exchange.pipelined && length >= 2 => {
                messages[length - 2].extend(request);
                messages[length - 1].extend(response);
            }
            _ => messages.extend([request, response]),
        }
    }
    Conversation { messages, facts }
}

/// A small generator of its own (xorshift64*), so that cuts and losses follow from one number.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound.max(1)
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }
}

const FIRST: [u32; 2] = [u32::MAX - 3000, 5];

/// The packets of a conversation in the order in which they were sent, message by message.
fn packets(messages: &[Vec<u8>], dice: &mut Dice, largest: usize) -> Vec<Vec<Packet>> {
    let mut seqs = FIRST;
    let mut now = 0;
    messages
        .iter()
        .enumerate()
        .map(|(number, bytes)| {
            let dir = if number % 2 == 0 { CLIENT } else { SERVER };
            let mut rest = &bytes[..];
            let mut packets = Vec::new();
            while !rest.is_empty() {
                let (payload, after) = rest.split_at(1 + dice.below(rest.len().min(largest)));
                rest = after;
                now += 1;
                let seq = seqs[dir.index()];
                seqs[dir.index()] = seq.wrapping_add(payload.len() as u32);
                let acked = Some(seqs[dir.reverse().index()]);
                packets.push(Packet { dir, at: Ts(now), seq, payload: payload.to_vec(), snap: usize::MAX, acked });
            }
            packets
        })
        .collect()
}

/// The same, each message in one to five packets.
fn messages_of_a_few_packets(messages: &[Vec<u8>], dice: &mut Dice) -> Vec<Vec<Packet>> {
    let mut seqs = FIRST;
    let mut now = 0;
    let numbered = messages.iter().enumerate();
    let cut = numbered.map(|(number, bytes)| {
        let dir = if number % 2 == 0 { CLIENT } else { SERVER };
        let mut cuts: Vec<usize> =
            (0..dice.below(5)).map(|_| dice.below(bytes.len())).chain([0, bytes.len()]).collect();
        cuts.sort_unstable();
        cuts.dedup();
        let pieces = cuts.windows(2).map(|ends| {
            now += 1;
            let payload = bytes[ends[0]..ends[1]].to_vec();
            let seq = seqs[dir.index()];
            seqs[dir.index()] = seq.wrapping_add(payload.len() as u32);
            let acked = Some(seqs[dir.reverse().index()]);
            Packet { dir, at: Ts(now), seq, payload, snap: usize::MAX, acked }
        });
        pieces.collect()
    });
    cut.collect()
}

/// A conversation of a client that keeps up to `window` requests under way.
struct Overlapping {
    packets: Vec<Packet>,
    facts: Vec<Fact>,
    /// The packet with which it has shown that it does not wait.
    shown: usize,
}

fn overlapping(exchanges: &[Exchange], window: usize, dice: &mut Dice) -> Overlapping {
    let (mut seqs, mut now) = (FIRST, 0);
    let (mut packets, mut facts) = (Vec::new(), Vec::new());
    let (mut asked, mut answered, mut shown) = (0, 0, usize::MAX);
    let mut send = |dir, bytes: Vec<u8>, dice: &mut Dice, packets: &mut Vec<Packet>| {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (payload, after) = rest.split_at(1 + dice.below(rest.len().min(1460)));
            rest = after;
            now += 1;
            let seq = seqs[usize::from(dir == CLIENT)];
            seqs[usize::from(dir == CLIENT)] = seq.wrapping_add(payload.len() as u32);
            packets.push(Packet { dir, at: Ts(now), seq, payload: payload.to_vec(), snap: usize::MAX, acked: None });
        }
    };
    let parts = |number: usize, exchange: &Exchange| {
        let status = 400 + (number % 500) as u16;
        let method = if exchange.head { "HEAD" } else { "POST" };
        let target = format!("/{number}");
        let request = message(&format!("{method} {target} HTTP/1.1\r\nHost: h\r\n"), exchange.request, false);
        let response = message(&format!("HTTP/1.1 {status} S\r\n"), exchange.response, exchange.head);
        let (request_bytes, response_bytes) = (request.len() as u64, response.len() as u64);
        (request, response, Fact { target, status: Some(status), request_bytes, response_bytes })
    };
    while answered < exchanges.len() {
        let more = asked < exchanges.len() && asked - answered < window;
        // Two are asked at once to begin with, and the third before the second is answered.
        let ask = if shown == usize::MAX { asked < 2 || answered == 1 } else { dice.one_in(2) };
        if more && (ask || asked == answered) {
            let (request, _, fact) = parts(asked, &exchanges[asked]);
            send(CLIENT, request, dice, &mut packets);
            facts.push(fact);
            asked += 1;
            if asked == 3 {
                shown = packets.len() - 1;
            }
        } else {
            send(SERVER, parts(answered, &exchanges[answered]).1, dice, &mut packets);
            answered += 1;
        }
    }
    Overlapping { packets, facts, shown }
}

struct Capture {
    tcp: Tcp,
    observer: Observer,
    found: Found,
}

impl Capture {
    fn replay() -> Capture {
        let limits = Limits { keep_strings: true, report_partial: true, ..Limits::default() };
        Capture::new(limits, usize::MAX >> 1)
    }

    fn live() -> Capture {
        Capture::new(Limits { keep_strings: true, ..Limits::default() }, 4096)
    }

    fn live_in_full() -> Capture {
        Capture::new(Limits { keep_strings: true, ..Limits::default() }, usize::MAX >> 1)
    }

    fn new(limits: Limits, budget: usize) -> Capture {
        let mut tcp = Tcp::new(&limits, Role::Client);
        if limits.report_partial {
            // A capture has the handshake's numbers; live, those of the messages have to do.
            tcp.starts_at(CLIENT, FIRST[CLIENT.index()]);
            tcp.starts_at(SERVER, FIRST[SERVER.index()]);
        }
        tcp.seen_to_begin();
        let observer = Observer::new(budget).handshake(FIRST[CLIENT.index()], FIRST[SERVER.index()]);
        Capture { tcp, observer, found: Found::default() }
    }

    fn see(&mut self, packet: &Packet) -> Option<Event> {
        self.observer.see(packet.clone())
    }

    fn take(&mut self, packet: &Packet) {
        if let Some(event) = self.see(packet) {
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

fn fact(record: &L7Record) -> Fact {
    let Detail::Http(http) = &record.detail else { panic!("{record:?}") };
    assert!(record.start <= record.end, "{record:?}");
    Fact {
        target: http.target.clone(),
        status: http.status,
        request_bytes: record.request_bytes,
        response_bytes: record.response_bytes,
    }
}

/// No record pairs a request with another's response.
fn assert_none_wrong(found: &Found, facts: &[Fact]) {
    for record in &found.records {
        let seen = fact(record);
        if record.notes.has(Notes::NO_REQUEST) || record.outcome == Outcome::Unanswered {
            continue;
        }
        let cut = record.notes.has(Notes::REQUEST_CUT);
        let fits = |target: &str| target == seen.target || cut && target.starts_with(&seen.target);
        assert!(facts.iter().any(|fact| fits(&fact.target) && fact.status == seen.status), "{seen:?} of {facts:?}");
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
        exchanges in prop::collection::vec(exchange(), 1..12),
        seed in 1u64..,
        largest in prop_oneof![Just(20usize), Just(1460), Just(65_000)],
    ) {
        let Conversation { messages, facts } = conversation(&exchanges);
        let mut dice = Dice(seed);
        let mut capture = Capture::replay();
        let mut old: Vec<Packet> = Vec::new();
        for mut message in packets(&messages, &mut dice, largest) {
            // The network swaps neighbours; times are those of arrival.
            let times: Vec<Ts> = message.iter().map(|packet| packet.at).collect();
            for at in 1..message.len() {
                if dice.one_in(4) {
                    message.swap(at, at - 1);
                }
            }
            for (packet, at) in message.iter_mut().zip(times) {
                packet.at = at;
            }
            for packet in message {
                if let Some(again) = old.get(dice.below(old.len())).filter(|_| dice.one_in(6)) {
                    let mut again = again.clone();
                    again.at = packet.at;
                    // Repeated with other bytes: the first ones count.
                    again.payload.fill(b'#');
                    capture.take(&again);
                }
                capture.take(&packet);
                old.push(packet);
            }
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
        let mut capture = Capture::live();
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
        let mut capture = Capture::live();
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
        let mut capture = if pipelined { Capture::live_in_full() } else { Capture::live() };
        let cut: Vec<Vec<Packet>> = messages_of_a_few_packets(&messages, &mut dice);
        let first = if pipelined { 4 } else { 0 };
        let at = first + dice.below(cut.len().saturating_sub(first));
        let which = dice.below(cut.get(at).map_or(0, Vec::len));
        for (number, message) in cut.iter().enumerate() {
            for (index, packet) in message.iter().enumerate() {
                let event = capture.see(packet);
                if let Some(event) = event.filter(|_| (number, index) != (at, which)) {
                    hand_over(&mut capture.tcp, &event, &mut capture.found);
                }
            }
        }
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
        let mut capture = if dropped { Capture::replay() } else { Capture::live_in_full() };
        for (number, packet) in packets.iter().enumerate() {
            let lost = number > shown && dice.one_in(rarity);
            if dropped && lost {
                continue;
            }
            if let Some(event) = capture.see(packet).filter(|_| !lost) {
                hand_over(&mut capture.tcp, &event, &mut capture.found);
            }
        }
        let found = capture.close();
        assert_none_wrong(&found, &facts);
        prop_assert!(found.records.len() as u64 + found.lost_count() <= facts.len() as u64 || dropped);
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
        let mut capture = Capture::replay();
        let mut dropped = 0;
        for packet in messages_of_a_few_packets(&messages, &mut dice).iter().flatten() {
            if dice.one_in(100) {
                dropped += 1;
            } else {
                capture.take(packet);
            }
        }
        let found = capture.close();
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
        let limits = Limits { keep_strings: true, report_partial: true, ..Limits::default() };
        let mut found = Found::default();
        let mut tcp = Tcp::new(&limits, Role::Unknown);
        let mut observer = Observer::new(1 << 30);
        for packet in &all[skip..] {
            if let Some(event) = observer.see(packet.clone()) {
                hand_over(&mut tcp, &event, &mut found);
            }
        }
        let last = observer.message;
        tcp.closed(last.last, Close::Fin, Some(&last), last.turn, &mut found);
        assert_none_wrong(&found, &facts);
    }
}
