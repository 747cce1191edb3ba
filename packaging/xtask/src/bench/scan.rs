//! An agent that starts late: beside containers whose connections are older than it is. How soon it
//! is ready at a tenth of a CPU, whether it answers while it scans, what the scan costs by each
//! source, and whether every connection has the right ends at the first scrape and the first
//! request.
//!
//! Each container's process holds connections to the next container and accepts as many from the
//! one before; nothing is sent until the agent has looked. Open connections are compared for each
//! edge and reporter with what is held, requests afterwards with what was asked.

use super::start::{PATIENCE, Start, is_over};
use super::{quantile, say};
use agent_api::Status;
use anyhow::{Context, Result, ensure};
use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use testbed::{Agent, AgentOptions, Container, ContainerSpec, Quota, Testbed, signals, until};

#[derive(Debug, Args)]
pub struct Options {
    /// Containers, each in a network namespace of its own; measured with as many and twice as many
    #[arg(long, default_value_t = 200)]
    namespaces: u16,
    /// Connections that each holds to its neighbour; it accepts as many
    #[arg(long, default_value_t = 50)]
    connections: u16,
    /// One crowd only, by the source that is used: ready, the scan, a request over each connection,
    /// and all of them at once
    #[arg(long)]
    plain: bool,
    /// CPU that the agent has, in hundredths of one
    #[arg(long, default_value_t = 10)]
    quota: u32,
}

const SOURCES: [&str; 3] = ["iterator", "sock_diag", "procfs"];

pub fn run(options: &Options) -> Result<()> {
    let mut bed = Testbed::start()?;
    let first = crowd(&mut bed, options.namespaces, options.connections)?;
    if options.plain {
        quota(&bed, &first, options, "auto")?;
        return plain(&bed, &first, options);
    }
    killed()?;
    let cost = sources(&first)?;
    for source in ["auto", "sock_diag"] {
        quota(&bed, &first, options, source)?;
    }
    disturbed(&mut bed, &first, options)?;
    let mut all = first;
    let more = crowd(&mut bed, options.namespaces, options.connections)?;
    all.extend(more);
    let twice = sources(&all)?;
    for (source, (once, twice)) in SOURCES.iter().zip(cost.iter().zip(&twice)) {
        say(&format!("scan: {source}: twice the namespaces and sockets cost x {:.2}", twice / once));
    }
    plain(&bed, &all, options)
}

/// Containers in a ring of their own.
pub(super) fn crowd(bed: &mut Testbed, count: u16, connections: u16) -> Result<Vec<Container>> {
    let begun = Instant::now();
    let mut all: Vec<Container> = Vec::new();
    // Addresses are given in order: the next container has the next one, and the last one asks the first.
    let probe = bed.run(ContainerSpec::new("probe", &["/bin/sleep", "100000"]))?;
    let first = u32::from(probe.address) + 1;
    bed.stop(probe, Duration::ZERO)?;
    for n in 0..count {
        ensure!(!signals::interrupted(), "interrupted");
        let neighbour = std::net::Ipv4Addr::from(first + u32::from((n + 1) % count)).to_string();
        let name = format!("c{}", bed.containers().len());
        let spec = ContainerSpec::new(&name, &["/bin/hold", &neighbour, &connections.to_string()]);
        let container = bed.run(spec)?;
        ensure!(u32::from(container.address) == first + u32::from(n), "{name} has another address than was expected");
        all.push(container);
    }
    let done = |container: &Container| {
        let output = container.output();
        output.contains("connected") && output.contains("accepted")
    };
    until("all connections are there", PATIENCE, || all.iter().all(done))?;
    say(&format!(
        "scan: {count} more namespaces with {} sockets after {:.0} s",
        u32::from(count) * u32::from(connections) * 2,
        begun.elapsed().as_secs_f64()
    ));
    Ok(all)
}

/// CPU of one scan in milliseconds for each source, by a program that does nothing else.
fn sources(containers: &[Container]) -> Result<Vec<f64>> {
    let mut out = Vec::new();
    for source in SOURCES {
        let pids = containers.iter().map(|container| container.pid.to_string());
        let line = scan_cost(std::iter::once(source.to_owned()).chain(pids))?;
        say(&format!("scan: {line}"));
        let figures: Value = serde_json::from_str(&line)?;
        out.push(figures["cpu_ms"].as_f64().context("cpu_ms")?);
    }
    Ok(out)
}

fn killed() -> Result<()> {
    let line = scan_cost(["killed".to_owned(), "1000".to_owned()])?;
    say(&format!("scan: {line}"));
    let figures: Value = serde_json::from_str(&line)?;
    ensure!(figures["own_namespace_unchanged"] == true, "the namespace of the scan changed");
    ensure!(figures["descriptors_before"] == figures["descriptors_after"], "descriptors were left");
    Ok(())
}

fn scan_cost(arguments: impl IntoIterator<Item = String>) -> Result<String> {
    let own = std::env::current_exe()?;
    let program = own.parent().context("xtask is in a directory")?.join("examples/scan_cost");
    let output = Command::new(&program).args(arguments).output().with_context(|| {
        format!("{}: build it with `cargo build --release -p netns-scanner --examples`", program.display())
    })?;
    ensure!(output.status.success(), "scan_cost: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// How the scan is doing, from `pilotfish status`.
fn progress(agent: &Agent) -> Result<(u64, u64)> {
    let status: Status = serde_json::from_str(&agent.cli(&["status", "-o", "json"])?)?;
    Ok((status.scan.done, status.scan.total))
}

fn options_with(source: &str) -> AgentOptions {
    AgentOptions { more: format!("\n[scan]\nsource = \"{source}\"\n"), ..AgentOptions::default() }
}

fn quota(bed: &Testbed, containers: &[Container], options: &Options, source: &str) -> Result<()> {
    let group = Quota::new(bed, &format!("agent-{source}"), options.quota)?;
    let mut start = Start::of(bed, &options_with(source), group)?;
    start.finish(containers, 0)?;
    say(&format!("scan: {source} at {} % of a CPU: {}", options.quota, start.told()));
    let mut agent = start.agent;
    right_ends(&agent, containers, options)?;
    ensure!(agent.stop() == Some(0), "the agent ended badly:\n{}", agent.log_text());
    Ok(())
}

/// Without a quota, for the larger crowd.
fn plain(bed: &Testbed, containers: &[Container], options: &Options) -> Result<()> {
    let begun = Instant::now();
    let mut agent = Agent::start(bed, &options_with("auto"))?;
    let ready = begun.elapsed();
    until("the scan is over", PATIENCE, || agent.metrics().is_ok_and(|page| is_over(&page, containers.len())))?;
    let stat = agent.stat()?;
    say(&format!(
        "scan: auto: {} namespaces: ready after {} ms, scan over after {:.1} s, {} ms of CPU in all, {} MB, {} descriptors",
        containers.len(),
        ready.as_millis(),
        begun.elapsed().as_secs_f64(),
        stat.cpu_ns / 1_000_000,
        stat.rss_bytes >> 20,
        stat.descriptors
    ));
    right_ends(&agent, containers, options)?;
    requests(&agent, containers, options)?;
    burst(&agent, containers, options)?;
    ensure!(agent.stop() == Some(0), "the agent ended badly:\n{}", agent.log_text());
    Ok(())
}

/// One more request over each connection, of all containers at once: more than the ring holds.
/// Every one of them must be in one of the two counters.
fn burst(agent: &Agent, containers: &[Container], options: &Options) -> Result<()> {
    let account =
        || -> Result<[(u64, u64); 2]> { Ok([agent.counted_and_lost("client")?, agent.counted_and_lost("server")?]) };
    let before = account()?;
    for container in containers {
        kill(Pid::from_raw(i32::try_from(container.pid)?), Signal::SIGUSR1)?;
    }
    let asked = |container: &Container| container.output().matches("asked").count() >= 2;
    until("all have asked twice", PATIENCE, || containers.iter().all(asked))?;
    let sent = u64::from(options.connections) * containers.len() as u64;
    let since = || -> Result<[(u64, u64); 2]> {
        let now = account()?;
        Ok([0, 1].map(|end: usize| (now[end].0 - before[end].0, now[end].1 - before[end].1)))
    };
    let whole = |ends: &[(u64, u64); 2]| ends.iter().all(|(counted, lost)| counted + lost == sent);
    // What was lost of connections that stay open is told when they have been quiet for a while.
    let _ = until("all are accounted for", PATIENCE / 2, || since().is_ok_and(|ends| whole(&ends)));
    let ends = since()?;
    let [(client, lost_client), (server, lost_server)] = ends;
    let ring_full = agent.metrics()?.count("pilotfish_lost_total", &[("stage", "kernel"), ("reason", "ring_full")]);
    say(&format!(
        "scan: {sent} requests at once over connections older than the agent: {client} counted and {lost_client} lost at the client, {server} and {lost_server} at the server; \
         {ring_full} heads found the ring full"
    ));
    ensure!(whole(&ends), "sent is not counted + lost");
    Ok(())
}

/// Names of who asks whom: each container its neighbour in its ring.
fn edges<'a>(containers: &'a [Container], options: &Options) -> Vec<(&'a str, &'a str)> {
    let ring = usize::from(options.namespaces);
    let neighbours = |ring: &'a [Container]| {
        let next = ring.iter().cycle().skip(1);
        ring.iter().zip(next).map(|(one, next)| (one.name.as_str(), next.name.as_str()))
    };
    containers.chunks(ring).flat_map(neighbours).collect()
}

/// Connections that are counted as open on the right edge by the right reporter, of those that are held.
fn right_ends(agent: &Agent, containers: &[Container], options: &Options) -> Result<()> {
    let held = f64::from(options.connections);
    let all = held * containers.len() as f64 * 2.0;
    let count = || -> Result<(f64, f64)> {
        let metrics = agent.metrics()?;
        let mut right = 0.0;
        for (client, server) in edges(containers, options) {
            for reporter in ["client", "server"] {
                let labels = [("client_workload", client), ("server_workload", server), ("reporter", reporter)];
                right += metrics.sum("pilotfish_tcp_open_connections", &labels).min(held);
            }
        }
        Ok((right, metrics.sum("pilotfish_tcp_open_connections", &[])))
    };
    // Handed over is not yet counted: the pipeline takes it in within a tenth of a second, and shows it after another.
    let _ = until("all are right", Duration::from_secs(2), || count().is_ok_and(|(right, _)| right >= all));
    let (right, counted) = count()?;
    say(&format!(
        "scan: {:.3} % of {all} ends that lived throughout are open under the right client and server; {counted} are counted in all",
        right / all * 100.0
    ));
    Ok(())
}

/// One request over each connection, each of them older than the agent.
fn requests(agent: &Agent, containers: &[Container], options: &Options) -> Result<()> {
    // One container after the other: all at once are more than the ring holds, which is another measurement.
    for container in containers {
        kill(Pid::from_raw(i32::try_from(container.pid)?), Signal::SIGUSR1)?;
        until("it has asked", PATIENCE, || container.output().contains("asked"))?;
    }
    let asked = u64::from(options.connections) * containers.len() as u64;
    let right = || -> Result<[u64; 2]> {
        let metrics = agent.metrics()?;
        let mut right = [0; 2];
        for (client, server) in edges(containers, options) {
            let edge = [("client_workload", client), ("server_workload", server)];
            let most = u64::from(options.connections);
            right[0] += metrics.count("http_client_request_duration_seconds_count", &edge).min(most);
            right[1] += metrics.count("http_server_request_duration_seconds_count", &edge).min(most);
        }
        Ok(right)
    };
    // What was not counted by then is not going to be.
    let _ = until("all are counted", Duration::from_secs(5), || right().is_ok_and(|right| right == [asked; 2]));
    let [client, server] = right()?;
    let [(seen_c, lost_c), (seen_s, lost_s)] = [agent.counted_and_lost("client")?, agent.counted_and_lost("server")?];
    say(&format!(
        "scan: of {asked} requests over connections older than the agent, {client} are counted by the client and {server} by the server under the \
         right names; by any name {seen_c} and {seen_s}, and {lost_c} and {lost_s} are told as lost"
    ));
    Ok(())
}

/// While processes fork and containers start: the starts, and the ends afterwards.
fn disturbed(bed: &mut Testbed, containers: &[Container], options: &Options) -> Result<()> {
    let calm = {
        let agent = Agent::start(bed, &options_with("auto"))?;
        until("the scan is over", PATIENCE, || agent.metrics().is_ok_and(|page| is_over(&page, containers.len())))?;
        starts(bed, &agent, "calm")?
    };
    let stop = Arc::new(AtomicBool::new(false));
    let forks = thread::spawn({
        let stop = stop.clone();
        move || {
            let mut count = 0u32;
            while !stop.load(Ordering::Relaxed) {
                let begun = Instant::now();
                if let Ok(mut child) = Command::new("true").stdin(Stdio::null()).spawn() {
                    let _ = child.wait();
                    count += 1;
                }
                thread::sleep(Duration::from_millis(20).saturating_sub(begun.elapsed()));
            }
            count
        }
    });
    // Namespace by namespace, with rests: half a minute of scan.
    let begun = Instant::now();
    let agent = Agent::start(bed, &options_with("sock_diag"))?;
    let during = starts(bed, &agent, "busy")?;
    let (done, total) = progress(&agent)?;
    let begun_s = begun.elapsed().as_secs_f64();
    until("the scan is over", PATIENCE, || agent.metrics().is_ok_and(|page| is_over(&page, containers.len())))?;
    stop.store(true, Ordering::Relaxed);
    let forks = forks.join().unwrap_or(0);
    say(&format!(
        "scan: beside {forks} forks and {} starts in {begun_s:.1} s (scan then at {done}/{total}): attached in p50 {:.2} ms, worst {:.2} ms; without a \
         scan p50 {:.2} ms, worst {:.2} ms",
        during.len(),
        quantile(&during, 0.5),
        quantile(&during, 1.0),
        quantile(&calm, 0.5),
        quantile(&calm, 1.0)
    ));
    right_ends(&agent, containers, options)
}

/// Starts ten containers and ends them again; from the news of each to its attachment, milliseconds.
fn starts(bed: &mut Testbed, agent: &Agent, prefix: &str) -> Result<Vec<f64>> {
    let mut took = Vec::new();
    for n in 0..10 {
        let name = format!("{prefix}{n}");
        let container = bed.run(ContainerSpec::new(&name, &["/bin/sleep", "100000"]))?;
        agent.wait_attached_to(&name, PATIENCE)?;
        let status: Status = serde_json::from_str(&agent.cli(&["status", "-o", "json"])?)?;
        took.extend(status.namespaces.iter().find(|row| row.workload == name).and_then(|row| row.attach_ms));
        bed.stop(container, Duration::ZERO)?;
    }
    Ok(took)
}
