//! Honest pods beside a neighbour that does everything at once, in half a core. Counts and orders
//! only; the times are those of `cargo xtask bench truth --profile hostile`. Needs root.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use e2e::{PATIENCE, alone, exchanges, losses};
use std::time::{Duration, Instant};
use testbed::crowd::{ADDRESSES, Crowd, Neighbour, PAIRS, Sent};
use testbed::{Agent, AgentOptions, ContainerSpec, Testbed, until};

/// Looks at a namespace whose container makes news without end: so many at once, then so many a second.
const LOOKS_AT_ONCE: u64 = 16;
const LOOKS_A_SECOND: u64 = 4;
/// Seconds after which everybody is looked at again, who changed nothing, too.
const LOOKED_AT_AGAIN: u64 = 30;
/// Containers that start beside it.
const STARTS: u64 = 5;
/// Of an agent whose tables are as large as they may be.
const MOST_MEMORY: u64 = 512 << 20;

/// Addresses of a namespace that a look reads, and those among them that name it.
const READ: u64 = 2048;
const NAMING: u64 = 16;
/// Entries of all lists that a look reads, for a namespace with many addresses and some forty links.
const LISTED_A_LOOK: u64 = 4000;

/// Entries into namespaces, and what was listed in them.
fn looks(agent: &Agent) -> Result<[u64; 2]> {
    let metrics = agent.metrics()?;
    Ok(["entries", "listed"].map(|what| metrics.count(&format!("pilotfish_attach_{what}_total"), &[])))
}

/// Of each honest pair, what was sent is what is counted and told as lost of its edge, at each end.
/// Of everybody together, the neighbour too, no more is counted and told as lost than was asked: of
/// several losses in one pipeline only the least that they can be is told.
fn equations(agent: &Agent, honest: &[Sent], asked: u64) -> Result<()> {
    const ENDS: [&str; 2] = ["client", "server"];
    let all = asked + honest.iter().map(|sent| sent.requests).sum::<u64>();
    let (mut seen, mut both) = (Vec::new(), Vec::new());
    until("what the honest sent is counted, or told as lost", PATIENCE, || {
        seen.clear();
        let metrics = agent.metrics().unwrap_or_default();
        for Sent { client, server, requests } in honest {
            let counted = ENDS.map(|end| exchanges(agent, client, server, "http", end));
            let lost = ENDS.map(|end| {
                let edge = [("client_workload", &**client), ("server_workload", server), ("reporter", end)];
                metrics.count("pilotfish_tcp_exchanges_lost_total", &edge)
            });
            seen.push((*requests, counted, lost));
        }
        both = ENDS.map(|end| agent.counted_and_lost(end).unwrap_or_default()).to_vec();
        assert!(seen.iter().all(|(sent, counted, _)| counted.iter().all(|counted| counted <= sent)), "{seen:?}");
        assert!(both.iter().all(|(counted, lost)| counted + lost <= all), "{both:?} of {all}");
        let holds = |end: usize| seen.iter().all(|(sent, counted, lost)| counted[end] + lost[end] == *sent);
        (0..ENDS.len()).all(holds)
    })
    .with_context(|| {
        let losses = losses(agent);
        format!("sent {all}; (counted, lost) {both:?}; honest (sent, [counted], [lost]): {seen:?}\n{losses}")
    })
}

#[test]
fn a_neighbour_that_does_everything_at_once_costs_the_honest_pods_nothing() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let crowd = Crowd::start(&mut bed)?;
    let neighbour = Neighbour::start(&mut bed)?;
    agent.wait_attached(2 * PAIRS as u64 + 2, PATIENCE)?;
    crowd.begin(&bed)?;
    neighbour.crowd_with_addresses(&bed)?;
    let (before, begun) = (looks(&agent)?, Instant::now());
    neighbour.begin(&bed)?;
    for number in 0..STARTS {
        let name = format!("late{number}");
        let late = bed.run(ContainerSpec::new(&name, &["/bin/sleep", "10000"]))?;
        agent.wait_attached_to(&name, PATIENCE).context("beside the neighbour")?;
        bed.stop(late, Duration::ZERO)?;
    }
    let did = neighbour.end(&bed, PATIENCE)?;
    let sent = crowd.end(&bed, PATIENCE)?;
    let idle: Vec<_> = did.as_object().into_iter().flatten().filter(|(_, times)| **times == 0).collect();
    ensure!(idle.is_empty() && !did.is_null(), "the neighbour did not do {idle:?}");

    // An attach and a detach of each that started, and a look at the address that each is given; what
    // the neighbour has is looked at as often as anybody may make us look.
    let after = looks(&agent)?;
    let [looks, listed] = [after[0] - before[0], after[1] - before[1]];
    let (seconds, namespaces) = (begun.elapsed().as_secs(), 2 * PAIRS as u64 + 2 + STARTS);
    let rounds = namespaces * (seconds / LOOKED_AT_AGAIN + 1);
    let most = LOOKS_AT_ONCE + LOOKS_A_SECOND * (seconds + 1) + 4 * STARTS + rounds;
    ensure!(looks <= most, "{looks} looks, at most {most}");
    ensure!(listed <= looks * LISTED_A_LOOK, "{listed} listed in {looks} looks");
    equations(&agent, &sent, did["asked"].as_u64().context("what it asked for")?)?;
    let metrics = agent.metrics()?;
    let full = metrics.count("pilotfish_lost_total", &[("stage", "identity"), ("reason", "addresses_full")]);
    ensure!(u64::from(ADDRESSES) > READ && full >= READ - NAMING, "{full} addresses that name nobody are told");
    let cut = metrics.count("pilotfish_attach_cut_lists_total", &[("list", "addresses")]);
    ensure!(cut > 0, "that not all were read is told");
    let memory = agent.stat()?.rss_bytes;
    ensure!(memory <= MOST_MEMORY, "{} MB resident", memory >> 20);
    ensure!(agent.get("/readyz")?.status == 200);
    Ok(())
}
