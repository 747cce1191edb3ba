//! DNS over TCP as stories: lengths, cuts, holes, and lost messages.
#![allow(clippy::unwrap_used)]

mod support;

use expect_test::{Expect, expect};
use flow_model::Close::{Fin, Gone};
use flow_model::{Detail, Outcome};
use std::fmt::Write as _;
use support::Do::{self, C, Close, LostC, LostS, S, UnseenS};
use support::{Story, story};

/// A message with its length before it: one question of type A, and an answer of one address in a response.
fn message(id: u16, name: &str, response: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&id.to_be_bytes());
    bytes.extend_from_slice(if response { &[0x81, 0x80] } else { &[0x01, 0x00] });
    bytes.extend_from_slice(&[0, 1, 0, u8::from(response), 0, 0, 0, 0]);
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.extend_from_slice(&[0, 0, 1, 0, 1]);
    if response {
        bytes.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, 1]);
    }
    let mut framed = u16::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    framed.extend(bytes);
    framed
}

fn query(id: u16, name: &str) -> Vec<u8> {
    message(id, name, false)
}

fn answer(id: u16, name: &str) -> Vec<u8> {
    message(id, name, true)
}

fn check(story: Story, acts: Vec<Do>, expected: Expect) {
    let (found, _) = story.run(acts);
    let mut text = String::new();
    for record in &found.records {
        let Detail::Dns(dns) = &record.detail else { panic!("{record:?}") };
        let outcome = if record.outcome == Outcome::Answered { "answered" } else { "unanswered" };
        let ms = (record.end.0 - record.start.0) / 1_000_000;
        writeln!(text, "{} {} {outcome} after {ms} ms, tcp {}", dns.id, dns.name, dns.over_tcp).unwrap();
    }
    for (reason, count) in &found.lost {
        writeln!(text, "lost {count} {}", reason.as_str()).unwrap();
    }
    expected.assert_eq(&text);
}

#[test]
fn messages_are_cut_at_their_lengths() {
    let both = [query(1, "a.example"), query(2, "b.example")].concat();
    let answers = [answer(2, "b.example"), answer(1, "a.example")].concat();
    check(
        story(),
        vec![C(both), S(answers), Close(Fin)],
        expect![[r#"
        2 b.example answered after 10 ms, tcp true
        1 a.example answered after 10 ms, tcp true
    "#]],
    );
}

#[test]
fn a_length_may_come_alone_and_a_message_byte_by_byte() {
    let query = query(7, "a.example");
    let mut acts = vec![C(query[..2].to_vec()), C(query[2..].to_vec())];
    acts.extend(answer(7, "a.example").into_iter().map(|byte| S(vec![byte])));
    acts.push(Close(Fin));
    check(
        story(),
        acts,
        expect![[r#"
        7 a.example answered after 460 ms, tcp true
    "#]],
    );
}

#[test]
fn long_answers_are_counted_beyond_what_is_kept() {
    let mut long = answer(3, "a.example");
    long.resize(2 + 30_000, 0);
    long[..2].copy_from_slice(&30_000u16.to_be_bytes());
    let acts = vec![C(query(3, "a.example")), S(long), C(query(4, "b.example")), S(answer(4, "b.example")), Close(Fin)];
    check(
        story(),
        acts,
        expect![[r#"
        3 a.example answered after 10 ms, tcp true
        4 b.example answered after 10 ms, tcp true
    "#]],
    );
}

#[test]
fn unanswered_is_told_and_lost_messages_make_no_claim() {
    check(
        story(),
        vec![C(query(1, "a.example")), Close(Fin)],
        expect![[r#"
        1 a.example unanswered after 10 ms, tcp true
    "#]],
    );
    let acts = vec![
        C(query(1, "a.example")),
        LostS(answer(1, "a.example")),
        C(query(2, "b.example")),
        S(answer(2, "b.example")),
        Close(Fin),
    ];
    check(
        story(),
        acts,
        expect![[r#"
        2 b.example answered after 10 ms, tcp true
        lost 1 ring_full
    "#]],
    );
    let acts = vec![
        C(query(1, "a.example")),
        S(answer(1, "a.example")),
        LostC(query(2, "b.example")),
        S(answer(2, "b.example")),
        Close(Fin),
    ];
    check(
        story(),
        acts,
        expect![[r#"
        1 a.example answered after 10 ms, tcp true
        lost 1 ring_full
    "#]],
    );
}

#[test]
fn after_a_hole_the_next_message_of_the_flow_is_read_again() {
    let acts = vec![
        C(query(1, "a.example")),
        S(answer(1, "a.example")),
        C(query(2, "b.example")),
        UnseenS(answer(2, "b.example")[..20].to_vec()),
        S(answer(2, "b.example")[20..].to_vec()),
        C(query(3, "c.example")),
        S(answer(3, "c.example")),
        Close(Gone),
    ];
    check(
        story().replay(),
        acts,
        expect![[r#"
        1 a.example answered after 10 ms, tcp true
        3 c.example answered after 10 ms, tcp true
        lost 1 gap
    "#]],
    );
}

/// What is joined in the middle of something else holds a query, or a response, of DNS by chance.
#[test]
fn joined_in_the_middle_it_shows_by_a_query_and_its_response() {
    let (found, _) = story().midway().run(vec![
        C(query(1, "a.example")),
        S(b"\x07\0\0\x03\0\x01\0\x02\0\0\0".to_vec()),
        C(answer(2, "b.example")),
        S(answer(2, "b.example")),
        C(query(3, "c.example")),
        S(answer(4, "c.example")),
        Close(Fin),
    ]);
    assert!(found.records.is_empty() && found.lost.is_empty(), "{:?} {:?}", found.records, found.lost);
    check(
        story().midway(),
        vec![
            S(answer(1, "a.example")),
            C([query(2, "b.example"), query(3, "c.example")].concat()),
            S([answer(3, "c.example"), answer(2, "b.example")].concat()),
            C(query(4, "d.example")),
            Close(Fin),
        ],
        expect![[r#"
            3 c.example answered after 10 ms, tcp true
            2 b.example answered after 10 ms, tcp true
            4 d.example unanswered after 10 ms, tcp true
            lost 1 joined_midway
        "#]],
    );
}
