//! The same dialogues as ordered pieces, without sequence numbers, and as segments: both ways must tell the same.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use flow_model::{Close, Direction, L7Record, LossReason, Role, Ts};
use l7::{Limits, MessageEnd, Ordered, Piece, Tcp, Wire};
use proptest::prelude::*;
use support::{CLIENT, Found, SERVER, get, ok};

/// What one end said at a time: bytes, or a gap of so many.
#[derive(Clone, Debug)]
struct Said {
    dir: Direction,
    at: Ts,
    bytes: Vec<u8>,
    /// Bytes behind them that were not copied.
    gap: u64,
}

fn limits(report_partial: bool) -> Limits {
    Limits { keep_strings: true, report_partial, ..Limits::default() }
}

fn ordered(limits: &Limits, said: &[Said]) -> (Found, Option<Wire>) {
    let mut found = Found::default();
    let mut ordered = Ordered::new(limits, Role::Client);
    ordered.seen_to_begin();
    for Said { dir, at, bytes, gap } in said {
        ordered.bytes(*dir, *at, bytes, &mut found);
        ordered.gap(*dir, *at, Some(*gap), &mut found);
    }
    let wire = ordered.wire();
    ordered.closed(said.last().map_or(Ts(0), |said| said.at), Close::Fin, &mut found);
    assert_eq!(ordered.buffered(), 0);
    (found, wire)
}

/// As the kernel would tell it: segments, and the count of each message with the first segment of the next.
fn segments(limits: &Limits, said: &[Said]) -> (Found, Option<Wire>) {
    let mut found = Found::default();
    let mut tcp = Tcp::new(limits, Role::Client);
    let mut seqs = [u32::MAX - 100, 7];
    tcp.starts_at(CLIENT, seqs[CLIENT.index()]);
    tcp.starts_at(SERVER, seqs[SERVER.index()]);
    let mut message = MessageEnd::default();
    let mut before = None;
    for Said { dir, at, bytes, gap } in said {
        let wire_len = bytes.len() as u32 + u32::try_from(*gap).unwrap();
        if wire_len == 0 {
            continue;
        }
        if before != Some(*dir) {
            if before.is_some() {
                tcp.message_ended(&message, &mut found);
            }
            message = MessageEnd { turn: message.turn + 1, first: *at, ..MessageEnd::default() };
            before = Some(*dir);
        }
        message = MessageEnd { bytes: message.bytes + u64::from(wire_len), last: *at, ..message };
        let seq = seqs[dir.index()];
        seqs[dir.index()] = seq.wrapping_add(wire_len);
        let (turn, first) = (message.turn, message.bytes == u64::from(wire_len));
        tcp.piece(
            &Piece {
                dir: *dir,
                at: *at,
                seq,
                turn,
                first,
                wire_len,
                payload: bytes,
                acked: None,
                walked: l7::Walked::default(),
            },
            &mut found,
        );
    }
    let wire = tcp.wire();
    let at = said.last().map_or(Ts(0), |said| said.at);
    tcp.closed(at, Close::Fin, Some(&message), message.turn, &mut found);
    (found, wire)
}

fn told(found: &Found) -> (Vec<String>, Vec<(LossReason, u64)>) {
    (found.records.iter().map(|record: &L7Record| format!("{record:?}")).collect(), found.lost.clone())
}

/// A message of DNS with its length before it: one question, and an address in a response.
fn dns(id: u16, response: bool) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend_from_slice(if response { &[0x81, 0x80] } else { &[0x01, 0x00] });
    bytes.extend_from_slice(&[0, 1, 0, u8::from(response), 0, 0, 0, 0]);
    bytes.extend_from_slice(b"\x03api\x04demo\x00\x00\x01\x00\x01");
    if response {
        bytes.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, 1]);
    }
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], &bytes].concat()
}

fn chunked(status: u16, length: usize) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status} S\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n").into_bytes();
    bytes.resize(bytes.len() + length, b'.');
    bytes.extend_from_slice(b"\r\n0\r\n\r\n");
    bytes
}

fn posted(length: usize) -> Vec<u8> {
    let mut bytes = format!("POST /form HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n").into_bytes();
    bytes.resize(bytes.len() + length, b'.');
    bytes
}

/// A dialogue: request and response of each exchange. Some are pipelined with the one before.
fn dialogue() -> impl Strategy<Value = Vec<(Vec<u8>, Vec<u8>)>> {
    let http = (0usize..4, 0usize..300, any::<bool>()).prop_map(|(kind, length, post)| {
        let request = if post { posted(length) } else { get("/a") };
        let response = match kind {
            0 => ok(length),
            1 => chunked(500, length.max(1)),
            2 => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
            _ => [b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec(), ok(length * 20)].concat(),
        };
        (request, response)
    });
    let dns = (1u16..500, 1usize..4).prop_map(|(id, many)| {
        let ids = id..id + u16::try_from(many).unwrap();
        (ids.clone().flat_map(|id| dns(id, false)).collect(), ids.rev().flat_map(|id| dns(id, true)).collect())
    });
    prop_oneof![prop::collection::vec(http, 1..8), prop::collection::vec(dns, 1..8)]
}

/// What is said, cut at places that follow from `cuts`; one piece in `rarity` is not copied.
fn cut(dialogue: &[(Vec<u8>, Vec<u8>)], cuts: &[usize], rarity: usize) -> Vec<Said> {
    let mut cuts = cuts.iter().copied().cycle();
    let mut now = 0;
    let mut said = Vec::new();
    for (request, response) in dialogue {
        for (dir, mut rest) in [(CLIENT, &request[..]), (SERVER, &response[..])] {
            while !rest.is_empty() {
                let dice = cuts.next().unwrap();
                let (piece, after) = rest.split_at((1 + dice % 700).min(rest.len()));
                rest = after;
                now += 1_000_000;
                // Of a piece that is not copied whole the beginning is there.
                let copied = if rarity > 0 && dice % rarity == 0 { piece.len() / 3 } else { piece.len() };
                let gap = (piece.len() - copied) as u64;
                said.push(Said { dir, at: Ts(now), bytes: piece[..copied].to_vec(), gap });
            }
        }
    }
    said
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn ordered_pieces_tell_what_segments_tell(
        dialogue in dialogue(),
        cuts in prop::collection::vec(0usize..100_000, 1..40),
        report_partial in any::<bool>(),
    ) {
        let limits = limits(report_partial);
        let said = cut(&dialogue, &cuts, 0);
        let (found, wire) = ordered(&limits, &said);
        let (reference, its_wire) = segments(&limits, &said);
        prop_assert_eq!(told(&found), told(&reference));
        prop_assert_eq!(wire, its_wire);
        if wire != Some(Wire::Http1) {
            // DNS shows only where a whole question came at once; what came before is lost.
            return Ok(());
        }
        prop_assert_eq!(found.lost_count(), 0);
        // However it was cut, it is the same as whole, but for the times.
        let (whole, _) = ordered(&limits, &cut(&dialogue, &[699], 0));
        prop_assert_eq!(found.records.len(), whole.records.len());
        for (one, other) in found.records.iter().zip(&whole.records) {
            let facts = |it: &L7Record| {
                format!("{:?}", (&it.detail, it.request_bytes, it.response_bytes, it.notes, it.outcome))
            };
            prop_assert_eq!(facts(one), facts(other));
        }
    }

    #[test]
    fn gaps_of_known_length_tell_what_segments_cut_short_tell(
        dialogue in dialogue(),
        cuts in prop::collection::vec(0usize..100_000, 1..40),
        rarity in 2usize..12,
        report_partial in any::<bool>(),
    ) {
        let limits = limits(report_partial);
        let said = cut(&dialogue, &cuts, rarity);
        let (found, wire) = ordered(&limits, &said);
        let (reference, its_wire) = segments(&limits, &said);
        prop_assert_eq!(told(&found), told(&reference));
        prop_assert_eq!(wire, its_wire);
    }

    #[test]
    fn gaps_of_unknown_length_count_no_byte_twice_and_pair_nothing_wrong(
        many in 2u16..12,
        cuts in prop::collection::vec(0usize..100_000, 1..40),
        rarity in 2usize..12,
    ) {
        // Each response's status is its request's target.
        let dialogue: Vec<_> = (0..many).map(|n| (get(&format!("/{}", 400 + n)), chunked(400 + n, 50))).collect();
        let mut found = Found::default();
        let mut connection = Ordered::new(&limits(true), Role::Client);
        for Said { dir, at, bytes, gap } in cut(&dialogue, &cuts, rarity) {
            connection.bytes(dir, at, &bytes, &mut found);
            if gap > 0 {
                connection.gap(dir, at, None, &mut found);
            }
        }
        connection.closed(Ts(u64::MAX / 2), Close::Fin, &mut found);
        for record in &found.records {
            let flow_model::Detail::Http(http) = &record.detail else { panic!("{record:?}") };
            if let (Some(status), false) = (http.status, http.target.is_empty()) {
                prop_assert!(format!("/{status}").starts_with(&*http.target), "{record:?}");
            }
            prop_assert!(record.request_bytes + record.response_bytes < 1 << 20, "{record:?}");
        }
    }
}
