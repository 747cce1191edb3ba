//! Twenty honest pods and a neighbour that does everything at once (`testbed::crowd`): addresses,
//! links, forks, sockets, SYNs, DNS, statuses, pipelines, tiny segments, in half a core. What the
//! honest ones sent is compared with what was counted and lost of their edges; containers are
//! started one after the other, before the neighbour begins and beside it, and the times from their
//! start to their attachment are compared. The same was done before without an agent, beside a bare
//! attachment (`bare.rs`): what of the times is the kernel's, and what is ours.

use super::bare::Bare;
use super::rtnl::{Took, Waits};
use crate::bench::{quantile, say};
use agent_api::Status;
use anyhow::{Result, ensure};
use std::time::{Duration, Instant};
use testbed::crowd::{ADDRESSES, Crowd, Neighbour, PAIRS, Sent};
use testbed::{Agent, AgentOptions, ContainerSpec, Testbed, signals, until};

const PATIENCE: Duration = Duration::from_secs(60);
/// How long a container is there without an agent: about as long as until its attachment shows.
const BRIEFLY: Duration = Duration::from_millis(50);
/// Requests a second of all honest clients.
const RATE: u64 = 300;
/// How many times as long an attach may take beside the neighbour.
const GOAL: f64 = 2.0;

/// Milliseconds with the neighbour silent, and beside it.
struct Times {
    before: Vec<f64>,
    beside: Vec<f64>,
}

impl Times {
    /// Says them; returns the p99 of both.
    fn tell(&self, what: &str) -> [f64; 2] {
        let Times { before, beside } = self;
        for (when, took) in [("before it", before), ("beside it", beside)] {
            let [half, most, all] = [0.5, 0.99, 1.0].map(|q| quantile(took, q));
            let number = took.len();
            say(&format!(
                "truth: hostile: {number} {what} {when}: p50 {half:.2} ms, p99 {most:.2} ms, worst {all:.2} ms"
            ));
        }
        [before, beside].map(|took| quantile(took, 0.99))
    }
}

/// `starts` containers with the neighbour silent, and as many beside it.
pub(super) fn run(requests: Option<u64>, starts: u32) -> Result<()> {
    let bare = without_agent(starts)?;
    with_agent(requests, starts, &bare)
}

fn without_agent(starts: u32) -> Result<Times> {
    let mut bed = Testbed::start()?;
    let crowd = Crowd::start(&mut bed)?;
    let neighbour = Neighbour::start(&mut bed)?;
    crowd.begin(&bed)?;
    let bare = Bare::begin();
    start(&mut bed, None, "quiet", starts)?;
    let before = bare.end()?;
    neighbour.crowd_with_addresses(&bed)?;
    neighbour.begin(&bed)?;
    let bare = Bare::begin();
    start(&mut bed, None, "beside", starts)?;
    let beside = bare.end()?;
    neighbour.end(&bed, PATIENCE)?;
    crowd.end(&bed, PATIENCE)?;
    Ok(Times { before, beside })
}

fn with_agent(requests: Option<u64>, number: u32, bare: &Times) -> Result<()> {
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let crowd = Crowd::start(&mut bed)?;
    let neighbour = Neighbour::start(&mut bed)?;
    agent.wait_attached(2 * PAIRS as u64 + 2, PATIENCE)?;
    crowd.begin(&bed)?;
    let begun = Instant::now();
    let waits = Waits::begin();
    let quiet = start(&mut bed, Some(&agent), "quiet", number)?;
    let quiet_lock = waits.end()?;
    let before = agent.stat()?;
    neighbour.crowd_with_addresses(&bed)?;
    neighbour.begin(&bed)?;
    let (looks, waits) = (looks(&agent)?, Waits::begin());
    let beside = start(&mut bed, Some(&agent), "beside", number)?;
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
    let ours = Times { before: quiet, beside }.tell("starts to their attachment");
    let kernels = bare.tell("bare attachments without an agent");
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
    let [ratio, bares] = [ours, kernels].map(|[before, beside]| beside / before);
    let verdict = if ratio <= GOAL { "within" } else { "NOT within" };
    say(&format!(
        "truth: hostile: attach p99 x {ratio:.2}: {verdict} {GOAL} x; a bare one without an agent x {bares:.2}"
    ));
    say(&format!(
        "truth: hostile: p99 of ours / of a bare one: {:.2} before it, {:.2} beside it",
        ours[0] / kernels[0],
        ours[1] / kernels[1]
    ));
    say(&format!(
        "truth: hostile: agent {} MB resident before, {} MB after, {} ms of CPU",
        before.rss_bytes >> 20,
        after.rss_bytes >> 20,
        (after.cpu_ns - before.cpu_ns) / 1_000_000
    ));
    equation(&agent, &sent)
}

/// Of each honest pair and each end, to the unit.
fn equation(agent: &Agent, sent: &[Sent]) -> Result<()> {
    let mut exact = true;
    let all: u64 = sent.iter().map(|sent| sent.requests).sum();
    for reporter in ["client", "server"] {
        let mut pairs = Vec::new();
        let settled = until("counted, or told as lost", PATIENCE, || {
            pairs = sent.iter().map(|sent| (sent.requests, of_edge(agent, sent, reporter))).collect();
            pairs.iter().all(|(sent, (counted, lost))| counted + lost == *sent)
        });
        exact &= settled.is_ok();
        let (counted, lost) = pairs.iter().fold((0, 0), |sum, (_, (counted, lost))| (sum.0 + counted, sum.1 + lost));
        let wrong: Vec<_> = pairs.iter().filter(|(sent, (counted, lost))| counted + lost != *sent).collect();
        let verdict = if settled.is_ok() { "exact".to_owned() } else { format!("DIFFERS: {wrong:?}") };
        let everybodys = agent.counted_and_lost(reporter).map_or(0, |(_, lost)| lost);
        say(&format!(
            "truth: hostile: {reporter}: the honest sent {all}, counted {counted}, lost {lost}: {verdict} \
             ({everybodys} lost of everybody)"
        ));
    }
    ensure!(exact, "the honest pods' equation does not hold");
    Ok(())
}

/// Counted and lost of a pair.
fn of_edge(agent: &Agent, pair: &Sent, reporter: &str) -> (u64, u64) {
    let name = format!("http_{reporter}_request_duration_seconds_count");
    let labels = [("client_workload", &*pair.client), ("server_workload", &*pair.server), ("reporter", reporter)];
    agent.metrics().map_or((0, 0), |metrics| {
        (metrics.count(&name, &labels[..2]), metrics.count("pilotfish_tcp_exchanges_lost_total", &labels))
    })
}

/// Entries into namespaces, and what was listed in them.
fn looks(agent: &Agent) -> Result<[u64; 2]> {
    let metrics = agent.metrics()?;
    Ok(["entries", "listed"].map(|what| metrics.count(&format!("pilotfish_attach_{what}_total"), &[])))
}

/// Containers one after the other; milliseconds from each one's event to its attachment, as the
/// agent stamps them.
fn start(bed: &mut Testbed, agent: Option<&Agent>, name: &str, number: u32) -> Result<Vec<f64>> {
    let mut took = Vec::new();
    for number in 0..number {
        ensure!(!signals::interrupted(), "interrupted");
        let name = format!("{name}{number}");
        let container = bed.run(ContainerSpec::new(&name, &["/bin/sleep", "10000"]))?;
        match agent {
            None => std::thread::sleep(BRIEFLY),
            Some(agent) => {
                let mut found = None;
                until("attached", PATIENCE, || {
                    found = attach_ms(agent, &name).ok().flatten();
                    found.is_some()
                })?;
                took.extend(found);
            }
        }
        bed.stop(container, Duration::ZERO)?;
    }
    Ok(took)
}

fn attach_ms(agent: &Agent, workload: &str) -> Result<Option<f64>> {
    let status: Status = serde_json::from_str(&agent.cli(&["status", "-o", "json"])?)?;
    Ok(status.namespaces.iter().find(|row| row.workload == workload).and_then(|row| row.attach_ms))
}
