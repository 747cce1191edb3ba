//! What the end-to-end tests share: one at a time, and questions to the agent in the words of a test.
#![forbid(unsafe_code)]

pub mod askers;
pub mod guest;
pub mod node_agent;
pub mod place;
pub mod readers;

use agent_api::EdgeRow;
use anyhow::{Context, Result};
use serde_json::Value;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use testbed::{Agent, Container, ContainerSpec, Testbed, filters_in, scene, until};

static ALONE: Mutex<()> = Mutex::new(());

/// Held for the length of a test: each wants the machine for itself. Test binaries run one after the other anyway.
pub fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Longest time that anything here may take; what is slower is broken.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// An API server called `name`, listening on port 8080.
pub fn api(bed: &mut Testbed, name: &str) -> Result<Container> {
    let server = bed.run(ContainerSpec::new(name, &["/bin/api"]))?;
    scene::wait_listening(&server, 8080)?;
    Ok(server)
}

/// A generator called `name` that waits at its gate; `args` are its options after the target.
pub fn generator(bed: &mut Testbed, name: &str, target: &Container, args: &[&str]) -> Result<Container> {
    bed.run(generator_spec(name, target, args))
}

#[must_use]
pub fn generator_spec(name: &str, target: &Container, args: &[&str]) -> ContainerSpec {
    let target = format!("{}:8080", target.address);
    let mut command = vec!["/bin/loadgen", "--gate", "/conf/gate", "--target", &target];
    command.extend_from_slice(args);
    ContainerSpec::new(name, &command)
}

/// Opens the generator's gate and waits for what it has to say at its end.
pub fn run_to_end(bed: &Testbed, generator: &Container) -> Result<Value> {
    scene::open_gate(bed, generator)?;
    scene::last_line(generator, Duration::from_secs(120))
}

/// Rows of `pilotfish edges -o json` between these two, of this protocol.
pub fn edges(agent: &Agent, src: &str, dst: &str, protocol: &str) -> Result<Vec<EdgeRow>> {
    let rows: Vec<EdgeRow> = serde_json::from_str(&agent.cli(&["edges", "-o", "json"])?).context("edges -o json")?;
    let is_it = |row: &EdgeRow| row.src.name == src && row.dst.name == dst && row.protocol == protocol;
    Ok(rows.into_iter().filter(is_it).collect())
}

/// Exchanges of an edge that `reporter` has counted since the agent started.
pub fn exchanges(agent: &Agent, src: &str, dst: &str, protocol: &str, reporter: &str) -> u64 {
    let name = match protocol {
        "dns" => "dns_lookup_duration_seconds_count".to_owned(),
        _ => format!("http_{reporter}_request_duration_seconds_count"),
    };
    let labels = [("client_workload", src), ("server_workload", dst), ("reporter", reporter)];
    agent.metrics().map_or(0, |metrics| metrics.count(&name, &labels))
}

/// Waits until both ends of an edge have counted exactly `requests`.
pub fn wait_edge(agent: &Agent, src: &str, dst: &str, protocol: &str, requests: u64) -> Result<()> {
    let mut seen = [0; 2];
    until(&format!("{src} -> {dst} has {requests} {protocol} requests at both ends"), PATIENCE, || {
        seen = ["client", "server"].map(|reporter| exchanges(agent, src, dst, protocol, reporter));
        seen == [requests; 2]
    })
    .with_context(|| format!("last seen: {seen:?}\n{}", agent.cli(&["edges", "-o", "wide"]).unwrap_or_default()))
}

/// Waits until, for each reporter, counted and lost add up to `sent`; returns what was lost at each.
pub fn wait_equation(agent: &Agent, sent: u64) -> Result<[u64; 2]> {
    let mut seen = [(0, 0); 2];
    until(&format!("sent ({sent}) == counted + lost at both ends"), PATIENCE, || {
        for (account, reporter) in seen.iter_mut().zip(["client", "server"]) {
            *account = agent.counted_and_lost(reporter).unwrap_or_default();
        }
        seen.iter().all(|(counted, lost)| counted + lost == sent)
    })
    .with_context(|| format!("(counted, lost) at the client and the server: {seen:?}\n{}", losses(agent)))?;
    Ok(seen.map(|(_, lost)| lost))
}

/// What was lost where, for the message of a test that fails.
pub fn losses(agent: &Agent) -> String {
    let Ok(metrics) = agent.metrics() else { return String::new() };
    let lost = |name: &str| name == "pilotfish_lost_total" || name == "pilotfish_exchanges_lost_total";
    let lines = metrics.samples.iter().filter(|sample| lost(&sample.name) && sample.value > 0.0);
    lines.map(|sample| format!("{} {:?} {}\n", sample.name, sample.labels, sample.value)).collect()
}

/// One program for each direction of an interface, and each of them ours.
pub fn check_attached_once(container: &Container, interfaces: &[&str]) -> Result<()> {
    let filters = filters_in(&container.netns.path())?;
    for interface in interfaces {
        for direction in ["ingress", "egress"] {
            let ours = filters.iter().filter(|filter| {
                let mut words = filter.split(' ');
                words.next() == Some(interface) && words.next() == Some(direction)
            });
            anyhow::ensure!(ours.count() == 1, "{}: {interface} {direction}: {filters:?}", container.name);
        }
    }
    anyhow::ensure!(filters.len() == 2 * interfaces.len(), "{}: {filters:?}", container.name);
    Ok(())
}
