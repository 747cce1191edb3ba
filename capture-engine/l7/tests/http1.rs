//! HTTP/1 conversations as stories: who sent what, and what came out.
#![allow(clippy::unwrap_used)]

mod support;

use expect_test::{Expect, expect};
use flow_model::Close::{Fin, Gone, Reset};
use l7::Interest;
use support::Do::{self, C, Close, LostC, LostS, S, Sample, SnapC, SnapS, UnseenC, UnseenS, Wait};
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

fn chunked(data: usize, last: &str) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{data:x}\r\n").into_bytes();
    bytes.resize(bytes.len() + data, b'x');
    bytes.extend_from_slice(last.as_bytes());
    bytes
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
    assert_eq!([0, 31, 32].map(interest), [Interest::Everything, Interest::Everything, Interest::Heads]);
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
fn simple_request_is_answered_by_bytes_alone() {
    check(
        story(),
        vec![c("GET /x\r\n"), s("<html>hello"), Close(Fin)],
        expect![[r#"
        GET /x - [10..20] 8>11
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
fn request_head_lost_in_the_ring_is_one_exchange() {
    let acts = vec![C(get("/a")), S(ok(5)), LostC(get("/b")), S(ok(6)), C(get("/c")), S(ok(7)), Close(Fin)];
    check(
        story(),
        acts,
        expect![[r#"
        GET /a 200 [10..20] 28>43
        GET /c 200 [50..60] 28>45
        lost 1 ring_full
    "#]],
    );
}

#[test]
fn response_head_lost_in_the_ring_is_one_exchange() {
    let acts = vec![C(get("/a")), LostS(ok(5)), C(get("/b")), S(ok(6)), Close(Fin)];
    check(
        story(),
        acts,
        expect![[r#"
        GET /b 200 [30..40] 28>44
        lost 1 ring_full
    "#]],
    );
}

#[test]
fn several_heads_lost_in_a_row() {
    let acts = vec![
        C(get("/a")),
        LostS(ok(5)),
        LostC(get("/b")),
        S(ok(6)),
        C(get("/c")),
        S(ok(6)),
        LostC(get("/d")),
        LostS(ok(6)),
        LostC(get("/e")),
        LostS(ok(6)),
        C(get("/f")),
        S(ok(6)),
        Close(Fin),
    ];
    check(
        story(),
        acts,
        expect![[r#"
        GET /c 200 [50..60] 28>44
        GET /f 200 [110..120] 28>44
        lost 1 ring_full
        lost 1 ring_full
        lost 1 ring_full
        lost 1 ring_full
    "#]],
    );
}

#[test]
fn the_end_of_a_long_body_is_lost_with_the_next_head() {
    let mut long = b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n".to_vec();
    long.resize(long.len() + 9000, b'x');
    let acts = vec![C(get("/a")), S(long), LostC(get("/b")), S(ok(6)), C(get("/c")), S(ok(6)), Close(Fin)];
    check(
        story(),
        acts,
        expect![[r#"
        GET /a 200 [10..20] 28>9041 body_skipped
        GET /c 200 [50..60] 28>44
        lost 1 ring_full
    "#]],
    );
}

#[test]
fn losses_before_the_protocol_is_known_are_settled_when_it_is() {
    let acts = vec![LostC(get("/a")), LostS(ok(5)), LostC(get("/b")), S(ok(6)), C(get("/c")), S(ok(6)), Close(Fin)];
    check(
        story(),
        acts,
        expect![[r#"
            GET /c 200 [50..60] 28>44
            lost 2 ring_full
        "#]],
    );
    let acts = vec![LostC(get("/a")), LostS(ok(5)), C(get("/c")), S(ok(6)), LostC(get("/d")), LostS(ok(5)), Close(Fin)];
    check(
        story(),
        acts,
        expect![[r#"
            GET /c 200 [30..40] 28>44
            lost 1 ring_full
            lost 1 ring_full
        "#]],
    );
    let acts = vec![
        LostC(b"*1\r\n".to_vec()),
        LostS(b"+OK\r\n".to_vec()),
        c("*1\r\n$4\r\nPING\r\n"),
        s("+PONG\r\n"),
        Close(Fin),
    ];
    check(story(), acts, expect![[""]]);
}

#[test]
fn a_lost_upload_is_one_exchange() {
    let mut upload = b"POST /up HTTP/1.1\r\nContent-Length: 20000\r\n\r\n".to_vec();
    upload.resize(upload.len() + 20000, b'u');
    let acts = vec![
        C(upload.clone()),
        LostS(ok(1)),
        LostC(get("/b")),
        S(ok(2)),
        C(upload),
        LostS(ok(1)),
        C(get("/c")),
        S(ok(2)),
        Close(Fin),
    ];
    check(
        story(),
        acts,
        expect![[r#"
        GET /c 200 [70..80] 28>40
        lost 1 ring_full
        lost 1 ring_full
        lost 1 ring_full
    "#]],
    );
    let expects = "POST /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    let acts = vec![
        c(expects),
        LostS(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()),
        c("hello"),
        S(ok(2)),
        c(expects),
        s("HTTP/1.1 100 Continue\r\n\r\n"),
        LostC(b"hello".to_vec()),
        S(ok(3)),
        Close(Fin),
    ];
    check(
        story(),
        acts,
        expect![[r#"
            POST /a 200 [10..40] 66>40
            POST /a 200 [50..80] 61>66
        "#]],
    );
}

#[test]
fn joined_midway() {
    let acts = vec![S(ok(5)), C(get("/b")), S(ok(6)), Close(Fin)];
    check(
        story().midway(),
        acts,
        expect![[r#"
        GET /b 200 [20..30] 28>44
        lost 1 joined_midway
    "#]],
    );
    let acts = vec![s("middle of a body"), C(get("/b")), S(ok(6)), Close(Fin)];
    check(
        story().midway(),
        acts,
        expect![[r#"
            GET /b 200 [20..30] 28>44
            lost 1 joined_midway
        "#]],
    );
    let acts = vec![c("middle of an upload"), S(ok(5)), C(get("/b")), S(ok(6)), Close(Fin)];
    check(
        story().midway(),
        acts,
        expect![[r#"
        GET /b 200 [30..40] 28>44
        lost 1 joined_midway
    "#]],
    );
    let acts = vec![S(ok(5)), C(get("/b")), S(ok(6)), Close(Fin)];
    check(
        story().midway().replay(),
        acts,
        expect![[r#"
        - - 200 [10..10] 0>43 no_request
        GET /b 200 [20..30] 28>44
    "#]],
    );
}

#[test]
fn packets_that_the_capture_dropped() {
    let acts = vec![C(get("/a")), S(ok(5)), UnseenC(get("/b")), S(ok(6)), C(get("/c")), S(ok(7)), Close(Fin)];
    check(
        story().replay(),
        acts,
        expect![[r#"
        GET /a 200 [10..20] 28>43
        - - 200 [40..40] 0>44 no_request
        GET /c 200 [50..60] 28>45
    "#]],
    );
    let acts = vec![C(get("/a")), UnseenS(ok(5)), C(get("/b")), S(ok(6)), C(get("/c")), S(ok(7)), Close(Fin)];
    check(
        story().replay(),
        acts,
        expect![[r#"
            GET /c 200 [50..60] 28>45
            lost 2 gap
        "#]],
    );
    let mut head = b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n".to_vec();
    head.extend([b'x'; 10]);
    let acts =
        vec![C(get("/a")), S(head), UnseenS(vec![b'x'; 10]), S(vec![b'x'; 10]), C(get("/b")), S(ok(6)), Close(Fin)];
    check(
        story().replay(),
        acts,
        expect![[r#"
            GET /a 200 [10..40] 28>69 body_skipped
            GET /b 200 [50..60] 28>44
        "#]],
    );
}

#[test]
fn packets_cut_by_the_snaplen() {
    let acts =
        vec![SnapC(get("/abcdefgh"), 9), SnapS(ok(500), 20), SnapC(get("/b"), 20), SnapS(ok(500), 60), Close(Fin)];
    check(
        story().replay(),
        acts,
        expect![[r#"
        GET /abcd 200 [10..20] 35>540 request_cut response_cut body_skipped
        GET /b 200 [30..40] 28>540 request_cut body_skipped
    "#]],
    );
}

#[test]
fn what_is_not_http_is_left_alone() {
    for acts in [
        vec![C(b"\x17\x03\x03\x02\x00\x01".to_vec()), S(b"\x17\x03\x03\x00\x7a\x02".to_vec()), Close(Fin)],
        vec![s("SSH-2.0-OpenSSH\r\n"), c("SSH-2.0-OpenSSH\r\n"), Close(Fin)],
        vec![c("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Close(Fin)],
        vec![s("220 hi\r\n"), c("EHLO a\r\n"), s("250 hi\r\n"), c("MAIL FROM:<a>\r\n"), s("250 ok\r\n"), Close(Fin)],
        vec![c("*1\r\n$4\r\nPING\r\n"), s("+PONG\r\n"), c("*1\r\n$4\r\nPING\r\n"), s("+PONG\r\n"), Close(Fin)],
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
fn nothing_is_paired_while_it_is_unknown_how_many_responses_were_lost() {
    let requests: Vec<u8> = (0..3).flat_map(|_| get("/p")).collect();
    let acts = vec![
        C(requests),
        LostS(ok(2)),
        C(get("/b")),
        S([ok(3), ok(3), ok(3)].concat()),
        C(get("/c")),
        S(ok(1)),
        C(get("/d")),
        S(ok(1)),
        Close(Fin),
    ];
    check(
        story(),
        acts,
        expect![[r#"
            GET /c 200 [50..60] 28>39
            GET /d 200 [70..80] 28>39
            lost 3 ring_full
            lost 1 ring_full
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
fn one_thousand_pipelined_requests_of_which_one_response_is_lost() {
    let requests: Vec<u8> = (0..1000).flat_map(|i| get(&format!("/{i}"))).collect();
    let mut acts: Vec<Do> = requests.chunks(1400).map(|part| C(part.to_vec())).collect();
    acts.extend((0..1000).map(|i| if i == 500 { UnseenS(ok(2)) } else { S(ok(2)) }));
    acts.push(Close(Fin));
    let (found, _) = story().replay().run(acts);
    assert_eq!(found.records.len() as u64 + found.lost_count(), 1000);
    assert_eq!(found.records.len(), 500, "those before the loss");
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
