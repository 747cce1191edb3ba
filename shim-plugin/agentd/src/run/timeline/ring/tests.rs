use super::*;
use crate::run::timeline::unanswered::UNSEEN;
use agent_api::CutRow;
use flow_model::{Slot, Workload, WorkloadKind};
use golden_metrics::{End, SelfMetric};
use proptest::prelude::*;
use shim_plugin::{LinkId, Observe};
use std::sync::Arc;

const MS: u64 = 1_000_000;
/// Both clocks begin here.
const BOOT: u64 = 1_000_000;

/// A timeline, and what is told to it: times are milliseconds.
struct Story {
    timeline: Timeline,
    losses: Losses,
}

fn moment(ms: u64) -> Moment {
    let wall = SystemTime::UNIX_EPOCH + Duration::from_millis(BOOT + ms);
    Moment { mono: Ts((BOOT + ms) * MS), wall }
}

fn named(container: &str) -> Arc<LocalName> {
    let workload = Workload {
        namespace: "shop".into(),
        name: container.into(),
        kind: WorkloadKind::Deployment,
        pod: format!("{container}-1").into(),
    };
    let source = NameSource::PodContainer;
    Arc::new(LocalName {
        workload: Arc::new(workload),
        pod_uid: "u".into(),
        container: "app".into(),
        source,
        observe: Observe::All,
    })
}

fn run(container: &str, slot: u32, sharing: usize) -> Run {
    Run {
        task: TaskId(u64::from(slot)),
        container: ContainerRef::new(LinkId(0), "k8s.io", container),
        pid: 100 + slot,
        name: Some(named(container)),
        slot: Some(Slot(slot)),
        sharing,
    }
}

fn end(name: &str) -> End {
    End { workload: name.into(), namespace: "shop".into(), kind: "Deployment" }
}

fn cut(slot: u32, client: &str, began: u64, at: u64) -> Unanswered {
    Unanswered {
        slot: Slot(slot),
        began: moment(began).mono,
        opened: moment(began).mono,
        at: moment(at).mono,
        client: end(client),
        server: end("api"),
        service: "front".into(),
        what: "GET",
        broken_off: false,
        is_stream: false,
        over_udp: false,
        count: 1,
    }
}

impl Story {
    fn new() -> Story {
        let losses = Losses::default();
        Story { timeline: Timeline::new(None, moment(0), &losses), losses }
    }

    fn ended(&mut self, at: u64, run: Run, code: u32) {
        let exit = Some(ExitStatus { code, at: Some(moment(at).wall) });
        // The news is some milliseconds late.
        self.timeline.news(TaskNews::Ended { run, exit }, None, moment(at + 5));
    }

    fn oom(&mut self, at: u64, container: &str, run: Option<Run>) {
        let container = ContainerRef::new(LinkId(0), "k8s.io", container);
        self.timeline.news(TaskNews::OutOfMemory { container, run, at: Some(moment(at).wall) }, None, moment(at + 3));
    }

    fn told(&self) -> Vec<String> {
        let shown = |event: &TimelineEvent| {
            let rows = event.cut.iter().map(|row| {
                let CutRow { client, what, requests, broken_off, waited_ms, .. } = row;
                format!(" {requests} x {what} from {client} {broken_off} {waited_ms:?}")
            });
            let TimelineEvent { at_ms, event, workload, cut_requests, cause, settled, .. } = event;
            let settled = if *settled { "" } else { " .." };
            let at = at_ms - BOOT;
            format!("{at} {event} {workload} {cause} {cut_requests}{}{settled}", rows.collect::<String>())
        };
        self.timeline.answer(None, moment(60_000)).events.iter().map(shown).collect()
    }

    fn metrics(&self) -> Vec<(String, f64)> {
        let shown = |metric: SelfMetric| {
            let labels = metric.labels.iter().filter(|(name, _)| ["cause", "client_workload"].contains(&&**name));
            (labels.map(|(_, value)| &**value).collect::<Vec<_>>().join(" "), metric.value)
        };
        self.timeline.totals().metrics().into_iter().map(shown).collect()
    }

    fn lost(&self, reason: &str) -> u64 {
        self.losses
            .rows()
            .iter()
            .filter(|row| row.stage == "timeline" && row.reason == reason)
            .map(|row| row.total)
            .sum()
    }
}

#[test]
fn an_exit_after_failures_of_its_liveness_probe_is_the_kubelets_and_others_are_not() {
    let seen = |at| agent_api::ProbedRow { at_ms: BOOT + at, ..agent_api::ProbedRow::default() };
    let told = |failures: &[u64], deleted_by, oom: bool| {
        let row = ProbeRow {
            probe: "liveness".into(),
            timeout_ms: 1_000,
            failure_threshold: 3,
            grace_ms: 30_000,
            asked_by: 1,
            seen: failures.iter().copied().map(seen).collect(),
            ..ProbeRow::default()
        };
        let mut story = Story::new();
        if oom {
            story.oom(39_990, "api", Some(run("api", 1, 1)));
        }
        story.timeline.unanswered(cut(1, "web", 39_000, 39_999));
        let exit = Some(ExitStatus { code: 137, at: Some(moment(40_000).wall) });
        let ended = story.timeline.news(TaskNews::Ended { run: run("api", 1, 1), exit }, deleted_by, moment(40_005));
        let seq = ended.expect("an exit");
        story.timeline.probed(seq, Vec::new());
        // The connections of probes without an answer close with the container.
        story.timeline.tick(moment(41_000).mono);
        story.timeline.probed(seq, vec![ProbeRow { probe: "startup".into(), ..ProbeRow::default() }, row.clone()]);
        story.timeline.tick(moment(50_000).mono);
        let event = story.timeline.answer(None, moment(60_000)).events.pop().expect("an exit");
        story.timeline.probed(seq, vec![row]);
        assert_eq!(story.timeline.answer(None, moment(60_000)).events.pop(), Some(event.clone()), "too late");
        (event.cause, event.probe.map(|row| row.probe), story.metrics())
    };
    let metric = |cause: &str| vec![(format!("{cause} web"), 1.0)];
    let failures = [15_000, 25_000, 35_000];
    assert_eq!(told(&failures, None, false), ("probe".into(), Some("liveness".into()), metric("probe")));
    assert_eq!(told(&failures[1..], None, false), ("exit".into(), None, metric("exit")));
    assert_eq!(told(&failures, Some(moment(60_000).wall), false).0, "exit", "it was deleted");
    assert_eq!(told(&failures, None, true), ("oom".into(), None, metric("oom")));
}

#[test]
fn an_exit_after_a_kill_for_memory_is_told_with_what_it_cut() {
    let mut story = Story::new();
    story.timeline.news(TaskNews::Began(run("api", 1, 1)), None, moment(1_000));
    story.oom(9_992, "api", Some(run("api", 1, 1)));
    story.timeline.unanswered(cut(1, "web", 9_584, 9_996));
    story.timeline.unanswered(cut(1, "web", 9_901, 9_996));
    story.timeline.unanswered(cut(2, "web", 9_901, 9_996));
    story.ended(10_000, run("api", 1, 1), 137);
    // The pipeline was late.
    story.timeline.unanswered(cut(1, "mobile", 9_000, 10_050));
    let exit = "10000 exit api oom 3 2 x GET from web 0 [412, 95] 1 x GET from mobile 0 [1050]";
    assert_eq!(story.told(), ["1000 start api  0", "9992 oom api  0", &format!("{exit} ..")]);
    assert_eq!(story.metrics(), [], "not before its cause is known");
    story.timeline.tick(moment(13_000).mono);
    assert_eq!(story.told().last().map(String::as_str), Some(exit));
    assert_eq!(story.metrics(), [("oom mobile".to_owned(), 1.0), ("oom web".to_owned(), 2.0)]);
    let event = story.timeline.answer(None, moment(60_000)).events.pop().expect("an exit");
    assert_eq!((event.code, event.oom_ms, event.likely), (Some(137), Some(8), false));
}

#[test]
fn what_began_later_or_ended_long_before_was_not_cut_by_it() {
    let mut story = Story::new();
    story.timeline.unanswered(cut(1, "gave-up", 7_000, 8_999));
    story.timeline.unanswered(cut(1, "while-it-ended", 7_000, 9_000));
    story.ended(10_000, run("api", 1, 1), 0);
    story.timeline.unanswered(cut(1, "next-run", 10_001, 10_500));
    // It had not heard yet.
    story.timeline.unanswered(Unanswered { opened: moment(9_000).mono, ..cut(1, "late", 10_002, 10_003) });
    story.timeline.unanswered(cut(3, "elsewhere", 9_000, 10_000));
    let late = "1 x GET from late 0 [1]";
    assert_eq!(story.told(), [format!("10000 exit api exit 2 1 x GET from while-it-ended 0 [2000] {late} ..")]);

    // A kill is told when all processes have ended, and the connections close before.
    let mut story = Story::new();
    story.timeline.unanswered(cut(1, "gave-up", 6_000, 6_999));
    story.timeline.unanswered(cut(1, "killed", 6_000, 7_000));
    story.oom(9_990, "api", Some(run("api", 1, 1)));
    story.ended(10_000, run("api", 1, 1), 137);
    assert_eq!(story.told(), ["9990 oom api  0", "10000 exit api oom 1 1 x GET from killed 0 [1000] .."]);

    // Who ends long after the kill has closed some since.
    let mut story = Story::new();
    story.oom(5_000, "api", Some(run("api", 1, 1)));
    story.timeline.unanswered(cut(1, "gave-up", 4_000, 4_999));
    story.ended(9_000, run("api", 1, 1), 137);
    story.timeline.unanswered(cut(1, "web", 4_000, 5_000));
    assert_eq!(story.told(), ["5000 oom api  0", "9000 exit api oom 1 1 x GET from web 0 [1000] .."]);
}

#[test]
fn who_shares_its_network_makes_an_exit_likely_and_ends_its_window() {
    let mut story = Story::new();
    story.ended(10_000, run("api", 1, 2), 1);
    story.timeline.unanswered(cut(1, "web", 9_000, 12_000));
    story.timeline.unanswered(cut(1, "of-the-other", 9_000, 12_001));
    assert_eq!(story.told(), ["10000 exit api exit 1 1 x GET from web 0 [3000] .."]);
    assert!(story.timeline.answer(None, moment(60_000)).events.iter().all(|event| event.likely));
}

#[test]
fn a_query_over_udp_is_given_up_long_after_it_was_cut() {
    let mut story = Story::new();
    story.ended(10_000, run("dns", 1, 1), 137);
    story.timeline.tick(moment(13_000).mono);
    let query = |began, at| Unanswered { what: "DNS", over_udp: true, ..cut(1, "web", began, at) };
    story.timeline.unanswered(query(9_500, 19_500));
    story.timeline.unanswered(query(8_999, 18_999));
    story.timeline.unanswered(query(10_001, 20_001));
    assert_eq!(story.told(), ["10000 exit dns exit 1 1 x DNS from web 0 [10000]"]);
    assert_eq!(story.metrics(), [("exit web".to_owned(), 1.0)], "counted though it came late");
}

#[test]
fn answers_that_broke_off_channels_and_requests_unseen_are_told_apart() {
    let mut story = Story::new();
    story.ended(10_000, run("api", 1, 1), 0);
    story.timeline.unanswered(Unanswered { broken_off: true, ..cut(1, "web", 9_000, 10_001) });
    story.timeline.unanswered(Unanswered { is_stream: true, ..cut(1, "web", 2_000, 10_001) });
    story.timeline.unanswered(Unanswered { what: UNSEEN, count: 3, ..cut(1, "web", 9_000, 10_001) });
    assert_eq!(story.told(), ["10000 exit api exit 4 1 x GET from web 1 [1001] 3 x unseen from web 0 [] .."]);
    story.timeline.tick(moment(13_000).mono);
    assert_eq!(story.metrics(), [("exit web".to_owned(), 4.0)], "a channel is no request");
}

#[test]
fn a_kill_for_memory_that_is_told_behind_its_exit_is_still_its_cause() {
    let mut story = Story::new();
    story.ended(10_000, run("api", 1, 1), 137);
    story.timeline.unanswered(cut(1, "web", 9_000, 10_001));
    story.oom(9_995, "api", None);
    story.timeline.tick(moment(13_000).mono);
    assert_eq!(story.told(), ["9995 oom api  0", "10000 exit api oom 1 1 x GET from web 0 [1001]"]);
    assert_eq!(story.metrics(), [("oom web".to_owned(), 1.0)]);
}

#[test]
fn who_was_killed_when_its_grace_period_was_over_did_not_listen() {
    let cause = |code, by: Option<u64>, oom: bool| {
        let mut story = Story::new();
        if oom {
            story.oom(9_990, "api", Some(run("api", 1, 1)));
        }
        let exit = Some(ExitStatus { code, at: Some(moment(10_000).wall) });
        let by = by.map(|by| moment(by).wall);
        story.timeline.news(TaskNews::Ended { run: run("api", 1, 1), exit }, by, moment(10_005));
        story.timeline.answer(None, moment(60_000)).events.pop().map(|event| (event.cause, event.deleted_by_ms))
    };
    let told = |cause: &str, by: Option<u64>| Some((cause.to_owned(), by.map(|by| by + BOOT)));
    assert_eq!(cause(137, Some(10_000), false), told("term", Some(10_000)));
    assert_eq!(cause(137, Some(10_001), false), told("exit", Some(10_001)), "by somebody else");
    assert_eq!(cause(143, Some(9_000), false), told("exit", Some(9_000)));
    assert_eq!(cause(137, Some(9_000), true), told("oom", Some(9_000)));
    assert_eq!(cause(137, None, false), told("exit", None));
}

#[test]
fn kills_of_one_container_are_counted_over_ten_minutes() {
    let mut story = Story::new();
    for at in [0, 599_000, 600_000, 600_001] {
        story.oom(at, "api", Some(run("api", 1, 1)));
        story.oom(at, "other", Some(run("other", 2, 1)));
    }
    let events = story.timeline.answer(None, moment(700_000)).events;
    let times: Vec<u64> = events.iter().filter(|event| event.workload == "api").map(|event| event.times).collect();
    assert_eq!(times, [1, 2, 3, 3]);
}

#[test]
fn a_start_knows_how_long_its_container_was_away_and_gets_its_name_later() {
    let mut story = Story::new();
    story.ended(10_000, run("api", 1, 1), 1);
    let again = Run { task: TaskId(9), name: None, ..run("api", 4, 1) };
    story.timeline.news(TaskNews::Began(again), None, moment(11_800));
    let start = |story: &Story| story.timeline.answer(None, moment(60_000)).events.pop().expect("a start");
    assert_eq!((start(&story).namespace.as_str(), start(&story).down_ms), ("k8s.io", Some(1_800)));
    story.timeline.news(TaskNews::Named { task: TaskId(9), name: named("api") }, None, moment(11_900));
    assert_eq!((start(&story).namespace.as_str(), start(&story).container.as_str()), ("shop", "app"));
}

#[test]
fn a_time_that_makes_no_sense_is_now() {
    let mut story = Story::new();
    let exit = |at| Some(ExitStatus { code: 0, at });
    for at in [None, Some(SystemTime::UNIX_EPOCH), Some(moment(90_000).wall)] {
        story.timeline.news(TaskNews::Ended { run: run("api", 1, 1), exit: exit(at) }, None, moment(70_000));
    }
    let at = |event: &TimelineEvent| event.at_ms - BOOT;
    assert_eq!(story.timeline.answer(None, moment(70_000)).events.iter().map(at).collect::<Vec<_>>(), [70_000; 3]);
}

#[test]
fn the_next_agent_goes_on_and_says_when_nobody_looked() {
    let mut story = Story::new();
    story.ended(10_000, run("api", 1, 1), 0);
    story.timeline.unanswered(cut(1, "web", 9_000, 10_001));
    story.timeline.tick(moment(13_000).mono);
    let kept = story.timeline.keep(moment(20_000));
    let losses = Losses::default();
    story = Story { timeline: Timeline::new(Some(kept), moment(24_000), &losses), losses };
    story.ended(30_000, run("web", 2, 1), 0);
    assert_eq!(story.told(), ["10000 exit api exit 1 1 x GET from web 0 [1001]", "30000 exit web exit 0 .."]);
    assert_eq!(story.metrics(), [("exit web".to_owned(), 1.0)]);
    let api::Timeline { from_ms, blind_ms, events, .. } = story.timeline.answer(None, moment(60_000));
    assert_eq!((from_ms, blind_ms), (BOOT, vec![(BOOT + 20_000, BOOT + 24_000)]));
    assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), [1, 2], "numbers go on");
    let young = story.timeline.answer(Some(Duration::from_secs(31)), moment(60_000));
    assert_eq!((young.events.len(), young.blind_ms.len()), (1, 0));
}

#[test]
fn requests_that_no_exit_explains_are_bounded_and_forgotten() {
    let mut story = Story::new();
    for n in 0..3_000 {
        story.timeline.unanswered(cut(1, "web", 9_000, 9_500 + n / 10));
    }
    assert_eq!(story.lost("unanswered_full"), 3_000 - 2_048);
    story.ended(10_000, run("api", 1, 1), 0);
    let rows = |story: &Story| story.timeline.answer(None, moment(60_000)).events.pop().map(|event| event.cut_requests);
    assert_eq!(rows(&story), Some(2_048));
    story.timeline.unanswered(cut(2, "web", 9_000, 10_000));
    story.timeline.tick(moment(16_001).mono);
    story.ended(10_001, run("late", 2, 1), 0);
    assert_eq!(rows(&story), Some(0));
}

#[test]
fn edges_beyond_the_room_are_counted_together() {
    let mut story = Story::new();
    story.ended(10_000, run("api", 1, 1), 0);
    for n in 0..600 {
        story.timeline.unanswered(cut(1, &format!("c{n}"), 9_000, 10_000));
    }
    story.timeline.tick(moment(13_000).mono);
    let metrics = story.metrics();
    assert_eq!((metrics.len(), metrics.iter().map(|(_, value)| value).sum::<f64>()), (501, 600.0));
    assert_eq!(story.lost("cut_series_full"), 100);
    let event = story.timeline.answer(None, moment(60_000)).events.pop().expect("an exit");
    assert_eq!((event.cut_requests, event.cut.len()), (600, 16));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// However much happens, to whomever: the ring is bounded, whole, in order, and says how far it reaches.
    #[test]
    fn the_ring_is_bounded_and_says_how_far_it_reaches(
        names in prop::collection::vec("[a-z]{1,253}", 1..4),
        count in 1_usize..4_000,
        cuts in 0_u64..8,
    ) {
        let mut story = Story::new();
        for n in 0..count as u64 {
            let name = &names[n as usize % names.len()];
            let at = 10_000 + n * 10;
            story.ended(at, run(name, 1, 1), 0);
            for c in 0..cuts {
                story.timeline.unanswered(cut(1, &format!("{name}{c}"), at - 1, at));
            }
        }
        let Timeline { events, bytes, open, .. } = &story.timeline;
        prop_assert!(*bytes <= MOST_BYTES && events.len() <= MOST_EVENTS);
        prop_assert_eq!(*bytes, events.iter().map(weight).sum::<usize>());
        prop_assert!(events.iter().zip(events.iter().skip(1)).all(|(a, b)| a.seq + 1 == b.seq));
        prop_assert!(open.len() <= MOST_OPEN);
        let told = story.timeline.answer(None, moment(10_000 + count as u64 * 10));
        prop_assert_eq!(told.events.len() as u64 + story.lost("events_full"), count as u64);
        prop_assert!(told.events.iter().all(|event| event.at_ms >= told.from_ms));
        let kept = story.timeline.keep(moment(0));
        let losses = Losses::default();
        let again = Timeline::new(Some(kept), moment(0), &losses);
        prop_assert_eq!(again.events.len(), events.len());
    }
}

#[test]
fn an_exit_and_what_it_cut_are_called_alike_by_the_name_that_came_before_it_was_settled() {
    let mut story = Story::new();
    story.timeline.unanswered(cut(1, "web", 9_500, 9_999));
    let exit = Some(ExitStatus { code: 1, at: Some(moment(10_000).wall) });
    let seq = story.timeline.news(TaskNews::Ended { run: run("api-x1", 1, 1), exit }, None, moment(10_005));
    let seq = seq.expect("the number of the exit");
    assert_eq!(story.told(), ["10000 exit api-x1 exit 1 1 x GET from web 0 [499] .."]);
    // The API tells of the pod.
    story.timeline.rename(seq, &named("front"));
    story.timeline.rename(seq + 7, &named("nobody"));
    story.timeline.tick(moment(14_000).mono);
    // A query that is given up later.
    story.timeline.unanswered(Unanswered { over_udp: true, ..cut(1, "web", 9_900, 20_000) });
    assert!(story.told()[0].starts_with("10000 exit front exit 2"), "{:?}", story.told());
    let servers = |metric: SelfMetric| {
        let of = |wanted| metric.labels.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.to_string());
        (of("server_workload"), of("server_service"), metric.value)
    };
    let counted: Vec<_> = story.timeline.totals().metrics().into_iter().map(servers).collect();
    assert_eq!(counted, [(Some("front".to_owned()), Some("front".to_owned()), 2.0)]);
}
