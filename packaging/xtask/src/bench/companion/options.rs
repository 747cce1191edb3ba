//! How many of what.

use clap::{Args, ValueEnum};

/// What is measured. Each begins where the one before has left the agents, or joins those that it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Phase {
    /// 50 agents, whose companion is killed
    Few,
    /// A tenth of the agents, in steady state
    Tenth,
    /// All of them: begin at once without names, then in steady state
    All,
    /// The companion of all of them is killed
    Killed,
}

#[derive(Debug, Args)]
pub struct Options {
    /// Agents, one a node
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    pub agents: u32,
    /// Series of each, at least
    #[arg(long, default_value_t = 300)]
    pub series: u32,
    /// Pods whose names they get
    #[arg(long, default_value_t = 100_000)]
    pub pods: u32,
    /// Agents that take names, at most: each keeps all of them, some 5 MB
    #[arg(long, default_value_t = 1_000)]
    pub named: u32,
    /// Only these: minutes of a large cluster are not always there at one time
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["few", "tenth", "all", "killed"])]
    pub phases: Vec<Phase>,
    /// Length of what is measured in steady state, seconds
    #[arg(long = "for", value_name = "SECONDS", default_value_t = 60)]
    pub length: u64,
}
