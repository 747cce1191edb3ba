//! How many of what.

use clap::Args;

#[derive(Debug, Args)]
pub struct Options {
    /// Agents, one a node; measured with a tenth of them and with all
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
    /// Length of what is measured in steady state, seconds
    #[arg(long = "for", value_name = "SECONDS", default_value_t = 60)]
    pub length: u64,
}
