//! Conversations of which something was not seen.

use super::my::*;
use super::support::{Do, story};
use super::{c, check, logged_in, play, s};
use expect_test::expect;
use flow_model::Close;

#[test]
fn from_a_loss_on_nothing_is_paired_until_the_client_asks_again() {
    check(
        logged_in(
            0,
            vec![
                c(&[query("SELECT 1")]),
                Do::LostS(answer().ok(0).bytes),
                c(&[query("INSERT 2")]),
                s(answer().error(1062)),
                Do::LostC(query("UPDATE 3")),
                s(answer().ok(0)),
                c(&[query("DELETE 4")]),
                s(answer().ok(0)),
                Do::Close(Close::Fin),
            ],
        ),
        &expect![[r#"
            login shop [20..30] 88>17
            INSERT shop 1062 [60..70] 13>41
            lost 1 ring_full
            lost 1 ring_full
            lost 1 ring_full
        "#]],
    );
}

/// The answer that would have shown where packets begin is missing: the next one is not taken for it.
#[test]
fn what_is_missing_behind_a_loss_may_have_been_the_answer() {
    let (greeting, error) = (greeting(0), answer().error(1062));
    let told = play(
        &story().replay(),
        vec![
            Do::UnseenS(greeting[..76].to_vec()),
            Do::S(greeting[76..].to_vec()),
            c(&[login(0)]),
            s(answer_from(2).ok(0)),
            c(&[query("SELECT 1")]),
            Do::UnseenS(answer().ok(0).bytes),
            c(&[command(14, b"")]),
            s(error),
            c(&[query("DELETE 3")]),
            s(answer().ok(0)),
            c(&[query("INSERT 4")]),
            s(answer().ok(0)),
            Do::Close(Close::Fin),
        ],
    );
    expect![[r#"
        INSERT shop [110..120] 13>11
        lost 1 gap
        lost 3 gap
    "#]]
    .assert_eq(&told);
}

/// It may have been a row as well as the end of them.
#[test]
fn a_packet_of_which_only_the_header_was_seen_is_no_row() {
    let results = |rest: Answer| rest.columns(1, true, 0).row(3).end(true, 0).bytes;
    let first = answer().columns(1, true, 0).end(true, MORE);
    let end = first.bytes.len();
    let both = results(first);
    check(
        logged_in(
            0,
            vec![
                c(&[query("SELECT 1; SELECT 2")]),
                Do::S(both[..end - 5].to_vec()),
                Do::UnseenS(both[end - 5..end].to_vec()),
                Do::S(both[end..].to_vec()),
                c(&[query("DELETE 3")]),
                s(answer().ok(0)),
                c(&[query("INSERT 4")]),
                s(answer().ok(0)),
                Do::Close(Close::Fin),
            ],
        ),
        &expect![[r#"
            login shop [20..30] 88>17
            INSERT shop [100..110] 13>11
            lost 2 gap
        "#]],
    );
}

/// What follows a piece that was not seen is the rest of a packet, whatever the bytes that it begins with.
#[test]
fn the_rest_of_a_packet_is_no_command() {
    let after_login = |acts: Vec<Do>| {
        let ask_again = [c(&[query("SELECT 1")]), s(answer().ok(0)), c(&[query("SELECT 2")]), s(answer().ok(0))];
        acts.into_iter().chain(ask_again).chain([Do::Close(Close::Fin)]).collect::<Vec<Do>>()
    };
    // The last byte of the capabilities and the greatest length of a packet: one byte, and that is a 1, to quit.
    let login = login(DEPRECATE_EOF);
    let (unseen, rest) = login.split_at(7);
    assert_eq!(rest[..5], [1, 0, 0, 0, 1]);
    for pieces in [vec![rest], vec![&rest[..5], &rest[5..]], vec![&rest[..2], &rest[2..6], &rest[6..]]] {
        let mut acts = vec![Do::S(greeting(DEPRECATE_EOF)), Do::UnseenC(unseen.to_vec())];
        acts.extend(pieces.iter().map(|piece| Do::C(piece.to_vec())));
        acts.push(s(answer_from(2).ok(0)));
        let told = play(&story(), after_login(acts));
        let words: Vec<&str> = told.lines().filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(words, ["SELECT", "SELECT", "lost"], "{told}");
    }
    // Data that begin as each command that has no answer, and as one that has.
    let (close, long, ping) = (close(1), command(0x18, &[1, 0, 0, 0, 0, 0, b'x']), command(14, b""));
    for begins in [command(1, b""), close, long, ping] {
        let data = [&begins[..], &[b'x'; 40], &[0; 40]].concat();
        let file = [packet(2, &[b"1\n", &data[..]].concat()), packet(3, b"")].concat();
        let load = vec![
            c(&[query("LOAD DATA LOCAL INFILE 'x' INTO TABLE t")]),
            s(answer().say(b"\xfbx")),
            Do::UnseenC(file[..6].to_vec()),
            Do::C(file[6..].to_vec()),
            s(answer_from(4).ok(0)),
        ];
        check(
            logged_in(0, after_login(load)),
            &expect![[r#"
                login shop [20..30] 88>17
                SELECT [90..100] 13>11
                SELECT [110..120] 13>11
                lost 1 gap
            "#]],
        );
        let sent = [command(0x18, &[&[1, 0, 0, 0, 0, 0][..], &data].concat()), execute(1)].concat();
        let long_data = vec![Do::UnseenC(sent[..11].to_vec()), Do::C(sent[11..].to_vec()), s(answer().ok(0))];
        check(
            logged_in(0, after_login(long_data)),
            &expect![[r#"
                login shop [20..30] 88>17
                SELECT [70..80] 13>11
                SELECT [90..100] 13>11
                lost 1 gap
            "#]],
        );
    }
}

/// It begins with a packet, and has commands to its end: as many are lost.
#[test]
fn commands_behind_what_was_not_seen_are_counted() {
    check(
        logged_in(
            0,
            vec![
                Do::UnseenC(query("SELECT 1")),
                s(answer().ok(0)),
                c(&[close(1), command(14, b"")]),
                s(answer().ok(0)),
                c(&[query("SELECT 2")]),
                s(answer().ok(0)),
                Do::Close(Close::Fin),
            ],
        ),
        &expect![[r#"
            login shop [20..30] 88>17
            SELECT [80..90] 13>11
            lost 1 gap
            lost 1 gap
            lost 1 gap
        "#]],
    );
}

/// Data hold commands up to the end of their packet. What a client says behind one that is answered shows that it is
/// none; of those that have no answer one may be counted, for the data themselves.
#[test]
fn commands_in_data_are_not_counted_as_more_than_the_data() {
    let held = [command(14, b""), close(1), query("SET 1"), close(2)];
    let long = command(0x18, &[&[0; 6][..], &held.concat()].concat());
    let mut from = long.len() - held.concat().len();
    for packet in &held {
        let (found, _) = story().replay().run(logged_in(
            0,
            vec![
                Do::UnseenC(long[..from].to_vec()),
                Do::C([&long[from..], &execute(0)].concat()),
                s(answer().ok(0)),
                c(&[command(14, b"")]),
                s(answer().ok(0)),
                Do::Close(Close::Fin),
            ],
        ));
        // The login and the ping, which are told, the data, and what is executed.
        let sum = found.records.len() as u64 + found.lost_count();
        assert!(found.records.len() == 2 && (3..=4).contains(&sum), "{from}: {:?} {:?}", found.records, found.lost);
        from += packet.len();
    }
}
