//! An agent with a CPU quota that starts beside many containers: it finds the quota, waits of its own
//! will, and is through all the same. That new containers pass what waits is held by capture-engine's
//! attach tests, without a clock. Needs root.
#![forbid(unsafe_code)]

use anyhow::{Context, ensure};
use e2e::{PATIENCE, alone};
use serde_json::Value;
use std::process::Command;
use testbed::{Agent, AgentOptions, ContainerSpec, Quota, ServiceCgroup, Testbed, installed};

const PODS: u64 = 30;
/// Hundredths of a processor: a build for tests needs a second of it to load its programs.
const QUOTA: u32 = 30;

#[test]
fn background_work_waits_within_a_quota_and_everything_is_attached() -> anyhow::Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    for number in 0..PODS {
        bed.run(ContainerSpec::new(&format!("pod-{number}"), &["/bin/sleep", "10000"]))?;
    }
    let group = Quota::new(&bed, "agent", QUOTA)?;
    let mut agent = Agent::start(&bed, &AgentOptions { cgroup: Some(group.procs()), ..AgentOptions::default() })?;
    agent.wait_attached(PODS, PATIENCE)?;
    bed.run(ContainerSpec::new("new", &["/bin/sleep", "10000"]))?;
    agent.wait_attached(PODS + 1, PATIENCE)?;

    let metrics = agent.metrics()?;
    ensure!((metrics.sum("pilotfish_cpu_quota_cpus", &[]) - 0.3).abs() < 1e-9);
    ensure!(metrics.sum("pilotfish_background_wait_seconds_total", &[]) > 0.0);
    let status = agent.cli(&["status"])?;
    ensure!(status.contains("(quota: 0.30 CPUs)"), "{status}");
    ensure!(agent.stop() == Some(0), "{}", agent.log_text());
    Ok(())
}

/// Programs of this name that the kernel has of a process.
fn programs(name: &str, pid: u32) -> anyhow::Result<usize> {
    let output = Command::new(installed("bpftool")?).args(["-j", "prog", "show"]).output()?;
    let all: Value = serde_json::from_slice(&output.stdout).context("bpftool prog show")?;
    let is_of = |program: &Value| program["pids"].as_array().is_none_or(|pids| pids.iter().any(|by| by["pid"] == pid));
    Ok(all.as_array().into_iter().flatten().filter(|program| program["name"] == name && is_of(program)).count())
}

/// Loading is one system call, and what it owes the quota is collected for seconds afterwards: nobody
/// would answer `/livez` meanwhile.
#[test]
fn within_a_quota_what_is_needed_at_once_is_loaded_before_it_is_ready() -> anyhow::Result<()> {
    let _alone = alone();
    let bed = Testbed::start()?;
    let _service = ServiceCgroup::new(bed.id())?;
    let group = Quota::new(&bed, "agent", QUOTA)?;
    let mut agent = Agent::start(&bed, &AgentOptions { cgroup: Some(group.procs()), ..AgentOptions::default() })?;
    for program in ["pilotfish_host", "pilotfish_exec"] {
        ensure!(programs(program, agent.pid())? == 1, "{program}: {}", agent.log_text());
    }
    ensure!(agent.stop() == Some(0), "{}", agent.log_text());
    Ok(())
}
