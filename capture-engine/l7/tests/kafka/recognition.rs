//! What is taken for Kafka, and what is not.

use super::kf::*;
use super::support::Do::{self, C, Close, S};
use super::support::capture::{Capture, limits};
use super::support::{CLIENT, Packet, SERVER, Story, story};
use flow_model::Close::Fin;
use flow_model::Ts;
use l7::Wire;

/// How many records, and whether it was taken for Kafka at all.
fn kafka(story: &Story, acts: Vec<Do>) -> usize {
    let (found, _) = story.run(acts);
    found.records.iter().filter(|record| record.protocol.as_str() == "kafka").count()
}

#[test]
fn one_exchange_that_fits_is_enough() {
    for (ask, answer) in [
        (api_versions(0), api_versions_are(0, 0)),
        (api_versions(7), api_versions_are(7, 35)),
        (metadata(-1, "orders"), metadata_is(-1, "orders", 0)),
        (produce(i32::MAX, "orders", 1, 9000), produced(i32::MAX, "orders", 0)),
        (fetch(5, "orders", 0), fetched(5, "orders", 0, 9000)),
        (heartbeat(5, "g"), beaten(5, 0)),
        // A client without a name.
        (b"\0\0\0\x0a\0\x12\0\0\0\0\0\x05\xff\xff".to_vec(), api_versions_v0(5)),
    ] {
        let acts = || vec![C(ask.clone()), S(answer.clone()), Close(Fin)];
        assert_eq!(kafka(&story(), acts()), 1, "{}", ask.escape_ascii());
        assert_eq!(kafka(&story().midway().replay(), acts()), 1, "{}", ask.escape_ascii());
    }
}

fn api_versions_v0(id: i32) -> Vec<u8> {
    response(id, &[&[0, 0], &[0, 0, 0, 2], &[0, 0, 0, 0, 0, 9], &[0, 1, 0, 0, 0, 12]])
}

#[test]
fn what_does_not_fit_is_none() {
    let request = |key: i16, version: i16| request(key, version, 5, &[&text("orders")]);
    let zeros = |bytes: usize| [&(bytes as u32).to_be_bytes()[..], &vec![0; bytes]].concat();
    for (ask, answer) in [
        // Another number; an answer that is none; no answer.
        (metadata(5, "a"), metadata_is(6, "a", 0)),
        (metadata(500, "a"), metadata_is(5, "a", 0)),
        (metadata(9, "orders"), metadata_is(8, "orders", 0)),
        // The number of what nobody answers.
        (produce(5, "orders", 0, 10), produced(5, "orders", 0)),
        (metadata(5, "a"), b"\0\0\0\x06\0\0\0\x05\x77\x77".to_vec()),
        (metadata(5, "a"), metadata(5, "a")),
        (metadata(5, "a"), b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()),
        // Keys and versions that no broker has.
        (request(93, 0), response(5, &[&[0; 20]])),
        (request(3, 17), response(5, &[&[0; 20]])),
        // Small numbers and zeros.
        (zeros(20), zeros(20)),
        (zeros(10), zeros(4)),
        (zeros(200), zeros(200)),
        // ZooKeeper: a length, a number that goes up, and what is asked.
        (
            [&b"\0\0\0\x13\0\0\0\x03\0\0\0\x03\0\0\0\x06/admin\0"[..]].concat(),
            [&b"\0\0\0\x14\0\0\0\x03\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\0"[..]].concat(),
        ),
        // Thrift, framed.
        (
            b"\0\0\0\x11\x80\x01\0\x01\0\0\0\x04ping\0\0\0\x01\0".to_vec(),
            b"\0\0\0\x11\x80\x01\0\x02\0\0\0\x04ping\0\0\0\x01\0".to_vec(),
        ),
        // What a server of HTTP/2 says first.
        (b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x80\0\x04\0\x01\0\0\0\x05\0\xff\xff\xff".to_vec(), zeros(9)),
    ] {
        let acts = || vec![C(ask.clone()), S(answer.clone()), C(ask.clone()), S(answer.clone()), Close(Fin)];
        assert_eq!(kafka(&story(), acts()), 0, "{}", ask.escape_ascii());
        assert_eq!(kafka(&story().midway().replay(), acts()), 0, "{}", ask.escape_ascii());
    }
}

/// No random connection is taken for Kafka: bytes of all values, of few, and behind lengths that are right.
/// `PILOTFISH_CONNECTIONS=1000000` is a long run.
#[test]
fn random_connections_are_none() {
    let count = std::env::var("PILOTFISH_CONNECTIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(20_000_u64);
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 16
    };
    for connection in 0..count {
        let alphabet: &[u8] = match connection % 6 {
            0 | 1 => &[],
            2 => &[0, 1],
            3 => &[0, 1, 2, 3, 9, 12, 0xff],
            4 => b"\0\0\0\0\x01\x02\x03\x05\x0aabcdeA.-_",
            _ => &[0, 0, 0, 0, 0, 0, 1],
        };
        let framed = random() % 2 == 0;
        let mut capture = Capture::joined(limits(connection % 3 == 0));
        let mut seqs = [7_u32, 9];
        for message in 0..6_u64 {
            let dir = if message % 2 == 0 { CLIENT } else { SERVER };
            let length = 1 + random() % 80;
            let mut payload: Vec<u8> = (0..length)
                .map(|_| {
                    let number = random() as usize;
                    if alphabet.is_empty() { number as u8 } else { alphabet[number % alphabet.len()] }
                })
                .collect();
            if framed && payload.len() >= 4 {
                let inner = payload.len() as u32 - 4;
                payload[..4].copy_from_slice(&inner.to_be_bytes());
            }
            let seq = seqs[dir.index()];
            seqs[dir.index()] = seq.wrapping_add(payload.len() as u32);
            capture.take(&Packet { dir, at: Ts(message), seq, payload, snap: usize::MAX, acked: None });
        }
        assert_ne!(capture.tcp.wire(), Some(Wire::Kafka), "connection {connection}");
    }
}
