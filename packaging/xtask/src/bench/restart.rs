//! kill -9 of the agent while requests are under way, and a new start at once: the time from the
//! start until the first request is counted again (the connections are old by then), whether each
//! interface has one program a direction, and whether a graceful stop leaves any.

use super::{quantile, say};
use anyhow::{Result, ensure};
use clap::Args;
use std::time::{Duration, Instant};
use testbed::{Agent, AgentOptions, ContainerSpec, Testbed, filters_in, scene, until};

#[derive(Debug, Args)]
pub struct Options {
    #[arg(long, default_value_t = 10)]
    times: u32,
}

pub fn run(options: &Options) -> Result<()> {
    for mode in ["clsact", "tcx"] {
        let mut bed = Testbed::start()?;
        let server = bed.run(ContainerSpec::new("server", &["/bin/api"]))?;
        let target = format!("{}:8080", server.address);
        let args =
            ["/bin/loadgen", "--gate", "/conf/gate", "--target", &target, "--connections", "8", "--rate", "2000"];
        let client = bed.run(ContainerSpec::new("client", &args))?;
        let mut agent = Agent::start(&bed, &AgentOptions { attach_mode: Some(mode), ..AgentOptions::default() })?;
        agent.wait_attached(2, Duration::from_secs(10))?;
        scene::open_gate(&bed, &client)?;
        let counting = |agent: &Agent| agent.counted_and_lost("server").is_ok_and(|(counted, _)| counted > 0);
        until("traffic is counted", Duration::from_secs(10), || counting(&agent))?;
        let mut took_ms = Vec::new();
        for _ in 0..options.times {
            agent.kill();
            let begun = Instant::now();
            agent.start_again(&bed)?;
            until("traffic is counted again", Duration::from_secs(30), || counting(&agent))?;
            took_ms.push(begun.elapsed().as_secs_f64() * 1e3);
            agent.wait_attached(2, Duration::from_secs(10))?;
            for container in [&server, &client] {
                let filters = filters_in(&container.netns.path())?;
                ensure!(filters.len() == 2, "{mode}: {}: {filters:?}", container.name);
            }
        }
        ensure!(agent.stop() == Some(0), "the agent ended badly:\n{}", agent.log_text());
        let left: usize = [&server, &client].iter().map(|c| filters_in(&c.netns.path()).map_or(0, |f| f.len())).sum();
        say(&format!(
            "restart: {mode}: counting again after p50 {:.0} ms, max {:.0} ms of {} kills; one program a direction each time; {left} left at the end",
            quantile(&took_ms, 0.5),
            quantile(&took_ms, 1.0),
            options.times
        ));
    }
    Ok(())
}
