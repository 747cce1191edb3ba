//! Two questions. One container at a time beside a running agent: how long from containerd's event
//! to the attachment (the agent's own stamp, which begins when the event arrives: 0.4 ms after
//! containerd sent it), and was it there before the container's first process did anything; the
//! process sends one HTTP request at once, and it was if that request is counted at the client's
//! end. And: an agent that starts beside many containers: when is it ready, and when are all of
//! them attached.

use super::{quantile, say};
use agent_api::Status;
use anyhow::{Result, ensure};
use clap::Args;
use std::time::{Duration, Instant};
use testbed::{Agent, AgentOptions, Container, ContainerSpec, Testbed, fetch, signals, until};

#[derive(Debug, Args)]
pub struct Options {
    /// Containers that are started one after the other
    #[arg(long, default_value_t = 100)]
    single: u32,
    /// Containers that exist when the agent starts
    #[arg(long, default_value_t = 500)]
    existing: u32,
}

const MODES: [&str; 3] = ["auto", "clsact", "tcx"];

pub fn run(options: &Options) -> Result<()> {
    for mode in MODES {
        single(options, mode)?;
    }
    existing(options)
}

fn single(options: &Options, mode: &'static str) -> Result<()> {
    let mut bed = Testbed::start()?;
    let server = bed.run(ContainerSpec::new("server", &["/bin/api"]))?;
    let agent = Agent::start(&bed, &AgentOptions { attach_mode: Some(mode), ..AgentOptions::default() })?;
    agent.wait_attached(1, Duration::from_secs(10))?;
    let target = format!("{}:8080", server.address);
    let (mut took_ms, mut in_time) = (Vec::new(), 0);
    for n in 0..options.single {
        ensure!(!signals::interrupted(), "interrupted");
        let name = format!("c{n}");
        // The shell stays, so that the namespace does, too.
        let script = format!("/bin/loadgen --target {target} --count 1; exec sleep 10000");
        let container = bed.run(ContainerSpec::new(&name, &["/bin/sh", "-c", &script]))?;
        until("attached and asked", Duration::from_secs(10), || {
            container.output().contains("answered") && agent.attached().is_ok_and(|attached| attached == 2)
        })?;
        took_ms.extend(attach_ms(&agent, &name)?);
        let counted = || exchanges_of(&agent, &name);
        // An exchange that was seen is counted within a moment; one that was not never is.
        if until("counted", Duration::from_millis(500), || counted() == 1).is_ok() {
            in_time += 1;
        }
        bed.stop(container, Duration::ZERO)?;
        until("detached", Duration::from_secs(10), || agent.attached().is_ok_and(|attached| attached == 1))?;
    }
    say(&format!(
        "attach: {mode}: {} single starts: p50 {:.2} ms, p99 {:.2} ms from the event to the attachment; {in_time} of {} before the first \
         process's first request",
        took_ms.len(),
        quantile(&took_ms, 0.5),
        quantile(&took_ms, 0.99),
        options.single
    ));
    Ok(())
}

fn exchanges_of(agent: &Agent, workload: &str) -> u64 {
    let labels = [("client_workload", workload)];
    agent.metrics().map_or(0, |metrics| metrics.count("http_client_request_duration_seconds_count", &labels))
}

/// What `pilotfish status` says of a workload's attachment.
fn attach_ms(agent: &Agent, workload: &str) -> Result<Option<f64>> {
    let status: Status = serde_json::from_str(&agent.cli(&["status", "-o", "json"])?)?;
    Ok(status.namespaces.iter().find(|row| row.workload == workload).and_then(|row| row.attach_ms))
}

fn existing(options: &Options) -> Result<()> {
    let mut bed = Testbed::start()?;
    let mut all: Vec<Container> = Vec::new();
    for n in 0..options.existing {
        ensure!(!signals::interrupted(), "interrupted");
        all.push(bed.run(ContainerSpec::new(&format!("c{n}"), &["/bin/sleep", "100000"]))?);
    }
    for mode in MODES {
        let begun = Instant::now();
        let mut agent = Agent::spawn(&bed, &AgentOptions { attach_mode: Some(mode), ..AgentOptions::default() })?;
        let admin = agent.admin;
        let patience = Duration::from_secs(60);
        until("ready", patience, || {
            fetch(admin, "/readyz", Duration::from_secs(1)).is_ok_and(|answer| answer.status == 200)
        })?;
        let ready = begun.elapsed();
        agent.wait_attached(u64::from(options.existing), patience)?;
        let attached = begun.elapsed();
        let stat = agent.stat()?;
        say(&format!(
            "attach: {mode}: {} existing namespaces: ready after {} ms, all attached after {} ms; {} ms of CPU, {} MB, {} descriptors",
            options.existing,
            ready.as_millis(),
            attached.as_millis(),
            stat.cpu_ns / 1_000_000,
            stat.rss_bytes >> 20,
            stat.descriptors
        ));
        let begun = Instant::now();
        ensure!(agent.stop() == Some(0), "the agent ended badly:\n{}", agent.log_text());
        say(&format!("attach: {mode}: graceful stop after {} ms", begun.elapsed().as_millis()));
    }
    Ok(())
}
