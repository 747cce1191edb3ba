//! A graceful stop and a new start at once with the counters kept, while requests come at a steady
//! rate over kept connections: how many requests are in no counter because nobody looked, as a
//! number and as time at that rate; whether a counter fell, and whether a request was counted
//! twice. This is what `systemctl restart` does, and an upgrade too: the new file is in place
//! before the old process is told to stop.

use super::{quantile, say};
use anyhow::{Context, Result, ensure};
use clap::Args;
use std::time::{Duration, Instant};
use testbed::{Agent, AgentOptions, ContainerSpec, Testbed, scene, signals, until};

#[derive(Debug, Args)]
pub struct Options {
    #[arg(long, default_value_t = 10)]
    times: u32,
    /// Requests a second
    #[arg(long, default_value_t = 1000)]
    rate: u32,
    /// Containers beside the two that talk
    #[arg(long, default_value_t = 0)]
    idle: u32,
}

const PATIENCE: Duration = Duration::from_secs(30);
const REPORTERS: [&str; 2] = ["client", "server"];

pub fn run(options: &Options) -> Result<()> {
    for mode in ["clsact", "tcx"] {
        restarts(options, mode)?;
    }
    Ok(())
}

fn restarts(options: &Options, mode: &'static str) -> Result<()> {
    let mut bed = Testbed::start()?;
    for n in 0..options.idle {
        ensure!(!signals::interrupted(), "interrupted");
        bed.run(ContainerSpec::new(&format!("idle{n}"), &["/bin/sleep", "100000"]))?;
    }
    let server = bed.run(ContainerSpec::new("server", &["/bin/api"]))?;
    let (target, rate) = (format!("{}:8080", server.address), options.rate.to_string());
    let args = ["/bin/loadgen", "--gate", "/conf/gate", "--target", &target, "--connections", "8", "--rate", &rate];
    let client = bed.run(ContainerSpec::new("client", &args))?;
    let state = bed.dir().join("state");
    std::fs::create_dir_all(&state).context("make a state directory")?;
    let wanted = AgentOptions { attach_mode: Some(mode), state: Some(state), ..AgentOptions::default() };
    let mut agent = Agent::start(&bed, &wanted)?;
    let all = u64::from(options.idle) + 2;
    agent.wait_attached(all, PATIENCE)?;
    scene::open_gate(&bed, &client)?;
    let mut blind_ms = Vec::new();
    for _ in 0..options.times {
        let before = counted(&agent)?;
        until("traffic is counted", PATIENCE, || counted(&agent).is_ok_and(|now| now[1] > before[1] + 100))?;
        let last = counted(&agent)?;
        let begun = Instant::now();
        ensure!(agent.stop() == Some(0), "the agent ended badly:\n{}", agent.log_text());
        agent.start_again(&bed)?;
        let first = counted(&agent)?;
        ensure!(first >= last, "counters fell from {last:?} to {first:?}");
        until("traffic is counted again", PATIENCE, || counted(&agent).is_ok_and(|now| now[1] > first[1]))?;
        blind_ms.push(begun.elapsed().as_secs_f64() * 1e3);
        agent.wait_attached(all, PATIENCE)?;
    }
    let sent = scene::final_line(&bed, &client, PATIENCE)?["sent"].as_u64().context("what was sent")?;
    let mut settled = counted(&agent)?;
    until("all is counted", PATIENCE, || {
        let now = counted(&agent).unwrap_or_default();
        std::mem::replace(&mut settled, now) == now
    })?;
    for (reporter, counted) in REPORTERS.iter().zip(settled) {
        ensure!(counted <= sent, "{reporter}: {counted} counted of {sent} sent: some of them twice");
        let each = (sent - counted) as f64 / f64::from(options.times);
        say(&format!(
            "handover: {mode}, {all} containers: {reporter}: sent {sent}, counted or lost {counted}; of {} restarts each missed {each:.0} \
             requests, {:.0} ms at {rate} a second",
            options.times,
            each * 1e3 / f64::from(options.rate)
        ));
    }
    let (p50, max) = (quantile(&blind_ms, 0.5), quantile(&blind_ms, 1.0));
    say(&format!("handover: {mode}: from the signal to stop to a new count p50 {p50:.0} ms, max {max:.0} ms"));
    Ok(())
}

/// What each reporter has counted or knows to be lost.
fn counted(agent: &Agent) -> Result<[u64; 2]> {
    let mut both = [0; 2];
    for (reporter, sum) in REPORTERS.iter().zip(&mut both) {
        let (counted, lost) = agent.counted_and_lost(reporter)?;
        *sum = counted + lost;
    }
    Ok(both)
}
