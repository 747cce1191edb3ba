//! The agent's ClusterRoleBinding is deleted and its connections are cut (rights that are revoked
//! do not end a running watch), so that every watch is refused with 403 until the binding is back
//! and in force. Back is when a patch made after that is seen.

use super::agent::{Agent, Setup};
use super::gate::Gate;
use super::{lists, pods};
use crate::bench::goals::Goals;
use anyhow::Result;
use std::time::{Duration, Instant};
use testbed::cluster::{ControlPlane, ControlPlaneOptions};
use testbed::until;

pub(super) fn run(length: Duration) -> Result<()> {
    let plane = ControlPlane::start(&ControlPlaneOptions::default())?;
    let client = plane.client();
    pods::create_node(client)?;
    let named = pods::create(client, "p", 0..20)?;
    let gate = Gate::start(plane.server())?;
    let mut agent = Agent::start(&plane, &Setup::behind(gate.address()))?;
    pods::wait_named(&agent, &named, Duration::from_secs(60))?;

    plane.set_agent_rights(false)?;
    let mark = plane.audit().mark();
    let removed = Instant::now();
    gate.cut();
    super::pass(length)?;
    let unnamed = pods::unnamed(&agent, &named)?;
    let reason = agent.stale()?;
    plane.set_agent_rights(true)?;
    let back = Instant::now();
    let refused = lists::of_agents(&plane.audit(), mark)?;
    let seen = pods::follow(&agent, client, "p-0", pods::address(1000), back, Duration::from_secs(120))?;
    until("nothing is stale", Duration::from_secs(120), || agent.stale().is_ok_and(|reason| reason.is_empty()))?;
    let whole = back.elapsed();

    let mut goals = Goals::new("forbidden");
    let codes = refused.iter().filter(|request| request.code == 403).count();
    goals.check("requests refused with 403", "> 0", &format!("{codes} of {}", refused.len()), codes > 0);
    goals.check("names gone meanwhile", "0", &unnamed.to_string(), unnamed == 0);
    goals.check("the reason given", "403", &reason, reason.contains("403") || reason.contains("forbidden"));
    goals.at_most("a patch made when the binding is back is seen after", " s", 35.0, seen.as_secs_f64(), 1);
    goals.at_most("all watches are back after", " s", 35.0, whole.as_secs_f64(), 1);
    goals.tell("without rights for", &format!("{:.0} s", (back - removed).as_secs_f64()));
    let per_minute = refused.len() as f64 / (back - removed).as_secs_f64() * 60.0;
    goals
        .tell("requests a minute meanwhile", &format!("{per_minute:.1} ({})", lists::words(&lists::by_verb(&refused))));
    agent.stop()?;
    goals.finish()
}
