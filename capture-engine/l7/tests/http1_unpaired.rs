//! Requests and responses that do not come in pairs, and first pieces that do not come at all.
#![allow(clippy::unwrap_used)]

mod support;

use expect_test::{Expect, expect};
use flow_model::Close::Fin;
use flow_model::Role;
use l7::Tcp;
use support::Do::{self, C, Close, LostC, S, UnseenC, UnseenS, Wait};
use support::{c, get, ok, s, story};

/// Live and in replay.
fn check_both(acts: impl Fn() -> Vec<Do>, expected: Expect) {
    let live = story().play(acts());
    assert_eq!(live, story().replay().play(acts()), "a capture tells something else");
    expected.assert_eq(&live);
}

#[test]
fn a_body_that_was_refused_is_not_waited_for() {
    let expects = || c("POST /up HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 300\r\n\r\n");
    let refused = || s("HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n");
    check_both(
        move || vec![expects(), refused(), C(get("/a")), S(ok(2)), C(get("/b")), S(ok(2)), Close(Fin)],
        expect![[r#"
            POST /up 417 [10..20] 64>38
            GET /a 200 [30..40] 28>40
            GET /b 200 [50..60] 28>40
        "#]],
    );
    // It comes all the same, and what follows it is read.
    check_both(
        move || vec![expects(), refused(), C([vec![b'x'; 300], get("/a")].concat()), S(ok(2)), Close(Fin)],
        expect![[r#"
            POST /up 417 [10..20] 64>38
            GET /a 200 [30..40] 28>40
        "#]],
    );
}

#[test]
fn an_announced_body_that_never_comes_hides_no_request() {
    check_both(
        || {
            let begun = "POST /up HTTP/1.1\r\nContent-Length: 100\r\n\r\nhello";
            let late = "HTTP/1.1 408 Late\r\nContent-Length: 0\r\n\r\n";
            vec![c(begun), s(late), C(get("/a")), S(ok(2)), Close(Fin)]
        },
        expect![[r#"
            POST /up 408 [10..20] 47>40
            GET /a 200 [30..40] 28>40
        "#]],
    );
}

#[test]
fn an_answer_to_nothing_is_no_exchange() {
    let late = || s("HTTP/1.1 408 Late\r\nContent-Length: 0\r\n\r\n");
    check_both(
        move || vec![late(), Close(Fin)],
        expect![[r#"
            unasked 1
        "#]],
    );
    check_both(
        move || vec![C(get("/a")), S(ok(2)), C(get("/b")), S(ok(2)), Wait(60_000), late(), Close(Fin)],
        expect![[r#"
            GET /a 200 [10..20] 28>40
            GET /b 200 [30..40] 28>40
            unasked 1
        "#]],
    );
    check_both(
        move || vec![late(), C(get("/a")), S(ok(2)), Close(Fin)],
        expect![[r#"
            GET /a 200 [20..30] 28>40
            unasked 1
        "#]],
    );
}

#[test]
fn a_request_that_cannot_be_read_is_one_when_it_is_answered() {
    let bad = || s("HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n");
    check_both(
        move || vec![C(get("/a")), S(ok(2)), c("\x01\x02 what is this\r\n\r\n"), bad(), Close(Fin)],
        expect![[r#"
            GET /a 200 [10..20] 28>40
            - - 400 [30..40] 19>39 no_request malformed
        "#]],
    );
    check_both(
        move || vec![c("\x01\x02 what is this\r\n\r\n"), bad(), Close(Fin)],
        expect![[r#"
            - - 400 [10..20] 19>39 no_request malformed
        "#]],
    );
    check_both(
        move || vec![c("GE"), s("HTTP/1.1 408 Late\r\nContent-Length: 0\r\n\r\n"), Close(Fin)],
        expect![[r#"
            - - 408 [10..20] 2>40 no_request malformed
        "#]],
    );
}

#[test]
fn one_lost_record_of_an_upload_leaves_the_next_exchanges_alone() {
    let head = "POST /up HTTP/1.1\r\nContent-Length: 5\r\n\r\n";
    let mut acts = vec![c(head), c("hello"), S(ok(1)), LostC(head.as_bytes().to_vec()), c("hello"), S(ok(2))];
    for _ in 0..3 {
        acts.extend([c(head), c("hello"), S(ok(3))]);
    }
    acts.push(Close(Fin));
    let told = story().play(acts);
    expect![[r#"
        POST /up 200 [10..30] 45>39
        POST /up 200 [70..90] 45>41
        POST /up 200 [100..120] 45>41
        POST /up 200 [130..150] 45>41
        lost 1 ring_full
    "#]]
    .assert_eq(&told);
}

#[test]
fn a_first_piece_without_bytes_that_were_copied_loses_nothing() {
    // The second packet of the request came first, and lies beyond what is copied of a message.
    let mut upload = b"POST /up HTTP/1.1\r\nContent-Length: 6000\r\n\r\n".to_vec();
    upload.resize(upload.len() + 6000, b'u');
    let (first, second) = upload.split_at(5000);
    let mut tcp = Tcp::new(&l7::Limits { keep_strings: true, ..l7::Limits::default() }, Role::Client);
    let mut found = support::Found::default();
    let piece = |turn, dir, seq, first, wire_len, payload| l7::Piece {
        dir,
        at: flow_model::Ts(u64::from(turn)),
        seq,
        turn,
        first,
        wire_len,
        payload,
        acked: None,
        walked: l7::Walked::default(),
    };
    let end = |turn, bytes| l7::MessageEnd { turn, bytes, packets: 1, ..l7::MessageEnd::default() };
    let (get, ok) = (get("/a"), ok(2));
    let [get_len, ok_len, up_len] = [get.len(), ok.len(), upload.len()].map(|length| length as u32);
    tcp.piece(&piece(1, support::CLIENT, 100, true, get_len, &get), &mut found);
    tcp.message_ended(&end(1, get.len() as u64), &mut found);
    tcp.piece(&piece(2, support::SERVER, 700, true, ok_len, &ok), &mut found);
    // No record of `second`: the start of message 3 comes with the first packet, late, and unmarked.
    let _ = second;
    tcp.piece(&piece(3, support::CLIENT, 100 + get_len, false, 5000, &first[..4096]), &mut found);
    tcp.message_ended(&end(3, u64::from(up_len)), &mut found);
    tcp.piece(&piece(4, support::SERVER, 700 + ok_len, true, ok_len, &ok), &mut found);
    tcp.closed(flow_model::Ts(5), flow_model::Close::Fin, None, 4, &mut found);
    let lines: Vec<String> = found.records.iter().map(support::line).collect();
    assert_eq!(lines, ["GET /a 200 [0..0] 28>40", "POST /up 200 [0..0] 6043>40 body_skipped"]);
    assert_eq!(found.lost_count(), 0);
}

/// A capture dropped the rest of an interim response with the response behind it, and the next response:
/// which of the two requests the one after them answers nobody knows.
#[test]
fn behind_the_head_of_an_interim_response_that_was_cut_nothing_pairs_by_chance() {
    let mut acts = vec![C(get("/a")), s("HTTP/1.1 103 Early"), UnseenS([b" Hints\r\n\r\n".to_vec(), ok(5)].concat())];
    acts.extend([C(get("/b")), UnseenS(ok(6)), C(get("/c")), S(ok(7)), C(get("/d")), S(ok(8))]);
    acts.extend(["/e", "/f", "/g"].iter().flat_map(|path| [C(get(path)), S(ok(9))]));
    acts.push(Close(Fin));
    expect![[r#"
        GET /d 200 [80..90] 28>46
        GET /e 200 [100..110] 28>47
        GET /f 200 [120..130] 28>47
        GET /g 200 [140..150] 28>47
        lost 3 gap
    "#]]
    .assert_eq(&story().replay().acks().play(acts));
}

/// A capture dropped the end of a response and of the next two requests: what was held back for that shows
/// at once and out of order, and does not make a client that waits look like one that goes on.
#[test]
fn what_was_held_back_says_nothing_of_how_the_client_asks() {
    let (response, request) = (ok(100), get("/b"));
    let (seen, dropped) = response.split_at(60);
    let (head, end) = request.split_at(10);
    let mut acts = vec![C(get("/a")), S(seen.to_vec()), UnseenS(dropped.to_vec())];
    for _ in 0..2 {
        acts.extend([C(head.to_vec()), UnseenC(end.to_vec()), S(ok(5))]);
    }
    acts.extend(["/c", "/d", "/e", "/f"].iter().flat_map(|path| [C(get(path)), S(ok(9))]));
    acts.push(Close(Fin));
    expect![[r#"
        GET /a 200 [10..60] 28>140 body_skipped end_assumed
        GET /d 200 [120..130] 28>47
        GET /e 200 [140..150] 28>47
        GET /f 200 [160..170] 28>47
        lost 1 gap
        lost 1 gap
        lost 1 gap
    "#]]
    .assert_eq(&story().replay().acks().play(acts));
}
