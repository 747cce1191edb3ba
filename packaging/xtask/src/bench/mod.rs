//! `cargo xtask bench`: the measurements behind docs/benchmarks.md, each with its method in the
//! head of its file. They print what they measured as lines that the page can quote, and end with
//! an error when an equation does not hold.

mod attach;
mod churn;
mod companion;
mod first_words;
mod goals;
mod handover;
mod idle;
mod k8s;
mod lines;
mod look;
mod overhead;
mod quota;
mod replay;
mod restart;
mod scan;
mod series;
mod start;
mod truth;
mod wait;

use anyhow::Result;
use clap::Subcommand;
use lines::{quantile, say};

#[derive(Debug, Subcommand)]
pub enum Bench {
    /// sent == counted + lost at half load, and the latencies beside the client's own
    Truth(truth::Options),
    /// CPU per request with the agent, with tcpdump, and with nothing
    Overhead(overhead::Options),
    /// From a container's start to its attachment, one at a time and many at the agent's start
    Attach(attach::Options),
    /// What containers say before the agent is there, beside busy loops
    FirstWords(first_words::Options),
    /// What thousands of containers that came and went leave in the agent
    Churn(churn::Options),
    /// kill -9 under load: how long until it counts again, and what is attached then
    Restart(restart::Options),
    /// A graceful restart under load with the counters kept: how many requests nobody saw
    Handover(handover::Options),
    /// CPU and memory of an agent with nothing to do, beside none and beside many containers
    Idle(idle::Options),
    /// What the agent's own looks at the node cost, its helper process included
    Look(look::Options),
    /// The watch cache against a real API server: closed watches, a frozen server, ghosts, herds, 100,000 pods
    K8s(k8s::Options),
    /// A late agent beside many old connections: readiness, liveness, cost by source, right names
    Scan(scan::Options),
    /// A start beside many containers within a CPU quota: liveness, attaching, who comes first
    Quota(quota::Options),
    /// Requests a second out of a capture file
    Replay(replay::Options),
    /// One companion and many agents that join it: CPU, memory and bytes, names for all at once, a restart
    Companion(companion::Options),
    /// What the series of a pod take in memory, and what a scrape of them costs
    Series(series::Options),
}

pub fn run(bench: &Bench) -> Result<()> {
    testbed::sweep::sweep()?;
    match bench {
        Bench::Truth(options) => truth::run(options),
        Bench::Overhead(options) => overhead::run(options),
        Bench::Attach(options) => attach::run(options),
        Bench::FirstWords(options) => first_words::run(options),
        Bench::Churn(options) => churn::run(options),
        Bench::Restart(options) => restart::run(options),
        Bench::Handover(options) => handover::run(options),
        Bench::Idle(options) => idle::run(options),
        Bench::Look(options) => look::run(options),
        Bench::K8s(options) => k8s::run(options),
        Bench::Scan(options) => scan::run(options),
        Bench::Quota(options) => quota::run(options),
        Bench::Replay(options) => replay::run(options),
        Bench::Companion(options) => companion::run(options),
        Bench::Series(options) => series::run(options),
    }
}
