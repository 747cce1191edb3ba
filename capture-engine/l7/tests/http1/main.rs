//! HTTP/1 conversations as stories: who sent what, and what came out.
#![allow(clippy::unwrap_used)]

mod bodies;
mod losses;
#[path = "../support/mod.rs"]
mod support;

use expect_test::{Expect, expect};
use flow_model::Close::{Fin, Gone, Reset};
use l7::Interest;
use support::Do::{self, C, Close, S, UnseenS, Wait};
use support::{Story, c, get, ok, s, story};

fn check(story: Story, acts: Vec<Do>, expected: Expect) {
    expected.assert_eq(&story.play(acts));
}

#[test]
fn keep_alive_requests_pair_one_by_one() {
    let acts = vec![C(get("/a")), S(ok(5)), C(get("/b")), S(ok(0)), Close(Fin)];
    check(
        story(),
        acts,
        expect![[r#"
        GET /a 200 [10..20] 28>43
        GET /b 200 [30..40] 28>38
    "#]],
    );
}

fn chunked(data: usize, last: &str) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{data:x}\r\n").into_bytes();
    bytes.resize(bytes.len() + data, b'x');
    bytes.extend_from_slice(last.as_bytes());
    bytes
}

#[test]
fn interim_responses_do_not_answer() {
    let acts = vec![
        c("POST /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"),
        s("HTTP/1.1 100 Continue\r\n\r\n"),
        c("hello"),
        s("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"),
        S(ok(2)),
        Close(Fin),
    ];
    check(
        story(),
        acts,
        expect![[r#"
        POST /a 200 [10..50] 66>102
    "#]],
    );
}

#[test]
fn a_connection_that_pipelined_once_is_not_copied_in_full_for_ever() {
    let interest = |later: usize| {
        let mut acts = vec![C([get("/1"), get("/2")].concat()), S([ok(0), ok(0)].concat())];
        acts.extend((0..later).flat_map(|_| [C(get("/")), S(ok(0))]));
        let (found, (_, interest)) = story().run(acts);
        assert_eq!((found.records.len(), found.lost_count()), (later + 2, 0));
        interest
    };
    let everything = Interest::Pipeline(support::CLIENT);
    assert_eq!([0, 31, 32].map(interest), [everything, everything, Interest::Heads]);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let mut requests = get("/1");
    requests.extend(get("/2"));
    requests.extend(b"HEAD /3 HTTP/1.1\r\n\r\n");
    requests.extend(get("/4"));
    let mut responses = ok(3);
    responses.extend(chunked(4, "\r\n0\r\n\r\n"));
    responses.extend(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n");
    responses.extend(ok(0));
    check(
        story(),
        vec![C(requests), S(responses), Close(Fin)],
        expect![[r#"
        GET /1 200 [10..20] 28>41
        GET /2 200 [10..20] 28>61
        HEAD /3 200 [10..20] 20>38
        GET /4 200 [10..20] 28>38
    "#]],
    );
}

#[test]
fn upgrade_and_connect_leave_http() {
    let acts = vec![
        c("GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"),
        s("HTTP/1.1 101 Switching Protocols\r\n\r\n\u{1}\u{2}"),
        c("GET /not HTTP/1.1\r\n\r\n"),
        Close(Fin),
    ];
    check(
        story(),
        acts,
        expect![[r#"
        GET /ws 101 [10..20] 40>36 upgraded
        quiet
    "#]],
    );
    let acts = vec![
        c("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n"),
        s("HTTP/1.1 200 Connected\r\n\r\n"),
        C(get("/inside")),
        S(ok(4)),
        Close(Fin),
    ];
    check(
        story(),
        acts,
        expect![[r#"
        CONNECT a:80 200 [10..20] 37>26 upgraded
        GET /inside 200 [30..40] 33>42
    "#]],
    );
    let acts = vec![
        c("CONNECT a:443 HTTP/1.1\r\n\r\n"),
        s("HTTP/1.1 200 Connected\r\n\r\n"),
        C(b"\x16\x03\x01\x00\x05hello".to_vec()),
        Close(Fin),
    ];
    check(
        story(),
        acts,
        expect![[r#"
        CONNECT a:443 200 [10..20] 26>26 upgraded
        quiet
    "#]],
    );
}

#[test]
fn refused_connect_stays_http() {
    let acts = vec![
        c("CONNECT a:80 HTTP/1.1\r\n\r\n"),
        s("HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n"),
        C(get("/a")),
        S(ok(1)),
        Close(Fin),
    ];
    check(
        story(),
        acts,
        expect![[r#"
        CONNECT a:80 407 [10..20] 25>38
        GET /a 200 [30..40] 28>39
    "#]],
    );
}

#[test]
fn early_response_is_the_answer_while_the_upload_goes_on() {
    let mut upload = b"POST /up HTTP/1.1\r\nContent-Length: 20000\r\n\r\n".to_vec();
    upload.resize(upload.len() + 5000, b'u');
    let acts = vec![
        C(upload),
        s("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"),
        C(vec![b'u'; 15000]),
        S(vec![]),
        C(get("/b")),
        S(ok(1)),
        Close(Fin),
    ];
    check(
        story(),
        acts,
        expect![[r#"
        POST /up 413 [10..20] 5044>45 body_skipped
        lost 1 gap
    "#]],
    );
}

#[test]
fn unanswered_and_unfinished() {
    check(
        story(),
        vec![C(get("/a")), Close(Fin)],
        expect![[r#"
        GET /a - unanswered [10..10] 28>0
    "#]],
    );
    check(
        story(),
        vec![C(get("/a")), Close(Reset)],
        expect![[r#"
        GET /a - unanswered [10..10] 28>0
    "#]],
    );
    check(
        story(),
        vec![C(get("/a")), Close(Gone)],
        expect![[r#"
        lost 1 unfinished
    "#]],
    );
    check(
        story(),
        vec![C(get("/a")), s("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello"), Close(Reset)],
        expect![[r#"
        GET /a 200 [10..20] 28>44 end_assumed
    "#]],
    );
    check(
        story(),
        vec![C(get("/a")), s("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello"), Do::Gone],
        expect![[r#"
        lost 1 unfinished
    "#]],
    );
    check(
        story(),
        vec![C(get("/a")), S(ok(5)), Close(Reset)],
        expect![[r#"
        GET /a 200 [10..20] 28>43
    "#]],
    );
}

#[test]
fn a_head_may_come_byte_by_byte() {
    let mut acts: Vec<Do> = get("/slow").into_iter().map(|byte| C(vec![byte])).collect();
    acts.extend(ok(3).into_iter().map(|byte| S(vec![byte])));
    acts.extend([C(get("/b")), S(ok(1)), Close(Fin)]);
    check(
        story(),
        acts,
        expect![[r#"
            GET /slow 200 [10..720] 31>41
            GET /b 200 [730..740] 28>39
        "#]],
    );
}

#[test]
fn what_is_not_http_is_left_alone() {
    for acts in [
        vec![C(b"\x17\x03\x03\x02\x00\x01".to_vec()), S(b"\x17\x03\x03\x00\x7a\x02".to_vec()), Close(Fin)],
        vec![s("SSH-2.0-OpenSSH\r\n"), c("SSH-2.0-OpenSSH\r\n"), Close(Fin)],
        vec![s("220 hi\r\n"), c("EHLO a\r\n"), s("250 hi\r\n"), c("MAIL FROM:<a>\r\n"), s("250 ok\r\n"), Close(Fin)],
        vec![c("put 0 0 60 2\r\nhi\r\n"), s("INSERTED 1\r\n"), c("delete 1\r\n"), s("DELETED\r\n"), Close(Fin)],
    ] {
        check(
            story(),
            acts,
            expect![[r#"
            quiet
        "#]],
        );
    }
    check(
        story(),
        vec![c("OPTIONS rtsp://a RTSP/1.0\r\nCSeq: 1\r\n\r\n"), s("RTSP/1.0 200 OK\r\n\r\n"), Close(Fin)],
        expect![[""]],
    );
}

#[test]
fn pipelines_beyond_the_bound_are_counted() {
    let requests: Vec<u8> = (0..6).flat_map(|_| get("/p")).collect();
    let responses: Vec<u8> = (0..6).flat_map(|_| ok(2)).collect();
    let acts = vec![C(requests), S(responses), C(get("/b")), S(ok(1)), Close(Fin)];
    check(
        story().limits(|limits| limits.open_exchanges = 4),
        acts,
        expect![[r#"
        GET /p 200 [10..20] 28>40
        GET /p 200 [10..20] 28>40
        GET /p 200 [10..20] 28>40
        GET /p 200 [10..20] 28>40
        GET /b 200 [30..40] 28>39
        lost 1 limit
        lost 1 limit
    "#]],
    );
}

#[test]
fn request_behind_a_proxy_header() {
    let request = format!("PROXY TCP4 10.0.0.1 10.0.0.2 4000 80\r\n{}", String::from_utf8(get("/a")).unwrap());
    check(
        story(),
        vec![c(&request), S(ok(1)), Close(Fin)],
        expect![[r#"
        GET /a 200 [10..20] 28>39
    "#]],
    );
}

#[test]
fn an_idle_connection_holds_no_buffers() {
    let mut acts: Vec<Do> = get("/slow").chunks(3).map(|part| C(part.to_vec())).collect();
    acts.extend([S(ok(5)), C([get("/b"), get("/c")].concat()), S([ok(6), ok(7)].concat()), Wait(3_600_000)]);
    let (found, (tcp, _)) = story().run(acts);
    assert_eq!(found.records.len(), 3);
    assert_eq!(tcp.buffered(), 0);
    assert!(size_of_val(&tcp) <= 256);
}

#[test]
fn what_is_held_out_of_order_is_bounded_and_counted() {
    let mut acts = vec![C(get("/a")), UnseenS(ok(0)), S(vec![b'x'; 1000])];
    acts.extend((0..200).map(|_| S(vec![b'x'; 1000])));
    let (_, (tcp, _)) = story().replay().limits(|limits| limits.reassembly_bytes = 8000).run(acts);
    assert!(tcp.buffered() <= 8000);
    assert_eq!(tcp.counters().bounded, 1);
}
