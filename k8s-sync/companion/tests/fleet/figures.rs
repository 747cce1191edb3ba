//! What an autoscaler is told: the sum over all nodes, or which node is missing.

use crate::bed::{Agent, at, fleet};
use companion::apis::metrics::{self, Ask, CUSTOM, EXTERNAL, Groups};
use companion::apis::{self, Asked};
use companion::{Figure, Fleet, Gap, Here, Measure, Missing, Places};
use golden_metrics::Answering;
use join::Cut;
use join::message::Bye;
use std::time::{Duration, SystemTime};

pub fn told() -> Fleet {
    let mut fleet = fleet();
    fleet.set_tells_figures();
    fleet.set_nodes(["n1", "n2", "n3"].map(str::to_owned).into());
    fleet
}

/// api answers 10 requests a second of 10 ms at n1, and 90 of 100 ms at n2.
fn seconds(agents: &mut [Agent; 2], fleet: &mut Fleet, of: std::ops::Range<u64>) {
    for second in of {
        agents[0].answers(10, 200, 10);
        agents[1].answers(90, 200, 100);
        agents.iter_mut().for_each(|agent| agent.run(at(second), fleet));
        fleet.tick(at(second));
    }
}

fn two() -> [Agent; 2] {
    [Agent::new("n1", 11), Agent::new("n2", 12)]
}

pub fn api() -> Answering {
    Answering::Workload { namespace: "shop".into(), kind: "Deployment", name: "api".into() }
}

pub fn service(name: &str) -> Answering {
    Answering::Service { namespace: "shop".into(), name: name.into() }
}

pub fn on(nodes: &[&str]) -> Places {
    let here = |node: &str| {
        let (workloads, pods) = ([("Deployment", "api".to_owned())].into(), [format!("api-5d4c-{node}")].into());
        Here { workloads, pods }
    };
    nodes.iter().map(|node| ((*node).into(), here(node))).collect()
}

fn rate(fleet: &Fleet, now: u64, nodes: &[&str]) -> Result<u64, Missing> {
    let figure = fleet.figure(at(now), &api(), Measure::Rate, &on(nodes));
    figure.map(|Figure { value }| value.round() as u64)
}

fn gap(fleet: &Fleet, now: u64, nodes: &[&str]) -> (String, Gap) {
    match rate(fleet, now, nodes) {
        Err(Missing::Nodes(nodes)) if nodes.len() == 1 => nodes[0].clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_figure_is_of_all_nodes() {
    let (mut agents, mut fleet) = (two(), told());
    seconds(&mut agents, &mut fleet, 0..90);
    assert_eq!(rate(&fleet, 90, &["n1", "n2"]), Ok(100));
    // By the Service, too; a tenth is quick, so the 95th percentile is not.
    let both = on(&["n1", "n2"]);
    let by_service = fleet.figure(at(90), &service("api"), Measure::Rate, &both).unwrap();
    assert!((99.0..101.0).contains(&by_service.value), "{by_service:?}");
    let p95 = fleet.figure(at(90), &api(), Measure::P95, &both).unwrap().value;
    assert!((0.095..0.105).contains(&p95), "{p95}");
    // What ran at another node a moment ago was asked there.
    assert_eq!(rate(&fleet, 90, &["n1"]), Ok(100));
    assert_eq!(rate(&fleet, 90, &[]), Err(Missing::NoPods));
}

#[test]
fn no_figure_falls_while_a_node_says_nothing() {
    let (mut agents, mut fleet) = (two(), told());
    seconds(&mut agents, &mut fleet, 0..90);
    // n2, which has nine tenths of the load, is cut off.
    agents[1].cut(at(90), Cut::Broken("gone".to_owned()), &mut fleet);
    let mut named = None;
    for second in 90..150 {
        agents[0].answers(10, 200, 10);
        agents[0].run(at(second), &mut fleet);
        match rate(&fleet, second, &["n1", "n2"]) {
            Ok(rate) => assert!((99..=101).contains(&rate) && named.is_none(), "{rate} at {second}"),
            Err(Missing::Nodes(nodes)) => named = Some(nodes),
            Err(other) => panic!("{other:?}"),
        }
    }
    let named = named.unwrap();
    assert!(matches!(&named[..], [(node, Gap::Silent(_))] if node == "n2"), "{named:?}");
    // One that runs no pods of it is no matter.
    assert!(rate(&fleet, 149, &["n1"]).is_ok());
    // It is back, and counted on: its first push tells no time, and what comes next is whole.
    agents[1].answers(90 * 60, 200, 100);
    let mut after = Vec::new();
    for second in 150..230 {
        agents[0].answers(10, 200, 10);
        agents[1].answers(90, 200, 100);
        agents.iter_mut().for_each(|agent| agent.run(at(second), &mut fleet));
        after.push(rate(&fleet, second, &["n1", "n2"]));
    }
    let begins = |told: &Result<u64, Missing>| matches!(told, Err(Missing::Nodes(n)) if n[0].1 == Gap::Begins);
    assert!(after.iter().any(begins), "{after:?}");
    let figures: Vec<u64> = after.iter().filter_map(|told| told.clone().ok()).collect();
    assert!(figures.len() > 10 && figures.iter().all(|rate| (95..=105).contains(rate)), "{figures:?}");
}

#[test]
fn a_node_without_an_agent_is_named_and_one_that_was_deleted_is_not() {
    let (mut agents, mut fleet) = (two(), told());
    seconds(&mut agents, &mut fleet, 0..90);
    assert_eq!(gap(&fleet, 90, &["n1", "n2", "n3"]), ("n3".to_owned(), Gap::Uncovered));
    fleet.set_nodes(["n1", "n2"].map(str::to_owned).into());
    assert_eq!(rate(&fleet, 90, &["n1", "n2", "n3"]), Ok(100));
    assert_eq!(rate(&fleet, 90, &["n3"]), Err(Missing::NoPods));
    // Nor is anything told before it is known which nodes there are.
    let unknown = Fleet::new(join::Me::new("0.2.0", 1), companion::Config::default());
    assert_eq!(rate(&unknown, 0, &["n1"]), Err(Missing::Unknown(None)));
}

#[test]
fn no_figure_falls_when_pods_move_away_from_a_node_that_is_deleted() {
    let (mut agents, mut fleet) = (two(), told());
    seconds(&mut agents, &mut fleet, 0..90);
    fleet.set_nodes(["n1", "n3"].map(str::to_owned).into());
    let mut figures = Vec::new();
    for second in 90..180 {
        agents[0].answers(100, 200, 10);
        agents[0].run(at(second), &mut fleet);
        fleet.tick(at(second));
        figures.push(rate(&fleet, second, &["n1"]).unwrap());
    }
    // It errs upwards: what has left counts a step longer than what has come.
    assert!(figures.iter().all(|rate| (90..=135).contains(rate)), "{figures:?}");
    assert_eq!(figures.last(), Some(&100));
}

#[test]
fn an_agent_that_said_why_it_ended_is_quoted() {
    let (mut agents, mut fleet) = (two(), told());
    seconds(&mut agents, &mut fleet, 0..90);
    let hello = join::Me::new("0.2.0", 12).hello("n2");
    let (stream, _) = fleet.open(at(90), &hello).unwrap();
    fleet.bye("n2", stream, Bye { code: 77, text: "no rights".to_owned() });
    assert_eq!(gap(&fleet, 91, &["n1", "n2"]), ("n2".to_owned(), Gap::Ended(77, "no rights".to_owned())));
}

#[test]
fn idle_is_zero_and_unknown_is_not() {
    let (mut agents, mut fleet) = (two(), told());
    seconds(&mut agents, &mut fleet, 0..60);
    for second in 60..180 {
        agents.iter_mut().for_each(|agent| agent.run(at(second), &mut fleet));
    }
    assert_eq!(rate(&fleet, 180, &["n1", "n2"]), Ok(0));
    assert_eq!(fleet.figure(at(180), &api(), Measure::P95, &on(&["n1"])), Err(Missing::NoAnswers));
    // Nobody ever asked it, as far as can be read: that is no load of zero.
    let other = Answering::Workload { namespace: "shop".into(), kind: "Deployment", name: "secret".into() };
    assert_eq!(fleet.figure(at(180), &other, Measure::Rate, &on(&["n1"])), Err(Missing::NoRequests));
    assert_eq!(fleet.figure(at(180), &service("other"), Measure::Rate, &on(&["n1"])), Err(Missing::NoRequests));
}

/// After a restart of the companion nobody's figure is told before all nodes have pushed twice.
#[test]
fn a_companion_that_begins_tells_nothing_that_lacks_a_node() {
    let (mut agents, mut first) = (two(), told());
    seconds(&mut agents, &mut first, 0..60);
    agents.iter_mut().for_each(|agent| agent.cut(at(60), Cut::Broken("restart".to_owned()), &mut first));
    let mut fleet = told();
    let mut figures = Vec::new();
    for second in 60..150 {
        seconds(&mut agents, &mut fleet, second..second + 1);
        figures.extend(rate(&fleet, second, &["n1", "n2"]));
    }
    assert!(figures.len() > 20 && figures.iter().all(|rate| (95..=105).contains(rate)), "{figures:?}");
    assert!(fleet.patience() >= Duration::from_secs(30));
}

const BOTH: Groups = Groups { custom: true, external: true };

#[test]
fn groups_that_are_served_are_in_the_list_of_all() {
    let groups = |on: Groups, accept: &str| {
        let asked = Asked::read("GET", "/apis", "", accept).unwrap();
        let mut told = apis::answer(&asked, &companion::Shown::default(), 1);
        on.announce(&asked, &mut told);
        told.body
    };
    let names = |on: Groups| -> Vec<String> {
        let body = groups(on, "");
        let all = body["groups"].as_array().into_iter().flatten();
        all.map(|group| group["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(Groups::default()), ["traffic.pilotfish.io"]);
    assert_eq!(names(BOTH), ["traffic.pilotfish.io", CUSTOM.0, EXTERNAL.0]);
    let v2 = groups(BOTH, "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
    let custom = &v2["items"][1]["versions"][0];
    assert_eq!((&v2["items"][1]["metadata"]["name"], &custom["version"]), (&CUSTOM.0.into(), &CUSTOM.1.into()));
    assert_eq!(custom["resources"][0]["subresources"][0]["subresource"], "http_requests_per_second");
}

#[test]
fn a_group_says_what_it_has() {
    for ((group, version), kind, first) in [
        (CUSTOM, "MetricValueList", "services/http_requests_per_second"),
        (EXTERNAL, "ExternalMetricValueList", "http_requests_per_second"),
    ] {
        let get = |path: &str| {
            let ask = Ask::read(BOTH, "GET", path, "").unwrap().unwrap();
            metrics::answer(&ask, |_| Err(Missing::NoPods), SystemTime::UNIX_EPOCH).body
        };
        assert_eq!(get(&format!("/apis/{group}"))["preferredVersion"]["version"], version);
        let resources = get(&format!("/apis/{group}/{version}"));
        assert_eq!(resources["groupVersion"], format!("{group}/{version}"));
        assert_eq!(
            (&resources["resources"][0]["name"], &resources["resources"][0]["kind"]),
            (&first.into(), &kind.into())
        );
    }
}
