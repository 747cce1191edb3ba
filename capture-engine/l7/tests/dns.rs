//! Stories of DNS flows: what was asked, answered, repeated and lost comes out, each query exactly once.

use flow_model::{Detail, Direction, L7Record, LossReason, Notes, Outcome, Role, Ts};
use l7::dns::{Datagram, Udp};
use l7::{Interest, Limits, Out};
use proptest::prelude::*;

#[derive(Default)]
struct Found {
    records: Vec<L7Record>,
    lost: Vec<(LossReason, u64)>,
}

impl Out for Found {
    fn record(&mut self, record: L7Record) {
        self.records.push(record);
    }

    fn lost(&mut self, reason: LossReason, count: u64) {
        self.lost.push((reason, count));
    }
}

impl Found {
    fn lost_count(&self) -> u64 {
        self.lost.iter().map(|(_, count)| count).sum()
    }

    /// "NAME rcode milliseconds notes" of each record, then the losses.
    fn story(&self) -> String {
        let record = |record: &L7Record| {
            let Detail::Dns(dns) = &record.detail else { return String::from("not DNS") };
            let rcode = dns.rcode.map_or(String::from("-"), |rcode| rcode.to_string());
            let ms = record.end.since(record.start).as_millis();
            let notes =
                Notes::NAMES.iter().filter(|(note, _)| record.notes.has(*note)).map(|(_, name)| format!(" {name}"));
            let retries = if dns.retries > 0 { format!(" retries {}", dns.retries) } else { String::new() };
            format!("{} {rcode} {ms}ms{}{retries}", dns.name, notes.collect::<String>())
        };
        let lost = self.lost.iter().map(|(reason, count)| format!("lost {count} {}", reason.as_str()));
        self.records.iter().map(record).chain(lost).collect::<Vec<_>>().join("; ")
    }
}

const OUT: Direction = Direction::Egress;
const IN: Direction = Direction::Ingress;

fn message(id: u16, response: bool, name: &str) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend(if response { [0x81, 0x80] } else { [0x01, 0x00] });
    bytes.extend([0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

/// (milliseconds, direction, turn, id, name): 0 turns mean that nothing is known of what was skipped.
type Step<'a> = (u64, Direction, u32, u16, &'a str);

fn run(limits: &Limits, ports: (u16, u16), steps: &[Step<'_>], until_ms: u64) -> (Found, Udp) {
    let mut found = Found::default();
    let mut udp = Udp::new(limits, ports.0, ports.1);
    for &(ms, dir, turn, id, name) in steps {
        let payload = message(id, dir == IN, name);
        let wire_len = u32::try_from(payload.len()).unwrap();
        udp.datagram(Datagram { dir, at: Ts(ms * 1_000_000), turn, wire_len, payload: &payload }, &mut found);
    }
    udp.closed(Ts(until_ms * 1_000_000), &mut found);
    (found, udp)
}

fn live(steps: &[Step<'_>], expected: &str) {
    assert_eq!(run(&Limits::default(), (40000, 53), steps, 60_000).0.story(), expected);
}

fn replayed(steps: &[Step<'_>], expected: &str) {
    let limits = Limits { report_partial: true, ..Limits::default() };
    assert_eq!(run(&limits, (40000, 53), steps, 60_000).0.story(), expected);
}

#[test]
fn query_and_answer_are_one_exchange() {
    live(&[(0, OUT, 1, 7, "a.example"), (3, IN, 2, 7, "a.example")], "a.example 0 3ms");
}

#[test]
fn answers_out_of_order_find_their_queries_by_id_and_name() {
    live(
        &[
            (0, OUT, 1, 1, "a"),
            (1, OUT, 2, 2, "b"),
            (2, OUT, 3, 2, "c"),
            (3, IN, 4, 2, "c"),
            (4, IN, 5, 2, "B"),
            (5, IN, 6, 1, "a"),
        ],
        "c 0 1ms; B 0 3ms; a 0 5ms",
    );
}

#[test]
fn a_repeated_query_is_one_lookup_from_its_first_query_to_its_answer() {
    let steps = [(0, OUT, 1, 7, "a"), (5000, OUT, 2, 7, "A"), (5080, IN, 3, 7, "a")];
    live(&steps, "a 0 5080ms duplicate retries 1");
    replayed(&steps, "a 0 5080ms duplicate retries 1");
}

#[test]
fn answers_to_both_the_query_and_its_repetition_are_one_exchange() {
    let steps = [(0, OUT, 1, 7, "a"), (2000, OUT, 2, 7, "a"), (2500, IN, 3, 7, "a"), (2600, IN, 4, 7, "a")];
    live(&steps, "a 0 2500ms duplicate retries 1");
    replayed(&steps, "a 0 2500ms duplicate retries 1");
    // A third one answers nothing that was asked.
    let steps = [steps.as_slice(), &[(2700, IN, 5, 7, "a")]].concat();
    replayed(&steps, "a 0 2500ms duplicate retries 1; a 0 0ms no_request duplicate");
}

#[test]
fn a_lookup_that_is_never_answered_is_one_and_waits_from_its_last_query_on() {
    let steps = [(0, OUT, 1, 7, "a"), (5000, OUT, 2, 7, "a"), (12_000, OUT, 3, 7, "a")];
    live(&steps, "a - 22000ms duplicate retries 2");
}

#[test]
fn a_client_that_asks_for_ever_is_told_of_each_half_minute() {
    let steps: Vec<Step<'_>> = (0..11).map(|n| (u64::from(n) * 5000, OUT, n + 1, 7, "a")).collect();
    live(&steps, "a - 30000ms duplicate retries 5; a - 30000ms duplicate retries 4");
}

#[test]
fn the_same_question_under_another_id_is_a_retry_once_the_first_has_waited() {
    let steps = [(0, OUT, 1, 7, "a"), (2500, OUT, 2, 8, "a"), (2510, IN, 3, 8, "a")];
    live(&steps, "a 0 2510ms duplicate retries 1");
    // The late answer is to the first id.
    let steps = [(0, OUT, 1, 7, "a"), (2500, OUT, 2, 8, "a"), (2510, IN, 3, 7, "a"), (2520, IN, 4, 8, "a")];
    live(&steps, "a 0 2510ms duplicate retries 1");
}

#[test]
fn two_that_ask_the_same_at_once_behind_one_socket_are_two_lookups() {
    let steps = [(0, OUT, 1, 7, "a"), (900, OUT, 2, 8, "a"), (910, IN, 3, 8, "a"), (920, IN, 4, 7, "a")];
    live(&steps, "a 0 10ms; a 0 920ms");
}

#[test]
fn another_type_or_way_is_another_lookup() {
    let mut found = Found::default();
    let mut udp = Udp::new(&Limits::default(), 53, 53);
    let a = message(7, false, "a");
    let mut aaaa = a.clone();
    let at = aaaa.len() - 3;
    aaaa[at] = 28;
    for (turn, (ms, dir, payload)) in [(0, OUT, &a), (2000, OUT, &aaaa), (4000, IN, &a)].into_iter().enumerate() {
        let wire_len = u32::try_from(payload.len()).unwrap();
        let turn = u32::try_from(turn).unwrap() + 1;
        udp.datagram(Datagram { dir, at: Ts(ms * 1_000_000), turn, wire_len, payload }, &mut found);
    }
    udp.closed(Ts(60_000_000_000), &mut found);
    assert_eq!(found.story(), "a - 10000ms; a - 10000ms; a - 10000ms");
}

#[test]
fn second_response_is_no_second_exchange() {
    let steps = [(0, OUT, 1, 7, "a"), (1, IN, 2, 7, "a"), (2, IN, 3, 7, "a")];
    live(&steps, "a 0 1ms");
    replayed(&steps, "a 0 1ms; a 0 0ms no_request duplicate");
}

#[test]
fn query_without_an_answer_is_given_up_after_its_time() {
    live(&[(0, OUT, 1, 7, "a"), (10_000, OUT, 2, 8, "b"), (10_001, IN, 3, 8, "b")], "a - 10000ms; b 0 1ms");
}

#[test]
fn answer_after_giving_up_is_not_counted_again() {
    live(&[(0, OUT, 1, 7, "a"), (11_000, IN, 2, 7, "a")], "a - 10000ms");
}

#[test]
fn response_without_its_query_is_shown_in_replay_and_lost_live() {
    let steps = [(0, IN, 0, 7, "a")];
    replayed(&steps, "a 0 0ms no_request");
    live(&steps, "lost 1 joined_midway");
}

#[test]
fn missing_datagrams_are_explained_one_by_one() {
    // The answer's datagram (2) never came; nor did both of another exchange (3, 4).
    live(
        &[(0, OUT, 1, 1, "a"), (9, OUT, 5, 3, "c"), (10, IN, 6, 3, "c")],
        "c 0 1ms; lost 1 ring_full; lost 1 ring_full",
    );
    // The query's datagram (1) never came.
    live(&[(1, IN, 2, 1, "a"), (9, OUT, 3, 3, "c"), (10, IN, 4, 3, "c")], "c 0 1ms; lost 1 ring_full");
}

#[test]
fn client_may_hold_the_well_known_port() {
    let limits = Limits::default();
    let (_, udp) = run(&limits, (53, 40000), &[(0, OUT, 1, 7, "a")], 1);
    assert_eq!(udp.role(), Role::Client);
    let (_, udp) = run(&limits, (53, 40000), &[(0, IN, 1, 7, "a")], 1);
    assert_eq!(udp.role(), Role::Client, "a response came in");
}

#[test]
fn dns_on_another_port_is_recognised_and_asked_for() {
    let mut found = Found::default();
    let mut udp = Udp::new(&Limits::default(), 40000, 9953);
    let payload = message(7, false, "a.example");
    let wire_len = u32::try_from(payload.len()).unwrap();
    udp.datagram(Datagram { dir: OUT, at: Ts(0), turn: 1, wire_len, payload: &payload }, &mut found);
    assert_eq!((udp.recognised(), udp.interest()), (true, Interest::Everything));
}

#[test]
fn strangers_are_left_alone_after_a_while() {
    let mut found = Found::default();
    let mut udp = Udp::new(&Limits::default(), 40000, 53);
    for turn in 1..=8 {
        assert_eq!(udp.interest(), Interest::Heads);
        udp.datagram(Datagram { dir: OUT, at: Ts(0), turn, wire_len: 5, payload: b"hello" }, &mut found);
    }
    assert_eq!(udp.interest(), Interest::Nothing);
    assert_eq!(found.story(), "");
}

#[test]
fn lookalikes_by_port_make_no_claim() {
    for port in [137, 5353, 5355] {
        let (found, udp) = run(&Limits::default(), (40000, port), &[(0, OUT, 1, 7, "host.local")], 60_000);
        assert_eq!((found.story().as_str(), udp.interest()), ("", Interest::Nothing));
    }
}

#[test]
fn bound_on_open_queries_counts_what_it_drops() {
    let limits = Limits { open_exchanges: 2, ..Limits::default() };
    let steps: Vec<Step<'_>> = (1..=5).map(|n| (u64::from(n), OUT, n, n as u16, "a")).collect();
    let (found, _) = run(&limits, (40000, 53), &steps, 60_000);
    assert_eq!((found.records.len(), found.lost_count()), (2, 3));
}

#[test]
fn query_cut_behind_its_question_is_noted() {
    let limits = Limits { report_partial: true, ..Limits::default() };
    let mut found = Found::default();
    let mut udp = Udp::new(&limits, 40000, 53);
    let payload = message(7, false, "a");
    udp.datagram(Datagram { dir: OUT, at: Ts(0), turn: 1, wire_len: 100, payload: &payload }, &mut found);
    udp.closed(Ts(0), &mut found);
    assert_eq!(found.story(), "a - 0ms request_cut");
    assert_eq!(found.records[0].request_bytes, 100);
}

proptest! {
    /// Whatever is asked, answered, repeated, reordered or dropped: each query is a lookup, the retry of
    /// one, or a loss. Of a lost lookup nothing tells how often it was repeated.
    #[test]
    fn every_query_is_counted_once(
        steps in prop::collection::vec((0u64..30_000, any::<bool>(), 0u16..4, 0usize..3), 0..200),
        open_exchanges in 1usize..50,
        close_ms in 0u64..60_000,
        report_partial: bool,
    ) {
        let mut steps = steps;
        steps.sort_by_key(|step| step.0);
        let names = ["a", "b.c", "example"];
        let steps: Vec<Step<'_>> =
            steps.iter().map(|&(ms, ask, id, name)| (ms, if ask { OUT } else { IN }, 0, id, names[name])).collect();
        let queries = steps.iter().filter(|step| step.1 == OUT).count() as u64;
        let limits = Limits { open_exchanges, report_partial, ..Limits::default() };
        let (found, _) = run(&limits, (40000, 53), &steps, close_ms);
        let asked = |record: &&L7Record| !record.notes.has(Notes::NO_REQUEST);
        let lost = found.lost.iter().filter(|(reason, _)| *reason != LossReason::JoinedMidway).map(|(_, count)| count);
        let lost = lost.sum::<u64>();
        let retries = |record: &L7Record| match &record.detail {
            Detail::Dns(dns) => u64::from(dns.retries),
            _ => 0,
        };
        let told: u64 = found.records.iter().filter(asked).map(|record| 1 + retries(record)).sum();
        if lost == 0 {
            prop_assert_eq!(told, queries);
        } else {
            prop_assert!(told + lost <= queries, "{told} told and {lost} lost of {queries}");
        }
    }

    /// Datagrams dropped before the dissector: the numbers of exchanges still add up, when each query had one answer.
    #[test]
    fn dropped_datagrams_are_counted_as_exchanges(kept in prop::collection::vec((any::<bool>(), any::<bool>()), 1..100)) {
        let mut steps: Vec<Step<'_>> = Vec::new();
        for (n, (query, response)) in kept.iter().enumerate() {
            let (ms, id, turn) = (n as u64 * 20, n as u16, n as u32 * 2);
            if *query { steps.push((ms, OUT, turn + 1, id, "a")); }
            if *response { steps.push((ms + 1, IN, turn + 2, id, "a")); }
        }
        let limits = Limits::default();
        let mut found = Found::default();
        let mut udp = Udp::new(&limits, 40000, 53);
        for &(ms, dir, turn, id, name) in &steps {
            let payload = message(id, dir == IN, name);
            let wire_len = payload.len() as u32;
            udp.datagram(Datagram { dir, at: Ts(ms * 1_000_000), turn, wire_len, payload: &payload }, &mut found);
        }
        udp.sampled(kept.len() as u32 * 2, Ts(2_000_000_000));
        udp.closed(Ts(60_000_000_000), &mut found);
        if !steps.is_empty() {
            prop_assert!(found.records.iter().all(|record| record.outcome == Outcome::Answered));
            prop_assert_eq!(found.records.len() as u64 + found.lost_count(), kept.len() as u64);
        }
    }

    #[test]
    fn no_bytes_panic(datagrams in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..80)), 0..20)) {
        let mut found = Found::default();
        let mut udp = Udp::new(&Limits::default(), 53, 53);
        for (n, (way, payload)) in datagrams.iter().enumerate() {
            let dir = if *way { OUT } else { IN };
            udp.datagram(Datagram { dir, at: Ts(n as u64), turn: n as u32, wire_len: 40, payload }, &mut found);
        }
        udp.closed(Ts(0), &mut found);
    }
}
