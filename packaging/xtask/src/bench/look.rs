//! What the agent's own looks at the node cost beside many containers: the twelve files of doctor's cheap checks, read
//! by its helper process, and what is decided of them and of what is in hand. Two agents, one after the other, that
//! differ in how often they look; CPU time is the scheduler's own count, of the agent and of its helper.

use super::say;
use anyhow::{Context, Result, ensure};
use clap::Args;
use std::fs;
use std::time::{Duration, Instant};
use testbed::{Agent, AgentOptions, ContainerSpec, Stat, Testbed, signals};

#[derive(Debug, Args)]
pub struct Options {
    #[arg(long, default_value_t = 100)]
    containers: u32,
    /// How long each of the two is watched
    #[arg(long, default_value_t = 240, value_parser = clap::value_parser!(u64).range(..=280))]
    seconds: u64,
}

/// Seconds between two looks, of who looks often.
const OFTEN: u64 = 1;
/// And of who does not look while it is watched.
const NEVER: u64 = 300;
/// And in life.
const EVERY: f64 = 30.0;
/// Of a core.
const GOAL: f64 = 0.02 / 100.0;
/// What a start costs is over by then, and so is the first look.
const SETTLED: Duration = Duration::from_secs(15);

pub fn run(options: &Options) -> Result<()> {
    let mut bed = Testbed::start()?;
    for n in 0..options.containers {
        ensure!(!signals::interrupted(), "interrupted");
        bed.run(ContainerSpec::new(&format!("idle{n}"), &["/bin/sleep", "100000"]))?;
    }
    let [often, never] = [watch(&bed, options, OFTEN)?, watch(&bed, options, NEVER)?];
    let looks = options.seconds as f64 / OFTEN as f64;
    let each = [0, 1].map(|process| (often[process] - never[process]) / looks);
    let share = each.iter().sum::<f64>() / EVERY;
    say(&format!(
        "look: {} containers, {looks:.0} looks: {:.2} ms of CPU each by the agent, {:.2} ms by its helper: {:.4} % of a core every {EVERY} s",
        options.containers,
        each[0] * 1e3,
        each[1] * 1e3,
        share * 100.0
    ));
    ensure!(share <= GOAL, "the goal is {} %", GOAL * 100.0);
    Ok(())
}

/// Seconds of CPU of an agent that looks so often, and of its helper.
fn watch(bed: &Testbed, options: &Options, window: u64) -> Result<[f64; 2]> {
    let more = format!("\n[debug]\nwindow = \"{window}s\"\n");
    let mut agent = Agent::start(bed, &AgentOptions { more, ..AgentOptions::default() })?;
    agent.wait_attached(u64::from(options.containers), Duration::from_secs(60))?;
    pause(SETTLED)?;
    let helper = helper(&agent)?;
    let look = || -> Result<[u64; 2]> { Ok([agent.stat()?.cpu_ns, Stat::of(helper)?.cpu_ns]) };
    let (begun, before) = (Instant::now(), look()?);
    pause(Duration::from_secs(options.seconds))?;
    let (took, after) = (begun.elapsed().as_secs_f64(), look()?);
    let used = [0, 1].map(|process| (after[process] - before[process]) as f64 / 1e9);
    say(&format!(
        "look: every {window} s, {took:.0} s: the agent {:.3} s of CPU, its helper {:.3} s",
        used[0], used[1]
    ));
    ensure!(agent.stop() == Some(0), "the agent ended badly:\n{}", agent.log_text());
    Ok(used)
}

/// The agent's child that reads files.
fn helper(agent: &Agent) -> Result<u32> {
    let is_it = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.contains("Name:\tpf-read\n") && status.contains(&format!("PPid:\t{}\n", agent.pid()))
    };
    let all = fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    all.into_iter().find(is_it).context("the agent's helper")
}

/// The pause is what is measured.
fn pause(long: Duration) -> Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < long {
        ensure!(!signals::interrupted(), "interrupted");
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}
