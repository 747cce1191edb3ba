//! Conversations of which something was not seen.

use super::kf::*;
use super::play;
use super::support::Do::{self, C, Close, LostC, LostS, S, UnseenC, UnseenS};
use super::support::{Story, story};
use expect_test::{Expect, expect};
use flow_model::Close::Fin;

/// A client that has shown that it counts, and what is told behind its first exchanges. They end after 200 ms.
fn check(story: &Story, acts: Vec<Do>, expected: &Expect) {
    let shown = |id| [C(metadata(id, "a")), S(metadata_is(id, "a", 0))];
    let mut all: Vec<Do> = (-7..3).flat_map(shown).collect();
    all.extend(acts);
    all.push(Close(Fin));
    let told: String = play(story, all).lines().skip(10).map(|line| line.to_owned() + "\n").collect();
    expected.assert_eq(&told);
}

#[test]
fn a_lost_answer_costs_its_exchange_alone() {
    let acts = vec![
        C([metadata(3, "b"), metadata(4, "c"), metadata(5, "d")].concat()),
        LostS([metadata_is(3, "b", 3), metadata_is(4, "c", 5)].concat()),
        S(metadata_is(5, "d", 3)),
        C(heartbeat(6, "g")),
        S(beaten(6, 0)),
    ];
    let expected = expect![[r#"
        Metadata d UNKNOWN_TOPIC_OR_PARTITION [210..230] 24>48
        Heartbeat g [240..250] 34>14
        lost 2 ring_full
    "#]];
    check(&story(), acts, &expected);
}

/// What was asked in what was missed shows by its numbers.
#[test]
fn lost_requests_are_counted_by_their_numbers() {
    let acts = vec![
        C(metadata(3, "b")),
        LostC([metadata(4, "c"), metadata(5, "d"), metadata(6, "e")].concat()),
        S(metadata_is(3, "b", 0)),
        LostS([metadata_is(4, "c", 0), metadata_is(5, "d", 0), metadata_is(6, "e", 0)].concat()),
        C(metadata(7, "f")),
        S(metadata_is(7, "f", 3)),
    ];
    let expected = expect![[r#"
        Metadata b [210..230] 24>48
        Metadata f UNKNOWN_TOPIC_OR_PARTITION [250..260] 24>48
        lost 3 gap
    "#]];
    check(&story(), acts, &expected);
}

/// An answer to a request that was not seen tells of no other one.
#[test]
fn an_answer_to_a_lost_request_is_not_another_ones() {
    let acts = vec![LostC(metadata(3, "b")), S(metadata_is(3, "b", 3)), C(metadata(4, "c")), S(metadata_is(4, "c", 5))];
    let expected = expect![[r#"
        Metadata c LEADER_NOT_AVAILABLE [230..240] 24>48
        lost 1 ring_full
    "#]];
    check(&story(), acts, &expected);
}

/// Numbers that say nothing: from a loss on nothing is paired.
#[test]
fn one_number_for_all_is_not_believed_behind_a_loss() {
    let acts = vec![
        C(api_versions(0)),
        S(api_versions_are(0, 0)),
        C(metadata(0, "a")),
        S(metadata_is(0, "a", 3)),
        C(metadata(0, "b")),
        LostS(metadata_is(0, "b", 5)),
        LostC(metadata(0, "c")),
        S(metadata_is(0, "c", 6)),
        C(metadata(0, "d")),
        S(metadata_is(0, "d", 7)),
        Close(Fin),
    ];
    expect![[r#"
        ApiVersions [10..20] 27>30
        Metadata a UNKNOWN_TOPIC_OR_PARTITION [30..40] 24>48
        lost 1 ring_full
        lost 1 ring_full
        lost 1 ring_full
    "#]]
    .assert_eq(&play(&story(), acts));
}

/// A capture that drops packets: those that follow are found again.
#[test]
fn a_capture_is_in_step_again_with_the_next_message() {
    let long = produce(3, "b", -1, 5000);
    let acts = vec![
        C(long[..1000].to_vec()),
        UnseenC(long[1000..].to_vec()),
        S(produced(3, "b", 0)),
        C(metadata(4, "c")),
        UnseenS(metadata_is(4, "c", 5)),
        C(metadata(5, "d")),
        S(metadata_is(5, "d", 5)),
        UnseenC(metadata(6, "e")),
        S(metadata_is(6, "e", 5)),
        C(metadata(7, "f")),
        S(metadata_is(7, "f", 5)),
    ];
    let expected = expect![[r#"
        Produce b [210..230] 5044>53
        Metadata d LEADER_NOT_AVAILABLE [260..270] 24>48
        Metadata f LEADER_NOT_AVAILABLE [300..310] 24>48
        lost 1 gap
        lost 1 gap
    "#]];
    check(&story().replay(), acts, &expected);
}

/// Answers to what was asked before anybody listened are no pairs. A message of them that nobody was seen to ask for is
/// counted as one.
#[test]
fn a_connection_that_is_joined_tells_what_it_saw() {
    let acts = vec![
        S([metadata_is(7, "a", 3), metadata_is(8, "b", 3)].concat()),
        C([metadata(10, "d"), metadata(11, "e")].concat()),
        S([metadata_is(9, "c", 5), metadata_is(10, "d", 6)].concat()),
        S(metadata_is(11, "e", 7)),
        C(metadata(12, "f")),
        S(metadata_is(12, "f", 0)),
        Close(Fin),
    ];
    expect![[r#"
        Metadata d NOT_LEADER_OR_FOLLOWER [20..30] 24>48
        Metadata e REQUEST_TIMED_OUT [20..40] 24>48
        Metadata f [50..60] 24>48
        lost 1 joined_midway
        lost 1 joined_midway
    "#]]
    .assert_eq(&play(&story().midway(), acts));
}

/// So many under way at any time, of a connection that is joined: the requests that are told, those without an answer,
/// and what is counted as lost, of 40 requests.
fn joined(under_way: i32) -> (usize, usize, u64) {
    let mut acts = Vec::new();
    for id in 100..140 {
        acts.push(C(produce(id, "t", -1, 100)));
        acts.push(S(produced(id - under_way, "t", 0)));
    }
    acts.push(Close(Fin));
    let (found, (tcp, _)) = story().midway().run(acts);
    assert_eq!((tcp.wire(), found.unasked), (None, 0), "it is over");
    let answered = found.records.iter().filter(|record| record.outcome == flow_model::Outcome::Answered).count();
    (answered, found.records.len() - answered, found.lost_count())
}

/// A response is to a request of long ago: once the first of those that were seen is answered, it shows.
#[test]
fn a_pipeline_that_is_joined_is_recognised() {
    assert_eq!(joined(0), (40, 0, 0));
    assert_eq!(joined(1), (38, 1, 1));
    assert_eq!(joined(5), (30, 5, 5));
    assert_eq!(joined(15), (10, 15, 15));
    assert_eq!(joined(39), (0, 0, 0), "after so many messages nobody looks");
}
