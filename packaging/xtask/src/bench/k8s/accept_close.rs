//! Something in front of the API server accepts connections and closes them before a byte: once
//! from the agent's start on, and once after it was connected.

use super::agent::{Agent, Setup};
use super::gate::{Door, Gate};
use super::pods;
use crate::bench::goals::Goals;
use anyhow::Result;
use std::time::{Duration, Instant};
use testbed::cluster::{ControlPlane, ControlPlaneOptions};

pub(super) fn run(length: Duration) -> Result<()> {
    let plane = ControlPlane::start(&ControlPlaneOptions::default())?;
    pods::create_node(plane.client())?;
    let named = pods::create(plane.client(), "p", 0..20)?;
    let gate = Gate::start(plane.server())?;
    let mut goals = Goals::new("accept-close");
    let seconds = length.as_secs();

    gate.set(Door::AcceptAndClose);
    let begun = Instant::now();
    let mut agent = Agent::start(&plane, &Setup::behind(gate.address()))?;
    shut(&mut goals, &gate, &agent, begun, length, &format!("attempts in {seconds} s from the start on"))?;
    let opened = Instant::now();
    gate.set(Door::Open);
    pods::wait_named(&agent, &named, Duration::from_secs(120))?;
    goals.tell("all names, after it was let in", &format!("{:.1} s", opened.elapsed().as_secs_f64()));

    gate.set(Door::AcceptAndClose);
    let begun = Instant::now();
    gate.cut();
    shut(&mut goals, &gate, &agent, begun, length, &format!("attempts in {seconds} s after it was connected"))?;
    let unnamed = pods::unnamed(&agent, &named)?;
    goals.check("names gone meanwhile", "0", &unnamed.to_string(), unnamed == 0);
    let opened = Instant::now();
    gate.set(Door::Open);
    let seen = pods::follow(&agent, plane.client(), "p-0", pods::address(1000), opened, Duration::from_secs(120))?;
    goals.tell("a patch is seen, after it was let in", &format!("{:.1} s", seen.as_secs_f64()));
    agent.stop()?;
    goals.finish()
}

fn shut(goals: &mut Goals, gate: &Gate, agent: &Agent, begun: Instant, length: Duration, what: &str) -> Result<()> {
    let before = agent.stat()?.cpu_ns;
    let waited = Instant::now();
    super::pass((begun + length).saturating_duration_since(Instant::now()))?;
    let cpu = (agent.stat()?.cpu_ns - before) as f64 / waited.elapsed().as_nanos() as f64 * 100.0;
    goals.at_most(what, "", 20.0, gate.accepted_since(begun) as f64, 0);
    goals.tell("CPU meanwhile", &format!("{cpu:.2} % of a core"));
    Ok(())
}
