//! The watch cache against a real API server: what it costs itself and the server, what it
//! survives, and how soon it is right again (closed watches that are polled for ever, half-open
//! connections, ghosts, herds).
//!
//! Each scenario has a control plane of its own (etcd and API server on the loopback, see
//! `testbed::cluster`) and the real agent beside it, without containerd. What the agent says is
//! read from its socket; what it asked for is read from the API server's audit log, or counted at a
//! gate in front of it that passes bytes and knows nothing of them. A goal that is missed ends the
//! command with an error, after all scenarios ran.

mod accept_close;
mod agent;
mod closes;
mod fifty;
mod forbidden;
mod frozen;
mod gate;
mod ghosts;
mod large;
mod lists;
mod pods;
mod samples;
mod steady;

use crate::bench::wait::pass;
use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use std::time::Duration;
use testbed::signals;

#[derive(Debug, Args)]
pub struct Options {
    /// All, when none is named
    scenarios: Vec<Scenario>,
    /// Length of what a scenario waits through, seconds; each has its own (10 min of closes, 120 s
    /// frozen, 30 min steady, ...)
    #[arg(long = "for", value_name = "SECONDS")]
    length: Option<u64>,
    /// Pods of `large`
    #[arg(long, default_value_t = 100_000)]
    pods: u32,
    /// Agents of `fifty`
    #[arg(long, default_value_t = 50)]
    agents: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// The API server ends each watch every 5 to 10 s, while pods change
    Closes,
    /// The API server is stopped (SIGSTOP) and goes on
    Frozen,
    /// The agent is stopped while pods give their addresses to others and the past is compacted
    Ghosts,
    /// The agent's rights are taken away and given back
    Forbidden,
    /// Something that accepts connections and closes them
    AcceptClose,
    /// 100,000 pods: memory, time, lookups
    Large,
    /// Nothing happens: what is asked of the API server
    Steady,
    /// 50 agents that start together, and lose their API server together
    Fifty,
}

pub fn run(options: &Options) -> Result<()> {
    let all = if options.scenarios.is_empty() { Scenario::value_variants() } else { &options.scenarios[..] };
    let length = |default: u64| Duration::from_secs(options.length.unwrap_or(default));
    let mut failed = Vec::new();
    for scenario in all {
        ensure!(!signals::interrupted(), "interrupted");
        let result = match scenario {
            Scenario::Closes => closes::run(length(600)),
            Scenario::Frozen => frozen::run(length(120)),
            Scenario::Ghosts => ghosts::run(),
            Scenario::Forbidden => forbidden::run(length(60)),
            Scenario::AcceptClose => accept_close::run(length(60)),
            Scenario::Large => large::run(options.pods),
            Scenario::Steady => steady::run(length(1800)),
            Scenario::Fifty => fifty::run(options.agents),
        };
        failed.extend(result.err().map(|error| format!("{error:#}")));
    }
    ensure!(failed.is_empty(), "goals were missed:\n{}", failed.join("\n"));
    Ok(())
}
