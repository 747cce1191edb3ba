//! Numbered requests over keep-alive connections with mixed methods and sizes, at a share of the
//! rate that the same generator reaches when it does not wait. The generator and the server are
//! containers; the agent watches both. Then: counted + lost is compared with sent for each
//! reporter, and the quantiles of the agent's native histogram (2.2 % wide buckets, interpolated)
//! with those of the generator, which stamps before the write and takes the kernel's receive stamp
//! of the response's last byte. At last the ring is starved: 64 KiB, reader paused.

use super::equation;
use crate::bench::say;
use anyhow::Result;
use clap::Args;
use serde_json::Value;
use std::time::{Duration, Instant};
use testbed::{Agent, AgentOptions, Container, ContainerSpec, Testbed, scene, until};

#[derive(Debug, Args)]
pub struct HalfLoad {
    #[arg(long, default_value_t = 1_000_000)]
    count: u64,
    #[arg(long, default_value_t = 16)]
    connections: u32,
    /// Share of the rate that is possible
    #[arg(long, default_value_t = 0.5)]
    load: f64,
}

const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn run(options: &HalfLoad) -> Result<()> {
    let rate = whole(options)?;
    starved(options, rate)
}

fn load(bed: &mut Testbed, name: &str, server: &Container, args: &[&str]) -> Result<Container> {
    let target = format!("{}:8080", server.address);
    let mut command = vec!["/bin/loadgen", "--gate", "/conf/gate", "--profile", "mixed", "--target", &target];
    command.extend_from_slice(args);
    bed.run(ContainerSpec::new(name, &command))
}

fn finish(bed: &Testbed, generator: &Container) -> Result<Value> {
    scene::open_gate(bed, generator)?;
    scene::last_line(generator, Duration::from_secs(3600))
}

/// Returns the rate that was offered.
fn whole(options: &HalfLoad) -> Result<f64> {
    let dropped = equation::Dropped::until_now();
    let mut bed = Testbed::start()?;
    let server = bed.run(ContainerSpec::new("server", &["/bin/api"]))?;
    let connections = options.connections.to_string();
    // With the agent attached, as it will be: half load is half of what is possible then.
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let calibrate = load(&mut bed, "calibrate", &server, &["--connections", &connections, "--for", "5"])?;
    agent.wait_attached(2, PATIENCE)?;
    let fastest = finish(&bed, &calibrate)?;
    let fastest = fastest["sent"].as_f64().unwrap_or(0.0) / fastest["seconds"].as_f64().unwrap_or(1.0);
    drop(agent);

    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let rate = fastest * options.load;
    let (count, per_second) = (options.count.to_string(), rate.to_string());
    let args = ["--connections", &connections, "--rate", &per_second, "--count", &count];
    let generator = load(&mut bed, "generator", &server, &args)?;
    agent.wait_attached_to("generator", PATIENCE)?;
    let before = agent.stat()?;
    let sent = finish(&bed, &generator)?;
    let (took, number) = (sent["seconds"].as_f64().unwrap_or(1.0), sent["sent"].as_u64().unwrap_or(0));
    say(&format!(
        "truth: {number} requests in {took:.1} s ({:.0} of {fastest:.0} a second), {} failed",
        number as f64 / took,
        sent["failed"]
    ));
    equation::hold(&agent, "half load", number, &dropped)?;
    let after = agent.stat()?;
    let each = (after.cpu_ns - before.cpu_ns) as f64 / number as f64 / 2.0;
    say(&format!(
        "truth: agent {each:.0} ns of CPU per exchange seen (each is seen twice), {} MB resident",
        after.rss_bytes >> 20
    ));
    for (q, key) in [(0.50, "p50_s"), (0.99, "p99_s")] {
        let histogram = agent.native("http_client_request_duration_seconds", &[("client_workload", "generator")])?;
        let (own, ours) =
            (sent[key].as_f64().unwrap_or(f64::NAN) * 1e6, histogram.quantile(q).unwrap_or(f64::NAN) * 1e6);
        let within = (own - ours).abs() <= (own * 0.02).max(20.0);
        let verdict = if within { "within" } else { "NOT within" };
        say(&format!(
            "truth: p{:.0} {own:.1} us by the client, {ours:.1} us by the agent: {verdict} 2 % or 20 us",
            q * 100.0
        ));
    }
    Ok(rate)
}

fn starved(options: &HalfLoad, rate: f64) -> Result<()> {
    let dropped = equation::Dropped::until_now();
    let mut bed = Testbed::start()?;
    let server = bed.run(ContainerSpec::new("server", &["/bin/api"]))?;
    let agent =
        Agent::start(&bed, &AgentOptions { ring_bytes: Some(64 << 10), debug: true, ..AgentOptions::default() })?;
    // 64 KiB hold what comes during a reader's ordinary sleep at this rate, so that what is lost is lost to the pause.
    let rate = rate.min(500.0);
    let (count, per_second) = ("3000", rate.to_string());
    let args = ["--connections", &options.connections.to_string(), "--rate", &per_second, "--count", count];
    let generator = load(&mut bed, "generator", &server, &args)?;
    agent.wait_attached(2, PATIENCE)?;
    scene::open_gate(&bed, &generator)?;
    until("traffic is counted", PATIENCE, || {
        agent.counted_and_lost("client").is_ok_and(|(counted, _)| counted > 1000)
    })?;
    let lost_before = refused(&agent)?;
    agent.pause_reader(Duration::from_millis(500))?;
    let paused = Instant::now();
    // The last time at which the losses grew.
    let (mut last, mut grew) = (lost_before, Duration::ZERO);
    while paused.elapsed() < Duration::from_secs(4) {
        let now = refused(&agent)?;
        if now > last {
            (last, grew) = (now, paused.elapsed());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let sent = scene::last_line(&generator, Duration::from_secs(600))?["sent"].as_u64().unwrap_or(0);
    say(&format!(
        "truth: starved ring (64 KiB, reader paused 500 ms): {} events refused, the last of them {} ms after the pause began",
        last - lost_before,
        grew.as_millis()
    ));
    equation::hold(&agent, "starved", sent, &dropped)
}

/// Events that found no room in the ring: counted where it happens, when it happens.
fn refused(agent: &Agent) -> Result<u64> {
    Ok(agent.metrics()?.count("pilotfish_lost_total", &[("stage", "kernel"), ("reason", "ring_full")]))
}
