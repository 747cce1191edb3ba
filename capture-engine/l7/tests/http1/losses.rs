//! Conversations of which something was not seen.

use super::check;
use super::support::Do::{self, C, Close, LostC, LostS, S, SnapC, SnapS, UnseenC, UnseenS};
use super::support::{c, get, ok, s, story};
use expect_test::expect;
use flow_model::Close::Fin;

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
        LostC(b"stats\r\n".to_vec()),
        LostS(b"OK 0\r\n".to_vec()),
        c("put 0 0 60 2\r\nhi\r\n"),
        s("INSERTED 1\r\n"),
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
fn one_thousand_pipelined_requests_of_which_one_response_is_lost() {
    let requests: Vec<u8> = (0..1000).flat_map(|i| get(&format!("/{i}"))).collect();
    let mut acts: Vec<Do> = requests.chunks(1400).map(|part| C(part.to_vec())).collect();
    acts.extend((0..1000).map(|i| if i == 500 { UnseenS(ok(2)) } else { S(ok(2)) }));
    acts.push(Close(Fin));
    let (found, _) = story().replay().run(acts);
    assert_eq!(found.records.len() as u64 + found.lost_count(), 1000);
    assert_eq!(found.records.len(), 500, "those before the loss");
}
