use super::line;
use super::support::Do::{self, C, Close, Gone, LostC, LostS, S, SnapC, SnapS, UnseenC, UnseenS};
use super::support::{CLIENT, Found, SERVER, Story, story};
use super::words::*;
use expect_test::{Expect, expect};
use flow_model::Close::{Fin, Reset};
use flow_model::{Detail, Ts};
use l7::{Interest, Limits, Ordered};

fn told(found: &Found) -> String {
    let records = found.records.iter().map(line);
    let lost = found.lost.iter().map(|(reason, count)| format!("lost {count} {}", reason.as_str()));
    records.chain(lost).map(|line| line + "\n").collect()
}

fn check(story: Story, acts: Vec<Do>, expected: Expect) {
    let (found, (tcp, _)) = story.run(acts);
    assert_eq!(tcp.buffered(), 0);
    expected.assert_eq(&told(&found));
}

/// Message by message, then the end.
fn acts(messages: Vec<Vec<u8>>) -> Vec<Do> {
    let way = |(number, bytes)| if number % 2 == 0 { C(bytes) } else { S(bytes) };
    messages.into_iter().enumerate().map(way).chain([Close(Fin)]).collect()
}

#[test]
fn a_handshake_of_each_version_lasts_until_both_have_finished() {
    for (version, name) in [(0x0300, "ssl3"), (0x0301, "1.0"), (0x0302, "1.1"), (0x0303, "1.2")] {
        let (found, _) = story().run(acts(whole::full(version)));
        assert_eq!(told(&found), format!("api.shop {name} 0xc02f 0x0017 h2 [10..40] 322>2626\n"));
    }
    let mut server = server(0x0304, 0x1302);
    server.group = Some(0x11ec);
    check(
        story(),
        acts(whole::sealed_early(&server)),
        expect![[r#"
        api.shop 1.3 0x1302 0x11ec - [10..30] 276>1725
    "#]],
    );
}

#[test]
fn what_follows_is_none_of_ours_and_costs_nothing() {
    let mut server = server(0x0304, 0x1301);
    server.group = Some(0x001d);
    let conversations = [whole::full(0x0303), whole::again(), whole::sealed_early(&server)];
    for messages in conversations {
        // Ends, renegotiates, answers in plain text: a handshake is counted once.
        let mut messages = messages;
        messages.push(sealed(21, 26));
        messages.push(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_vec());
        messages.push(handshake(&client().hello()));
        let (found, (_, interest)) = story().run(acts(messages));
        assert_eq!((found.records.len(), found.lost_count()), (1, 0));
        assert_eq!(interest, Interest::Nothing);
    }
}

#[test]
fn a_session_goes_on() {
    check(
        story(),
        acts(whole::again()),
        expect![[r#"
        api.shop 1.2 0xc030 - - [10..30] 247>130 resumed
    "#]],
    );
    let mut with_psk = server(0x0304, 0x1301);
    with_psk.psk = true;
    with_psk.group = Some(0x001d);
    check(
        story(),
        acts(whole::sealed_early(&with_psk)),
        expect![[r#"
        api.shop 1.3 0x1301 0x001d - [10..30] 260>1715 resumed
    "#]],
    );
    // A ticket, for which the server names no session.
    let mut silent = server(0x0303, 0xc030);
    silent.session.clear();
    let mut messages = whole::again();
    messages[1] = [handshake(&silent.hello()), handshake(&message(4, &[3; 180])), change(), sealed(22, 40)].concat();
    check(
        story(),
        acts(messages),
        expect![[r#"
        api.shop 1.2 0xc030 - - [10..30] 247>287 resumed
    "#]],
    );
}

#[test]
fn early_data_is_not_the_end() {
    let mut early = client();
    early.early_data = true;
    let mut server = server(0x0304, 0x1301);
    server.psk = true;
    check(
        story(),
        vec![
            C([handshake(&early.hello()), change(), sealed(23, 500)].concat()),
            S([handshake(&server.hello()), change(), sealed(23, 40), sealed(23, 53)].concat()),
            C([sealed(23, 19), sealed(23, 700)].concat()),
            S(sealed(23, 300)),
            C([sealed(23, 21), sealed(23, 53), sealed(23, 200)].concat()),
            Close(Fin),
        ],
        expect![[r#"
            api.shop 1.3 0x1301 - - [10..50] 1524>507 resumed
        "#]],
    );
}

#[test]
fn a_server_asks_for_another_hello() {
    let mut server = server(0x0304, 0x1301);
    server.group = Some(0x0017);
    let mut flight = whole::sealed_early(&server);
    let retry = [handshake(&server.retry()), change()].concat();
    let again = [change(), flight[0].clone()].concat();
    flight.splice(1..1, [retry, again]);
    check(
        story(),
        acts(flight),
        expect![[r#"
        api.shop 1.3 0x1301 0x0017 - [10..50] 462>1842 retried
    "#]],
    );
}

#[test]
fn alerts_in_clear_have_their_number() {
    let hello = || C(handshake(&client().hello()));
    let flight = || S(whole::full(0x0303)[1].clone());
    let early = || S(handshake(&server(0x0304, 0x1301).hello()));
    // No version, no cipher, no name that fits; a warning is no end.
    let endings = [
        vec![hello(), S(alert(2, 70)), Close(Fin)],
        vec![hello(), S([alert(1, 112), alert(2, 40)].concat()), Close(Reset)],
        vec![hello(), flight(), C(alert(2, 48)), Close(Fin)],
        vec![hello(), early(), C(alert(2, 47)), Close(Fin)],
        vec![hello(), flight(), C([alert(1, 90), alert(1, 0)].concat()), Close(Fin)],
        vec![hello(), C(alert(1, 0)), Close(Fin)],
    ];
    let told: String = endings.into_iter().map(|acts| told(&story().run(acts).0)).collect();
    expect![[r#"
        api.shop - - - - alert 70 [10..20] 196>7
        api.shop - - - - alert 40 [10..20] 196>14
        api.shop 1.2 0xc02f 0x0017 h2 alert 48 [10..30] 203>2386
        api.shop 1.3 0x1301 - - alert 47 [10..30] 203>87
        api.shop 1.2 0xc02f 0x0017 h2 alert 90 [10..30] 210>2386
        api.shop - - - - unanswered alert 0 [10..20] 203>0
    "#]]
    .assert_eq(&told);
}

#[test]
fn alerts_that_are_encrypted_are_known_by_their_length() {
    let mut server = server(0x0304, 0x1302);
    server.group = Some(0x001d);
    let [hello, flight, ..] = &whole::sealed_early(&server)[..] else { panic!() };
    let refused = vec![C(hello.clone()), S(flight.clone()), C([change(), sealed(23, 19)].concat()), Close(Fin)];
    check(
        story(),
        refused,
        expect![[r#"
        api.shop 1.3 0x1302 0x001d - [10..30] 226>1725 alert_encrypted
    "#]],
    );
    // TLS 1.2: the server does not believe the client's Finished, behind its own change.
    let [hello, flight, keys, ..] = &whole::full(0x0303)[..] else { panic!() };
    let refused = vec![C(hello.clone()), S(flight.clone()), C(keys.clone()), S([change(), sealed(21, 26)].concat())];
    check(
        story(),
        refused.into_iter().chain([Close(Fin)]).collect(),
        expect![[r#"
        api.shop 1.2 0xc02f 0x0017 h2 [10..40] 322>2423 alert_encrypted
    "#]],
    );
}

#[test]
fn a_certificate_of_the_client_goes_before_its_finished() {
    let mut server = server(0x0304, 0x1301);
    server.group = Some(0x001d);
    let mut messages = whole::sealed_early(&server);
    messages[2] = [change(), sealed(23, 900), sealed(23, 280), sealed(23, 53), sealed(23, 300)].concat();
    check(
        story(),
        acts(messages.clone()),
        expect![[r#"
        api.shop 1.3 0x1301 0x001d - [10..30] 1450>1709
    "#]],
    );
    // All of it in one record: where it ends shows when the server goes on.
    messages[2] = [change(), sealed(23, 1237), sealed(23, 300)].concat();
    check(
        story(),
        acts(messages),
        expect![[r#"
        api.shop 1.3 0x1301 0x001d - [10..30] 1749>1964 end_assumed
    "#]],
    );
}

#[test]
fn a_hello_that_nobody_answers() {
    let hello = || C(handshake(&client().hello()));
    check(
        story(),
        vec![hello(), Close(Reset)],
        expect![[r#"
        api.shop - - - - unanswered [10..10] 196>0
    "#]],
    );
    check(
        story(),
        vec![hello(), Gone],
        expect![[r#"
        lost 1 unfinished
    "#]],
    );
    check(
        story(),
        vec![hello(), S(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()), Close(Fin)],
        expect![[r#"
        api.shop - - - - unanswered [10..10] 196>0
    "#]],
    );
    check(
        story(),
        vec![hello(), S(b"<".to_vec()), Close(Fin)],
        expect![[r#"
        api.shop - - - - unanswered [10..10] 196>0
    "#]],
    );
    // Begun, and then no more.
    check(
        story(),
        vec![hello(), S(whole::full(0x0303)[1].clone()), Close(Fin)],
        expect![[r#"
        api.shop 1.2 0xc02f 0x0017 h2 unanswered [10..20] 196>2386
    "#]],
    );
}

#[test]
fn hellos_in_many_records_and_packets() {
    let mut large = client();
    large.share = 1216;
    let hello = large.hello();
    let records: Vec<u8> = hello.chunks(100).flat_map(handshake).collect();
    let mut server = server(0x0304, 0x1301);
    server.group = Some(0x11ec);
    let rest = whole::sealed_early(&server);
    let mut acts: Vec<Do> = records.chunks(7).map(|piece| C(piece.to_vec())).collect();
    acts.extend(rest[1].chunks(11).map(|piece| S(piece.to_vec())));
    acts.extend(rest[2].chunks(1).map(|piece| C(piece.to_vec())));
    acts.push(Close(Fin));
    check(
        story(),
        acts,
        expect![[r#"
        api.shop 1.3 0x1301 0x11ec - [10..4270] 1509>1709
    "#]],
    );
    // One byte of the message in each record.
    let records: Vec<u8> = hello.chunks(1).flat_map(handshake).collect();
    let mut acts = vec![C(records)];
    acts.extend([S(rest[1].clone()), C(rest[2].clone()), Close(Fin)]);
    check(
        story().replay(),
        acts,
        expect![[r#"
        api.shop 1.3 0x1301 0x11ec - [10..30] 8314>1709
    "#]],
    );
}

#[test]
fn older_forms_of_a_hello() {
    let mut old = vec![0x80, 9 + 9 + 16, 1, 3, 1, 0, 9, 0, 0, 0, 16];
    old.extend([1, 0, 0x80, 0, 0, 0x39, 0, 0, 0x35]);
    old.extend([0x77; 16]);
    let mut messages = whole::full(0x0301);
    messages[0] = old;
    check(
        story(),
        acts(messages),
        expect![[r#"
        - 1.0 0xc02f 0x0017 h2 [10..40] 162>2626
    "#]],
    );
    // Drafts of 1.3: before 22 the version stands where older ones do, and there is no session.
    let mut hello = vec![0x7f, 0x13];
    hello.extend([0x66; 32]);
    hello.extend([0x13, 1, 0, 8, 0, 40, 0, 4, 0, 0x1d, 0, 0]);
    let mut messages = whole::sealed_early(&server(0x0304, 0x1301));
    messages[1] = [handshake(&message(2, &hello)), sealed(23, 60), sealed(23, 53)].concat();
    check(
        story(),
        acts(messages),
        expect![[r#"
        api.shop 0x7f13 0x1301 0x001d - [10..30] 260>178
    "#]],
    );
    check(
        story(),
        acts(whole::sealed_early(&server(0x7f17, 0x1301))),
        expect![[r#"
        api.shop 0x7f17 0x1301 - - [10..30] 260>1669
    "#]],
    );
}

#[test]
fn what_a_client_offers_is_told_without_reserved_values_where_strings_are_kept() {
    let mut offer = client();
    offer.ech = true;
    let acts = || vec![C(handshake(&offer.hello())), Close(Fin)];
    let (found, _) = story().run(acts());
    let Detail::Tls(tls) = &found.records[0].detail else { panic!() };
    let offered = tls.offer.as_ref().unwrap();
    assert!(tls.ech);
    assert_eq!(offered.protocols, ["h2".into(), "http/1.1".into()]);
    assert_eq!((&offered.versions[..], &offered.groups[..]), (&[0x0304, 0x0303][..], &[0x11ec, 0x1d, 0x17][..]));
    let (found, _) = story().limits(|limits| limits.keep_strings = false).run(acts());
    let Detail::Tls(tls) = &found.records[0].detail else { panic!() };
    assert_eq!((&*tls.sni, &tls.offer), ("api.shop", &None));
}

#[test]
fn names_are_bounded_and_printable() {
    let mut odd = client();
    odd.sni = format!("\u{1b}[31m\0{}", "x".repeat(3000));
    let (found, _) = story().replay().run(vec![C(handshake(&odd.hello())), Close(Fin)]);
    let Detail::Tls(tls) = &found.records[0].detail else { panic!() };
    assert!(tls.sni.len() <= 255 && !tls.sni.chars().any(char::is_control), "{:?}", tls.sni);
}

#[test]
fn long_certificates_are_counted_and_not_copied() {
    // 4 KiB of each message are copied.
    let mut messages = whole::full(0x0303);
    let mut server = server(0x0303, 0xc02f);
    server.session = vec![8; 32];
    messages[1] = [&server.hello()[..], &certificate(9000), &key_exchange(0x17), &message(14, &[])]
        .iter()
        .flat_map(|message| handshake(message))
        .collect();
    check(
        story(),
        acts(messages),
        expect![[r#"
        api.shop 1.2 0xc02f - - [10..40] 322>9415
    "#]],
    );
}

#[test]
fn after_a_plain_beginning_the_handshake_is_found() {
    let mut dialogue = vec![
        S(b"220 mail ESMTP\r\n".to_vec()),
        C(b"EHLO there\r\n".to_vec()),
        S(b"250-mail\r\n250-STARTTLS\r\n250 HELP\r\n".to_vec()),
        C(b"STARTTLS\r\n".to_vec()),
        S(b"220 ready\r\n".to_vec()),
    ];
    dialogue.extend(acts(whole::full(0x0303)));
    check(
        story(),
        dialogue,
        expect![[r#"
        api.shop 1.2 0xc02f 0x0017 h2 [60..90] 322>2626
    "#]],
    );
    // PostgreSQL's SSLRequest; MySQL's is in one message with the hello, and may be in one packet.
    let mut dialogue = vec![C(vec![0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f]), S(b"S".to_vec())];
    dialogue.extend(acts(whole::full(0x0303)));
    check(
        story(),
        dialogue,
        expect![[r#"
            api.shop 1.2 0xc02f 0x0017 h2 [30..60] 322>2626
        "#]],
    );
    let mut request = vec![0x20, 0, 0, 1, 0x85, 0xae, 0xff, 0x19, 0, 0, 0, 1, 0xff];
    request.resize(36, 0);
    let greeting = b"J\x00\x00\x00\x0a8.0.36\x00\x08\x00\x00\x00abcdefgh\x00".to_vec();
    let mut dialogue = vec![S(greeting.clone()), C(request.clone())];
    dialogue.extend(acts(whole::full(0x0303)));
    check(
        story(),
        dialogue,
        expect![[r#"
            mysql login one_way
            api.shop 1.2 0xc02f 0x0017 h2 [30..60] 322>2626
        "#]],
    );
    let mut messages = whole::full(0x0303);
    messages[0] = [request, messages[0].clone()].concat();
    let mut dialogue = vec![S(greeting)];
    dialogue.extend(acts(messages));
    check(
        story(),
        dialogue,
        expect![[r#"
        api.shop 1.2 0xc02f 0x0017 h2 [20..50] 322>2626
    "#]],
    );
    // Behind a proxy, and through one.
    let mut messages = whole::full(0x0303);
    messages[0] = [&b"PROXY TCP4 10.0.0.1 10.0.0.2 4000 443\r\n"[..], &messages[0]].concat();
    check(
        story(),
        acts(messages),
        expect![[r#"
        api.shop 1.2 0xc02f 0x0017 h2 [10..40] 322>2626
    "#]],
    );
    let mut dialogue = vec![
        C(b"CONNECT api.shop:443 HTTP/1.1\r\nHost: api.shop:443\r\n\r\n".to_vec()),
        S(b"HTTP/1.1 200 Connection established\r\n\r\n".to_vec()),
    ];
    dialogue.extend(acts(whole::full(0x0303)));
    let (found, _) = story().run(dialogue);
    assert!(matches!(&found.records[..], [connect, tls]
        if matches!(connect.detail, Detail::Http(_)) && matches!(tls.detail, Detail::Tls(_))));
}

#[test]
fn a_connection_joined_in_the_middle_is_left_alone() {
    // Data: nothing is known of its handshake.
    let (found, (_, interest)) = story().midway().run(vec![C(sealed(23, 300)), S(sealed(23, 900))]);
    assert_eq!((told(&found).as_str(), interest), ("", Interest::Nothing));
    // A handshake under way was begun before we looked.
    for skip in 1..4 {
        let messages = whole::full(0x0303).split_off(skip);
        let way = |(number, bytes)| if (number + skip) % 2 == 0 { C(bytes) } else { S(bytes) };
        let acts = messages.into_iter().enumerate().map(way).chain([Close(Fin)]).collect();
        let (found, _) = story().midway().run(acts);
        assert_eq!(told(&found), "lost 1 joined_midway\n", "after {skip} messages");
    }
    // A capture tells as much as it has.
    let messages = whole::full(0x0303).split_off(1);
    let way = |(number, bytes)| if number % 2 == 1 { C(bytes) } else { S(bytes) };
    let acts = messages.into_iter().enumerate().map(way).chain([Close(Fin)]).collect();
    check(
        story().midway().replay(),
        acts,
        expect![[r#"
            - 1.2 0xc02f 0x0017 h2 [10..30] 126>2626 joined_midway no_request
        "#]],
    );
}

#[test]
fn each_lost_message_of_a_handshake_loses_it_once() {
    let mut early = server(0x0304, 0x1301);
    early.group = Some(0x001d);
    for (messages, length) in [(whole::full(0x0303), 4), (whole::again(), 3), (whole::sealed_early(&early), 3)] {
        for lost in 0..length {
            let way = |(number, bytes): (usize, Vec<u8>)| match (number % 2 == 0, number == lost) {
                (true, false) => C(bytes),
                (false, false) => S(bytes),
                (true, true) => LostC(bytes),
                (false, true) => LostS(bytes),
            };
            let acts = messages.clone().into_iter().enumerate().map(way).chain([Close(Fin)]).collect();
            let (found, _) = story().run(acts);
            assert_eq!(told(&found), "lost 1 ring_full\n", "message {lost}");
        }
    }
    // Two of them, and all of them.
    for lost in [2, 4] {
        let mut acts: Vec<Do> = Vec::new();
        for (number, bytes) in whole::full(0x0303).into_iter().enumerate() {
            acts.push(match (number % 2 == 0, number < lost) {
                (true, false) => C(bytes),
                (false, false) => S(bytes),
                (true, true) => LostC(bytes),
                (false, true) => LostS(bytes),
            });
        }
        acts.push(Close(Fin));
        let (found, _) = story().run(acts);
        assert_eq!(told(&found), "lost 1 ring_full\n", "{lost} messages");
    }
}

#[test]
fn what_a_capture_dropped_or_cut() {
    let [hello, flight, keys, last, data, ..] = &whole::full(0x0303)[..] else { panic!() };
    // The client's keys: the server has finished all the same.
    let acts =
        vec![C(hello.clone()), S(flight.clone()), UnseenC(keys.clone()), S(last.clone()), C(data.clone()), Close(Fin)];
    check(
        story().replay(),
        acts,
        expect![[r#"
        api.shop 1.2 0xc02f 0x0017 h2 [10..40] 627>2626 gap end_assumed
    "#]],
    );
    // The answer: nobody can say what it was.
    let acts = vec![
        C(hello.clone()),
        UnseenS(flight[..1000].to_vec()),
        S(flight[1000..].to_vec()),
        C(keys.clone()),
        S(last.clone()),
        Close(Fin),
    ];
    check(
        story().replay(),
        acts,
        expect![[r#"
        lost 1 gap
    "#]],
    );
    // The end of it.
    let acts = vec![C(hello.clone()), S(flight.clone()), C(keys.clone()), UnseenS(last.clone()), C(data.clone())];
    check(
        story().replay(),
        acts.into_iter().chain([Close(Fin)]).collect(),
        expect![[r#"
            lost 1 gap
        "#]],
    );
    // All but the beginning of the hello, of which the end is not seen.
    let acts = vec![SnapC(hello.clone(), 110), S(flight.clone()), C(keys.clone()), S(last.clone()), Close(Fin)];
    check(
        story().replay(),
        acts,
        expect![[r#"
        - 1.2 0xc02f 0x0017 h2 [10..40] 322>2626 request_cut
    "#]],
    );
    let acts = vec![C(hello.clone()), SnapS(flight.clone(), 60), C(keys.clone()), S(last.clone()), Close(Fin)];
    check(
        story().replay(),
        acts,
        expect![[r#"
        lost 1 gap
    "#]],
    );
}

#[test]
fn nothing_secret_is_told() {
    let mut marked = client();
    marked.session = b"SECRET-SESSION-SECRET-SESSION-32".to_vec();
    let mut messages = whole::full(0x0303);
    messages[0] = handshake(&marked.hello());
    messages[4] = record(23, b"SECRET-DATA");
    let (found, (tcp, _)) = story().run(acts(messages));
    assert_eq!(found.records.len(), 1);
    let held = format!("{:?} {tcp:?}", found.records);
    for word in ["SECRET", &format!("{:?}", b"SECRET")[1..20]] {
        assert!(!held.contains(word), "{held}");
    }
}

// Plaintext from inside of programs comes in order and without numbers.
#[test]
fn ordered_bytes_say_the_same() {
    let mut ordered = Ordered::new(&Limits::default(), flow_model::Role::Unknown);
    ordered.seen_to_begin();
    let mut found = Found::default();
    for (number, bytes) in (0_u64..).zip(whole::full(0x0303)) {
        let dir = if number % 2 == 0 { CLIENT } else { SERVER };
        ordered.bytes(dir, Ts((number + 1) * 10_000_000), &bytes, &mut found);
    }
    ordered.closed(Ts(100_000_000), Fin, &mut found);
    expect![[r#"
        api.shop 1.2 0xc02f 0x0017 h2 [10..40] 322>2626
    "#]]
    .assert_eq(&told(&found));
}
