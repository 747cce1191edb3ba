//! What the random conversations found, one story each.

use super::support::Do::{self, C, Close, LostC, LostS, S};
use super::support::{c, get, line, ok, s, story};
use flow_model::Close::Fin;
use flow_model::Detail;

/// Requests that are told, and how many exchanges are counted as lost.
fn told(acts: Vec<Do>) -> (Vec<String>, u64) {
    let (found, _) = story().run(acts);
    assert_eq!(found.unasked, 0);
    let said = found.records.iter().map(|record| match &record.detail {
        Detail::Http(http) => format!("{} {}", http.target, http.status.unwrap_or_default()),
        Detail::Db(db) => format!("{} {}", db.operation, db.code),
        _ => line(record),
    });
    (said.collect(), found.lost_count())
}

fn lost(text: &str) -> Do {
    LostS(text.as_bytes().to_vec())
}

fn lost_request(text: &str) -> Do {
    LostC(text.as_bytes().to_vec())
}

#[test]
fn a_command_without_a_name_is_counted_beside_a_reply_that_was_lost_before() {
    let acts = vec![
        c("*2\r\n$3\r\nGET\r\n$1\r\na\r\n"),
        s("-EA said"),
        lost(" of "),
        s("a key\r\n"),
        c("*2\r\n$3\r\nS"),
        lost_request("E"),
        c("T\r\n$1\r\nb\r\n"),
        s("-EB said of a key\r\n"),
        c("*2\r\n$3\r\nGET\r\n$1\r\nc\r\n"),
        s("-EC said of a key\r\n"),
        Close(Fin),
    ];
    assert_eq!(told(acts), (vec!["GET EC".to_owned()], 2));
}

#[test]
fn the_rest_of_a_message_is_missing_though_only_the_other_end_s_next_one_is() {
    let acts = vec![
        C(get("/a")),
        s("HTTP/1.1 103 Early Hints\r\n\r\n"),
        LostS(ok(5)),
        LostC(get("/b")),
        s("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"),
        C(get("/c")),
        S(ok(7)),
        Close(Fin),
    ];
    assert_eq!(told(acts), (vec!["/c 200".to_owned()], 2));
}

#[test]
fn an_interim_response_that_was_not_seen_answers_nothing_of_a_pipeline() {
    let acts = vec![
        C([get("/a"), get("/b")].concat()),
        S([ok(1), ok(2)].concat()),
        C(get("/c")),
        S(ok(3)),
        C([get("/d"), get("/e")].concat()),
        s("HTTP"),
        lost("/1.1 103 Early Hints\r\n\r\n"),
        S([ok(4), ok(5)].concat()),
        Close(Fin),
    ];
    assert_eq!(told(acts), (["/a 200", "/b 200", "/c 200"].map(str::to_owned).to_vec(), 2));
}

#[test]
fn requests_of_two_messages_that_are_given_up_at_once_are_no_pipeline() {
    let acts = vec![
        C(get("/a")),
        S(ok(1)),
        C(get("/b")),
        s("HTTP/1.1"),
        lost(" 200 OK\r\nContent-Length: 0"),
        s("\r\n\r\n"),
        c("G"),
        lost_request("ET /c HTTP/"),
        c("1.1\r\n"),
        lost_request("\r\n"),
        s("HTTP/1.1 403 S\r\nContent-"),
        lost("Length: 0\r\n\r\n"),
        LostC(get("/d")),
        s("HTTP/1.1 404 S\r\n"),
        lost("Content-Length: "),
        s("0\r\n\r\n"),
        LostC(get("/e")),
        s("HTTP/1.1 405 S\r\nContent-Length: 0\r\n\r\n"),
        C(get("/f")),
        S(ok(6)),
        Close(Fin),
    ];
    assert_eq!(told(acts), (["/a 200", "/f 200"].map(str::to_owned).to_vec(), 4));
}

#[test]
fn a_first_exchange_of_which_both_ends_lack_bytes_is_counted() {
    let acts = vec![
        c("POST "),
        lost_request("/a HTTP/1.1\r\nContent-"),
        c("Length: 0\r\n\r\n"),
        s("H"),
        lost("TTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        C(get("/b")),
        S(ok(2)),
        Close(Fin),
    ];
    assert_eq!(told(acts), (vec!["/b 200".to_owned()], 1));
    let acts = vec![
        c("*2\r\n$3\r\n"),
        lost_request("GET"),
        c("\r\n$1\r\na\r\n"),
        s("-EA said of a key\r\n"),
        c("*2\r\n$3\r\nSET\r\n$1\r\nb\r\n"),
        s("-EB said of a key\r\n"),
        Close(Fin),
    ];
    assert_eq!(told(acts), (vec!["SET EB".to_owned()], 1));
}
