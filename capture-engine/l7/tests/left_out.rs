//! Protocols that are not to be read: such a connection is in no count, and is taken for no other.
#![allow(clippy::unwrap_used)]

mod support;

use expect_test::{Expect, expect};
use flow_model::Close::Fin;
use flow_model::Ts;
use l7::dns::{Datagram, Udp};
use l7::{Interest, Limits, Wire, Wires};
use support::Do::{self, C, Close, LostC, S};
use support::{CLIENT, Found, get, ok, story};

fn all_but(wire: Wire) -> Wires {
    Wires::only(&Wire::ALL.iter().copied().filter(|other| *other != wire).collect::<Vec<_>>())
}

fn check(wires: Wires, acts: fn() -> Vec<Do>, left_out: bool, expected: Expect) {
    let story = story().limits(|limits| limits.wires = wires);
    let (_, (tcp, _)) = story.run(acts());
    assert_eq!(tcp.is_left_out(), left_out);
    expected.assert_eq(&story.play(acts()));
}

fn bytes(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

#[test]
fn what_is_not_to_be_read_is_neither_counted_nor_lost() {
    let http = || vec![C(get("/a")), S(ok(5)), C(get("/b")), LostC(get("/c")), S(ok(0)), Close(Fin)];
    let redis = || vec![C(bytes("*1\r\n$4\r\nPING\r\n")), S(bytes("+PONG\r\n")), Close(Fin)];
    check(all_but(Wire::Http1), http, true, expect!["quiet\n"]);
    check(all_but(Wire::Redis), redis, true, expect!["quiet\n"]);
}

#[test]
fn what_was_lost_before_it_showed_is_no_loss_either() {
    let acts = || vec![LostC(get("/a")), S(ok(5)), C(get("/b")), S(ok(0)), Close(Fin)];
    check(all_but(Wire::Http1), acts, true, expect!["quiet\n"]);
}

#[test]
fn others_are_read_as_ever() {
    let acts = || vec![C(get("/a")), S(ok(5)), Close(Fin)];
    check(
        all_but(Wire::Redis),
        acts,
        false,
        expect![[r#"
            GET /a 200 [10..20] 28>43
        "#]],
    );
}

#[test]
fn an_upgrade_leads_to_what_is_left_out() {
    let asks = "GET /a HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n";
    let agrees = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let acts = vec![C(bytes(asks)), S(bytes(agrees)), C(bytes(preface)), Close(Fin)];
    let (found, (tcp, interest)) = story().limits(|limits| limits.wires = all_but(Wire::Http2)).run(acts);
    assert_eq!((tcp.is_left_out(), interest), (true, Interest::Nothing));
    assert!(found.lost.is_empty());
}

#[test]
fn lookups_are_left_alone_from_the_start() {
    let limits = Limits { wires: all_but(Wire::Dns), ..Limits::default() };
    let mut found = Found::default();
    let mut udp = Udp::new(&limits, 40_000, 53);
    let query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01";
    udp.datagram(
        Datagram { dir: CLIENT, at: Ts(1), turn: 1, wire_len: query.len() as u32, payload: query },
        &mut found,
    );
    udp.closed(Ts(2), &mut found);
    assert_eq!((udp.is_left_out(), udp.interest()), (true, Interest::Nothing));
    assert!(found.records.is_empty() && found.lost.is_empty());
}
