//! Generated conversations of HTTP/1: what both ends say, the packets that carry it, and what a reader must find.
#![allow(dead_code)]

use super::support::packets::{Dice, FIRST};
use super::support::{CLIENT, Found, Packet, SERVER};
use flow_model::{Detail, L7Record, Notes, Outcome, Ts};
use proptest::prelude::*;
use std::fmt;

#[derive(Clone, Copy, Debug)]
pub enum Body {
    None,
    Length(usize),
    Chunked(usize),
    Trailers(usize),
}

#[derive(Clone, Copy)]
pub struct Exchange {
    pub head: bool,
    pub request: Body,
    pub response: Body,
    pub interim: bool,
    /// Sent together with the one before it.
    pub pipelined: bool,
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
pub struct Fact {
    pub target: String,
    pub status: Option<u16>,
    pub request_bytes: u64,
    pub response_bytes: u64,
}

impl fmt::Debug for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {}>{}", self.target, self.status, self.request_bytes, self.response_bytes)
    }
}

pub fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        3 => Just(Body::None),
        4 => (1usize..300).prop_map(Body::Length),
        1 => (3000usize..20_000).prop_map(Body::Length),
        2 => (1usize..300).prop_map(Body::Chunked),
        1 => (3000usize..20_000).prop_map(Body::Chunked),
        1 => (1usize..300).prop_map(Body::Trailers),
    ]
}

pub fn exchange() -> impl Strategy<Value = Exchange> {
    (prop::bool::weighted(0.1), body(), body(), prop::bool::weighted(0.1), prop::bool::weighted(0.3)).prop_map(
        |(head, request, response, interim, pipelined)| Exchange { head, request, response, interim, pipelined },
    )
}

pub fn message(start: &str, body: Body, no_body: bool) -> Vec<u8> {
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

pub struct Conversation {
    /// Messages of the flow, client first.
    pub messages: Vec<Vec<u8>>,
    pub facts: Vec<Fact>,
}

pub fn conversation(exchanges: &[Exchange]) -> Conversation {
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

/// A conversation of a client that keeps up to `window` requests under way.
pub struct Overlapping {
    pub packets: Vec<Packet>,
    pub facts: Vec<Fact>,
    /// The packet with which it has shown that it does not wait.
    pub shown: usize,
}

pub fn overlapping(exchanges: &[Exchange], window: usize, dice: &mut Dice) -> Overlapping {
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

pub fn fact(record: &L7Record) -> Fact {
    let Detail::Http(http) = &record.detail else { panic!("{record:?}") };
    assert!(record.start <= record.end, "{record:?}");
    Fact {
        target: http.target.clone().into_string(),
        status: http.status,
        request_bytes: record.request_bytes,
        response_bytes: record.response_bytes,
    }
}

/// No record pairs a request with another's response.
pub fn assert_none_wrong(found: &Found, facts: &[Fact]) {
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
