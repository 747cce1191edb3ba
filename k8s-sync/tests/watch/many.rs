//! Many agents on one API server.

use crate::bed::{PATIENCE, Watches, agent, hasty, plane_with};
use anyhow::Result;
use k8s_sync::watch::Timing;
use std::collections::BTreeMap;
use testbed::cluster::{ControlPlaneOptions, Mark, User, kinds, objects};

/// Lists of the agents in each second in which there was one, as the audit log has them.
fn lists_by_second(plane: &testbed::cluster::ControlPlane, mark: Mark) -> Result<BTreeMap<String, usize>> {
    let mut seconds = BTreeMap::new();
    for request in plane.audit().since(mark)? {
        let is_list = request.verb == "list" || request.uri.contains("sendInitialEvents");
        if request.user == User::Agent.name() && is_list {
            let second = request.received.split('.').next().unwrap_or_default().to_owned();
            *seconds.entry(second).or_default() += 1;
        }
    }
    Ok(seconds)
}

/// A companion was told of pods minutes after its start: it waited as one of as many agents as there are nodes.
#[test]
fn who_watches_for_all_lists_at_once_however_many_nodes_there_are() -> Result<()> {
    let plane = plane_with(1, &ControlPlaneOptions::default())?;
    for n in 0..50_u8 {
        objects::create_node(plane.client(), &format!("node-{n}"), [10, 88, 1, n].into())?;
    }
    let start = |in_turn| {
        Watches::start(agent(&plane)?, |config| {
            (config.in_turn, config.node, config.timing) = (in_turn, None, Timing::default());
        })
    };
    let (alone, one_of_many) = (start(false)?, start(true)?);
    let is_listed = |watches: &Watches| watches.report().watches.iter().all(|watch| watch.is_complete);
    // A round of 50 agents takes 75 s.
    testbed::until("it has listed", std::time::Duration::from_secs(10), || is_listed(&alone))?;
    assert!(alone.report().last_list_wait.is_zero(), "{:?}", alone.report().last_list_wait);
    testbed::until("an agent waits for its turn", PATIENCE, || !one_of_many.report().last_list_wait.is_zero())
}

#[test]
#[ignore = "measures: some minutes, and the seconds are the machine's"]
fn fifty_agents_list_slowly_when_the_server_restarts() -> Result<()> {
    let mut plane = plane_with(20, &ControlPlaneOptions::default())?;
    for n in 0..50_u8 {
        objects::create_node(plane.client(), &format!("node-{n}"), [10, 88, 1, n].into())?;
    }
    let mark = plane.audit().mark();
    let kubeconfig = agent(&plane)?;
    let start = |n: u32| {
        Watches::start(kubeconfig.clone(), |config| {
            config.node = Some(format!("node-{n}"));
            config.timing = Timing { answer: hasty().answer * 4, ..Timing::default() };
        })
    };
    let all: Vec<Watches> = (0..50).map(start).collect::<Result<_>>()?;
    let is_listed = |times: u64| {
        all.iter().all(|watches| watches.report().watches.iter().all(|watch| watch.lists >= times && watch.is_complete))
    };
    testbed::until("all have listed", PATIENCE * 4, || is_listed(1))?;
    let cold = lists_by_second(&plane, mark)?;
    println!("started together, knowing nothing: {cold:#?}");
    let mark = plane.audit().mark();
    // The watch cache of the new server begins after this write, of which no bookmark has told any agent.
    plane.client().create(&kinds::NAMESPACE, &objects::namespace("other"))?;
    plane.restart_api_server()?;
    testbed::until("all have listed anew", PATIENCE * 4, || is_listed(2))?;
    let warm = lists_by_second(&plane, mark)?;
    println!("after the server's restart: {warm:#?}");
    assert_eq!(warm.values().sum::<usize>(), 250, "one list for each 410");
    Ok(())
}
