//! Where a message ends.

use super::support::Do::{C, Close, S, Sample, Wait};
use super::support::{c, get, ok, s, story};
use super::{check, chunked};
use expect_test::expect;
use flow_model::Close::Fin;

#[test]
fn duration_of_a_long_body_is_exact_though_it_was_not_copied() {
    let acts =
        vec![C(get("/big")), S(ok(6000)), S(vec![b'y'; 9000]), S(vec![b'z'; 1000]), C(get("/b")), S(ok(1)), Close(Fin)];
    let mut long = ok(0);
    long.clear();
    long.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Length: 16000\r\n\r\n");
    let mut acts = acts;
    let mut body = long.clone();
    body.resize(long.len() + 6000, b'x');
    acts[1] = S(body);
    check(
        story(),
        acts,
        expect![[r#"
        GET /big 200 [10..40] 30>16042 body_skipped
        GET /b 200 [50..60] 28>39
    "#]],
    );
}

#[test]
fn a_sample_completes_a_long_response_before_anything_follows() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 16000\r\n\r\n".to_vec();
    let mut first = head.clone();
    first.resize(head.len() + 8000, b'x');
    let acts = vec![
        C(get("/big")),
        S(first),
        Sample,
        S(vec![b'x'; 8000]),
        Wait(300_000),
        Sample,
        Wait(900_000),
        C(get("/b")),
        S(ok(1)),
        Close(Fin),
    ];
    check(
        story(),
        acts,
        expect![[r#"
        GET /big 200 [10..40] 30>16042 body_skipped
        GET /b 200 [1200080..1200090] 28>39
    "#]],
    );
}

#[test]
fn chunked_bodies_end_where_they_say() {
    let acts = vec![
        C(get("/a")),
        S(chunked(3, "\r\n0\r\n\r\n")),
        C(get("/b")),
        S(chunked(3, "\r\n0\r\nTrailer: x\r\n\r\n")),
        C(get("/c")),
        S(chunked(9000, "\r\n0\r\n\r\n")),
        Wait(500),
        Sample,
        C(get("/d")),
        S(chunked(9000, "\r\n0\r\nTrailer: x\r\n\r\n")),
        Wait(500),
        Sample,
        C(get("/e")),
        S(chunked(5000, "")),
        S(b"\r\n0\r\n\r\n".to_vec()),
        Close(Fin),
    ];
    check(
        story(),
        acts,
        expect![[r#"
        GET /a 200 [10..20] 28>60
        GET /b 200 [30..40] 28>72
        GET /c 200 [50..60] 28>9060 body_skipped
        GET /d 200 [590..600] 28>9072 body_skipped
        GET /e 200 [1130..1150] 28>5060 body_skipped
    "#]],
    );
}

#[test]
fn bodies_that_end_with_the_connection() {
    let acts = vec![
        C(get("/a")),
        s("HTTP/1.0 200 OK\r\n\r\nhello"),
        S(vec![b'x'; 9000]),
        Wait(60_000),
        S(vec![b'x'; 9]),
        Close(Fin),
    ];
    check(
        story(),
        acts,
        expect![[r#"
        GET /a 200 [10..60050] 28>9033 body_skipped
    "#]],
    );
}

#[test]
fn head_204_and_304_have_no_body() {
    let acts = vec![
        c("HEAD /a HTTP/1.1\r\n\r\n"),
        s("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"),
        C(get("/b")),
        s("HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n"),
        C(get("/c")),
        s("HTTP/1.1 204\r\n\r\n"),
        C(get("/d")),
        S(ok(1)),
        Close(Fin),
    ];
    check(
        story(),
        acts,
        expect![[r#"
        HEAD /a 200 [10..20] 20>40
        GET /b 304 [30..40] 28>50
        GET /c 204 [50..60] 28>16
        GET /d 200 [70..80] 28>39
    "#]],
    );
}

#[test]
fn both_lengths_mean_chunked_and_are_noted() {
    let acts = vec![
        c("POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n"),
        S(ok(1)),
        C(get("/b")),
        S(ok(1)),
        Close(Fin),
    ];
    check(
        story(),
        acts,
        expect![[r#"
        POST / 200 [10..20] 80>39 malformed
        GET /b 200 [30..40] 28>39
    "#]],
    );
}

#[test]
fn heads_longer_than_the_budget_are_read_as_far_as_they_go() {
    let long = format!("GET /long HTTP/1.1\r\nHost: h\r\nCookie: {}\r\n\r\n", "c".repeat(6000));
    let longer = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "p".repeat(9000));
    let response = format!("HTTP/1.1 200 OK\r\nSet-Cookie: {}\r\nContent-Length: 5\r\n\r\nhello", "c".repeat(6000));
    let acts =
        vec![c(&long), s(&response), C(get("/b")), S(ok(1)), c(&longer), S(ok(1)), C(get("/c")), S(ok(1)), Close(Fin)];
    let text = story().play(acts).replace(&"p".repeat(1023), "ppp");
    expect![[r#"
        GET /long 200 [10..20] 6041>6057 request_cut response_cut body_skipped
        GET /b 200 [30..40] 28>39
        GET /ppp 200 [50..60] 9027>39 request_cut
        GET /c 200 [70..80] 28>39
    "#]]
    .assert_eq(&text);
}

#[test]
fn simple_request_is_answered_by_bytes_alone() {
    check(
        story(),
        vec![c("GET /x\r\n"), s("<html>hello"), Close(Fin)],
        expect![[r#"
        GET /x - [10..20] 8>11
    "#]],
    );
}
