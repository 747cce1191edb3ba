//! What agents hold for wrong, as the companion keeps and shows it.

use crate::bed::{Agent, at, cut, fleet, fleet_with, full};
use crate::strangers::{World, pod};
use companion::apis::{Asked, Form, Reads, Watch, answer};
use companion::serve::self_metrics;
use companion::{Config, Fleet, KEPT, Severity};
use join::Cut;
use join::message::{Figure, Finding, Findings, Hurt, Severity as Bad, Value as Told};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::time::Duration;

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
const BASE: &str = "/apis/traffic.pilotfish.io/v1alpha1";

pub fn get(fleet: &mut Fleet, now: u64, path: &str, accept: &str) -> (u16, Value) {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let asked = Asked::read("GET", &format!("{BASE}/{path}"), query, accept).expect("a request");
    let answer = answer(&asked, &fleet.shown(at(now)), now * 1_000);
    (answer.status, answer.body)
}

/// The cells of a table without names.
pub fn rows(fleet: &mut Fleet, now: u64, path: &str) -> Vec<String> {
    let table = get(fleet, now, path, TABLE).1;
    let cells = |row: &Value| {
        let cells = row["cells"].as_array().into_iter().flatten().skip(1).take(6);
        cells.map(|cell| cell.as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>().join(" | ")
    };
    table["rows"].as_array().into_iter().flatten().map(cells).collect()
}

/// n1 has told both 100 s after the companion began.
fn told() -> (Fleet, Agent) {
    let (mut fleet, mut agent) = (fleet(), Agent::new("n1", 11));
    agent.run(at(90), &mut fleet);
    agent.finds(100_000, &[full(), cut("api", Bad::Warning)]);
    agent.run(at(101), &mut fleet);
    (fleet, agent)
}

pub fn metric(fleet: &Fleet, now: u64, name: &str, label: &str) -> f64 {
    let metrics = self_metrics(fleet, at(now));
    let has = |metric: &golden_metrics::SelfMetric| metric.labels.iter().any(|(_, value)| *value == label);
    metrics.iter().find(|metric| metric.name == name && (label.is_empty() || has(metric))).map_or(-1.0, |m| m.value)
}

#[test]
fn they_are_rows_by_namespace_the_worst_first_and_those_of_a_node_are_in_default() {
    let (mut fleet, _agent) = told();
    let api = "warning | api | n1 | Live | 91s | 3 requests to api unanswered";
    let node = "error | the node's own network | n1 | Live | 61s | 90 % of 65536";
    assert_eq!(rows(&mut fleet, 102, "findings"), [node, api]);
    assert_eq!(rows(&mut fleet, 102, "namespaces/shop/findings"), [api]);
    assert_eq!(rows(&mut fleet, 102, "namespaces/default/findings"), [node]);
    assert_eq!(rows(&mut fleet, 102, "namespaces/pay/findings"), [""; 0]);
    assert_eq!(rows(&mut fleet, 102, "findings?labelSelector=pilotfish.io/severity%3Derror"), [node]);
    assert_eq!(rows(&mut fleet, 102, "findings?labelSelector=pilotfish.io/workload=api,pilotfish.io/node=n1"), [api]);

    let (_, list) = get(&mut fleet, 102, "namespaces/shop/findings", "application/json");
    let one = &list["items"][0];
    let name = one["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("cut-by-exit.api-") && name.len() == "cut-by-exit.api-".len() + 8, "{name}");
    let expected = json!({
        "id": "cut-by-exit", "severity": "warning", "node": "n1", "agent": "Live", "certainty": "measured",
        "workload": {"name": "api", "namespace": "shop", "kind": "Workload"}, "since": "1970-01-01T00:00:11Z",
        "message": "3 requests to api unanswered", "evidence": {"requests": 3},
        "hurt": [{"client": "shop/web", "requests": 3}], "requestsHurt": 3,
        "do": ["answer what is under way on SIGTERM"],
    });
    expected.as_object().unwrap().iter().for_each(|(key, value)| assert_eq!(&one[key], value, "{key}"));
    assert_eq!((&list["kind"], &one["kind"]), (&"FindingList".into(), &"Finding".into()));
    assert_eq!(get(&mut fleet, 102, &format!("namespaces/shop/findings/{name}"), "").1["metadata"]["name"], name);
    assert_eq!(get(&mut fleet, 102, &format!("namespaces/default/findings/{name}"), "").0, 404);
    let (_, list) = get(&mut fleet, 102, "namespaces/default/findings", "");
    let name = list["items"][0]["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("conntrack-full.n1-"), "{name}");
    assert_eq!(
        (metric(&fleet, 102, "pilotfish_companion_findings", "error"), fleet.counts().findings_unreadable),
        (1.0, 0)
    );
}

#[test]
fn what_is_explained_is_what_is_shown() {
    let (mut fleet, _agent) = told();
    let (_, list) = get(&mut fleet, 102, "findings", "");
    let asked = Asked::read("GET", "/openapi/v3/apis/traffic.pilotfish.io/v1alpha1", "", "").unwrap();
    let schemas = answer(&asked, &fleet.shown(at(102)), 7).body;
    let explained = schemas["components"]["schemas"]["io.pilotfish.traffic.v1alpha1.Finding"]["properties"].clone();
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&explained), names(&list["items"][0]));
    assert_eq!(names(&explained["workload"]["properties"]), names(&list["items"][0]["workload"]));
}

#[test]
fn a_silent_nodes_findings_are_marked_and_end_with_its_series() {
    let (mut fleet, mut agent) = told();
    let agents = |fleet: &mut Fleet, now| {
        let rows = rows(fleet, now, "findings");
        rows.iter().filter_map(|row| row.split(" | ").nth(3).map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(agents(&mut fleet, 131), ["Live"; 2]);
    assert_eq!(agents(&mut fleet, 132), ["Silent"; 2]);
    fleet.tick(at(101) + KEPT);
    assert_eq!(agents(&mut fleet, 401), ["Silent"; 2]);
    fleet.tick(at(102) + KEPT);
    assert_eq!((agents(&mut fleet, 402).len(), fleet.findings_memory()), (0, 0));
    // It comes back by a new stream, with what holds.
    agent.cut(at(410), Cut::Silent, &mut fleet);
    agent.finds(409_000, &[full(), cut("api", Bad::Warning)]);
    agent.run(at(480), &mut fleet);
    assert_eq!(agents(&mut fleet, 480), ["Live"; 2]);
    fleet.set_nodes(["n2".to_owned()].into());
    assert_eq!((agents(&mut fleet, 480).len(), fleet.findings_memory()), (0, 0));
}

#[test]
fn another_process_of_the_agent_finds_them_anew() {
    let (mut fleet, mut agent) = told();
    agent.cut(at(102), Cut::Silent, &mut fleet);
    agent.run(at(180), &mut fleet);
    assert_eq!(rows(&mut fleet, 180, "findings").len(), 2, "the same process");
    agent.cut(at(181), Cut::Silent, &mut fleet);
    let mut next = Agent::new("n1", 12);
    next.run(at(182), &mut fleet);
    assert_eq!((rows(&mut fleet, 182, "findings").len(), fleet.findings_memory()), (0, 0));
}

#[test]
fn a_watch_tells_of_what_comes_changes_and_goes_and_not_of_time() {
    let (mut fleet, mut agent) = told();
    let path = format!("{BASE}/namespaces/shop/findings");
    let Ok(Asked::Objects { selected, reads: Reads::Watch { .. }, .. }) = Asked::read("GET", &path, "watch=true", "")
    else {
        panic!("a watch")
    };
    let mut watch = Watch::new(selected, Form::Json, true, &fleet.shown(at(102)));
    let mut kinds = |fleet: &mut Fleet, now| {
        let events = watch.events(&fleet.shown(at(now)), now);
        events.iter().filter_map(|event| event["type"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(kinds(&mut fleet, 102), ["ADDED"]);
    assert_eq!(kinds(&mut fleet, 108), [""; 0]);
    // The same since, by a clock that was read a moment later.
    let more = Finding { summary: "4 requests".to_owned(), ..cut("api", Bad::Error) };
    agent.finds(112_400, &[more]);
    agent.run(at(113), &mut fleet);
    assert_eq!(kinds(&mut fleet, 113), ["MODIFIED"]);
    assert_eq!(rows(&mut fleet, 113, "findings"), ["error | api | n1 | Live | 102s | 4 requests"]);
    assert_eq!(kinds(&mut fleet, 144), ["MODIFIED"], "its agent is silent");
    agent.finds(144_000, &[]);
    agent.run(at(145), &mut fleet);
    assert_eq!(kinds(&mut fleet, 145), ["DELETED"]);
}

#[test]
fn a_node_that_tells_of_anothers_workload_is_not_believed() {
    let (mut honest, mut liar) = (Agent::new("n1", 11), Agent::new("n2", 12));
    let mut world = World::new(fleet(), &[pod(1, "n1")]);
    // Since a minute before now, by both.
    let now_ms = world.now * 1_000;
    let lately = |finding: Finding| Finding { since_ms: now_ms - 60_000, ..finding };
    let all = [cut("api", Bad::Error), cut("unknown", Bad::Info), full()].map(lately);
    honest.finds(now_ms, &all);
    liar.finds(now_ms, &all);
    world.run(&mut [(&mut honest, 0), (&mut liar, 0)], 20);
    let of = |world: &mut World, node: &str| {
        let shown = world.fleet.findings(at(world.now));
        let of = shown.iter().filter(|row| *row.node == *node).map(|row| row.told.workload.clone());
        of.collect::<std::collections::BTreeSet<_>>().len()
    };
    // Whom no pod of the cluster belongs to is nobody's, and so is the node.
    assert_eq!((of(&mut world, "n1"), of(&mut world, "n2")), (3, 2));
    assert_eq!(world.fleet.counts().findings_stranger, 1);
    let now = world.now;
    assert_eq!(metric(&world.fleet, now, "pilotfish_companion_stranger_findings", ""), 1.0);
    let (_, agent) = get(&mut world.fleet, now, "nodeagents/n2", "");
    assert_eq!(agent["refusedFindings"], 1);
    assert_eq!(agent["reason"], "1 findings are of workloads that have no pod on this node");
    // A pod that is heard of late is.
    world.ran.lock().put(&pod(2, "n2"));
    world.fleet.tick(at(world.now));
    assert_eq!((of(&mut world, "n2"), world.fleet.counts().findings_stranger), (3, 1));
    assert_eq!(world.fleet.findings(at(world.now))[0].told.severity, Severity::Error);
}

#[test]
fn what_has_no_room_is_left_out_and_counted_and_room_comes_back() {
    let config = Config { findings: 1_000, ..Config::default() };
    let (mut fleet, mut agents) = (fleet_with(config), [Agent::new("n1", 11), Agent::new("n2", 12)]);
    for agent in &mut agents {
        agent.finds(100_000, &[full(), cut("api", Bad::Warning)]);
        agent.run(at(100), &mut fleet);
    }
    let (shown, lost) = (fleet.findings(at(100)).len(), fleet.counts().findings_no_room);
    assert!((1..4).contains(&shown) && shown as u64 + lost == 4, "{shown} {lost}");
    assert!(fleet.findings_memory() <= 1_000);
    agents[0].finds(110_000, &[]);
    agents[0].run(at(112), &mut fleet);
    agents[1].finds(113_000, &[full()]);
    agents[1].run(at(124), &mut fleet);
    assert_eq!(fleet.findings(at(124)).len(), 1);
}

fn any_finding() -> impl Strategy<Value = Finding> {
    let text = || ".{0,12}";
    let value = prop_oneof![
        any::<u64>().prop_map(|n| Some(Told::Count(n))),
        any::<f64>().prop_map(|n| Some(Told::Number(n))),
        text().prop_map(|text| Some(Told::Text(text))),
        Just(None),
    ];
    let figures = proptest::collection::vec((text(), value), 0..4);
    let hurt = proptest::collection::vec((text(), any::<u64>()), 0..4);
    let id = prop_oneof!["[a-z-]{1,9}", ".{0,9}"];
    let namespace = prop_oneof!["[a-z]{0,4}", ".{0,9}"];
    (id, any::<i32>(), namespace, text(), text(), any::<u64>(), (text(), figures, hurt)).prop_map(
        |(id, severity, namespace, kind, workload, since_ms, (summary, figures, hurt))| Finding {
            id,
            severity,
            namespace,
            kind,
            workload,
            since_ms,
            likely: since_ms % 2 == 0,
            remedy: vec![summary.clone()],
            summary,
            evidence: figures.into_iter().map(|(name, value)| Figure { name, value }).collect(),
            hurt: hurt.into_iter().map(|(client, requests)| Hurt { client, requests }).collect(),
        },
    )
}

proptest! {
    /// Each is shown or counted, and nothing that is shown moves a terminal's cursor.
    #[test]
    fn whatever_an_agent_says_is_shown_within_bounds(
        all in proptest::collection::vec(any_finding(), 0..12), now_ms in any::<u64>(),
    ) {
        let (mut fleet, mut agent) = (fleet(), Agent::new("n1", 11));
        agent.finds(now_ms, &all);
        agent.run(at(100), &mut fleet);
        let shown = fleet.findings(at(100));
        prop_assert_eq!(shown.len() as u64 + fleet.counts().findings_unreadable, all.len() as u64);
        let (_, table) = get(&mut fleet, 100, "findings", TABLE);
        let (_, list) = get(&mut fleet, 100, "findings", "");
        let names: std::collections::BTreeSet<_> =
            list["items"].as_array().unwrap().iter().map(|one| one["metadata"]["name"].to_string()).collect();
        prop_assert_eq!(names.len(), shown.len());
        for row in table["rows"].as_array().unwrap() {
            let cells = row["cells"].as_array().unwrap().iter().filter_map(Value::as_str);
            prop_assert!(cells.flat_map(str::chars).all(|c| !c.is_control()));
        }
        for row in &shown {
            prop_assert!(row.told.since <= at(100));
        }
    }

    #[test]
    fn bytes_that_nobody_packed_end_the_stream_or_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let (mut fleet, mut agent) = (fleet(), Agent::new("n1", 11));
        agent.run(at(100), &mut fleet);
        let message = Findings { now_ms: 1, entries: bytes.into() };
        let before = fleet.counts().refused;
        let taken = fleet.told(at(101), "n1", 1, &message);
        prop_assert_eq!(taken.is_err(), fleet.counts().refused != before);
        prop_assert!(fleet.told(at(101), "n1", 9, &Findings::default()).is_err(), "another stream");
    }
}

#[test]
fn half_an_hour_passes_for_what_the_companion_cannot_know() {
    let mut world = World::new(fleet(), &[pod(1, "n1")]);
    world.pass(Duration::from_secs(1));
    let ran = world.ran.lock();
    let verdict = |since| ran.verdict_of("n2", "shop", "api", since);
    assert_eq!(verdict(Duration::ZERO), companion::Verdict::Stranger);
    drop(ran);
    let young = companion::Ran::default();
    let young = parking_lot::Mutex::new(young);
    young.lock().put(&pod(1, "n1"));
    young.lock().set_complete();
    young.lock().tick(at(600), Duration::ZERO);
    let verdict = |since: u64| young.lock().verdict_of("n2", "shop", "api", at(since));
    // It may have had a pod there that ended before everything was listed.
    assert_eq!((verdict(0), verdict(119)), (companion::Verdict::Unjudged, companion::Verdict::Unjudged));
    assert_eq!(verdict(120), companion::Verdict::Stranger);
    assert_eq!(young.lock().verdict_of("n1", "shop", "api", at(120)), companion::Verdict::Here);
    assert_eq!(young.lock().verdict_of("n2", "shop", "other", at(120)), companion::Verdict::Nobodys);
}
