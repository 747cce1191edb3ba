//! What the companion makes of the pushes of many agents. Time is passed in.
#![forbid(unsafe_code)]

mod api;
mod bed;
mod figures;
mod findings;
mod kubectl;
mod long_watch;
mod loops;
mod namespaces;
mod plugin;
mod restarts;
mod reviews;
mod scraped;
mod strangers;

use bed::{Agent, at, fleet, fleet_with};
use companion::serve::self_metrics;
use companion::{Config, Fleet, KEPT, Session, Standing};
use golden_metrics::Nodes;
use join::Cut;
use join::message::{Bye, FromAgent, Says};
use std::time::Duration;

/// Requests, rate and 95th percentile in ms of the only workload, and who has a part in it.
fn shown(fleet: &mut Fleet, now: Duration) -> (u64, u64, Option<u64>, Nodes) {
    let table = fleet.table(now);
    let workloads = table.workloads();
    let [workload] = &*workloads else { panic!("{workloads:?}") };
    let golden = &workload.row.golden;
    (golden.requests, golden.rps.round() as u64, golden.p95.map(|p95| (p95 * 1e3).round() as u64), workload.nodes)
}

fn two() -> [Agent; 2] {
    [Agent::new("n1", 11), Agent::new("n2", 12)]
}

/// Ten requests a second at n1, five at n2 of 100 ms each, for a minute.
fn minute(agents: &mut [Agent; 2], fleet: &mut Fleet, from: u64) {
    for second in from..from + 60 {
        agents[0].answers(10, 200, 10);
        agents[1].answers(5, 200, 100);
        agents.iter_mut().for_each(|agent| agent.run(at(second), fleet));
        fleet.tick(at(second));
    }
}

#[test]
fn the_table_is_what_all_nodes_did_in_the_last_minute() {
    let (mut agents, mut fleet) = (two(), fleet());
    // What was counted before they joined is no rate.
    agents[0].answers(5_000, 500, 1);
    minute(&mut agents, &mut fleet, 0);
    minute(&mut agents, &mut fleet, 60);
    let (requests, rps, p95, nodes) = shown(&mut fleet, at(120));
    assert!((800..=1_100).contains(&requests) && (13..=16).contains(&rps), "{requests} {rps}");
    assert_eq!(nodes, Nodes { live: 2, all: 2 });
    // A third of all took 100 ms: the mean of both nodes' percentiles would be 55.
    assert!(p95.is_some_and(|ms| (98..=102).contains(&ms)), "{p95:?}");
    assert_eq!(fleet.counts().resyncs, 0);
}

/// Nobody asks before the second push; whoever asks right after it gets no spike.
#[test]
fn the_first_rate_is_over_the_time_in_which_it_was_counted() {
    let (mut agent, mut fleet) = (Agent::new("n1", 11), fleet());
    let mut seconds = 100..;
    let second = seconds.find(|second| {
        agent.answers(10, 200, 10);
        agent.run(at(*second), &mut fleet);
        fleet.counts().pushes == 2
    });
    let (requests, rps, ..) = shown(&mut fleet, at(second.unwrap()) + Duration::from_millis(1));
    assert!(requests > 0 && (9..=11).contains(&rps), "{requests} requests, {rps} a second");
}

#[test]
fn a_node_that_is_silent_is_told_apart_and_counts_again_from_its_second_push() {
    let (mut agents, mut fleet) = (two(), fleet());
    minute(&mut agents, &mut fleet, 0);
    agents[1].cut(at(60), Cut::Broken("gone".to_owned()), &mut fleet);
    let [first, second] = &mut agents;
    for second in 60..105 {
        first.answers(10, 200, 10);
        first.run(at(second), &mut fleet);
    }
    let standing = |fleet: &Fleet, now| fleet.agents(now).into_iter().map(|agent| agent.standing).collect::<Vec<_>>();
    let silent = standing(&fleet, at(105));
    assert!(matches!(silent[..], [Standing::Live, Standing::Silent { since }] if since >= at(45)), "{silent:?}");
    assert_eq!(shown(&mut fleet, at(105)).3, Nodes { live: 1, all: 2 });
    // It counted on meanwhile. Its first push says how much, not when.
    second.answers(100_000, 200, 100);
    let before = shown(&mut fleet, at(107)).0;
    let mut pushes = fleet.counts().pushes;
    let mut live = Vec::new();
    for now in 108..150 {
        second.run(at(now), &mut fleet);
        if fleet.counts().pushes > pushes {
            pushes = fleet.counts().pushes;
            let (requests, _, _, nodes) = shown(&mut fleet, at(now));
            assert!(requests <= before, "a spike: {requests} after {before}");
            live.push(nodes.live);
        }
    }
    // n1 fell silent in the meantime.
    assert!(live.starts_with(&[1, 2]) || live.starts_with(&[0, 1]), "{live:?}");
}

#[test]
fn the_series_of_a_silent_node_end_and_go_on_where_they_were() {
    let (mut agents, mut fleet) = (two(), fleet());
    minute(&mut agents, &mut fleet, 0);
    let memory = fleet.memory();
    agents[1].cut(at(60), Cut::Broken("gone".to_owned()), &mut fleet);
    let values = |fleet: &Fleet, node: &str| -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut all: Vec<_> = fleet.series(node).map(|(name, value)| (name.key().to_vec(), value.to_vec())).collect();
        all.sort();
        all
    };
    let kept = values(&fleet, "n2");
    // It pushed last in the ten seconds before.
    fleet.tick(at(45) + KEPT);
    assert!(values(&fleet, "n2") == kept && !kept.is_empty());
    fleet.tick(at(61) + KEPT);
    assert_eq!((fleet.series("n1").count() + fleet.series("n2").count(), fleet.counts().expired), (0, 2));
    // Names and values are given back.
    assert_eq!((fleet.memory(), memory > (0, 0)), ((0, 0), true));
    for second in 400..440 {
        agents[1].run(at(second), &mut fleet);
    }
    assert!(values(&fleet, "n2") == agents[1].rows());
}

#[test]
fn a_node_that_was_deleted_is_neither_silent_nor_uncovered() {
    let (mut agents, mut fleet) = (two(), fleet());
    fleet.set_nodes(["n1", "n2", "n3"].map(str::to_owned).into());
    minute(&mut agents, &mut fleet, 0);
    assert_eq!((fleet.uncovered(), fleet.agents(at(60)).len()), (vec!["n3"], 2));
    fleet.set_nodes(["n1", "n3"].map(str::to_owned).into());
    assert_eq!((fleet.agents(at(60)).len(), fleet.series("n2").count()), (1, 0));
    assert_eq!(shown(&mut fleet, at(60)).3, Nodes { live: 1, all: 1 });
    // Its agent is told.
    agents[1].answers(1, 200, 1);
    (60..75).for_each(|second| agents[1].run(at(second), &mut fleet));
    assert!(
        agents[1].link.why().is_some_and(|why| why.to_string().contains("n2\"") || why.to_string().contains("deleted"))
    );
}

#[test]
fn a_restart_on_either_side_makes_no_rate_negative_and_no_spike() {
    let (mut agents, mut all) = (two(), fleet());
    minute(&mut agents, &mut all, 0);
    minute(&mut agents, &mut all, 60);
    // An agent that was killed begins at zero.
    agents[0].cut(at(120), Cut::Broken("killed".to_owned()), &mut all);
    agents[0] = Agent::new("n1", 99);
    minute(&mut agents, &mut all, 120);
    let (requests, rps, ..) = shown(&mut all, at(180));
    assert!((600..=1_100).contains(&requests) && (9..=16).contains(&rps), "{requests} {rps}");
    // Another companion has nothing yet, and no rate before the second push.
    let mut other = fleet();
    agents.iter_mut().for_each(|agent| agent.cut(at(180), Cut::Broken("restart".to_owned()), &mut all));
    for second in 180..192 {
        agents.iter_mut().for_each(|agent| agent.run(at(second), &mut other));
    }
    assert!(other.table(at(192)).workloads().iter().all(|workload| workload.row.golden.requests == 0));
    minute(&mut agents, &mut other, 192);
    minute(&mut agents, &mut other, 252);
    let (requests, ..) = shown(&mut other, at(312));
    assert!((800..=1_100).contains(&requests), "{requests}");
}

#[test]
fn bounds_over_all_agents_are_kept_and_counted() {
    let config = Config { agents: 1, names: 2_000, values: 3_000, ..Config::default() };
    let (mut agents, mut fleet) = (two(), fleet_with(config));
    minute(&mut agents, &mut fleet, 0);
    let (names, values) = fleet.memory();
    assert!(names <= 2_000 && values <= 3_000, "{names} {values}");
    assert!(fleet.counts().no_room > 0 && fleet.agents(at(60)).len() == 1);
    assert!(agents[1].link.why().is_some_and(|why| why.to_string().contains("all that this companion takes")));
}

#[test]
fn everything_that_is_counted_is_shown() {
    let (mut agents, mut fleet) = (two(), fleet());
    minute(&mut agents, &mut fleet, 0);
    let metrics = self_metrics(&fleet, at(60));
    let value = |name: &str, label: &str| {
        let is_it = |metric: &&golden_metrics::SelfMetric| {
            metric.name == name && (label.is_empty() || metric.labels.iter().any(|(_, value)| value == label))
        };
        metrics.iter().find(is_it).map(|metric| metric.value)
    };
    assert_eq!(value("pilotfish_companion_agents", "live"), Some(2.0));
    assert_eq!(value("pilotfish_companion_agents", "silent"), Some(0.0));
    assert_eq!(value("pilotfish_companion_lost_total", "no_room"), Some(0.0));
    assert_eq!(value("pilotfish_companion_refused_total", "token"), Some(0.0));
    assert!(value("pilotfish_companion_series", "").is_some_and(|series| series > 2.0));
    assert!(value("pilotfish_companion_series_bytes", "values").is_some_and(|bytes| bytes > 100.0));
}

#[test]
fn a_session_that_says_nothing_is_due_to_end() {
    let mut fleet = fleet();
    let mut session = Session::new(at(5));
    assert_eq!(session.deadline(), at(15));
    // What it has not agreed to keeps no stream open.
    assert!(matches!(session.received(at(9), FromAgent::default(), &mut fleet), Ok(None)));
    assert_eq!(session.deadline(), at(15));
    let bye = FromAgent::from(Says::Bye(Bye { code: 1, text: String::new() }));
    assert!(session.received(at(9), bye, &mut fleet).is_err());
    let hello = join::Me::new("0.2.0", 7).hello("n1");
    assert!(matches!(session.received(at(10), FromAgent::from(Says::Hello(hello)), &mut fleet), Ok(Some(_))));
    assert_eq!(session.deadline(), at(40));
}
