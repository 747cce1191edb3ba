//! Fifty agents, each the real process with a node of its own, beside one API server: they start
//! together, and they lose the server together and their place in its history with it (SIGKILL,
//! compaction, start). Judge is the audit log: how many lists begin in any second. And before that,
//! one agent in a cluster of one node: it has nobody to wait for.

use super::agent::{Agent, Setup};
use super::{lists, pods};
use crate::bench::goals::Goals;
use crate::bench::quantile;
use anyhow::{Context, Result, ensure};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};
use testbed::cluster::{ControlPlane, ControlPlaneOptions, Mark, objects};
use testbed::until;

const PATIENCE: Duration = Duration::from_secs(300);

pub(super) fn run(count: u32) -> Result<()> {
    let mut plane = ControlPlane::start(&ControlPlaneOptions::default())?;
    let mut goals = Goals::new("fifty");
    pods::create_node(plane.client())?;
    let named = pods::create(plane.client(), "p", 0..50)?;
    alone(&plane, &goals, &named)?;
    for n in 1..count {
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + n);
        objects::create_node(plane.client(), &format!("node-{}", n + 1), address.into())?;
    }

    let mark = plane.audit().mark();
    let begun = Instant::now();
    let spawn = |n| {
        Agent::spawn(&plane, &Setup { name: format!("agent-{n}"), node: format!("node-{}", n + 1), ..Setup::alone() })
    };
    let mut agents: Vec<Agent> = (0..count).map(spawn).collect::<Result<_>>()?;
    let first: Vec<f64> = wait_all(&agents, begun, |agent| agent.pod_at(named[0].0).is_ok_and(|pod| pod.is_some()))?;
    wait_fresh(&agents, begun)?;
    goals.tell(&format!("{count} agents started together: first name, p50 and worst"), &times(&first));
    judge(&plane, &mut goals, mark, "start")?;

    let mark = plane.audit().mark();
    plane.kill_api_server();
    plane.compact()?;
    let killed = Instant::now();
    plane.start_api_server()?;
    let away = killed.elapsed();
    let moved = pods::address(1000);
    pods::readdress(plane.client(), "p-0", moved)?;
    let seen = wait_all(&agents, killed, |agent| agent.pod_at(moved).is_ok_and(|pod| pod.is_some()))?;
    wait_fresh(&agents, killed)?;
    goals.tell("API server away for", &format!("{:.1} s", away.as_secs_f64()));
    goals.tell("a change after its return is seen, from the kill on: p50 and worst", &times(&seen));
    judge(&plane, &mut goals, mark, "restart of the API server")?;
    agents.iter_mut().try_for_each(Agent::stop)?;
    goals.finish()
}

fn alone(plane: &ControlPlane, goals: &Goals, named: &[(IpAddr, String)]) -> Result<()> {
    let begun = Instant::now();
    let mut agent = Agent::start(plane, &Setup { name: "alone".into(), ..Setup::alone() })?;
    let answers = begun.elapsed();
    pods::wait_named(&agent, &named[..1], PATIENCE)?;
    let first = begun.elapsed();
    until("nothing is stale", PATIENCE, || agent.stale().is_ok_and(|reason| reason.is_empty()))?;
    let whole = begun.elapsed();
    let told = [answers, first, whole].map(|time| format!("{:.2} s", time.as_secs_f64()));
    goals.tell("one agent alone: it answers, has its first name, has all watches", &told.join(", "));
    agent.stop()
}

fn times(seconds: &[f64]) -> String {
    format!("{:.1} s, {:.1} s", quantile(seconds, 0.5), quantile(seconds, 1.0))
}

/// When each agent first met the condition, in seconds since `begun`: each is asked four times a second until it does.
fn wait_all(agents: &[Agent], begun: Instant, condition: impl Fn(&Agent) -> bool) -> Result<Vec<f64>> {
    let mut met: Vec<Option<f64>> = vec![None; agents.len()];
    while met.iter().any(Option::is_none) {
        ensure!(begun.elapsed() < PATIENCE, "{} of {} only", met.iter().flatten().count(), agents.len());
        for (agent, met) in agents.iter().zip(&mut met).filter(|(_, met)| met.is_none()) {
            *met = condition(agent).then(|| begun.elapsed().as_secs_f64());
        }
        super::pass(Duration::from_millis(250))?;
    }
    Ok(met.into_iter().flatten().collect())
}

fn wait_fresh(agents: &[Agent], begun: Instant) -> Result<()> {
    wait_all(agents, begun, |agent| agent.stale().is_ok_and(|reason| reason.is_empty())).map(drop)
}

fn judge(plane: &ControlPlane, goals: &mut Goals, mark: Mark, when: &str) -> Result<()> {
    let requests = lists::of_agents(&plane.audit(), mark)?;
    let lists = || requests.iter().filter(|request| lists::is_list(request));
    let most = lists::busiest(lists(), 1.0)?;
    goals.at_most(&format!("{when}: lists in the busiest second, all agents"), "", 5.0, most.len() as f64, 0);
    goals.tell(&format!("{when}: which"), &lists::words(&lists::by_resource(most.into_iter())));
    goals.tell(&format!("{when}: lists"), &lists::words(&lists::by_resource(lists())));
    let busiest = lists::busiest(requests.iter(), 1.0).context("requests")?;
    goals.tell(&format!("{when}: requests in the busiest second, all agents"), &busiest.len().to_string());
    goals.tell(&format!("{when}: which"), &lists::words(&lists::by_code(&busiest)));
    Ok(())
}
