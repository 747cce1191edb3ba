//! An agent whose control group has a CPU quota, and that starts beside many containers whose
//! connections are older than it is: whether it answers while it attaches and scans, how soon it is
//! through, and how soon it attaches to a container that starts meanwhile.
//!
//! `/livez` is asked from the moment that the kernel programs are loaded until the scan is over, at
//! no moment that the kernel's periods of 100 ms would choose. What else asks for a page does so
//! rarely, since a page of so many containers takes some of the quota itself.

use super::say;
use super::scan;
use super::start::{PATIENCE, Start};
use anyhow::{Result, ensure};
use clap::Args;
use std::thread;
use std::time::Duration;
use testbed::{Agent, AgentOptions, ContainerSpec, Quota, Service, Testbed, until};

#[derive(Debug, Args)]
pub struct Options {
    /// Containers, each in a network namespace of its own
    #[arg(long, default_value_t = 500)]
    namespaces: u16,
    /// Connections that each holds to its neighbour; it accepts as many
    #[arg(long, default_value_t = 20)]
    connections: u16,
    /// CPU that the agent has, in hundredths of one; one run for each
    #[arg(long, default_values_t = [10, 5], value_delimiter = ',')]
    quota: Vec<u32>,
    /// Services of the node, for whose sockets the agent has a program of its own
    #[arg(long, default_value_t = 0)]
    services: u16,
}

pub fn run(options: &Options) -> Result<()> {
    let mut bed = Testbed::start()?;
    let crowd = scan::crowd(&mut bed, options.namespaces, options.connections)?;
    let services = (0..options.services).map(|number| {
        let name = format!("{}-{number}", bed.id());
        Service::start(&bed, &name, &["/bin/sleep", "100000"])
    });
    let _services: Vec<Service> = services.collect::<Result<_>>()?;
    for (number, hundredths) in options.quota.iter().enumerate() {
        let group = Quota::new(&bed, &format!("agent-{number}"), *hundredths)?;
        let mut start = Start::of(&bed, &AgentOptions::default(), group)?;
        let late = late(&mut bed, &start.agent, number)?;
        // Those of the runs before are there, too.
        start.finish(&crowd, number + 1)?;
        say(&format!("quota: {hundredths} %, {} services: {}", options.services, start.told()));
        say(&format!("quota: {hundredths} %: {late}"));
        ensure!(start.agent.stop() == Some(0), "the agent ended badly:\n{}", start.agent.log_text());
    }
    Ok(())
}

/// A container that starts amid the backlog: what goes before it, and how long it took.
fn late(bed: &mut Testbed, agent: &Agent, number: usize) -> Result<String> {
    let name = format!("late-{number}");
    // Until then a start pays for loading the programs, and knows of no container.
    thread::sleep(Duration::from_secs(1));
    bed.run(ContainerSpec::new(&name, &["/bin/sleep", "100000"]))?;
    let client = agent_api::Client::new(&agent.socket);
    let mut told = format!("{name} is not shown");
    until("the new container is attached", PATIENCE, || {
        // Each look takes some of the quota.
        thread::sleep(Duration::from_secs(1));
        let Ok(status) = client.status() else { return false };
        let rows = status.namespaces;
        let took = rows.iter().find(|row| row.workload == name).and_then(|row| row.attach_ms);
        let attached = rows.iter().filter(|row| row.state == "attached").count();
        told = format!(
            "a container that started meanwhile was attached in {:.1} ms; {attached} of {} were within a second",
            took.unwrap_or(f64::NAN),
            rows.len()
        );
        took.is_some()
    })?;
    Ok(told)
}
