//! The agent is stopped and its connections are dead while 110 pods are deleted, 100 others are
//! created on the same addresses, and the past is gone: etcd is compacted and the API server starts
//! anew, so that it has no events to catch up with. Then the agent goes on. Right is it when it
//! says of every address what the API server's list says, and of addresses that nobody has any
//! more, nobody.
//!
//! Twice: the dead connections are closed when the agent goes on (it learns at once), and they stay
//! silent for ever (it has to find out).

use super::agent::{Agent, Setup};
use super::gate::{Door, Gate};
use super::pods;
use crate::bench::goals::Goals;
use anyhow::{Context, Result};
use std::net::IpAddr;
use std::time::{Duration, Instant};
use testbed::cluster::{ControlPlane, ControlPlaneOptions, kinds};
use testbed::until;

/// Pods that stay, that give their address to another, and that go.
const STAY: u32 = 100;
const REUSED: u32 = 100;
const GO: u32 = 10;

pub(super) fn run() -> Result<()> {
    let mut plane = ControlPlane::start(&ControlPlaneOptions::default())?;
    pods::create_node(plane.client())?;
    pods::create(plane.client(), "stay", 0..STAY)?;
    let mut goals = Goals::new("ghosts");
    for (n, closed) in [(0, true), (1, false)] {
        once(&mut plane, &mut goals, n, closed)?;
    }
    goals.finish()
}

fn once(plane: &mut ControlPlane, goals: &mut Goals, n: u32, closed: bool) -> Result<()> {
    let old = pods::create(plane.client(), &format!("old{n}"), STAY..STAY + REUSED + GO)?;
    let gate = Gate::start(plane.server())?;
    let mut agent = Agent::start(plane, &Setup { name: format!("agent-{n}"), ..Setup::behind(gate.address()) })?;
    pods::wait_named(&agent, &old, Duration::from_secs(60))?;
    // Its lists are complete, and it watches.
    until("nothing is stale", Duration::from_secs(60), || agent.stale().is_ok_and(|reason| reason.is_empty()))?;
    let relists = agent.relists("pods")?;

    gate.set(Door::Hole);
    gate.deaden();
    agent.freeze()?;
    for (_, name) in &old {
        pods::delete(plane.client(), name)?;
    }
    let new = pods::create(plane.client(), &format!("new{n}"), STAY..STAY + REUSED)?;
    plane.compact()?;
    plane.restart_api_server()?;
    until("the API server lists pods", Duration::from_secs(60), || plane.client().list(&kinds::POD, None).is_ok())?;

    gate.set(Door::Open);
    if closed {
        gate.cut();
    }
    agent.go_on()?;
    let went_on = Instant::now();
    let listed = listed(plane)?;
    let gone: Vec<IpAddr> = old[usize::try_from(REUSED)?..].iter().map(|(address, _)| *address).collect();
    let right = pods::wait_named(&agent, &listed, Duration::from_secs(90)).and_then(|()| {
        until("nobody has the addresses of pods that are gone", Duration::from_secs(90), || {
            gone.iter().all(|address| agent.pod_at(*address).is_ok_and(|pod| pod.is_none()))
        })
    });
    let took = went_on.elapsed().as_secs_f64();
    let wrong = pods::unnamed(&agent, &listed)?;
    let mut ghosts = 0;
    for (address, old) in &old {
        ghosts += usize::from(agent.pod_at(*address)?.as_ref() == Some(old));
    }
    let how = if closed { "connections closed" } else { "connections silent" };
    let told = if right.is_ok() { format!("{took:.1} s") } else { format!("not within {took:.0} s") };
    goals.check(
        &format!("{how}: equal to the list of {} pods", listed.len()),
        "<= 5 s",
        &told,
        right.is_ok() && took <= 5.0,
    );
    goals.check(&format!("{how}: other names than the list's"), "0", &wrong.to_string(), wrong == 0);
    goals.check(&format!("{how}: ghosts of {} deleted pods", old.len()), "0", &ghosts.to_string(), ghosts == 0);
    goals.check(
        &format!("{how}: reused addresses that are right"),
        &REUSED.to_string(),
        &(new.len() - pods::unnamed(&agent, &new)?).to_string(),
        pods::unnamed(&agent, &new)? == 0,
    );
    let relists = agent.relists("pods")? - relists;
    goals.check(&format!("{how}: lists of pods made anew"), "1", &relists.to_string(), relists == 1);
    agent.stop()?;
    for (_, name) in &new {
        pods::delete(plane.client(), name)?;
    }
    Ok(())
}

/// Every pod with its address, as the API server has them.
fn listed(plane: &ControlPlane) -> Result<Vec<(IpAddr, String)>> {
    let pods = plane.client().list(&kinds::POD, None)?;
    let of = |pod: &serde_json::Value| -> Result<(IpAddr, String)> {
        let address = pod["status"]["podIP"].as_str().context("a pod without an address")?;
        Ok((address.parse()?, pod["metadata"]["name"].as_str().unwrap_or_default().to_owned()))
    };
    pods.iter().map(of).collect()
}
