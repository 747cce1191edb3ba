//! MySQL conversations as stories: what was said, and the records that it makes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod losses;
#[path = "../support/my.rs"]
mod my;
#[path = "../support/mod.rs"]
mod support;

use expect_test::{Expect, expect};
use flow_model::{Close, Detail, L7Record};
use l7::{Interest, Wire};
use my::*;
use std::fmt::Write as _;
use support::{Do, Story, database_line, story, told};

/// `SELECT shop 1062 [10..20] 20>9`: operation, database, code, times in milliseconds, bytes, notes.
fn line(record: &L7Record) -> String {
    let Detail::Db(db) = &record.detail else { return format!("{:?} {:?}", record.protocol, record.outcome) };
    assert_eq!((db.system, &*db.collection), ("mysql", ""));
    assert!(!format!("{record:?}").contains("secret"), "{record:?}");
    let mut text = db.operation.to_string();
    for word in [&*db.namespace, &*db.code].iter().filter(|word| !word.is_empty()) {
        write!(text, " {word}").unwrap();
    }
    database_line(&text, record)
}

fn play(story: &Story, acts: Vec<Do>) -> String {
    let (found, (_, interest)) = story.run(acts);
    let mut text = told(&found, line);
    match interest {
        Interest::Heads => text.push_str("heads\n"),
        Interest::Nothing => text.push_str("quiet\n"),
        Interest::Everything | Interest::Pipeline(_) => text.push_str("everything\n"),
        Interest::Frames(_) => {}
    }
    text
}

fn check(acts: Vec<Do>, expected: &Expect) {
    expected.assert_eq(&play(&story(), acts));
}

fn c(packets: &[Vec<u8>]) -> Do {
    Do::C(packets.concat())
}

fn s(answer: Answer) -> Do {
    Do::S(answer.bytes)
}

/// The greeting, a login with these capabilities, and OK.
fn logged_in(capabilities: u32, acts: Vec<Do>) -> Vec<Do> {
    let login = [Do::S(greeting(capabilities)), c(&[login(capabilities)]), s(answer_from(2).say(b"\x01\x03").ok(0))];
    login.into_iter().chain(acts).collect()
}

#[test]
fn a_login_and_a_query_are_an_exchange_each() {
    for (capabilities, eof) in [(0, true), (DEPRECATE_EOF, false)] {
        let (found, _) = story().run(logged_in(
            capabilities,
            vec![
                c(&[query("SELECT 'secret' FROM secret_table")]),
                s(answer().columns(2, eof, 0).rows(&[10, 0, 250])),
                Do::S(row_300(8 - u8::from(!eof))),
                s(answer_from(9 - u8::from(!eof)).end(eof, 0)),
                c(&[command(14, b"")]),
                s(answer().ok(0)),
                c(&[command(1, b"")]),
                Do::Close(Close::Fin),
            ],
        ));
        let lines: Vec<String> = found.records.iter().map(line).collect();
        assert!(lines[0].starts_with("login shop [20..30]"), "{lines:?}");
        assert!(lines[1].starts_with("SELECT shop [40..70] 38>"), "{lines:?}");
        assert_eq!(lines[2..], ["ping shop [80..90] 5>11", "quit shop one-way [100..100] 5>0"]);
        assert_eq!(found.lost_count(), 0);
    }
}

fn row_300(number: u8) -> Vec<u8> {
    answer_from(number).row(300).bytes
}

#[test]
fn all_that_is_said_until_the_server_agrees_belongs_to_the_login() {
    let switch = b"\xfemysql_native_password\0secret_scramble_more\0";
    check(
        vec![
            Do::S(greeting(0)),
            c(&[login(0)]),
            s(answer_from(2).say(switch)),
            Do::C(packet(3, b"secret_of_twenty_byte")),
            s(answer_from(4).say(b"\x01\x04")),
            Do::C(packet(5, b"\x02")),
            s(answer_from(6).say(b"\x01-----BEGIN PUBLIC KEY-----secret")),
            Do::C(packet(7, b"}secret")),
            s(answer_from(8).error(1045)),
            Do::Close(Close::Fin),
        ],
        &expect![[r#"
            login shop 1045 [20..90] 129>132
        "#]],
    );
}

#[test]
fn an_error_stands_in_the_place_of_a_greeting() {
    check(
        vec![Do::S(packet(0, b"\xff\x10\x04Too many connections")), Do::Close(Close::Fin)],
        &expect![[r#"
            login 1040 [10..10] 0>27 no_request
            quiet
        "#]],
    );
}

#[test]
fn what_goes_on_encrypted_is_a_handshake_of_tls() {
    let hello = [&[0x16, 3, 1, 0, 46, 1, 0, 0, 42, 3, 3][..], &[7; 32], &[0, 0, 2, 0x13, 1, 1, 0, 0, 0]].concat();
    let (found, (tcp, _)) =
        story().run(vec![Do::S(greeting(SSL)), c(&[ssl_request()]), Do::C(hello.clone()), Do::Close(Close::Fin)]);
    assert_eq!(told(&found, line).lines().next(), Some("login one-way [20..20] 36>0 upgraded"));
    assert_eq!(found.records.len(), 2, "{:?}", found.records);
    assert_eq!(tcp.wire(), None);
    // Both in one segment.
    let (found, _) = story().run(vec![Do::S(greeting(SSL)), c(&[ssl_request(), hello]), Do::Close(Close::Fin)]);
    assert_eq!(found.records.len(), 2, "{:?}", found.records);
}

#[test]
fn what_is_compressed_is_left_alone_after_the_login() {
    check(
        logged_in(COMPRESS, vec![c(&[b"\x0b\0\0\0\0\0\0\x07\0\0\0\x03SELECT".to_vec()]), Do::Close(Close::Fin)]),
        &expect![[r#"
            login shop [20..30] 88>17 upgraded
            quiet
        "#]],
    );
}

#[test]
fn a_query_has_as_many_results_as_it_has_statements() {
    check(
        logged_in(
            0,
            vec![
                c(&[query("INSERT INTO t VALUES (1); SELECT 1; CALL p()")]),
                s(answer()
                    .ok(MORE)
                    .columns(1, true, 0)
                    .row(5)
                    .end(true, MORE)
                    .columns(1, true, 0)
                    .end(true, MORE)
                    .ok(0)),
                c(&[query("SELECT 1; INSERT")]),
                s(answer().columns(1, true, 0).row(5).end(true, MORE).error(1064)),
                Do::Close(Close::Fin),
            ],
        ),
        &expect![[r#"
            login shop [20..30] 88>17
            INSERT shop [40..50] 49>170
            SELECT shop 1064 [60..70] 21>120
        "#]],
    );
}

#[test]
fn a_file_of_the_client_belongs_to_its_query() {
    check(
        logged_in(
            DEPRECATE_EOF,
            vec![
                c(&[query("LOAD DATA LOCAL INFILE 'secret' INTO TABLE t")]),
                s(answer().say(b"\xfbsecret")),
                Do::C([packet(2, &[b'1'; 3000]), packet(3, b"\x03SELECT secret"), packet(4, b"")].concat()),
                s(answer_from(5).ok(0)),
                c(&[query("SELECT 1")]),
                s(answer().ok(0)),
                Do::Close(Close::Fin),
            ],
        ),
        &expect![[r#"
            login shop [20..30] 88>17
            LOAD shop [40..70] 3075>22
            SELECT shop [80..90] 13>11
        "#]],
    );
}

#[test]
fn an_execute_does_what_was_prepared_and_a_close_has_no_answer() {
    for (capabilities, eof) in [(0, true), (DEPRECATE_EOF, false)] {
        let (found, _) = story().run(logged_in(
            capabilities,
            vec![
                c(&[prepare("DELETE FROM t WHERE a = ?")]),
                s(answer().prepared(7, 1, 0, eof)),
                c(&[prepare("SELECT ?, ?")]),
                s(answer().prepared(8, 2, 3, eof)),
                c(&[command(0x18, b"\x07\0\0\0\0\0secret"), execute(7)]),
                s(answer().ok(0)),
                c(&[execute(8)]),
                // Rows wait in a cursor: the OK packet that has taken EOF's place says so itself.
                s(if eof {
                    answer().columns(3, true, CURSOR)
                } else {
                    answer().columns(3, false, 0).end(false, CURSOR)
                }),
                c(&[command(0x1c, &[8, 0, 0, 0, 2, 0, 0, 0])]),
                s(answer().say(&[0, 0, 1, 2]).say(&[0, 0, 3, 4]).end(eof, CURSOR)),
                c(&[close(7), close(8), command(0x1f, b"")]),
                s(answer().ok(0)),
                c(&[execute(8)]),
                s(answer().error(1243)),
                Do::Close(Close::Fin),
            ],
        ));
        let operations: Vec<String> =
            found.records.iter().map(|record| line(record).split(" [").next().unwrap().to_owned()).collect();
        assert_eq!(
            operations[1..],
            [
                "stmt_prepare shop",
                "stmt_prepare shop",
                "stmt_send_long_data shop one-way",
                "DELETE shop",
                "SELECT shop",
                "stmt_fetch shop",
                "stmt_close shop one-way",
                "stmt_close shop one-way",
                "reset_connection shop",
                "unknown shop 1243",
            ]
        );
        assert_eq!(found.lost, []);
    }
}

#[test]
fn mariadb_prepares_and_executes_before_it_has_an_answer() {
    for eof in [true, false] {
        let answers =
            [answer().prepared(9, 1, 2, eof).bytes, answer().columns(2, eof, 0).rows(&[3, 4]).end(eof, 0).bytes];
        let acts = vec![
            c(&[prepare("SELECT a, b FROM t WHERE c = ?"), execute(u32::MAX)]),
            Do::S(answers.concat()),
            c(&[close(9), query("UPDATE t SET a = 1")]),
            s(answer().ok(0)),
            Do::Close(Close::Fin),
        ];
        let capabilities = if eof { 0 } else { DEPRECATE_EOF };
        let (found, _) = story().run(logged_in(capabilities, acts));
        let operations: Vec<String> = found.records.iter().map(line).collect();
        let begins = [
            "login shop [",
            "stmt_prepare shop [40..50]",
            "SELECT shop [40..50]",
            "stmt_close shop one-way",
            "UPDATE shop [",
        ];
        assert!(operations.iter().zip(begins).all(|(line, begin)| line.starts_with(begin)), "{operations:?}");
        assert_eq!((found.records.len(), found.lost_count()), (5, 0));
    }
}

#[test]
fn how_results_end_shows_in_them_where_the_login_was_not_seen() {
    for eof in [true, false] {
        let select = |rows: &[usize]| s(answer().columns(2, eof, 0).rows(rows).end(eof, 0));
        let (found, (tcp, _)) = story().midway().run(vec![
            c(&[query("SELECT 1")]),
            select(&[3]),
            c(&[prepare("SELECT ?")]),
            s(answer().prepared(3, 1, 1, eof)),
            c(&[execute(3)]),
            select(&[1, 2, 3]),
            c(&[execute(2)]),
            s(answer().ok(0)),
            Do::Close(Close::Fin),
        ]);
        assert_eq!(tcp.wire(), None);
        let operations: Vec<String> =
            found.records.iter().map(|record| line(record).split(" [").next().unwrap().to_owned()).collect();
        assert_eq!(operations, ["stmt_prepare", "SELECT", "unknown"]);
        assert_eq!(found.lost_count(), 1, "{:?}", found.lost);
    }
}

#[test]
fn a_result_is_one_record_however_it_is_cut() {
    let whole = answer().columns(3, true, 0).rows(&[10, 300, 0, 70_000]).end(true, 0).bytes;
    let sizes = |acts: Vec<Do>| {
        let (found, _) = story().replay().run(logged_in(0, acts));
        let sizes: Vec<_> = found.records.iter().map(|it| (it.request_bytes, it.response_bytes)).collect();
        assert_eq!((found.lost_count(), sizes.len()), (0, 3), "{:?}", found.records);
        sizes
    };
    let next = || [c(&[query("SELECT 1")]), s(answer().ok(0)), Do::Close(Close::Fin)];
    let once = sizes([c(&[query("SELECT 2")]), Do::S(whole.clone())].into_iter().chain(next()).collect());
    // A header is cut after 1, 2 and 3 bytes.
    for cut in 1..200 {
        let (a, b) = whole.split_at(cut);
        let query = query("SELECT 2");
        let (q, r) = query.split_at(1 + cut % (query.len() - 1));
        let acts = [Do::C(q.to_vec()), Do::C(r.to_vec()), Do::S(a.to_vec()), Do::S(b.to_vec())];
        assert_eq!(sizes(acts.into_iter().chain(next()).collect()), once, "{cut}");
    }
}

#[test]
fn a_packet_of_16_mib_goes_on_in_the_next() {
    let row = answer().columns(1, false, 0).row((1 << 24) + 5).bytes;
    let number = 2 + 1 + 2;
    let acts = || {
        logged_in(
            DEPRECATE_EOF,
            vec![
                c(&[query(&format!("INSERT INTO t VALUES ('{}')", "x".repeat(1 << 24)))]),
                s(answer_from(2).ok(0)),
                c(&[query("SELECT a FROM t")]),
                Do::S(row.clone()),
                s(answer_from(number).end(false, 0)),
                Do::Close(Close::Fin),
            ],
        )
    };
    expect![[r#"
        login shop [20..30] 88>17
        INSERT shop [40..50] 16777250>11
        SELECT shop [60..80] 20>16777300
    "#]]
    .assert_eq(&play(&story().replay(), acts()));
    // Where the second one begins lies in what was not copied.
    expect![[r#"
        login shop [20..30] 88>17
        SELECT [60..80] 20>16777300 body_skipped
        lost 1 gap
    "#]]
    .assert_eq(&play(&story(), acts()));
}

#[test]
fn a_result_that_was_not_copied_ends_as_its_last_bytes_say() {
    for (eof, capabilities) in [(true, 0), (false, DEPRECATE_EOF)] {
        let rows = |end: Answer| end.bytes;
        let big = rows(answer().columns(1, eof, 0).rows(&[3000; 40]).end(eof, 0));
        let failed = rows(answer().columns(1, eof, 0).rows(&[3000; 40]).error(1317));
        let (found, _) = story().run(logged_in(
            capabilities,
            vec![
                c(&[query("SELECT a FROM t")]),
                Do::S(big),
                c(&[query("DELETE FROM t")]),
                s(answer().ok(0)),
                c(&[query("SELECT b FROM t")]),
                Do::S(failed),
                c(&[query("UPDATE t SET a = 1")]),
                s(answer().ok(0)),
                Do::Close(Close::Fin),
            ],
        ));
        let operations: Vec<String> =
            found.records.iter().map(|record| line(record).split(" [").next().unwrap().to_owned()).collect();
        // Of an error 8 bytes do not say which.
        assert_eq!(operations, ["login shop", "SELECT shop", "DELETE shop", "UPDATE shop"], "{eof}");
        assert_eq!(found.lost_count(), 1);
    }
}

#[test]
fn mariadb_tells_how_far_it_is_and_that_is_no_error() {
    let progress = b"\xff\xff\xff\x01\x01\x02\x10\x27\0\x06secret";
    check(
        logged_in(
            0,
            vec![
                c(&[query("ALTER TABLE t ENGINE = Aria")]),
                s(answer().say(progress).say(progress)),
                s(answer_from(3).ok(0)),
                c(&[command(0xfa, &[1, 0, 0, 0, 128, 0])]),
                s(answer().error(1062)),
                Do::Close(Close::Fin),
            ],
        ),
        &expect![[r#"
            login shop [20..30] 88>17
            ALTER shop [40..60] 32>51
            unknown shop 1062 [70..80] 11>41
        "#]],
    );
}

#[test]
fn the_database_is_the_one_in_use() {
    let change = |name: &str| command(17, format!("secret\0\x06secret{name}\0").as_bytes());
    check(
        logged_in(
            0,
            vec![
                c(&[command(2, b"stock")]),
                s(answer().ok(0)),
                c(&[query("USE gone")]),
                s(answer().error(1049)),
                c(&[query("USE `a`;")]),
                s(answer().ok(0)),
                c(&[change("b")]),
                s(answer().say(b"\xfemysql_native_password\0secret_scramble_more\0")),
                Do::C(packet(2, b"secret")),
                s(answer_from(3).ok(0)),
                c(&[query("USE c; SELECT 1")]),
                s(answer().ok(MORE).ok(0)),
                Do::Close(Close::Fin),
            ],
        ),
        &expect![[r#"
            login shop [20..30] 88>17
            init_db stock [40..50] 10>11
            USE stock 1049 [60..70] 13>41
            USE a [80..90] 13>11
            change_user b [100..130] 31>59
            USE [140..150] 20>22
        "#]],
    );
}

#[test]
fn replication_is_a_stream_and_has_no_duration() {
    check(
        logged_in(
            0,
            vec![
                c(&[command(0x12, b"\x04\0\0\0\0\0\x01\0\0\0secret.000001")]),
                s(answer().say(&[0; 40])),
                s(answer_from(2).say(&[0; 40])),
                Do::Close(Close::Fin),
            ],
        ),
        &expect![[r#"
            login shop [20..30] 88>17
            binlog_dump shop [40..50] 28>44 waited
            quiet
        "#]],
    );
}

#[test]
fn an_error_that_ends_what_is_idle_answers_nothing() {
    check(
        logged_in(0, vec![Do::S(packet(0, b"\xff\xbf\x0f#HY000The client was disconnected")), Do::Close(Close::Fin)]),
        &expect![[r#"
            login shop [20..30] 88>17
            unasked 1
        "#]],
    );
}

#[test]
fn other_protocols_are_not_taken_for_it() {
    for head in [
        &b"\x16\x03\x01\x00\x2e\x01\x00\x00\x2a\x03\x03"[..],
        b"\x05\x00\x0b\x03\x10\x00\x00\x00\x48\x00\x00\x00",
        b"\x4a\x00\x00\x00\x0a",
        b"{\"sql\":\"SELECT 1\"}",
        b"\x10\0\0\0\x03SELECT secret",
    ] {
        let (_, (tcp, _)) = story().run(vec![Do::C(head.to_vec()), Do::S(head.to_vec())]);
        assert_ne!(tcp.wire(), Some(Wire::Mysql), "{}", head.escape_ascii());
    }
}
