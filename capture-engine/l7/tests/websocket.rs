//! What is found on connections that become WebSockets.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use expect_test::{Expect, expect};
use flow_model::{Close::Fin, Detail, L7Record, Outcome, Protocol};
use l7::{Interest, Limits, Wire, Wires};
use std::fmt::Write;
use support::{Do, Do::*, Story, c, database_line, line, s, story, told};

const ASK: &str = "GET /chat?token=secret HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
const AGREE: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\
                     Sec-WebSocket-Accept: x\r\n\r\n";

/// A frame: `first` is its first byte.
fn frame(first: u8, masked: bool, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mask = if masked { 0x80 } else { 0 };
    match payload.len() {
        length @ 0..126 => bytes.push(mask | length as u8),
        length @ 126..65_536 => {
            bytes.push(mask | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(mask | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    let key = [0xa1, 0x52, 0x93, 0x44];
    if masked {
        bytes.extend(key);
        bytes.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    } else {
        bytes.extend(payload);
    }
    bytes
}

/// By the client.
fn up(first: u8, payload: &[u8]) -> Vec<u8> {
    frame(first, true, payload)
}

/// By the server.
fn down(first: u8, payload: &[u8]) -> Vec<u8> {
    frame(first, false, payload)
}

fn said(record: &L7Record) -> String {
    let Detail::Channel(traffic) = &record.detail else { return line(record) };
    assert_eq!((record.protocol, record.outcome), (Protocol::Websocket, Outcome::OneWay));
    assert_eq!(traffic.messages.iter().sum::<u64>(), 1);
    let by = if traffic.messages[0] == 1 { "client" } else { "server" };
    let mut text = format!("{} by {by}", traffic.opcode);
    if let Some(code) = traffic.close_code {
        write!(text, " {code}").unwrap();
    }
    database_line(&text, record)
}

fn check(story: &Story, acts: Vec<Do>, expected: Expect) {
    let (found, (tcp, interest)) = story.run([c(ASK), s(AGREE)].into_iter().chain(acts).collect());
    let mut text = told(&found, said);
    match interest {
        Interest::Nothing => text += "quiet\n",
        Interest::Frames(_) => text += "frames\n",
        other => writeln!(text, "{other:?}").unwrap(),
    }
    assert_eq!(tcp.buffered(), 0);
    expected.assert_eq(&text);
}

#[test]
fn messages_are_told_each_way_and_the_upgrade_stays_an_exchange() {
    check(
        &story(),
        vec![
            C(up(0x81, b"hello")),
            S(down(0x81, b"hello you")),
            S(down(0x82, &[7; 300])),
            S(down(0x89, b"")),
            C(up(0x8a, b"")),
            Close(Fin),
        ],
        expect![[r#"
            GET /chat?token=secret 101 [10..20] 157>102 upgraded
            text by client one-way [30..30] 11>0
            text by server one-way [40..40] 0>11
            binary by server one-way [50..50] 0>304
            ping by server one-way [60..60] 0>2
            pong by client one-way [70..70] 6>0
            frames
        "#]],
    );
}

#[test]
fn a_message_in_fragments_is_one_with_control_frames_between() {
    check(
        &story(),
        vec![
            C(up(0x01, b"one ")),
            C(up(0x89, b"?")),
            S(down(0x8a, b"?")),
            C(up(0x00, b"two ")),
            C(up(0x80, b"three")),
            Close(Fin),
        ],
        expect![[r#"
            GET /chat?token=secret 101 [10..20] 157>102 upgraded
            ping by client one-way [40..40] 7>0
            pong by server one-way [50..50] 0>3
            text by client one-way [30..70] 31>0
            frames
        "#]],
    );
}

#[test]
fn closes_say_why_and_nothing_is_read_behind_both() {
    check(
        &story(),
        vec![
            C(up(0x88, b"\x03\xe9going away: secret")),
            S(down(0x88, b"\x03\xe9")),
            S(down(0x81, b"not any more")),
            Close(Fin),
        ],
        expect![[r#"
            GET /chat?token=secret 101 [10..20] 157>102 upgraded
            close by client 1001 one-way [30..30] 26>0
            close by server 1001 one-way [40..40] 0>4
            quiet
        "#]],
    );
    check(
        &story(),
        vec![S(down(0x88, b"")), C(up(0x88, b"\x0f\xa1")), Close(Fin)],
        expect![[r#"
            GET /chat?token=secret 101 [10..20] 157>102 upgraded
            close by server 1005 one-way [30..30] 0>2
            close by client 4001 one-way [40..40] 8>0
            quiet
        "#]],
    );
}

/// What a frame carries may be the start of anything: it is counted, and taken for no other protocol.
#[test]
fn other_protocols_in_frames_are_messages() {
    let http = b"GET /inner HTTP/1.1\r\nHost: secret\r\n\r\n";
    check(
        &story(),
        vec![
            S(down(0x82, b"SSH-2.0-OpenSSH_9.2\r\n")),
            C(up(0x82, b"SSH-2.0-OpenSSH_9.2\r\n")),
            S(down(0x82, http)[..2].to_vec()),
            S(http.to_vec()),
            C(up(0x82, b"*1\r\n$4\r\nPING\r\n")),
            S(down(0x82, b"+PONG\r\n")),
            Close(Fin),
        ],
        expect![[r#"
            GET /chat?token=secret 101 [10..20] 157>102 upgraded
            binary by server one-way [30..30] 0>23
            binary by client one-way [40..40] 27>0
            binary by server one-way [50..60] 0>39
            binary by client one-way [70..70] 20>0
            binary by server one-way [80..80] 0>9
            frames
        "#]],
    );
}

#[test]
fn the_first_messages_come_with_the_upgrade() {
    let together = [AGREE.as_bytes(), &down(0x81, b"welcome"), &down(0x89, b"")[..1]].concat();
    let (found, _) = story().run(vec![c(ASK), S(together), S(vec![0]), C(up(0x81, b"thanks")), Close(Fin)]);
    expect![[r#"
        GET /chat?token=secret 101 [10..20] 157>102 upgraded
        text by server one-way [20..20] 0>9
        ping by server one-way [20..30] 0>2
        text by client one-way [40..40] 12>0
    "#]]
    .assert_eq(&told(&found, said));
}

#[test]
fn compressed_messages_are_messages() {
    check(
        &story(),
        vec![C(up(0xc1, b"\xca\x48\xcd\xc9\xc9\x07\0")), S(down(0x41, b"\xf2\x48")), S(down(0x80, b"\0")), Close(Fin)],
        expect![[r#"
            GET /chat?token=secret 101 [10..20] 157>102 upgraded
            text by client one-way [30..30] 13>0
            text by server one-way [40..50] 0>7
            frames
        "#]],
    );
}

#[test]
fn what_is_no_websocket_after_all_is_left_alone() {
    check(
        &story(),
        vec![S(b"\x07\x01 something else".to_vec()), C(b"\xff\xff".to_vec()), Close(Fin)],
        expect![[r#"
            GET /chat?token=secret 101 [10..20] 157>102 upgraded
            quiet
        "#]],
    );
    // A refusal is an answer like any other.
    let (found, _) =
        story().run(vec![c(ASK), s("HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n"), Close(Fin)]);
    expect![[r#"
        GET /chat?token=secret 426 [10..20] 157>52
    "#]]
    .assert_eq(&told(&found, said));
}

#[test]
fn a_protocol_that_is_not_to_be_read_ends_with_its_upgrade() {
    let wires: Vec<Wire> = Wire::ALL.iter().copied().filter(|wire| *wire != Wire::WebSocket).collect();
    let story = story().limits(|limits| *limits = Limits { wires: Wires::only(&wires), ..*limits });
    let (found, (tcp, _)) = story.run(vec![c(ASK), s(AGREE), C(up(0x81, b"hello")), Close(Fin)]);
    assert_eq!((found.records.len(), tcp.is_left_out()), (1, true));
}

/// The head of a message of 40,000 bytes is copied, the rest is counted.
#[test]
fn a_long_message_costs_its_head() {
    check(
        &story(),
        vec![S(down(0x82, &[0x81; 40_000])), C(up(0x81, b"thanks")), S(down(0x81, b"more")), Close(Fin)],
        expect![[r#"
            GET /chat?token=secret 101 [10..20] 157>102 upgraded
            binary by server one-way [30..30] 0>40004
            text by client one-way [40..40] 12>0
            text by server one-way [50..50] 0>6
            frames
        "#]],
    );
}

/// Each lost message of the flow held one WebSocket message at least.
#[test]
fn messages_that_find_the_ring_full_are_lost() {
    check(
        &story(),
        vec![
            C(up(0x81, b"one")),
            LostS(down(0x81, b"two")),
            C(up(0x81, b"three")),
            S(down(0x81, b"four")),
            C(up(0x81, b"five")),
            S(down(0x81, b"six")),
            C(up(0x81, b"again")),
            S(down(0x81, b"and again")),
            LostC(up(0x81, b"seven")),
            LostS(down(0x81, b"eight")),
            C(up(0x81, b"nine")),
            Close(Fin),
        ],
        expect![[r#"
            GET /chat?token=secret 101 [10..20] 157>102 upgraded
            text by client one-way [30..30] 9>0
            text by client one-way [50..50] 11>0
            text by client one-way [70..70] 10>0
            text by client one-way [90..90] 11>0
            text by server one-way [60..60] 0>6
            text by server one-way [80..80] 0>5
            text by server one-way [100..100] 0>11
            lost 1 ring_full
            lost 1 ring_full
            lost 1 ring_full
            lost 1 unfinished
            frames
        "#]],
    );
}

/// A direction that was lost inside of a frame goes on where that ends.
#[test]
fn a_hole_inside_of_a_frame_costs_nothing() {
    let whole = down(0x82, &[0x55; 3000]);
    check(
        &story().replay(),
        vec![
            S(whole[..1000].to_vec()),
            UnseenS(whole[1000..2000].to_vec()),
            S(whole[2000..].to_vec()),
            C(up(0x81, b"thanks")),
            S(down(0x81, b"more")),
            Close(Fin),
        ],
        expect![[r#"
            GET /chat?token=secret 101 [10..20] 157>102 upgraded
            text by client one-way [60..60] 12>0
            binary by server one-way [30..50] 0>3004
            text by server one-way [70..70] 0>6
            frames
        "#]],
    );
}

#[test]
fn zeros_and_frames_of_text_are_no_frames_after_a_loss() {
    let (ask, agree) = (c(ASK), s(AGREE));
    let mut acts = vec![ask, agree, S(down(0x81, b"first")), UnseenS(vec![1; 1000])];
    // The rest of what was lost: nobody knows that it is.
    for payload in [vec![0; 600], vec![0x81; 600], b"A\x02hiA\x02ho".to_vec(), vec![b'x'; 90]] {
        acts.push(S(payload));
    }
    acts.push(C(up(0x81, b"next")));
    for word in [&b"one"[..], b"two", b"three"] {
        acts.push(S(down(0x81, word)));
    }
    acts.push(Close(Fin));
    let (found, _) = story().replay().run(acts);
    expect![[r#"
        GET /chat?token=secret 101 [10..20] 157>102 upgraded
        text by server one-way [30..30] 0>7
        text by client one-way [90..90] 10>0
        text by server one-way [100..100] 0>5
        text by server one-way [110..110] 0>5
        text by server one-way [120..120] 0>7
        lost 1 gap
    "#]]
    .assert_eq(&told(&found, said));
}

/// What is left of a message whose first packet a capture dropped may look like a frame that ends with it.
#[test]
fn behind_what_a_capture_dropped_nothing_is_sure_to_begin_a_message() {
    let message = down(0x81, b"words \x82\x05 like");
    let (dropped, rest) = message.split_at(8);
    let mut acts = vec![c(ASK), s(AGREE), S(down(0x81, b"first")), C(up(0x81, b"more"))];
    acts.extend([UnseenS(dropped.to_vec()), S(rest.to_vec())]);
    acts.extend([1, 2, 3, 4, 5].map(|length| S(down(0x81, &vec![b'y'; length]))));
    acts.push(Close(Fin));
    let (found, _) = story().replay().run(acts);
    expect![[r#"
        GET /chat?token=secret 101 [10..20] 157>102 upgraded
        text by server one-way [30..30] 0>7
        text by client one-way [40..40] 10>0
        text by server one-way [70..70] 0>3
        text by server one-way [80..80] 0>4
        text by server one-way [90..90] 0>5
        text by server one-way [100..100] 0>6
        text by server one-way [110..110] 0>7
        lost 1 gap
    "#]]
    .assert_eq(&told(&found, said));
}

/// A client's mask makes of a text that repeats itself bytes that do, and some of those look like frames.
#[test]
fn what_repeats_itself_is_no_row_of_frames_whatever_its_masks() {
    let row = b"\x89\x82\x01\x02\x03\x04..\x8a\x82\x05\x06\x07\x08..".repeat(20);
    let mut acts = vec![c(ASK), s(AGREE), C(up(0x81, b"first")), S(down(0x81, b"more"))];
    acts.extend([UnseenC(vec![0xfe; 100]), C(row.clone()), C(row), Close(Fin)]);
    let (found, _) = story().replay().run(acts);
    expect![[r#"
        GET /chat?token=secret 101 [10..20] 157>102 upgraded
        text by client one-way [30..30] 11>0
        text by server one-way [40..40] 0>6
        lost 1 gap
    "#]]
    .assert_eq(&told(&found, said));
}

#[test]
fn a_message_that_the_end_cuts_is_lost() {
    check(
        &story(),
        vec![C(up(0x01, b"begun")), S(down(0x82, &[1; 50])[..20].to_vec()), Close(Fin)],
        expect![[r#"
            GET /chat?token=secret 101 [10..20] 157>102 upgraded
            lost 1 unfinished
            lost 1 unfinished
            frames
        "#]],
    );
}

#[test]
fn a_connection_that_was_joined_behind_its_upgrade_is_not_claimed() {
    let acts = (0..20)
        .flat_map(|_| [C(up(0x81, b"hello")), S(down(0x81, b"{\"GET / HTTP/1.1\":1}"))])
        .chain([Close(Fin)])
        .collect();
    let (found, (tcp, interest)) = story().midway().run(acts);
    assert_eq!((told(&found, said).as_str(), tcp.wire(), interest), ("", None, Interest::Nothing));
}
