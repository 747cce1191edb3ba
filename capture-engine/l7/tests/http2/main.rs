//! HTTP/2 and gRPC as stories: frames written by hand, and what is told of them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod lost;
#[path = "../support/mod.rs"]
mod support;

use expect_test::{Expect, expect};
use flow_model::Close::{Fin, Gone};
use flow_model::{Detail, Outcome};
use std::fmt::Write as _;
use support::Do::{self, C, Close, S};
use support::{Story, c, line, s, story};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A field that no table will have.
fn field(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0, name.len() as u8];
    bytes.extend(name.as_bytes());
    bytes.push(value.len() as u8);
    bytes.extend(value.as_bytes());
    bytes
}

/// The same, to be had by its index from then on.
fn indexed(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = field(name, value);
    bytes[0] = 0x40;
    bytes
}

fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| field(name, value)).collect()
}

fn headers(stream: u32, end: bool, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, 4 | u8::from(end), stream, block)
}

fn get(stream: u32, path: &str) -> Vec<u8> {
    headers(stream, true, &fields(&[(":method", "GET"), (":path", path), (":authority", "shop")]))
}

fn call(stream: u32, path: &str) -> Vec<u8> {
    let block = fields(&[(":method", "POST"), (":path", path), ("content-type", "application/grpc+proto")]);
    [headers(stream, false, &block), data(stream, true, 7)].concat()
}

fn data(stream: u32, end: bool, length: usize) -> Vec<u8> {
    frame(DATA, u8::from(end), stream, &vec![b'.'; length])
}

fn status(stream: u32, end: bool, status: &str) -> Vec<u8> {
    headers(stream, end, &fields(&[(":status", status)]))
}

fn grpc(stream: u32, code: &str) -> Vec<u8> {
    let head = fields(&[(":status", "200"), ("content-type", "application/grpc")]);
    [headers(stream, false, &head), data(stream, false, 9), headers(stream, true, &fields(&[("grpc-status", code)]))]
        .concat()
}

fn reset(stream: u32, error: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &error.to_be_bytes())
}

fn hello() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff])].concat()
}

fn start() -> Vec<Do> {
    vec![C(hello()), S(frame(SETTINGS, 0, 0, &[]))]
}

fn check(story: Story, acts: Vec<Do>, expected: Expect) {
    let (found, _) = story.run(acts);
    let mut text = String::new();
    for record in &found.records {
        match &record.detail {
            Detail::Rpc(call) => {
                let ms = |at: flow_model::Ts| at.0 / 1_000_000;
                let outcome = if record.outcome == Outcome::Answered { "" } else { " unanswered" };
                let (start, end) = (ms(record.start), ms(record.end));
                let status = if call.status.is_empty() { "-" } else { &call.status };
                let (service, method) = (&call.service, &call.method);
                writeln!(text, "{} {service}/{method} {status}{outcome} [{start}..{end}]", call.system).unwrap();
            }
            _ => writeln!(text, "{}", line(record)).unwrap(),
        }
    }
    for (reason, count) in &found.lost {
        writeln!(text, "lost {count} {}", reason.as_str()).unwrap();
    }
    expected.assert_eq(&text);
}

fn told(acts: Vec<Do>, expected: Expect) {
    check(story().replay(), acts, expected);
}

fn with_start(acts: Vec<Do>) -> Vec<Do> {
    start().into_iter().chain(acts).chain([Close(Fin)]).collect()
}

#[test]
fn streams_are_answered_in_any_order() {
    told(
        with_start(vec![
            C([get(1, "/a"), get(3, "/b"), get(5, "/c")].concat()),
            S([status(5, true, "204"), status(1, false, "200")].concat()),
            S([data(1, false, 10), status(3, true, "404"), data(1, true, 5)].concat()),
        ]),
        expect![[r#"
            GET /c 204 [30..40] 49>22
            GET /b 404 [30..50] 49>22
            GET /a 200 [30..50] 49>55
        "#]],
    );
}

#[test]
fn a_frame_may_come_byte_by_byte() {
    let mut acts: Vec<Do> = hello().into_iter().chain(call(1, "/p.S/M")).map(|byte| C(vec![byte])).collect();
    acts.extend(grpc(1, "5").into_iter().map(|byte| S(vec![byte])));
    acts.push(Close(Fin));
    told(
        acts,
        expect![[r#"
        grpc p.S/M NOT_FOUND [400..2240]
    "#]],
    );
}

#[test]
fn a_call_ends_with_its_trailers_or_with_fields_alone() {
    let bare = fields(&[(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "12")]);
    told(
        with_start(vec![
            C([call(1, "/p.S/Ok"), call(3, "/p.S/Bare"), call(5, "/p.S/Own"), call(7, "/p.S/None")].concat()),
            S([grpc(1, "0"), headers(3, true, &bare), grpc(5, "77")].concat()),
            S([
                headers(7, false, &fields(&[(":status", "200"), ("content-type", "application/grpc")])),
                data(7, true, 3),
            ]
            .concat()),
        ]),
        expect![[r#"
            grpc p.S/Ok OK [30..40]
            grpc p.S/Bare UNIMPLEMENTED [30..40]
            grpc p.S/Own 77 [30..40]
            grpc p.S/None UNKNOWN [30..50]
        "#]],
    );
}

#[test]
fn a_call_without_a_status_has_that_of_http_or_of_the_reset() {
    told(
        with_start(vec![
            C([call(1, "/p.S/A"), call(3, "/p.S/B"), call(5, "/p.S/C"), call(7, "/p.S/D"), call(9, "/p.S/E")].concat()),
            S([status(1, true, "503"), reset(3, 7), reset(5, 11)].concat()),
            S(headers(9, false, &fields(&[(":status", "200"), ("content-type", "application/grpc")]))),
            C([reset(7, 8), reset(9, 8)].concat()),
        ]),
        expect![[r#"
            grpc p.S/A UNAVAILABLE [30..40]
            grpc p.S/B UNAVAILABLE [30..40]
            grpc p.S/C RESOURCE_EXHAUSTED [30..40]
            grpc p.S/D - unanswered [30..60]
            grpc p.S/E CANCELLED [30..60]
        "#]],
    );
}

/// Whether its client sees DEADLINE_EXCEEDED or CANCELLED depends on a clock of its own.
#[test]
fn a_call_that_the_server_cancels_is_not_answered() {
    told(
        with_start(vec![C([call(1, "/p.S/A"), call(3, "/p.S/B")].concat()), S([reset(1, 8), reset(3, 2)].concat())]),
        expect![[r#"
            grpc p.S/A - unanswered [30..40]
            grpc p.S/B INTERNAL [30..40]
        "#]],
    );
}

/// What a capture ends in is not known to have failed.
#[test]
fn a_call_whose_answer_a_capture_cuts_off_has_no_status() {
    let head = |stream| headers(stream, false, &fields(&[(":status", "200"), ("content-type", "application/grpc")]));
    let acts = vec![
        C([call(1, "/p.S/A"), call(3, "/p.S/B"), call(5, "/p.S/C")].concat()),
        S([head(1), status(3, false, "503")].concat()),
    ];
    told(
        start().into_iter().chain(acts).chain([Close(Gone)]).collect(),
        expect![[r#"
            grpc p.S/A - [30..40]
            grpc p.S/B UNAVAILABLE [30..40]
            grpc p.S/C - unanswered [30..50]
        "#]],
    );
}

#[test]
fn what_comes_before_a_response_is_none() {
    told(
        with_start(vec![
            C(get(1, "/a")),
            S(status(1, false, "103")),
            S([status(1, false, "100"), status(1, false, "200"), data(1, true, 4)].concat()),
        ]),
        expect![[r#"
            GET /a 200 [30..50] 49>79
        "#]],
    );
}

#[test]
fn a_server_that_goes_away_has_not_looked_at_later_streams() {
    told(
        with_start(vec![
            C([get(1, "/a"), get(3, "/b"), call(5, "/p.S/M")].concat()),
            S([frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]), status(1, true, "200")].concat()),
        ]),
        expect![[r#"
            GET /b - unanswered [30..40] 49>0
            grpc p.S/M - unanswered [30..40]
            GET /a 200 [30..40] 49>22
        "#]],
    );
}

#[test]
fn what_is_open_when_the_connection_ends_is_unanswered() {
    let acts = |close| {
        let acts = vec![C([get(1, "/a"), get(3, "/b"), call(5, "/p.S/M")].concat()), S(status(1, false, "200"))];
        start().into_iter().chain(acts).chain([close]).collect()
    };
    told(
        acts(Close(Fin)),
        expect![[r#"
        GET /a 200 [30..40] 49>22 end_assumed
        GET /b - unanswered [30..50] 49>0
        grpc p.S/M - unanswered [30..50]
    "#]],
    );
    check(
        story(),
        acts(Close(Gone)),
        expect![[r#"
        lost 1 unfinished
        lost 1 unfinished
        lost 1 unfinished
    "#]],
    );
}

#[test]
fn fields_go_on_in_further_frames_with_padding_and_priority() {
    let block = fields(&[(":method", "PUT"), (":path", "/long"), ("x-secret", "hunter2"), (":authority", "shop")]);
    let (first, rest) = block.split_at(20);
    let padded = [&[3][..], &[0, 0, 0, 0, 9], first, &[0; 3]].concat();
    told(
        with_start(vec![
            C([frame(HEADERS, 0x29, 1, &padded), frame(CONTINUATION, 0, 1, &rest[..5])].concat()),
            C(frame(CONTINUATION, 4, 1, &rest[5..])),
            S(status(1, true, "200")),
        ]),
        expect![[r#"
            PUT /long 200 [30..50] 97>22
        "#]],
    );
}

#[test]
fn padding_that_a_packet_cuts_is_no_field() {
    let block = fields(&[(":method", "PUT"), (":path", "/long")]);
    let padded = frame(HEADERS, 0x0d, 1, &[&[5][..], &block, &[0; 5]].concat());
    for cut in 0..5 {
        let (first, rest) = padded.split_at(padded.len() - 5 + cut);
        told(
            with_start(vec![C(first.to_vec()), C(rest.to_vec()), S(status(1, true, "200"))]),
            expect![[r#"
                PUT /long 200 [30..50] 41>22
            "#]],
        );
    }
}

#[test]
fn lengths_that_make_no_sense_cost_their_stream_and_no_other() {
    told(
        with_start(vec![
            // Shorter than its priority, more padding than payload, no byte for the padding's length.
            C([frame(HEADERS, 0x25, 1, &[0, 0]), frame(HEADERS, 0x0d, 3, &[200, 0x82]), frame(HEADERS, 0x0d, 5, &[])]
                .concat()),
            C(get(7, "/a")),
            S([status(1, true, "200"), status(3, true, "200"), status(5, true, "400"), status(7, true, "204")]
                .concat()),
        ]),
        expect![[r#"
            - - 200 [30..50] 11>22 request_cut
            - - 200 [30..50] 11>22 request_cut
            - - 400 [30..50] 9>22 request_cut
            GET /a 204 [40..50] 49>22
        "#]],
    );
}

#[test]
fn what_a_server_pushes_is_no_exchange_and_its_fields_are_read() {
    let promise = [&[0, 0, 0, 2][..], &indexed(":path", "/pushed"), &indexed(":status", "418")].concat();
    told(
        with_start(vec![
            C(get(1, "/a")),
            S([frame(PUSH_PROMISE, 4, 1, &promise), headers(1, true, &[0xbe]), status(2, true, "200")].concat()),
        ]),
        expect![[r#"
            GET /a 418 [30..40] 49>10
        "#]],
    );
}

#[test]
fn an_upgraded_connection_answers_its_first_request_on_stream_1() {
    let request = "GET /first HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
                   HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n";
    let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    told(
        vec![
            c(request),
            S([switch.as_bytes(), &frame(SETTINGS, 0, 0, &[])].concat()),
            C([hello(), get(3, "/second")].concat()),
            S([status(1, false, "200"), data(1, true, 6), status(3, true, "404")].concat()),
            Close(Fin),
        ],
        expect![[r#"
            GET /first 101 [10..20] 128>71 upgraded
            GET /first 200 [10..40] 128>37
            GET /second 404 [30..40] 54>22
        "#]],
    );
}

#[test]
fn a_tunnel_may_carry_it() {
    told(
        vec![
            c("CONNECT shop:80 HTTP/1.1\r\nHost: shop:80\r\n\r\n"),
            s("HTTP/1.1 200 OK\r\n\r\n"),
            C([hello(), call(1, "/p.S/M")].concat()),
            S([frame(SETTINGS, 0, 0, &[]), grpc(1, "0")].concat()),
            Close(Fin),
        ],
        expect![[r#"
            CONNECT shop:80 200 [10..20] 43>19 upgraded
            grpc p.S/M OK [30..40]
        "#]],
    );
}

#[test]
fn streams_beyond_the_bound_are_lost_to_it() {
    let requests = (0..10).flat_map(|number| get(1 + 2 * number, "/a")).collect();
    check(
        story().limits(|limits| limits.open_exchanges = 4),
        with_start(vec![C(requests), S((0..10).flat_map(|number| status(1 + 2 * number, true, "200")).collect())]),
        expect![[r#"
            GET /a 200 [30..40] 49>22
            GET /a 200 [30..40] 49>22
            GET /a 200 [30..40] 49>22
            GET /a 200 [30..40] 49>22
            lost 1 limit
            lost 1 limit
            lost 1 limit
            lost 1 limit
            lost 1 limit
            lost 1 limit
        "#]],
    );
}

/// 10,000 of them are to fit into 20 MiB.
#[test]
fn ten_thousand_connections_that_wait_for_their_next_calls_fit_into_20_mib() {
    let request = [
        indexed(":path", "/shop.v1.CartService/AddItem"),
        indexed(":authority", "cart.shop.svc.cluster.local:8080"),
        indexed("content-type", "application/grpc"),
        indexed("user-agent", "grpc-go/1.64.0"),
        indexed("te", "trailers"),
        indexed("grpc-timeout", "999m"),
        indexed("authorization", "Bearer 0123456789"),
        indexed("x-request-id", "0123456789abcdef"),
        indexed("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ];
    let block = [&[0x83, 0x86][..], &request.concat()].concat();
    let answer = [&[0x88][..], &indexed("content-type", "application/grpc")].concat();
    let trailers = [indexed("grpc-status", "0"), indexed("grpc-message", "")].concat();
    let acts = [
        C([headers(1, false, &block), data(1, true, 40)].concat()),
        S([headers(1, false, &answer), data(1, false, 40), headers(1, true, &trailers)].concat()),
    ];
    let (found, (tcp, _)) = story().run(start().into_iter().chain(acts).collect());
    assert_eq!((found.records.len(), found.lost_count()), (1, 0));
    let held = size_of::<l7::Tcp>() + tcp.held();
    assert!(held <= (20 << 20) / 10_000, "{held}");
}
