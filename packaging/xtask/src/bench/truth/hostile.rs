//! Twenty honest pods and a neighbour that does everything at once (`testbed::crowd`): addresses,
//! links, forks, sockets, SYNs, DNS, statuses, pipelines, tiny segments, in half a core. What the
//! honest ones sent is compared with what was counted of their edges; containers are started one
//! after the other, before the neighbour begins and beside it, and the times from their start to
//! their attachment are compared.

use super::rtnl::{Took, Waits};
use crate::bench::{quantile, say};
use agent_api::Status;
use anyhow::{Result, ensure};
use std::time::{Duration, Instant};
use testbed::crowd::{ADDRESSES, Crowd, Neighbour, PAIRS};
use testbed::{Agent, AgentOptions, ContainerSpec, Testbed, signals, until};

const PATIENCE: Duration = Duration::from_secs(60);
/// Containers that are started with the neighbour silent, and as many beside it.
const STARTS: u32 = 100;
/// Requests a second of all honest clients.
const RATE: u64 = 300;

pub(super) fn run(requests: Option<u64>) -> Result<()> {
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let crowd = Crowd::start(&mut bed)?;
    let neighbour = Neighbour::start(&mut bed)?;
    agent.wait_attached(2 * PAIRS as u64 + 2, PATIENCE)?;
    crowd.begin(&bed)?;
    let begun = Instant::now();
    let waits = Waits::begin();
    let quiet = starts(&mut bed, &agent, "quiet")?;
    let quiet_lock = waits.end()?;
    let before = agent.stat()?;
    neighbour.crowd_with_addresses(&bed)?;
    neighbour.begin(&bed)?;
    let (looks, waits) = (looks(&agent)?, Waits::begin());
    let beside = starts(&mut bed, &agent, "beside")?;
    let beside_lock = waits.end()?;
    let length = Duration::from_secs(requests.unwrap_or(0) / RATE);
    until("it was as long as asked for", length, signals::interrupted).ok();
    let did = neighbour.end(&bed, PATIENCE)?;
    let sent = crowd.end(&bed, PATIENCE)?;
    let after = agent.stat()?;
    say(&format!(
        "truth: hostile: the neighbour, with {ADDRESSES} addresses, in {} s: {did}",
        begun.elapsed().as_secs()
    ));
    say(&format!("truth: hostile: it was held back for {} ms", neighbour.throttled_ms()));
    for (when, took) in [("before it", &quiet), ("beside it", &beside)] {
        let [half, most, all] = [0.5, 0.99, 1.0].map(|q| quantile(took, q));
        say(&format!(
            "truth: hostile: {} starts {when}: p50 {half:.2} ms, p99 {most:.2} ms, worst {all:.2} ms",
            took.len()
        ));
    }
    for (when, Took { lock, wake }) in [("before it", &quiet_lock), ("beside it", &beside_lock)] {
        for (what, took) in [("the kernel's lock over networks", lock), ("a thread that wakes", wake)] {
            let [half, most, all] = [0.5, 0.99, 1.0].map(|q| quantile(took, q));
            say(&format!(
                "truth: hostile: {what}, for anybody, {when}: p50 {half:.2} ms, p99 {most:.2} ms, worst {all:.2} ms"
            ));
        }
    }
    let [entries, listed] = self::looks(&agent)?;
    let each = (listed - looks[1]) / (entries - looks[0]).max(1);
    say(&format!("truth: hostile: {} entries into namespaces, {each} listed in each", entries - looks[0]));
    let ratio = quantile(&beside, 0.99) / quantile(&quiet, 0.99);
    let verdict = if ratio <= 2.0 { "within" } else { "NOT within" };
    say(&format!("truth: hostile: attach p99 x {ratio:.2}: {verdict} 2 x"));
    say(&format!(
        "truth: hostile: agent {} MB resident before, {} MB after, {} ms of CPU",
        before.rss_bytes >> 20,
        after.rss_bytes >> 20,
        (after.cpu_ns - before.cpu_ns) / 1_000_000
    ));
    let mut exact = true;
    let all: u64 = sent.iter().map(|sent| sent.requests).sum();
    for reporter in ["client", "server"] {
        let counted = || sent.iter().map(|sent| of_edge(&agent, &sent.client, &sent.server, reporter)).sum::<u64>();
        let told = || agent.counted_and_lost(reporter).map_or(0, |(_, lost)| lost);
        let settled = until("counted", PATIENCE, || counted() + told() >= all).is_ok();
        let (counted, lost) = (counted(), told());
        let verdict = match (settled, counted == all) {
            (true, true) => "exact",
            (true, false) => "the rest is told as lost",
            (false, _) => "DIFFERS",
        };
        exact &= settled && counted <= all;
        say(&format!(
            "truth: hostile: {reporter}: the honest sent {all}, counted {counted}: {verdict} ({lost} lost of everybody)"
        ));
    }
    ensure!(exact, "the honest pods' equation does not hold");
    Ok(())
}

fn of_edge(agent: &Agent, client: &str, server: &str, reporter: &str) -> u64 {
    let name = format!("http_{reporter}_request_duration_seconds_count");
    let labels = [("client_workload", client), ("server_workload", server)];
    agent.metrics().map_or(0, |metrics| metrics.count(&name, &labels))
}

/// Entries into namespaces, and what was listed in them.
fn looks(agent: &Agent) -> Result<[u64; 2]> {
    let metrics = agent.metrics()?;
    Ok(["entries", "listed"].map(|what| metrics.count(&format!("pilotfish_attach_{what}_total"), &[])))
}

/// Milliseconds from each container's event to its attachment, as the agent stamps them.
fn starts(bed: &mut Testbed, agent: &Agent, name: &str) -> Result<Vec<f64>> {
    let mut took = Vec::new();
    for number in 0..STARTS {
        ensure!(!signals::interrupted(), "interrupted");
        let name = format!("{name}{number}");
        let container = bed.run(ContainerSpec::new(&name, &["/bin/sleep", "10000"]))?;
        let mut found = None;
        until("attached", PATIENCE, || {
            found = attach_ms(agent, &name).ok().flatten();
            found.is_some()
        })?;
        took.extend(found);
        bed.stop(container, Duration::ZERO)?;
    }
    Ok(took)
}

fn attach_ms(agent: &Agent, workload: &str) -> Result<Option<f64>> {
    let status: Status = serde_json::from_str(&agent.cli(&["status", "-o", "json"])?)?;
    Ok(status.namespaces.iter().find(|row| row.workload == workload).and_then(|row| row.attach_ms))
}
