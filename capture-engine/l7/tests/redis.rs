//! Redis conversations as stories: what was said, and the records that it makes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use expect_test::{Expect, expect};
use flow_model::{Close, Detail, L7Record};
use l7::Interest;
use std::fmt::Write as _;
use support::{Do, Story, c, database_line, s, story, told};

/// `GET db0 [10..20] 20>9`: operation, database, first word of an error, times in milliseconds, bytes, notes.
fn line(record: &L7Record) -> String {
    let Detail::Db(db) = &record.detail else { return format!("{record:?}") };
    assert_eq!((db.system, &*db.collection), ("redis", ""));
    let mut text = format!("{} db{}", db.operation, db.namespace);
    if !db.code.is_empty() {
        write!(text, " {}", db.code).unwrap();
    }
    database_line(&text, record)
}

fn play(story: &Story, acts: Vec<Do>) -> String {
    let (found, (_, interest)) = story.run(acts);
    let mut text = told(&found, line);
    match interest {
        Interest::Heads => {}
        Interest::Nothing => text.push_str("quiet\n"),
        Interest::Everything | Interest::Pipeline(_) => text.push_str("everything\n"),
        Interest::Frames(walk) => writeln!(text, "{} bytes of each packet", walk.keep[0]).unwrap(),
    }
    text
}

fn check(acts: Vec<Do>, expected: &Expect) {
    expected.assert_eq(&play(&story(), acts));
}

/// A command as clients send it.
fn array(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n{word}\r\n", word.len()).into_bytes());
    }
    bytes
}

fn ask(words: &str) -> Do {
    Do::C(array(&words.split(' ').collect::<Vec<_>>()))
}

fn all(commands: &[&str]) -> Do {
    Do::C(commands.iter().flat_map(|words| array(&words.split(' ').collect::<Vec<_>>())).collect())
}

fn value(length: usize) -> Vec<u8> {
    let mut bytes = format!("${length}\r\n").into_bytes();
    bytes.resize(bytes.len() + length, b'*');
    bytes.extend(b"\r\n");
    bytes
}

#[test]
fn a_command_and_its_reply_are_one_exchange() {
    check(
        vec![ask("SET k v"), s("+OK\r\n"), ask("get k"), s("$1\r\nv\r\n"), Do::Close(Close::Fin)],
        &expect![[r#"
            SET db0 [10..20] 27>5
            GET db0 [30..40] 20>7
        "#]],
    );
}

#[test]
fn each_command_of_a_pipeline_gets_its_own_reply_and_error() {
    check(
        vec![
            all(&["PING", "LPUSH s 1", "GET k", "NOSUCH x"]),
            s("+PONG\r\n-WRONGTYPE Operation against a key holding secret\r\n$-1\r"),
            s("\n-ERR unknown command 'NOSUCH', with args beginning with: 'x'\r\n"),
        ],
        &expect![[r#"
            PING db0 [10..20] 14>7
            LPUSH db0 WRONGTYPE [10..20] 29>51
            GET db0 [10..30] 20>5
            other db0 ERR [10..30] 23>62
            4294967295 bytes of each packet
        "#]],
    );
}

#[test]
fn replies_of_every_shape_are_passed_as_one() {
    let replies = [
        "*2\r\n$1\r\na\r\n*2\r\n:1\r\n$-1\r\n",
        "%2\r\n+a\r\n:1\r\n+b\r\n%1\r\n+c\r\n_\r\n",
        "|1\r\n+popularity\r\n%1\r\n$1\r\na\r\n,0.1\r\n*2\r\n:1\r\n:2\r\n",
        "$?\r\n;4\r\nHell\r\n;5\r\no wor\r\n;0\r\n",
        "*?\r\n:1\r\n*2\r\n:2\r\n:3\r\n.\r\n",
        "!21\r\nSYNTAX invalid syntax\r\n",
        "=15\r\ntxt:Some string\r\n",
        "(3492890328409238509324850943850943825024385\r\n",
        "~2\r\n#t\r\n,inf\r\n",
    ];
    let acts = replies.iter().flat_map(|reply| [ask("EVAL x 0"), s(reply)]).collect();
    check(
        acts,
        &expect![[r#"
            EVAL db0 [10..20] 28>24
            EVAL db0 [30..40] 28>27
            EVAL db0 [50..60] 28>46
            EVAL db0 [70..80] 28>29
            EVAL db0 [90..100] 28>23
            EVAL db0 SYNTAX [110..120] 28>28
            EVAL db0 [130..140] 28>22
            EVAL db0 [150..160] 28>46
            EVAL db0 [170..180] 28>14
        "#]],
    );
}

#[test]
fn commands_in_lines_are_read_where_a_reply_follows() {
    check(
        vec![c("PING\r\n"), s("+PONG\r\n"), c("\r\nset a secret\r\nget a\n"), s("+OK\r\n$6\r\nsecret\r\n")],
        &expect![[r#"
            PING db0 [10..20] 6>7
            SET db0 [30..40] 14>5
            GET db0 [30..40] 6>12
            4294967295 bytes of each packet
        "#]],
    );
}

#[test]
fn who_turns_replies_off_gets_none() {
    check(
        vec![
            ask("CLIENT REPLY OFF"),
            all(&["SET a 1", "SET b 2"]),
            ask("CLIENT REPLY ON"),
            s("+OK\r\n"),
            all(&["CLIENT REPLY SKIP", "SET c 3", "GET a"]),
            s("$1\r\n1\r\n"),
        ],
        &expect![[r#"
            CLIENT db0 one-way [10..10] 36>0
            SET db0 one-way [20..20] 27>0
            SET db0 one-way [20..20] 27>0
            CLIENT db0 [30..40] 35>5
            CLIENT db0 one-way [50..50] 37>0
            SET db0 one-way [50..50] 27>0
            GET db0 [50..60] 20>7
        "#]],
    );
}

#[test]
fn a_transaction_is_its_commands_and_changes_the_database_when_it_is_executed() {
    check(
        vec![
            ask("MULTI"),
            s("+OK\r\n"),
            all(&["SELECT 7", "BLPOP l 0", "GET a"]),
            s("+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n"),
            ask("EXEC"),
            s("*3\r\n+OK\r\n*-1\r\n-WRONGTYPE x\r\n"),
            ask("GET a"),
            s("$-1\r\n"),
            ask("SELECT 99"),
            s("-ERR DB index is out of range\r\n"),
            ask("RESET"),
            s("+RESET\r\n"),
            ask("GET a"),
            s("$-1\r\n"),
        ],
        &expect![[r#"
            MULTI db0 [10..20] 15>5
            SELECT db0 [30..40] 23>9
            BLPOP db0 [30..40] 29>9
            GET db0 [30..40] 20>9
            EXEC db7 [50..60] 14>28
            GET db7 [70..80] 20>5
            SELECT db7 ERR [90..100] 24>31
            RESET db0 [110..120] 15>8
            GET db0 [130..140] 20>5
            4294967295 bytes of each packet
        "#]],
    );
}

#[test]
fn what_is_published_is_no_reply() {
    check(
        vec![
            all(&["SUBSCRIBE a b", "PSUBSCRIBE c*"]),
            s("*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n"),
            s("*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$5\r\nhello\r\n*3\r\n$10\r\npsubscribe\r\n$2\r\nc*\r\n:3\r\n"),
            s("*4\r\n$8\r\npmessage\r\n$2\r\nc*\r\n$2\r\ncc\r\n$5\r\nhello\r\n"),
            ask("PING"),
            s("*3\r\n$7\r\nmessage\r\n$1\r\nb\r\n$2\r\nhi\r\n*2\r\n$4\r\npong\r\n$0\r\n\r\n"),
            ask("UNSUBSCRIBE"),
            s("*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:2\r\n*3\r\n$11\r\nunsubscribe\r\n$1\r\nb\r\n:1\r\n"),
            ask("PUNSUBSCRIBE c*"),
            s("*3\r\n$12\r\npunsubscribe\r\n$2\r\nc*\r\n:0\r\n"),
            ask("LRANGE l 0 -1"),
            s("*2\r\n$7\r\nmessage\r\n$1\r\nb\r\n"),
        ],
        &expect![[r#"
            SUBSCRIBE db0 [10..20] 33>30
            PSUBSCRIBE db0 [10..30] 29>33
            PING db0 [50..60] 14>20
            UNSUBSCRIBE db0 [70..80] 22>33
            PUNSUBSCRIBE db0 [90..100] 31>35
            LRANGE db0 [110..120] 38>24
            4294967295 bytes of each packet
        "#]],
    );
}

#[test]
fn pushes_come_at_any_time_and_answer_nothing() {
    check(
        vec![
            ask("HELLO 3 AUTH default hunter2"),
            s("%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:3\r\n"),
            ask("SUBSCRIBE a"),
            s(">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n>3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n"),
            ask("GET k"),
            s(">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n$1\r\nv\r\n>3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n"),
            s(">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n"),
        ],
        &expect![[r#"
            HELLO db0 [10..20] 58>42
            SUBSCRIBE db0 [30..40] 26>30
            GET db0 [50..60] 20>7
        "#]],
    );
}

#[test]
fn what_monitor_tells_is_no_reply() {
    check(
        vec![
            ask("MONITOR"),
            s("+OK\r\n"),
            s("+1339518083.107412 [0 127.0.0.1:60866] \"set\" \"k\" \"secret\"\r\n"),
            ask("PING"),
            s("+1339518087.877697 [0 127.0.0.1:60866] \"ping\"\r\n+PONG\r\n"),
            ask("RESET"),
            s("+RESET\r\n"),
        ],
        &expect![[r#"
            MONITOR db0 [10..20] 17>5
            PING db0 [40..50] 14>7
            RESET db0 [60..70] 15>8
        "#]],
    );
}

#[test]
fn commands_that_wait_on_purpose_are_marked() {
    check(
        vec![
            ask("BLPOP l 5"),
            Do::Wait(4000),
            s("*-1\r\n"),
            ask("XREAD BLOCK 100 STREAMS s $"),
            s("_\r\n"),
            ask("XREAD COUNT 1 STREAMS s 0"),
            s("*-1\r\n"),
            ask("WAIT 1 0"),
            Do::Close(Close::Reset),
        ],
        &expect![[r#"
            BLPOP db0 [10..4030] 29>5 waited
            XREAD db0 [4040..4050] 62>3 waited
            XREAD db0 [4060..4070] 60>5
            WAIT db0 unanswered [4080..4080] 28>0 waited
        "#]],
    );
}

#[test]
fn a_redirect_is_told_by_its_word() {
    check(
        vec![ask("GET k"), s("-MOVED 3999 127.0.0.1:6381\r\n"), ask("GET k"), s("-ASK 3999 127.0.0.1:6381\r\n")],
        &expect![[r#"
            GET db0 MOVED [10..20] 20>28
            GET db0 ASK [30..40] 20>26
        "#]],
    );
}

#[test]
fn a_replica_s_connection_becomes_a_stream() {
    check(
        vec![
            ask("PING"),
            s("+PONG\r\n"),
            ask("REPLCONF listening-port 6380"),
            s("+OK\r\n"),
            ask("PSYNC ? -1"),
            s("\n\n+FULLRESYNC 0123456789012345678901234567890123456789 0\r\n$9\r\nREDIS0011"),
            s("*1\r\n$4\r\nPING\r\n"),
        ],
        &expect![[r#"
            PING db0 [10..20] 14>7
            REPLCONF db0 [30..40] 49>5
            PSYNC db0 [50..60] 30>56
            quiet
        "#]],
    );
    check(
        vec![ask("SYNC"), s("$9\r\nREDIS0011"), s("*1\r\n$4\r\nPING\r\n")],
        &expect![[r#"
            SYNC db0 [10..20] 14>0
            quiet
        "#]],
    );
}

#[test]
fn a_long_value_is_known_by_its_length() {
    let set = [&b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n"[..], &value(1 << 20)].concat();
    check(
        vec![Do::C(set), s("+OK\r\n"), ask("GET k"), Do::S(value(1 << 20)), Do::Sample, ask("PING"), s("+PONG\r\n")],
        &expect![[r#"
            SET db0 [10..20] 1048608>5 body_skipped
            GET db0 [30..40] 20>1048588 body_skipped
            PING db0 [60..70] 14>7
        "#]],
    );
}

#[test]
fn a_value_is_never_a_command() {
    let inner = "*1\r\n$4\r\nPING\r\n+OK\r\n".repeat(1000);
    let length = inner.len();
    check(
        vec![
            c(&format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${length}\r\n{}", &inner[..5000])),
            c(&inner[5000..9000]),
            c(&format!("{}\r\n", &inner[9000..])),
            s("+OK\r\n"),
            ask("GET k"),
            s(&format!("${length}\r\n{inner}\r\n")),
            ask("PING"),
            s("+PONG\r\n"),
        ],
        &expect![[r#"
            SET db0 [10..40] 19030>5 body_skipped
            GET db0 [50..60] 20>19010 body_skipped
            PING db0 [70..80] 14>7
        "#]],
    );
}

#[test]
fn an_answer_of_many_values_ends_with_its_message_where_nothing_else_is_in_it() {
    let many = [b"*100\r\n".to_vec(), value(100).repeat(100)].concat();
    check(
        vec![ask("LRANGE l 0 -1"), Do::S(many), ask("PING"), s("+PONG\r\n")],
        &expect![[r#"
            LRANGE db0 [10..20] 38>10806 body_skipped
            PING db0 [30..40] 14>7
        "#]],
    );
}

#[test]
fn what_was_lost_is_counted_and_pairs_nothing_wrong() {
    // A pipeline whose replies were lost, and one of which the commands were.
    check(
        vec![
            ask("PING"),
            s("+PONG\r\n"),
            all(&["GET a", "GET b", "INCR c"]),
            Do::LostS(b"$1\r\na\r\n$1\r\nb\r\n:1\r\n".to_vec()),
            all(&["GET d", "GET e"]),
            s("$1\r\nd\r\n$1\r\ne\r\n"),
            ask("PING"),
            s("+PONG\r\n"),
            Do::Close(Close::Fin),
        ],
        &expect![[r#"
            PING db0 [10..20] 14>7
            PING db0 [70..80] 14>7
            lost 3 ring_full
            lost 1 ring_full
            lost 1 ring_full
            4294967295 bytes of each packet
        "#]],
    );
    check(
        vec![
            ask("PING"),
            s("+PONG\r\n"),
            Do::LostC(array(&["GET", "a"])),
            s("$1\r\na\r\n"),
            ask("PING"),
            s("+PONG\r\n"),
            Do::Close(Close::Fin),
        ],
        &expect![[r#"
            PING db0 [10..20] 14>7
            PING db0 [50..60] 14>7
            lost 1 ring_full
        "#]],
    );
}

#[test]
fn joined_in_the_middle_nothing_is_told_before_it_is_certain() {
    // Two more replies than commands: the first ones were to what was asked before.
    let midway = story().midway();
    let acts = || vec![all(&["GET c", "GET d"]), s("$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n$1\r\nd\r\n")];
    let after = || vec![ask("PING"), s("+PONG\r\n"), ask("GET e"), s("$-1\r\n"), Do::Close(Close::Fin)];
    expect![[r#"
        PING db [30..40] 14>7
        GET db [50..60] 20>5
        lost 1 joined_midway
        lost 1 joined_midway
        lost 2 joined_midway
        4294967295 bytes of each packet
    "#]]
    .assert_eq(&play(&midway, [acts(), after()].into_iter().flatten().collect()));
    // It began with the rest of a reply.
    expect![[r#"
        PING db [20..30] 14>7
        GET db [40..50] 20>5
        lost 1 joined_midway
    "#]]
    .assert_eq(&play(&midway, [vec![s("hello\r\n")], after()].into_iter().flatten().collect()));
}

#[test]
fn a_command_behind_a_hole_waits_for_no_reply_that_was_not_understood() {
    // The replies pass while nobody knows what the connection speaks, and the second command comes when the hole
    // in front of it is given up: after its own reply.
    let acts = vec![
        c("*2\r\n$3\r\nGE"),
        Do::UnseenC(b"T\r\n$1\r\na\r\n".to_vec()),
        s("-ERR of a\r\n"),
        ask("SET b"),
        s("-ERR of b\r\n"),
        ask("HSET c"),
        s("-ERR of c\r\n"),
        ask("PING"),
        s("+PONG\r\n"),
        Do::Close(Close::Fin),
    ];
    expect![[r#"
        HSET db0 ERR [60..70] 21>11
        PING db0 [80..90] 14>7
        lost 1 gap
        lost 1 gap
    "#]]
    .assert_eq(&play(&story().replay(), acts));
}

#[test]
fn a_pipeline_a_thousand_deep_is_a_thousand_exchanges_and_more_are_counted() {
    let commands = array(&["PING"]).repeat(1500);
    let (found, _) = story().replay().run(vec![
        Do::C(commands[..14 * 1000].to_vec()),
        Do::S(b"+PONG\r\n".repeat(1000)),
        Do::C(commands),
        Do::S(b"+PONG\r\n".repeat(1500)),
        ask("GET a"),
        s("$-1\r\n"),
        Do::Close(Close::Fin),
    ]);
    assert_eq!((found.records.len(), found.lost_count()), (1000 + 1024 + 1, 1500 - 1024));
    assert!(line(&found.records[2024]).starts_with("GET "));
}

#[test]
fn a_side_that_is_not_seen_costs_a_bound_of_memory() {
    let acts = (0..5000).map(|_| ask("GET a")).collect();
    let (found, (tcp, _)) = story().replay().run(acts);
    assert_eq!(found.records.len(), 0);
    assert_eq!(found.lost_count(), 5000 - 1024);
    assert!(tcp.held() < 128 << 10, "{}", tcp.held());
}

#[test]
fn no_secret_is_in_any_record() {
    const SECRET: &str = "hunter2";
    let mut acts = vec![
        ask("AUTH hunter2"),
        s("-hunter2 is no password\r\n"),
        ask("hunter2 hunter2"),
        s("-ERR unknown command 'hunter2'\r\n"),
        ask("SET hunter2 hunter2"),
        s("-WRONGTYPE hunter2\r\n"),
        ask("SELECT hunter2"),
        s("-ERR hunter2\r\n"),
        c("AUTH hunter2\r\n"),
        s("!7\r\nhunter2\r\n"),
        ask("SUBSCRIBE hunter2"),
        s("*3\r\n$9\r\nsubscribe\r\n$7\r\nhunter2\r\n:1\r\n*3\r\n$7\r\nmessage\r\n$7\r\nhunter2\r\n$7\r\nhunter2\r\n"),
    ];
    acts.push(Do::Close(Close::Fin));
    let (found, _) = story().replay().run(acts);
    assert_eq!(found.records.len(), 6);
    assert!(!format!("{:?} {:?}", found.records, found.lost).contains(SECRET), "{}", told(&found, line));
}
