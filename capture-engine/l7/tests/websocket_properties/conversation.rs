//! Generated WebSockets: what both ends say, and the messages that a reader must find.

use super::support::Found;
use flow_model::{Detail, L7Record};
use proptest::prelude::*;

#[derive(Clone, Debug)]
pub struct Message {
    pub by_client: bool,
    pub kind: Kind,
    pub length: usize,
    /// What it carries: zeros, text, frames, anything.
    pub filling: u8,
    /// Frames that it is cut into, a control frame between each two.
    pub fragments: usize,
    pub compressed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Binary,
    Ping,
    Pong,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Kind::Text => "text",
            Kind::Binary => "binary",
            Kind::Ping => "ping",
            Kind::Pong => "pong",
        }
    }

    fn opcode(self) -> u8 {
        match self {
            Kind::Text => 1,
            Kind::Binary => 2,
            Kind::Ping => 9,
            Kind::Pong => 10,
        }
    }

    fn is_control(self) -> bool {
        matches!(self, Kind::Ping | Kind::Pong)
    }
}

/// A message as it was told, or was sent: opcode, whether the client sent it, bytes on the wire, payload.
pub type Fact = (&'static str, bool, u64, u64);

pub fn message() -> impl Strategy<Value = Message> {
    let kind = prop_oneof![
        4 => Just(Kind::Text), 3 => Just(Kind::Binary), 1 => Just(Kind::Ping), 1 => Just(Kind::Pong),
    ];
    let length = prop_oneof![
        1 => 0usize..3, 6 => 3usize..125, 3 => 125usize..130, 3 => 130usize..3000, 1 => 3000usize..20_000,
        1 => 65_530usize..65_540,
    ];
    let fragments = prop_oneof![6 => Just(1usize), 2 => 2usize..5];
    (any::<bool>(), kind, length, 0u8..5, fragments, prop::bool::weighted(0.2)).prop_map(
        |(by_client, kind, length, filling, fragments, compressed)| Message {
            by_client,
            kind,
            length: if kind.is_control() { length % 126 } else { length },
            filling,
            fragments: if kind.is_control() { 1 } else { fragments },
            compressed: compressed && !kind.is_control(),
        },
    )
}

/// Payloads that look like something else.
fn filling(which: u8, length: usize, seed: u64) -> Vec<u8> {
    let words: &[u8] = match which {
        0 => b"\0",
        1 => b"GET /inner HTTP/1.1\r\nHost: h\r\n\r\n",
        2 => b"\x00\x02AB\x01\x03ABC\x02\x01A",
        3 => b"{\"a\":[1,2,3],\"b\":\"ABBA\"}",
        _ => {
            let mut state = seed | 1;
            let random = std::iter::repeat_with(|| {
                state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                (state >> 56) as u8
            });
            return random.take(length).collect();
        }
    };
    words.iter().copied().cycle().take(length).collect()
}

pub fn frame(first: u8, masked: bool, payload: &[u8], key: u32) -> Vec<u8> {
    let mut bytes = vec![first];
    let mask = if masked { 0x80 } else { 0 };
    match payload.len() {
        length @ 0..126 => bytes.push(mask | length as u8),
        length @ 126..65_536 => {
            bytes.push(mask | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(mask | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    if masked {
        let key = key.to_be_bytes();
        bytes.extend(key);
        bytes.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    } else {
        bytes.extend(payload);
    }
    bytes
}

pub const ASK: &[u8] = b"GET /chat HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
pub const AGREE: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// Messages of the flow, client first, and the WebSocket messages in the order of their ends.
pub fn conversation(messages: &[Message], seed: u64) -> (Vec<Vec<u8>>, Vec<Fact>) {
    let mut flow: Vec<Vec<u8>> = vec![ASK.to_vec(), AGREE.to_vec()];
    let mut facts = Vec::new();
    for (number, message) in messages.iter().enumerate() {
        let Message { by_client, kind, length, filling: which, fragments, compressed } = *message;
        let key = (seed >> 7) as u32 ^ (number as u32).wrapping_mul(0x9e37_79b9);
        let payload = filling(which, length, seed.wrapping_add(number as u64));
        let size = length.div_ceil(fragments).max(1);
        let mut parts: Vec<&[u8]> = payload.chunks(size).collect();
        if parts.is_empty() {
            parts.push(&[]);
        }
        let (mut bytes, mut own) = (Vec::new(), 0);
        for (index, part) in parts.iter().enumerate() {
            let opcode = if index == 0 { kind.opcode() } else { 0 };
            let fin = if index + 1 == parts.len() { 0x80 } else { 0 };
            let reserved = if compressed && index == 0 { 0x40 } else { 0 };
            let made = frame(fin | reserved | opcode, by_client, part, key);
            own += made.len() as u64;
            bytes.extend(made);
            if fin == 0 {
                let ping = frame(0x89, by_client, b"?!", key);
                facts.push(("ping", by_client, ping.len() as u64, 2));
                bytes.extend(ping);
            }
        }
        facts.push((kind.as_str(), by_client, own, length as u64));
        let last_is_client = flow.len() % 2 == 1;
        // The server may go on behind its 101.
        match flow.last_mut() {
            Some(last) if last_is_client == by_client => last.extend(bytes),
            _ => flow.push(bytes),
        }
    }
    (flow, facts)
}

/// Those of WebSocket's records.
pub fn facts(found: &Found) -> Vec<Fact> {
    found.records.iter().filter_map(fact).collect()
}

fn fact(record: &L7Record) -> Option<Fact> {
    let Detail::Channel(traffic) = &record.detail else { return None };
    assert!(record.start <= record.end, "{record:?}");
    let by_client = traffic.messages == [1, 0];
    assert!(by_client || traffic.messages == [0, 1], "{record:?}");
    let bytes = record.request_bytes + record.response_bytes;
    Some((traffic.opcode, by_client, bytes, traffic.bytes.iter().sum()))
}

/// What was told was sent, in that order, and not more often.
pub fn assert_none_wrong(found: &Found, sent: &[Fact]) {
    for by_client in [true, false] {
        let mut rest = sent.iter().filter(|fact| fact.1 == by_client);
        for told in facts(found).iter().filter(|fact| fact.1 == by_client) {
            assert!(rest.any(|fact| fact == told), "{told:?} is none of {sent:?}");
        }
    }
}
