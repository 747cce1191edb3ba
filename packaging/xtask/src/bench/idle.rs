//! Agents that have nothing to do, side by side: one that watches a namespace of containerd's in
//! which there is nothing, and one that watches many containers that sleep. CPU time is the
//! scheduler's own count between the first look (everything is attached and scanned by then) and
//! the last; resident memory is the largest of all looks.

use super::say;
use anyhow::{Result, ensure};
use clap::Args;
use std::time::{Duration, Instant};
use testbed::{Agent, AgentOptions, ContainerSpec, Stat, Testbed, signals};

#[derive(Debug, Args)]
pub struct Options {
    #[arg(long, default_value_t = 50)]
    containers: u32,
    /// How long
    #[arg(long, default_value_t = 600)]
    seconds: u64,
}

/// Between two looks.
const LOOK: Duration = Duration::from_secs(5);
/// What a start costs is over by then.
const SETTLED: Duration = Duration::from_secs(10);

pub fn run(options: &Options) -> Result<()> {
    let mut bed = Testbed::start()?;
    for n in 0..options.containers {
        ensure!(!signals::interrupted(), "interrupted");
        bed.run(ContainerSpec::new(&format!("idle{n}"), &["/bin/sleep", "100000"]))?;
    }
    // Two agents cannot share a containerd.
    let [first, second] = [0, bed.add_containerd()?].map(|place| bed.containerd_at(place).socket());
    let nothing = AgentOptions { sockets: vec![second], ..AgentOptions::default() };
    let containers = AgentOptions { sockets: vec![first], ..AgentOptions::default() };
    let alone = Agent::start(&bed, &nothing)?;
    let busy = Agent::start(&bed, &containers)?;
    busy.wait_attached(u64::from(options.containers), Duration::from_secs(60))?;
    alone.wait_attached(0, Duration::from_secs(10))?;
    pause(SETTLED)?;
    let look = || -> Result<[Stat; 2]> { Ok([alone.stat()?, busy.stat()?]) };
    let (begun, first) = (Instant::now(), look()?);
    let mut largest = [0; 2];
    let mut last = first;
    while begun.elapsed() < Duration::from_secs(options.seconds) {
        pause(LOOK)?;
        last = look()?;
        for (largest, stat) in largest.iter_mut().zip(&last) {
            *largest = stat.rss_bytes.max(*largest);
        }
    }
    let took = begun.elapsed().as_secs_f64();
    for (((containers, first), last), largest) in [0, options.containers].iter().zip(&first).zip(&last).zip(largest) {
        let cpu = (last.cpu_ns - first.cpu_ns) as f64 / 1e9;
        say(&format!(
            "idle: {containers} containers, {took:.0} s: {cpu:.2} s of CPU ({:.3} % of one), {:.1} MB resident, {} threads, {} descriptors",
            cpu / took * 100.0,
            largest as f64 / 1e6,
            last.threads,
            last.descriptors
        ));
    }
    Ok(())
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
