//! PostgreSQL conversations as stories: what was said, and the records that it makes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "support/pg.rs"]
mod pg;
mod support;

use expect_test::{Expect, expect};
use flow_model::{Close, Detail, L7Record};
use l7::{Interest, Wire};
use pg::*;
use std::fmt::Write as _;
use support::{Do, Story, database_line, story, told};

/// `SELECT shop 23505 [10..20] 20>9`: operation, database, code, times in milliseconds, bytes, notes.
fn line(record: &L7Record) -> String {
    let Detail::Db(db) = &record.detail else { return format!("{:?} {:?}", record.protocol, record.outcome) };
    assert_eq!((db.system, &*db.collection), ("postgresql", ""));
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

fn c(messages: &[Vec<u8>]) -> Do {
    Do::C(messages.concat())
}

fn s(messages: &[Vec<u8>]) -> Do {
    Do::S(messages.concat())
}

/// After a login without a password.
fn logged_in(acts: Vec<Do>) -> Vec<Do> {
    [vec![c(&[login()]), s(&[welcome()])], acts].into_iter().flatten().collect()
}

fn done(tag: &str) -> Vec<u8> {
    [complete(tag), ready()].concat()
}

#[test]
fn a_login_and_a_query_are_an_exchange_each() {
    check(
        logged_in(vec![
            c(&[query("SELECT 'secret' FROM secret_table")]),
            s(&[columns(), row(10), row(20), complete("SELECT 2")]),
            s(&[ready()]),
            c(&[message(b'X', b"")]),
            Do::Close(Close::Fin),
        ]),
        &expect![[r#"
            startup shop [10..20] 40>28
            SELECT shop [30..50] 39>111
        "#]],
    );
}

#[test]
fn passwords_belong_to_the_login_and_an_error_ends_it() {
    let ask = message(b'R', &[&[0, 0, 0, 10][..], b"SCRAM-SHA-256\0\0"].concat());
    let secret = message(b'p', b"SCRAM-SHA-256\0\0\0\0\x0dsecret_nonce");
    check(
        vec![c(&[login()]), s(&[ask]), c(&[secret]), s(&[error("FATAL", "28P01")]), Do::Close(Close::Fin)],
        &expect![[r#"
            startup shop 28P01 [10..40] 40>85
        "#]],
    );
}

#[test]
fn several_statements_of_a_query_are_one_exchange_with_the_first_error() {
    check(
        logged_in(vec![
            c(&[query("BEGIN; INSERT INTO t VALUES (1); COMMIT")]),
            s(&[complete("BEGIN"), notice(), complete("INSERT 0 1"), complete("COMMIT"), ready()]),
            c(&[query("INSERT INTO t VALUES (1); SELECT 1")]),
            s(&[error("ERROR", "23505"), ready()]),
            c(&[query("-- nothing")]),
            s(&[message(b'I', b""), ready()]),
        ]),
        &expect![[r#"
            startup shop [10..20] 40>28
            BEGIN shop [30..40] 45>45
            INSERT shop 23505 [50..60] 40>67
            other shop [70..80] 16>11
        "#]],
    );
}

#[test]
fn each_execute_is_an_exchange_with_what_prepares_it() {
    check(
        logged_in(vec![
            c(&[parse("s1", "UPDATE t SET a = $1"), sync()]),
            s(&[parsed(), ready()]),
            c(&[bind("", "s1"), describe(""), execute(""), bind("", "s1"), execute(""), sync()]),
            s(&[bound(), message(b'n', b""), complete("UPDATE 1")]),
            s(&[bound(), complete("UPDATE 0"), ready()]),
            c(&[close("s1"), bind("", "s1"), execute(""), sync()]),
            s(&[closed(), error("ERROR", "26000"), ready()]),
        ]),
        &expect![[r#"
            startup shop [10..20] 40>28
            UPDATE shop [50..60] 48>24
            UPDATE shop [50..70] 41>19
            unknown shop 26000 [80..90] 50>66
        "#]],
    );
}

/// Two are right, one is the error, two were not executed; none takes the answer of what comes after the Sync.
#[test]
fn an_error_skips_the_rest_of_its_batch() {
    let ask = |verb: &str| [parse("", verb), bind("", ""), execute("")].concat();
    let done = |tag: &str| [parsed(), bound(), complete(tag)].concat();
    check(
        logged_in(vec![
            c(&[ask("INSERT"), ask("UPDATE"), ask("DELETE"), ask("SELECT"), ask("LOCK"), sync()]),
            c(&[ask("SELECT"), sync()]),
            s(&[done("INSERT 0 1"), done("UPDATE 1"), parsed(), error("ERROR", "23503"), ready()]),
            s(&[done("SELECT 0"), ready()]),
        ]),
        &expect![[r#"
            startup shop [10..20] 40>28
            INSERT shop [30..50] 54>26
            UPDATE shop [30..50] 54>24
            DELETE shop 23503 [30..50] 54>66
            SELECT shop skipped [30..50] 54>0
            LOCK shop skipped [30..50] 52>0
            SELECT shop [40..60] 54>24
        "#]],
    );
}

#[test]
fn preparing_alone_is_an_exchange_where_it_fails() {
    check(
        logged_in(vec![
            c(&[parse("a", "SELECT 1"), message(b'D', b"Sa\0"), sync()]),
            s(&[parsed(), message(b't', &[0, 0]), columns(), ready()]),
            c(&[parse("b", "SELECT x"), sync()]),
            s(&[error("ERROR", "42703"), ready()]),
            c(&[sync()]),
            s(&[ready()]),
            // Without waiting for the end of the batch.
            c(&[parse("c", "DELETE x"), flush()]),
            s(&[error("ERROR", "42601")]),
            c(&[sync()]),
            s(&[ready()]),
        ]),
        &expect![[r#"
            startup shop [10..20] 40>28
            SELECT shop 42703 [50..60] 23>61
            DELETE shop 42601 [90..110] 28>61
        "#]],
    );
}

#[test]
fn portals_that_are_read_in_parts_are_an_exchange_each_time() {
    check(
        logged_in(vec![
            c(&[parse("", "SELECT 1"), bind("p", ""), execute("p"), sync()]),
            s(&[parsed(), bound(), row(5), message(b's', b""), ready()]),
            c(&[execute("p"), sync()]),
            s(&[row(5), complete("SELECT 1"), ready()]),
        ]),
        &expect![[r#"
            startup shop [10..20] 40>28
            SELECT shop [30..40] 58>31
            SELECT shop [50..60] 11>30
        "#]],
    );
}

#[test]
fn data_of_a_copy_belongs_to_what_asked_for_it() {
    check(
        logged_in(vec![
            c(&[query("COPY t FROM STDIN")]),
            s(&[message(b'G', &[0, 0, 0])]),
            c(&[data(100), data(100), message(b'c', b"")]),
            s(&[done("COPY 2")]),
            c(&[query("COPY t TO STDOUT")]),
            s(&[message(b'H', &[0, 0, 0]), data(100), message(b'c', b""), done("COPY 1")]),
            // A Sync that comes while the server waits for data is ignored.
            c(&[parse("", "COPY t FROM STDIN"), bind("", ""), execute(""), sync()]),
            s(&[parsed(), bound(), message(b'G', &[0, 0, 0])]),
            c(&[data(10), message(b'c', b""), sync()]),
            s(&[done("COPY 1")]),
            c(&[query("SELECT 1")]),
            s(&[done("SELECT 1")]),
            c(&[query("COPY t FROM STDIN")]),
            s(&[message(b'G', &[0, 0, 0])]),
            c(&[data(10)]),
            s(&[error("ERROR", "22P02"), ready()]),
            c(&[data(10), message(b'c', b"")]),
            c(&[query("SELECT 1")]),
            s(&[done("SELECT 1")]),
        ]),
        &expect![[r#"
            startup shop [10..20] 40>28
            COPY shop [30..60] 238>26
            COPY shop [70..80] 22>136
            COPY shop [90..120] 85>30
            SELECT shop [130..140] 14>20
            COPY shop 22P02 [150..180] 38>75
            SELECT shop [200..210] 14>20
        "#]],
    );
}

#[test]
fn replication_is_told_when_it_begins_and_then_left_alone() {
    check(
        logged_in(vec![
            c(&[query("START_REPLICATION SLOT secret LOGICAL 0/0")]),
            s(&[message(b'W', &[0, 0, 0]), data(1000)]),
            c(&[data(34)]),
            s(&[data(1000)]),
        ]),
        &expect![[r#"
            startup shop [10..20] 40>28
            START_REPLICATION shop [30..40] 47>8 waited
            quiet
        "#]],
    );
}

#[test]
fn what_a_server_tells_unasked_is_no_answer() {
    check(
        logged_in(vec![
            s(&[notification()]),
            c(&[query("SELECT 1")]),
            s(&[notice(), notification(), columns(), notice(), row(1)]),
            s(&[complete("SELECT 1"), message(b'S', b"TimeZone\0UTC\0"), ready(), notification()]),
            s(&[error("FATAL", "57P01")]),
            Do::Close(Close::Fin),
        ]),
        &expect![[r#"
            startup shop [10..20] 40>28
            SELECT shop [40..60] 14>71
        "#]],
    );
}

#[test]
fn a_connection_goes_on_as_what_it_agrees_on() {
    let hello = [&[0x16, 3, 1, 0, 45, 1, 0, 0, 41, 3, 3][..], &[0; 32], &[0, 0, 2, 0x13, 1, 1, 0]].concat();
    let (found, (tcp, _)) = story().run(vec![c(&[start(SSL, b"")]), Do::S(b"S".to_vec()), c(&[hello])]);
    assert_eq!((told(&found, line).as_str(), tcp.wire()), ("", Some(Wire::Tls)));
    let (_, (tcp, interest)) = story().run(vec![c(&[start(GSS, b"")]), Do::S(b"G".to_vec())]);
    assert_eq!((tcp.wire(), interest), (None, Interest::Nothing));
    check(
        vec![
            c(&[start(GSS, b"")]),
            Do::S(b"N".to_vec()),
            c(&[start(SSL, b"")]),
            Do::S(b"N".to_vec()),
            c(&[login()]),
            s(&[welcome()]),
            c(&[query("SELECT 1")]),
            s(&[done("SELECT 1")]),
        ],
        &expect![[r#"
            startup shop [50..60] 40>28
            SELECT shop [70..80] 14>20
        "#]],
    );
}

#[test]
fn a_cancel_is_a_connection_of_its_own_and_has_no_answer() {
    check(
        vec![c(&[start(CANCEL, &[7; 8])]), Do::Close(Close::Fin)],
        &expect![[r#"
            cancel one-way [10..10] 16>0
            quiet
        "#]],
    );
}

#[test]
fn an_end_without_an_answer_is_told() {
    check(
        logged_in(vec![c(&[query("SELECT 1")]), s(&[columns()]), Do::Close(Close::Reset)]),
        &expect![[r#"
            startup shop [10..20] 40>28
            SELECT shop unanswered [30..30] 14>0
        "#]],
    );
    check(
        logged_in(vec![c(&[query("SELECT 1")]), s(&[error("FATAL", "57P01")]), Do::Close(Close::Fin)]),
        &expect![[r#"
            startup shop [10..20] 40>28
            SELECT shop 57P01 [30..40] 14>61
        "#]],
    );
    check(
        logged_in(vec![c(&[query("SELECT 1")]), Do::Gone]),
        &expect![[r#"
            startup shop [10..20] 40>28
            lost 1 unfinished
        "#]],
    );
}

#[test]
fn joined_in_the_middle_it_is_in_step_after_one_exchange() {
    expect![[r#"
        UPDATE [50..60] 56>24
        lost 1 joined_midway
        lost 1 joined_midway
    "#]]
    .assert_eq(&play(
        &story().midway(),
        vec![
            s(&[row(10), done("SELECT 1")]),
            c(&[bind("", "s1"), execute(""), sync()]),
            s(&[bound(), done("UPDATE 1")]),
            Do::Wait(0),
            c(&[parse("", "UPDATE t"), bind("", ""), execute(""), sync()]),
            s(&[parsed(), bound(), done("UPDATE 1")]),
        ],
    ));
}

#[test]
fn a_statement_that_was_prepared_before_is_unknown() {
    expect![[r#"
        unknown [30..40] 41>19
        lost 1 joined_midway
    "#]]
    .assert_eq(&play(
        &story().midway(),
        vec![
            c(&[query("BEGIN")]),
            s(&[done("BEGIN")]),
            c(&[bind("", "s1"), execute(""), sync()]),
            s(&[bound(), done("UPDATE 1")]),
        ],
    ));
}

#[test]
fn a_lost_record_costs_the_exchange_and_the_next_one() {
    for lost in 2..6 {
        let asks = (0..4).flat_map(|_| [query("SELECT 1"), done("SELECT 1")]);
        let acts = [login(), welcome()].into_iter().chain(asks).enumerate().map(|(number, bytes)| match number {
            _ if number == lost && number % 2 == 0 => Do::LostC(bytes),
            _ if number == lost => Do::LostS(bytes),
            _ if number % 2 == 0 => Do::C(bytes),
            _ => Do::S(bytes),
        });
        let (found, _) = story().run(acts.chain([Do::Close(Close::Fin)]).collect());
        assert_eq!(found.records.len() as u64 + found.lost_count(), 5, "{lost}: {}", told(&found, line));
        assert!(found.records.len() >= 3, "{lost}: {}", told(&found, line));
    }
}

/// That it does shows by what waits for its answer, though nothing is paired any more.
#[test]
fn of_a_client_that_goes_on_while_it_waits_nothing_is_paired_before_it_pauses() {
    let failed = |code: &str| [error("ERROR", code), ready()].concat();
    check(
        logged_in(vec![
            c(&[query("SELECT 1"), query("SELECT 2")]),
            Do::LostC(query("SELECT 3")),
            c(&[query("SELECT 4")]),
            s(&[failed("X0001")]),
            c(&[query("SELECT 5")]),
            s(&[failed("X0002"), failed("X0003")]),
            c(&[query("SELECT 6")]),
            s(&[failed("X0004"), failed("X0005"), failed("X0006")]),
            Do::Wait(1000),
            c(&[query("UPDATE t")]),
            s(&[done("UPDATE 1")]),
        ]),
        &expect![[r#"
            startup shop [10..20] 40>28
            SELECT shop X0001 [30..60] 14>67
            UPDATE shop [1120..1130] 14>20
            lost 1 gap
            lost 1 gap
            lost 1 gap
            lost 1 gap
            lost 1 gap
        "#]],
    );
}

/// All that was asked in one message may not be all that is under way.
#[test]
fn a_client_of_several_batches_is_in_step_after_a_message_that_is_answered_whole() {
    check(
        logged_in(vec![
            c(&[query("SELECT 1"), query("SELECT 2")]),
            Do::LostC(query("SELECT 3")),
            c(&[query("SELECT 4")]),
            s(&[done("SELECT 1"), done("SELECT 1"), done("SELECT 1"), done("SELECT 1")]),
            c(&[query("SELECT 5"), query("SELECT 6")]),
            s(&[done("SELECT 1"), done("SELECT 1")]),
            c(&[query("UPDATE t")]),
            s(&[done("UPDATE 1")]),
        ]),
        &expect![[r#"
            startup shop [10..20] 40>28
            SELECT shop [30..60] 14>20
            SELECT shop [30..60] 14>20
            UPDATE shop [90..100] 14>20
            lost 1 gap
            lost 1 gap
            lost 1 gap
            lost 1 gap
        "#]],
    );
}

/// The last bytes of a message say that the server is ready, and not where its next one begins: what is missing
/// there may have been the answer, and what follows is not taken for it.
#[test]
fn what_is_missing_where_the_place_is_lost_may_have_been_the_answer() {
    let told = play(
        &story().replay(),
        logged_in(vec![
            c(&[query("SELECT 1")]),
            Do::SnapS([columns(), row(10), done("SELECT 1")].concat(), 10),
            c(&[query("INSERT 2"), query("INSERT 3")]),
            Do::UnseenS(done("INSERT 0 1")),
            s(&[error("ERROR", "23505"), ready()]),
            c(&[query("UPDATE 4")]),
            s(&[done("UPDATE 1")]),
            c(&[query("DELETE 5")]),
            s(&[done("DELETE 1")]),
            Do::Close(Close::Fin),
        ]),
    );
    expect![[r#"
        startup shop [10..20] 40>28
        lost 1 gap
        lost 3 gap
        lost 1 gap
    "#]]
    .assert_eq(&told);
}

#[test]
fn an_error_of_which_the_code_was_not_seen_has_a_gap() {
    check(
        logged_in(vec![
            c(&[query("SELECT 1")]),
            Do::SnapS(error("ERROR", "42601"), 10),
            s(&[ready()]),
            c(&[query("UPDATE t")]),
            s(&[done("UPDATE 1")]),
        ]),
        &expect![[r#"
            startup shop [10..20] 40>28
            SELECT shop other [30..50] 14>67 gap
            UPDATE shop [60..70] 14>20
        "#]],
    );
}

#[test]
fn the_answer_to_something_else_is_no_answer() {
    check(
        logged_in(vec![c(&[query("SELECT 1")]), s(&[done("DELETE 1")]), Do::Close(Close::Fin)]),
        &expect![[r#"
            startup shop [10..20] 40>28
            lost 1 gap
        "#]],
    );
}

#[test]
fn lengths_that_cannot_be_end_what_is_paired_and_nothing_else() {
    for bad in [&b"Q\0\0\0\x03"[..], b"Q\xff\xff\xff\xff", b"\0\0\0\0\0", b"E\0\0\0\x04"] {
        let (found, _) = story().run(logged_in(vec![
            Do::C(bad.to_vec()),
            s(&[error("FATAL", "08P01")]),
            c(&[query("SELECT 1")]),
            s(&[done("SELECT 1")]),
            c(&[query("UPDATE x")]),
            s(&[done("UPDATE 1")]),
        ]));
        assert!(told(&found, line).contains("UPDATE shop ["), "{}: {}", bad.escape_ascii(), told(&found, line));
    }
}

/// However its answer comes.
#[test]
fn an_answer_in_one_piece_and_in_thirty_makes_the_same_record() {
    let answer = [columns(), row(300), row(5), notice(), complete("SELECT 2"), ready()].concat();
    let pieces = |size: usize| {
        let (found, _) = story().run(logged_in(
            [c(&[query("SELECT 1")])].into_iter().chain(answer.chunks(size).map(|it| Do::S(it.to_vec()))).collect(),
        ));
        let record = found.records.last().unwrap();
        (found.records.len(), record.request_bytes, record.response_bytes, format!("{:?}", record.detail))
    };
    let whole = pieces(usize::MAX);
    for size in 1..60 {
        assert_eq!(pieces(size), whole, "{size}");
    }
}
