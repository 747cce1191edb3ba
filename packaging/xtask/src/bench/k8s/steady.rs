//! An API server as Kubernetes ships it, an agent that has its names, and a pod that changes every
//! ten seconds: what is asked for, by the audit log.

use super::agent::{Agent, Setup};
use super::samples::Samples;
use super::{lists, pods};
use crate::bench::goals::Goals;
use anyhow::Result;
use std::time::{Duration, Instant};
use testbed::cluster::{ControlPlane, ControlPlaneOptions};

const PODS: u32 = 100;

pub(super) fn run(length: Duration) -> Result<()> {
    let plane = ControlPlane::start(&ControlPlaneOptions::default())?;
    let client = plane.client();
    pods::create_node(client)?;
    let named = pods::create(client, "p", 0..PODS)?;
    let start = plane.audit().mark();
    let mut agent = Agent::start(&plane, &Setup::alone())?;
    pods::wait_named(&agent, &named, Duration::from_secs(60))?;
    super::pass(Duration::from_secs(5))?;
    let mark = plane.audit().mark();
    let started = lists::of_agents(&plane.audit(), start)?;

    let begun = Instant::now();
    let (mut samples, mut changes) = (Samples::default(), 0);
    while begun.elapsed() < length {
        samples.add(Instant::now(), agent.stat()?);
        super::pass(Duration::from_secs(1))?;
        if begun.elapsed().as_secs() / 10 > u64::from(changes) {
            pods::readdress(client, &format!("p-{}", changes % PODS), pods::address(1000 + changes))?;
            changes += 1;
        }
    }
    let minutes = begun.elapsed().as_secs_f64() / 60.0;
    let requests = lists::of_agents(&plane.audit(), mark)?;
    let mut goals = Goals::new("steady");
    let what = format!("requests a minute, over {minutes:.1} min");
    goals.at_most(&what, "", 6.0, requests.len() as f64 / minutes, 2);
    goals.at_most("requests in the busiest minute", "", 6.0, lists::most_within(requests.iter(), 60.0)? as f64, 0);
    goals.tell("which", &lists::words(&lists::by_verb(&requests)));
    goals.tell("at the start", &lists::words(&lists::by_verb(&started)));
    let mutating = started.iter().chain(&requests).filter(|request| request.is_mutating()).count();
    goals.check("mutating requests, from the start on", "0", &mutating.to_string(), mutating == 0);
    let (mean, worst) = (samples.mean(), samples.worst_second());
    goals.tell("CPU, mean and worst second", &format!("{mean:.2} %, {worst:.2} % of a core"));
    let (first, last) = (samples.range(|stat| kib(stat.rss_bytes)).0, samples.last(|stat| kib(stat.rss_bytes)));
    goals.tell("resident", &format!("{first} KiB at first, {last} KiB at last"));
    agent.stop()?;
    goals.finish()
}

fn kib(bytes: u64) -> usize {
    usize::try_from(bytes >> 10).unwrap_or(usize::MAX)
}
