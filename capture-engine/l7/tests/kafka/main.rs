//! Conversations with a broker, and what is told of them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "../support/kf.rs"]
mod kf;
mod losses;
mod recognition;
#[path = "../support/mod.rs"]
mod support;

use expect_test::{Expect, expect};
use flow_model::Close::Fin;
use flow_model::{Detail, L7Record};
use kf::*;
use support::Do::{self, C, Close, S};
use support::{Story, database_line, story, told};

fn line(record: &L7Record) -> String {
    let Detail::Messaging(it) = &record.detail else { panic!("{record:?}") };
    let words = [it.operation, &it.destination, &it.group, &it.code];
    let said: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
    assert_eq!((record.protocol.as_str(), it.system, it.messages), ("kafka", "kafka", [0; 2]));
    database_line(&said.join(" "), record)
}

fn play(story: &Story, acts: Vec<Do>) -> String {
    told(&story.run(acts).0, line)
}

/// What is told by live traffic, and the same by a capture.
fn check(acts: fn() -> Vec<Do>, expected: &Expect) {
    expected.assert_eq(&play(&story(), acts()));
    assert_eq!(play(&story().replay(), acts()), play(&story(), acts()));
}

#[test]
fn requests_are_told_by_what_they_ask_for() {
    check(
        || {
            vec![
                C(api_versions(0)),
                S(api_versions_are(0, 0)),
                C(metadata(1, "orders")),
                S(metadata_is(1, "orders", 5)),
                C(produce(2, "orders", -1, 300)),
                S(produced(2, "orders", 0)),
                C(heartbeat(3, "billing")),
                S(beaten(3, 27)),
                C(produce(4, "orders", 1, 3)),
                S(produced(4, "orders", 6)),
                Close(Fin),
            ]
        },
        &expect![[r#"
            ApiVersions [10..20] 27>30
            Metadata orders LEADER_NOT_AVAILABLE [30..40] 29>53
            Produce orders [50..60] 349>58
            Heartbeat billing REBALANCE_IN_PROGRESS [70..80] 40>14
            Produce orders NOT_LEADER_OR_FOLLOWER [90..100] 52>58
        "#]],
    );
}

#[test]
fn five_under_way_are_five_exchanges() {
    check(
        || {
            let ask = |id: i32| produce(id, &format!("t{id}"), -1, 10);
            let answer = |id: i32| produced(id, &format!("t{id}"), id as i16);
            vec![
                C(api_versions(0)),
                S(api_versions_are(0, 0)),
                C([ask(1), ask(2), ask(3)].concat()),
                S(answer(1)),
                C([ask(4), ask(5)].concat()),
                S([answer(2), answer(3), answer(4)].concat()),
                S(answer(5)),
                Close(Fin),
            ]
        },
        &expect![[r#"
            ApiVersions [10..20] 27>30
            Produce t1 OFFSET_OUT_OF_RANGE [30..40] 55>54
            Produce t2 CORRUPT_MESSAGE [30..60] 55>54
            Produce t3 UNKNOWN_TOPIC_OR_PARTITION [30..60] 55>54
            Produce t4 INVALID_FETCH_SIZE [50..60] 55>54
            Produce t5 LEADER_NOT_AVAILABLE [50..70] 55>54
        "#]],
    );
}

#[test]
fn what_asks_for_no_answer_is_one_way() {
    check(
        || {
            vec![
                C(api_versions(0)),
                S(api_versions_are(0, 0)),
                C([produce(1, "logs", 0, 10), produce(2, "logs", 0, 10)].concat()),
                C(metadata(3, "logs")),
                S(metadata_is(3, "logs", 0)),
                Close(Fin),
            ]
        },
        &expect![[r#"
            ApiVersions [10..20] 27>30
            Produce logs one-way [30..30] 57>0
            Produce logs one-way [30..30] 57>0
            Metadata logs [40..50] 27>51
        "#]],
    );
}

/// A Fetch that may wait says nothing of the server's speed; one that does not wait does.
#[test]
fn long_polls_are_marked() {
    check(
        || {
            vec![
                C(api_versions(0)),
                S(api_versions_are(0, 0)),
                C(fetch(1, "orders", 500)),
                S(fetched(1, "orders", 0, 0)),
                C(fetch(2, "orders", 0)),
                S(fetched(2, "orders", 1, 0)),
                Close(Fin),
            ]
        },
        &expect![[r#"
            ApiVersions [10..20] 27>30
            Fetch orders [30..40] 92>76 waited
            Fetch orders OFFSET_OUT_OF_RANGE [50..60] 92>76
        "#]],
    );
}

/// 10 MB either way: what is not copied is counted.
#[test]
fn bulk_is_counted_to_the_byte() {
    let long = 3000 * 1000;
    let expected = expect![[r#"
        ApiVersions [10..20] 27>30
        Produce orders [30..40] 3000049>58
        Fetch orders [50..60] 92>3000076
        Heartbeat g [70..80] 34>14
    "#]];
    let acts = || {
        vec![
            C(api_versions(0)),
            S(api_versions_are(0, 0)),
            C(produce(1, "orders", -1, long)),
            S(produced(1, "orders", 0)),
            C(fetch(2, "orders", 0)),
            S(fetched(2, "orders", 0, long)),
            C(heartbeat(3, "g")),
            S(beaten(3, 0)),
            Close(Fin),
        ]
    };
    expected.assert_eq(&play(&story(), acts()));
    expected.assert_eq(&play(&story().replay(), acts()));
}

/// Wherever the bytes of each message are cut, the same is told.
#[test]
fn where_bytes_are_cut_changes_nothing() {
    let messages = || {
        let ask = [metadata(1, "a"), produce(2, "b", 1, 600), produce(3, "c", 0, 5)].concat();
        let answer = [metadata_is(1, "a", 3), produced(2, "b", 2)].concat();
        [api_versions(0), api_versions_are(0, 0), ask, answer]
    };
    let facts = |cut: Option<usize>| {
        let mut acts = Vec::new();
        for (number, bytes) in messages().into_iter().enumerate() {
            let act = if number % 2 == 0 { C } else { S };
            match cut {
                Some(at) if at < bytes.len() => acts.extend([act(bytes[..at].to_vec()), act(bytes[at..].to_vec())]),
                _ => acts.push(act(bytes)),
            }
        }
        acts.push(Close(Fin));
        let found = story().run(acts).0;
        assert_eq!((found.lost_count(), found.unasked), (0, 0), "{cut:?}");
        let facts =
            found.records.iter().map(|record| (record.detail.clone(), record.request_bytes, record.response_bytes));
        facts.collect::<Vec<_>>()
    };
    let whole = facts(None);
    assert_eq!(whole.len(), 4);
    for at in 1..700 {
        assert_eq!(facts(Some(at)), whole, "{at}");
    }
}

/// Version 13 of Fetch names topics by ids, which an answer about topics has told on the connection.
#[test]
fn topics_are_called_by_their_names_where_the_server_has_told_them() {
    let id = [7_u8; 16];
    let fetch = |number: i32, id: &[u8; 16]| {
        let head = [&[0][..], &[0, 0, 0, 0], &[0, 0, 0, 1], &[0, 0, 1, 0], &[0], &[0; 8]].concat();
        let partition = [&[0; 4][..], &[0; 4], &[0; 8], &[0; 4], &[0; 8], &[0; 4], &[0]].concat();
        // The replica is gone from version 15 on.
        request(1, 15, number, &[&head, &[2], id, &[2], &partition, &[0], &[1], &compact(""), &[0]])
    };
    let fetched = |number: i32, id: &[u8; 16]| {
        let partition = [&[0; 4][..], &[0, 74], &[0; 24], &[1], &[0xff; 4], &[1], &[0]].concat();
        response(number, &[&[0], &[0; 4], &[0, 0], &[0; 4], &[2], id, &[2], &partition, &[0], &[0]])
    };
    let topic = [&[0, 0][..], &compact("orders"), &id, &[0], &[1], &[0; 4], &[0]].concat();
    let metadata = request(3, 12, 1, &[&[0], &[2], &[0; 16], &compact("orders"), &[0], &[0, 0], &[0]]);
    let broker = [&[0, 0, 0, 1][..], &compact("broker"), &[0, 0, 35, 132], &[0], &[0]].concat();
    let answer = response(1, &[&[0], &[0; 4], &[2], &broker, &compact("c"), &[0, 0, 0, 1], &[2], &topic, &[0]]);
    let acts = vec![
        C(api_versions(0)),
        S(api_versions_are(0, 0)),
        C(metadata),
        S(answer),
        C(fetch(2, &id)),
        S(fetched(2, &id)),
        C(fetch(3, &[8; 16])),
        S(fetched(3, &[8; 16])),
        Close(Fin),
    ];
    expect![[r#"
        ApiVersions [10..20] 27>30
        Metadata orders [30..40] 46>71
        Fetch orders FENCED_LEADER_EPOCH [50..60] 94>76
        Fetch FENCED_LEADER_EPOCH [70..80] 94>76
    "#]]
    .assert_eq(&play(&story(), acts));
}

/// What is newer than what is known keeps its number and times.
#[test]
fn what_is_newer_is_told_by_its_name() {
    let acts = vec![
        C(api_versions(0)),
        S(api_versions_are(0, 0)),
        C(request(1, 40, 1, &[b"whatever"])),
        S(response(1, &[b"\0\x05"])),
        C(request(200, 0, 2, &[b"whatever"])),
        S(response(2, &[b"\0\x05"])),
        Close(Fin),
    ];
    expect![[r#"
        ApiVersions [10..20] 27>30
        Fetch [30..40] 25>10
        unknown [50..60] 25>10
    "#]]
    .assert_eq(&play(&story(), acts));
}

#[test]
fn who_logs_in_leaves_no_secret() {
    let secret = "s3cr3t-passw0rd";
    let token = |text: &str| [&(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat();
    let acts = vec![
        C(api_versions(0)),
        S(api_versions_are(0, 0)),
        // Tokens without headers follow version 0, and with them version 1.
        C(request(17, 0, 1, &[&text("PLAIN")])),
        S(response(1, &[&[0, 0], &[0, 0, 0, 1], &text("PLAIN")])),
        C(token(&format!("\0joe\0{secret}"))),
        S(token("")),
        C(request(17, 1, 2, &[&text("PLAIN")])),
        S(response(2, &[&[0, 0], &[0, 0, 0, 1], &text("PLAIN")])),
        C(request(36, 0, 3, &[&[0, 0, 0, 20], format!("\0joe\0{secret}").as_bytes()])),
        S(response(3, &[&[0, 58], &text(&format!("no {secret}")), &[0; 4]])),
        C(metadata(4, "orders")),
        S(metadata_is(4, "orders", 0)),
        Close(Fin),
    ];
    let (found, _) = story().run(acts);
    assert!(!format!("{:?} {:?}", found.records, found.lost).contains("s3cr3t"));
    expect![[r#"
        ApiVersions [10..20] 27>30
        SaslHandshake [30..40] 24>21
        SaslHandshake [70..80] 24>21
        SaslAuthenticate SASL_AUTHENTICATION_FAILED [90..100] 41>34
        Metadata orders [110..120] 29>53
    "#]]
    .assert_eq(&told(&found, line));
}

#[test]
fn a_connection_that_ends_leaves_what_waits_unanswered() {
    check(
        || {
            vec![
                C(api_versions(0)),
                S(api_versions_are(0, 0)),
                C([metadata(1, "a"), heartbeat(2, "g")].concat()),
                S(metadata_is(1, "a", 0)),
                Close(Fin),
            ]
        },
        &expect![[r#"
            ApiVersions [10..20] 27>30
            Metadata a [30..40] 24>48
            Heartbeat g unanswered [30..50] 34>0
        "#]],
    );
}

/// Clients that give all requests one number are paired in the order of asking.
#[test]
fn one_number_for_all_is_paired_in_order() {
    check(
        || {
            vec![
                C([metadata(0, "a"), metadata(0, "b")].concat()),
                S([metadata_is(0, "a", 3), metadata_is(0, "b", 5)].concat()),
                C(heartbeat(0, "g")),
                S(beaten(0, 0)),
                Close(Fin),
            ]
        },
        &expect![[r#"
            Metadata a UNKNOWN_TOPIC_OR_PARTITION [10..20] 24>48
            Metadata b LEADER_NOT_AVAILABLE [10..20] 24>48
            Heartbeat g [30..40] 34>14
        "#]],
    );
}
