//! Connections that are joined in the middle, and what is lost of others, or left out.

use super::support::Do::{self, C, Close, LostC, LostS, S, SnapC, UnseenC, UnseenS};
use super::support::{CLIENT, Found, SERVER, story};
use super::{
    CONTINUATION, DATA, GOAWAY, HEADERS, PING, SETTINGS, WINDOW_UPDATE, call, check, data, field, fields, frame, get,
    grpc, headers, hello, indexed, reset, status, told, with_start,
};
use expect_test::expect;
use flow_model::Close::Fin;
use flow_model::{Direction, Role, Ts};
use l7::{Piece, Tcp, Walked};

#[test]
fn a_joined_connection_needs_frames_of_both_and_fields_that_tell_who_asks() {
    // By the index of a field that was said before: path and code are unknown, and stay so.
    let known = [&[0x83, 0x86, 0xc2][..], &field("content-type", "application/grpc")].concat();
    let answer = [headers(21, false, &[0x88, 0xc0]), data(21, false, 5), headers(21, true, &[0xbf])].concat();
    check(
        story().midway(),
        vec![
            C([headers(21, false, &known), data(21, true, 5)].concat()),
            S(answer),
            C(call(23, "/p.S/M")),
            S(grpc(23, "5")),
            Close(Fin),
        ],
        expect![[r#"
            grpc / - [10..20]
            grpc p.S/M NOT_FOUND [30..40]
        "#]],
    );
    // Window updates alone are none.
    let update = || frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1, 0]);
    check(story().midway(), vec![C(update()), S(update()), C(update()), S(update()), Close(Fin)], expect![[""]]);
}

#[test]
fn a_connection_that_is_joined_amid_a_long_answer_is_recognised_by_its_next_request() {
    let update = || frame(WINDOW_UPDATE, 0, 5, &[0, 0, 64, 0]);
    let request = |stream| [&[0x83, 0x86, 0xc2][..], &field(":path", &format!("/p.S/M{stream}"))].concat();
    let call = |stream| [headers(stream, false, &request(stream)), data(stream, true, 5)].concat();
    let amid: Vec<Do> = (0..8).flat_map(|_| [S(vec![b'.'; 900]), C(update())]).collect();
    let acts = [
        S(vec![b'.'; 900]),
        C(call(9)),
        S(vec![b'.'; 900]),
        S(grpc(9, "5")),
        C([call(11), data(11, true, 5)].concat()),
        S(grpc(11, "0")),
        Close(Fin),
    ];
    check(
        story().midway(),
        amid.into_iter().chain(acts).collect(),
        expect![[r#"
        grpc p.S/M9 NOT_FOUND [180..200]
        grpc p.S/M11 OK [210..220]
    "#]],
    );
    // Of one frame alone nobody knows.
    let one = || C(headers(9, true, &request(9)));
    check(story().midway(), vec![one(), S(b"no frames".to_vec()), one(), Close(Fin)], expect![[""]]);
}

#[test]
fn a_connection_that_has_lost_its_beginning_counts_what_it_asked_there() {
    let call = |stream| {
        let block = [&[0x83, 0x86][..], &field(":path", "/p.S/M"), &field("content-type", "application/grpc")].concat();
        [headers(stream, false, &block), data(stream, true, 5)].concat()
    };
    check(
        story(),
        vec![
            LostC([hello(), call(1), call(3)].concat()),
            LostS([frame(SETTINGS, 0, 0, &[]), grpc(1, "0"), grpc(3, "0")].concat()),
            C(call(5)),
            S(grpc(5, "5")),
            Close(Fin),
        ],
        expect![[r#"
            grpc p.S/M NOT_FOUND [30..40]
            lost 2 ring_full
        "#]],
    );
}

#[test]
fn answers_to_what_was_asked_before_the_join_are_lost_once() {
    check(
        story().midway(),
        vec![
            S([data(5, false, 9), data(7, false, 9)].concat()),
            C(get(9, "/a")),
            S([status(9, true, "200"), data(5, true, 9), reset(7, 0), reset(7, 0)].concat()),
            Close(Fin),
        ],
        expect![[r#"
            GET /a 200 [20..30] 49>22
            lost 1 joined_midway
            lost 1 joined_midway
        "#]],
    );
}

#[test]
fn lost_messages_are_counted_by_the_ids_of_what_follows() {
    check(
        story(),
        with_start(vec![
            C(get(1, "/a")),
            S(status(1, true, "200")),
            LostC([get(3, "/b"), get(5, "/c")].concat()),
            LostS([status(3, true, "200"), status(5, true, "200")].concat()),
            C(get(7, "/d")),
            S(status(7, true, "204")),
        ]),
        expect![[r#"
            GET /a 200 [30..40] 49>22
            GET /d 204 [70..80] 49>22 gap
            lost 2 ring_full
        "#]],
    );
}

#[test]
fn an_answer_to_a_missed_request_hides_no_other_one() {
    let (first, rest) = (get(5, "/c")[..20].to_vec(), get(5, "/c")[20..].to_vec());
    told(
        with_start(vec![
            C(get(1, "/a")),
            S(status(1, true, "200")),
            UnseenC([get(3, "/b"), first].concat()),
            C(rest),
            S(status(3, true, "200")),
            C(get(7, "/d")),
            S([status(5, true, "200"), status(7, true, "204")].concat()),
        ]),
        expect![[r#"
            GET /a 200 [30..40] 49>22
            - - 200 [70..70] 0>22 no_request
            GET /d 204 [80..90] 49>22
            lost 1 gap
        "#]],
    );
}

#[test]
fn what_follows_the_lost_beginning_of_a_message_is_read() {
    check(
        story(),
        with_start(vec![
            C([get(1, "/a"), get(3, "/b"), get(5, "/c")].concat()),
            LostS(status(1, true, "200")),
            S(status(3, true, "200")),
            S(status(5, false, "200")),
            C(get(7, "/d")),
            S([data(5, true, 3), status(7, true, "204")].concat()),
        ]),
        expect![[r#"
            GET /b 200 [30..50] 49>22 gap
            GET /c 200 [30..80] 49>34 gap
            GET /d 204 [70..80] 49>22
            lost 1 gap
        "#]],
    );
}

#[test]
fn the_end_of_a_message_is_missed_together_with_the_one_that_follows() {
    let (first, rest) = (status(1, true, "200")[..18].to_vec(), status(1, true, "200")[18..].to_vec());
    check(
        story(),
        with_start(vec![
            C(get(1, "/a")),
            S(first),
            LostS(rest),
            LostC(get(3, "/b")),
            S(status(3, true, "200")),
            C(get(5, "/c")),
            S(status(5, true, "204")),
        ]),
        expect![[r#"
            GET /a - [30..40] 49>22 response_cut
            GET /c 204 [80..90] 49>22
            lost 1 gap
        "#]],
    );
}

#[test]
fn a_missed_request_is_known_by_its_body() {
    let head = headers(3, false, &fields(&[(":method", "PUT"), (":path", "/b")]));
    check(
        story(),
        with_start(vec![C(get(1, "/a")), S(status(1, true, "200")), LostC(head), C(data(3, false, 9))]),
        expect![[r#"
            GET /a 200 [30..40] 49>22
            lost 1 ring_full
        "#]],
    );
}

#[test]
fn a_header_of_which_the_first_byte_is_missing_is_no_other_header() {
    let head = headers(3, false, &fields(&[(":method", "PUT"), (":path", "/b")]));
    let body = frame(DATA, 0, 3, &[b'a'; 21]);
    told(
        with_start(vec![
            C(get(1, "/a")),
            S(status(1, true, "200")),
            UnseenC([&head[..], &body[..1]].concat()),
            C(body[1..].to_vec()),
            S(status(3, true, "200")),
            C(get(5, "/c")),
            S(status(5, true, "204")),
        ]),
        expect![[r#"
            GET /a 200 [30..40] 49>22
            - - 200 [70..70] 0>22 no_request
            GET /c 204 [80..90] 49>22
        "#]],
    );
}

#[test]
fn a_field_by_index_is_unknown_after_a_loss_until_it_is_said_again() {
    let said = |stream| headers(stream, true, &[&indexed(":path", "/secret")[..], &[0x82]].concat());
    let again = |stream| headers(stream, true, &[0x82, 0xbe]);
    told(
        with_start(vec![
            C([said(1), again(3)].concat()),
            S([status(1, true, "200"), status(3, true, "200")].concat()),
            UnseenC(said(5)),
            C(again(7)),
            S([status(5, true, "200"), status(7, true, "200")].concat()),
            C([said(9), again(11)].concat()),
            S([status(9, true, "200"), status(11, true, "200")].concat()),
        ]),
        expect![[r#"
            GET /secret 200 [30..40] 25>22
            GET /secret 200 [30..40] 11>22
            GET - 200 [60..70] 11>22 gap
            GET /secret 200 [80..90] 25>22
            GET /secret 200 [80..90] 11>22
            lost 1 gap
        "#]],
    );
}

#[test]
fn a_head_that_was_cut_is_read_as_far_as_it_goes() {
    let block = fields(&[(":method", "GET"), (":path", "/a"), (":authority", "shop"), ("x-long", &"x".repeat(100))]);
    let request = headers(1, true, &block);
    told(
        with_start(vec![SnapC(request, 60), S(status(1, true, "200")), C(get(3, "/b")), S(status(3, true, "200"))]),
        expect![[r#"
        GET /a 200 [30..40] 158>22 request_cut
        GET /b 200 [50..60] 49>22
    "#]],
    );
}

/// What a source leaves out once it was told where the next header is: nothing that is read.
#[test]
fn where_the_next_header_is_shows_only_once_nothing_before_it_is_read() {
    let block = fields(&[(":method", "POST"), (":path", "/p.S/M"), ("content-type", "application/grpc")]);
    let padded = [&[3][..], &[0, 0, 0, 0, 9], &block, &[0; 3]].concat();
    let asked = [
        hello(),
        frame(HEADERS, 0x2c, 1, &padded),
        data(1, true, 30),
        call(3, "/p.S/N"),
        frame(HEADERS, 0, 5, &block[..9]),
        frame(CONTINUATION, 4, 5, &block[9..]),
        get(7, "/a"),
        reset(5, 8),
    ];
    let answered = [
        frame(SETTINGS, 0, 0, &[]),
        grpc(1, "5"),
        reset(3, 11),
        frame(GOAWAY, 0, 0, &[0, 0, 0, 5, 0, 0, 0, 0, b'b', b'y', b'e']),
        frame(PING, 0, 0, &[0; 8]),
    ];
    let [asked, answered] = [asked.concat(), answered.concat()];
    let read = |from: Direction, at: usize| {
        let (mut tcp, mut found) = (Tcp::new(&story().limits, Role::Client), Found::default());
        for (turn, dir, bytes) in [(1, CLIENT, &asked), (2, SERVER, &answered)] {
            tcp.starts_at(dir, 0);
            let walked = Walked { frames: true, ..Walked::default() };
            let whole = Piece {
                dir,
                at: Ts(u64::from(turn) * 10_000_000),
                seq: 0,
                turn,
                first: true,
                wire_len: bytes.len() as u32,
                payload: bytes,
                acked: None,
                walked,
            };
            if dir != from {
                tcp.piece(&whole, &mut found);
                continue;
            }
            let (first, rest) = bytes.split_at(at);
            tcp.piece(&Piece { wire_len: at as u32, payload: first, ..whole }, &mut found);
            let to = tcp.headers()[dir.index()].map_or(at, |seq| seq as usize);
            let walked = Walked { skipped: (to - at) as u32, ..walked };
            let (seq, rest) = (to as u32, &rest[to - at..]);
            let rest = Piece { seq, first: false, wire_len: rest.len() as u32, payload: rest, walked, ..whole };
            tcp.piece(&rest, &mut found);
        }
        tcp.closed(Ts(30_000_000), Fin, None, 2, &mut found);
        format!("{:?} {:?}", found.records, found.lost)
    };
    for (dir, bytes) in [(CLIENT, &asked), (SERVER, &answered)] {
        for at in 16..bytes.len() {
            assert_eq!(read(dir, at), read(dir, bytes.len()), "{dir:?} {at} of {}", bytes.len());
        }
    }
}

/// A server may send DATA of nothing before what follows its body, as Rust's h2 does.
#[test]
fn data_of_nothing_is_a_frame_where_one_was_found_before_it() {
    let update = || frame(WINDOW_UPDATE, 0, 0, &[0, 0, 64, 0]);
    let answer = |stream: u32| {
        let trailers = [field("grpc-status", "5"), field("grpc-message", "no")].concat();
        [headers(stream, false, &[0x88]), data(stream, false, 0), headers(stream, true, &trailers)].concat()
    };
    let updates = [update(), update(), update(), update()].concat();
    check(
        story().replay(),
        vec![
            C([hello(), call(1, "/p.S/A")].concat()),
            S([frame(SETTINGS, 0, 0, &[]), answer(1)].concat()),
            C([call(3, "/p.S/B"), call(5, "/p.S/C")].concat()),
            UnseenS(answer(3)),
            S([updates, answer(5)].concat()),
            C(call(7, "/p.S/D")),
            S(answer(7)),
            Close(Fin),
        ],
        expect![[r#"
            grpc p.S/A NOT_FOUND [10..20]
            grpc p.S/C NOT_FOUND [30..50]
            grpc p.S/D NOT_FOUND [60..70]
            lost 1 gap
        "#]],
    );
}
