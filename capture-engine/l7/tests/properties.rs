//! Generated conversations, cut into packets, reordered, repeated and lost; the conversation itself is the reference.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use flow_model::{Close, Detail, L7Record, Notes, Outcome, Role, Ts};
use l7::{Limits, Tcp};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
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
                packets.push(Packet { dir, at: Ts(now), seq, payload: payload.to_vec(), snap: usize::MAX });
            }
            packets
        })
        .collect()
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

    fn new(limits: Limits, budget: usize) -> Capture {
        let mut tcp = Tcp::new(&limits, Role::Client);
        if limits.report_partial {
            // A capture has the handshake; live, the message's numbers have to do.
            tcp.starts_at(CLIENT, FIRST[CLIENT.index()]);
            tcp.starts_at(SERVER, FIRST[SERVER.index()]);
        }
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
    #![proptest_config(ProptestConfig { failure_persistence: None, rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() })]

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
            let lost = dice.one_in(rarity);
            for packet in &message {
                let event = capture.see(packet);
                if let Some(event) = event.filter(|_| !lost) {
                    hand_over(&mut capture.tcp, &event, &mut capture.found);
                    any = true;
                }
            }
        }
        let found = capture.close();
        assert_none_wrong(&found, &facts);
        if any {
            prop_assert_eq!(found.records.len() as u64 + found.lost_count(), facts.len() as u64, "{:?}", found.lost);
        }
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
        let mut capture = if live { Capture::live() } else { Capture::replay() };
        // No kernel misses a packet, so this is a capture, whatever it copies.
        capture.tcp.starts_at(CLIENT, FIRST[CLIENT.index()]);
        capture.tcp.starts_at(SERVER, FIRST[SERVER.index()]);
        for packet in packets(&messages, &mut dice, 1460).iter().flatten() {
            if !dice.one_in(rarity) {
                capture.take(packet);
            }
        }
        assert_none_wrong(&capture.close(), &facts);
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
