//! Containers come and go beside a running agent, each with a request of its own, under ten names
//! in turn (series of a name that is gone are kept for ten minutes on purpose; new names would
//! measure that). Descriptors, threads, resident memory, BPF objects and filters are read after a
//! first tenth of the cycles (by then everything that is made once is made) and at the end, when
//! all of the containers are gone again.

use super::say;
use anyhow::{Context, Result, ensure};
use clap::Args;
use std::process::Command;
use std::time::Duration;
use testbed::{Agent, AgentOptions, ContainerSpec, Stat, Testbed, filters_in, installed, signals, until};

#[derive(Debug, Args)]
pub struct Options {
    #[arg(long, default_value_t = 2000)]
    cycles: u32,
    /// auto, tcx or clsact
    #[arg(long, default_value = "auto")]
    mode: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    stat: Stat,
    /// Descriptors of BPF programs, maps and links that the agent holds.
    bpf: [usize; 3],
    /// Programs of ours in the kernel, held by whom ever: descriptors and filters.
    programs: usize,
}

pub fn run(options: &Options) -> Result<()> {
    let mode = ["auto", "tcx", "clsact"].into_iter().find(|mode| *mode == options.mode).context("--mode")?;
    let mut bed = Testbed::start()?;
    let server = bed.run(ContainerSpec::new("server", &["/bin/api"]))?;
    let mut agent = Agent::start(&bed, &AgentOptions { attach_mode: Some(mode), ..AgentOptions::default() })?;
    agent.wait_attached(1, Duration::from_secs(10))?;
    let target = format!("{}:8080", server.address);
    let mut first = None;
    let settle = options.cycles / 10;
    for n in 0..options.cycles {
        ensure!(!signals::interrupted(), "interrupted");
        if n == settle {
            first = Some(held(&agent)?);
        }
        let spec = ContainerSpec::new(&format!("c{}", n % 10), &["/bin/loadgen", "--target", &target, "--count", "1"]);
        let container = bed.run(spec)?;
        bed.stop(container, Duration::from_secs(5))?;
    }
    until("all are gone", Duration::from_secs(30), || agent.attached().is_ok_and(|attached| attached == 1))?;
    let (first, last) = (first.context("no cycle")?, held(&agent)?);
    for (what, before, after) in [
        ("descriptors", first.stat.descriptors, last.stat.descriptors),
        ("threads", first.stat.threads, last.stat.threads),
        ("resident KiB", kib(&first), kib(&last)),
        ("descriptors of BPF programs", first.bpf[0], last.bpf[0]),
        ("descriptors of BPF maps", first.bpf[1], last.bpf[1]),
        ("descriptors of BPF links", first.bpf[2], last.bpf[2]),
        ("programs in the kernel", first.programs, last.programs),
    ] {
        say(&format!("churn: {what}: {before} after {settle} cycles, {after} after {}", options.cycles));
    }
    say(&format!(
        "churn: {:.2} ms of agent CPU per cycle",
        (last.stat.cpu_ns - first.stat.cpu_ns) as f64 / 1e6 / f64::from(options.cycles - settle)
    ));
    ensure!(agent.stop() == Some(0), "the agent ended badly:\n{}", agent.log_text());
    let left = filters_in(&server.netns.path())?;
    say(&format!("churn: {} filters left after a graceful stop", left.len()));
    Ok(())
}

fn kib(held: &Held) -> usize {
    usize::try_from(held.stat.rss_bytes >> 10).unwrap_or(usize::MAX)
}

fn held(agent: &Agent) -> Result<Held> {
    let mut bpf = [0; 3];
    for descriptor in std::fs::read_dir(format!("/proc/{}/fd", agent.pid()))?.flatten() {
        let target = std::fs::read_link(descriptor.path()).unwrap_or_default();
        let kind = ["bpf-prog", "bpf-map", "bpf_link"].iter().position(|kind| target.to_string_lossy().ends_with(kind));
        kind.into_iter().for_each(|kind| bpf[kind] += 1);
    }
    Ok(Held { stat: agent.stat()?, bpf, programs: programs()? })
}

/// Programs whose names begin with ours, on the whole machine: other agents on it count, too.
fn programs() -> Result<usize> {
    let output = Command::new(installed("bpftool")?).args(["-j", "prog", "show"]).output()?;
    let all: serde_json::Value = serde_json::from_slice(&output.stdout).context("bpftool prog show")?;
    let is_ours =
        |program: &&serde_json::Value| program["name"].as_str().is_some_and(|name| name.starts_with("pilotfish_"));
    Ok(all.as_array().into_iter().flatten().filter(is_ours).count())
}
