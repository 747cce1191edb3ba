//! SIGSTOP of the API server: its kernel goes on accepting connections, nothing is ever answered.
//! Every pod's name is asked for all the time, and the cache's age is read. After SIGCONT a pod
//! gets a new address as soon as the server takes it: fresh is when the agent says so, and has
//! nothing to complain of any more.

use super::agent::{Agent, Setup};
use super::gate::Gate;
use super::pods;
use crate::bench::goals::Goals;
use anyhow::Result;
use std::time::{Duration, Instant};
use testbed::cluster::{ControlPlane, ControlPlaneOptions};
use testbed::until;

const PODS: u32 = 100;
/// The five watches.
const RESOURCES: [&str; 5] = ["pods", "services", "endpointslices", "nodes", "jobs"];

pub(super) fn run(length: Duration) -> Result<()> {
    let plane = ControlPlane::start(&ControlPlaneOptions::default())?;
    let client = plane.client();
    pods::create_node(client)?;
    let named = pods::create(client, "p", 0..PODS)?;
    let gate = Gate::start(plane.server())?;
    let mut agent = Agent::start(&plane, &Setup::behind(gate.address()))?;
    pods::wait_named(&agent, &named, Duration::from_secs(60))?;
    until("nothing is stale", Duration::from_secs(30), || agent.stale().is_ok_and(|reason| reason.is_empty()))?;

    let frozen = Instant::now();
    let before = agent.stat()?.cpu_ns;
    plane.freeze()?;
    let (mut unnamed, mut rounds, mut reason_after, mut reason) = (0, 0, None, String::new());
    while frozen.elapsed() < length {
        super::pass(Duration::from_secs(1))?;
        unnamed += pods::unnamed(&agent, &named)?;
        rounds += 1;
        reason = agent.stale()?;
        if !reason.is_empty() {
            reason_after = reason_after.or(Some(frozen.elapsed()));
        }
    }
    let attempts = gate.accepted_since(frozen);
    let frozen_for = frozen.elapsed();
    let ages: Vec<f64> = ages(&agent)?;
    let cpu = (agent.stat()?.cpu_ns - before) as f64 / frozen_for.as_nanos() as f64 * 100.0;
    let (ready, readiness) = agent.readiness()?;
    plane.thaw()?;
    let thawed = Instant::now();
    let seen = pods::follow(&agent, client, "p-0", pods::address(1000), thawed, Duration::from_secs(60))?;
    until("nothing is stale", Duration::from_secs(60), || agent.stale().is_ok_and(|reason| reason.is_empty()))?;
    let whole = thawed.elapsed();
    let more = gate.accepted_since(thawed);

    let mut goals = Goals::new("frozen");
    let least = ages.iter().copied().fold(f64::INFINITY, f64::min);
    let share = frozen_for.as_secs_f64() - 70.0;
    let told = format!("{least:.0} s after {:.0} s", frozen_for.as_secs_f64());
    // Bookmarks come once a minute: a watch without changes may have been up to so old when the
    // server stopped, and is not younger at the end.
    goals.check("age of the youngest watch", "rises", &told, ages.len() == RESOURCES.len() && least > share.max(1.0));
    let total = u64::from(PODS) * rounds;
    goals.check("names gone meanwhile", "0", &format!("{unnamed} of {total} questions"), unnamed == 0);
    goals.check("connection attempts while frozen", "<= 20", &attempts.to_string(), attempts <= 20);
    let after = reason_after.map_or_else(|| "never".to_owned(), |after| format!("after {:.0} s", after.as_secs_f64()));
    goals.check("a reason is given", "yes", &format!("{after}: {reason}"), reason_after.is_some());
    goals.tell("/readyz meanwhile", &format!("{ready}: {readiness}"));
    goals.tell("CPU meanwhile", &format!("{cpu:.2} % of a core"));
    goals.at_most("a patch made after SIGCONT is seen after", " s", 10.0, seen.as_secs_f64(), 1);
    goals.at_most("all watches are fresh after", " s", 10.0, whole.as_secs_f64(), 1);
    goals.tell("connection attempts after SIGCONT", &more.to_string());
    agent.stop()?;
    goals.finish()
}

/// `pilotfish_k8s_cache_age_seconds` of each watch.
fn ages(agent: &Agent) -> Result<Vec<f64>> {
    let metrics = agent.metrics()?;
    let age = |resource| {
        metrics.named("pilotfish_k8s_cache_age_seconds").find(|s| s.label("resource") == resource).map(|s| s.value)
    };
    Ok(RESOURCES.into_iter().filter_map(age).collect())
}
