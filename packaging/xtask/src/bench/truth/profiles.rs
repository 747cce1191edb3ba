//! Traffic that is hard to count, between real clients and servers in namespaces of their own, seen
//! by one agent at both ends. A client's figure of what it sent is what its kernel took: a request
//! whose head was written whole to an open connection. What became of it afterwards (answered,
//! cut, reset) is no matter: it is counted, with an answer or without, or lost with a reason.

use super::{equation, hostile};
use crate::bench::say;
use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use serde_json::Value;
use std::time::{Duration, Instant};
use testbed::{Agent, AgentOptions, Container, ContainerSpec, Quota, Testbed, installed, scene, signals};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Profile {
    /// POSTs whose bodies are a second write
    PostTwoWrites,
    /// Eight in flight on each connection
    Pipelined,
    /// A connection for each exchange, over 50 ports of the server
    Close,
    /// Connections that clients or servers reset after, amid, instead of and before exchanges
    Reset,
    /// A ring of 64 KiB, a starved agent, and a network that drops packets
    Lossy,
    /// Honest pods beside a neighbour that does everything at once in half a core
    Hostile,
}

const PATIENCE: Duration = Duration::from_secs(30);
/// A million exchanges on a busy machine.
const HOURS: Duration = Duration::from_secs(4 * 3600);
const PORTS: &str = "50";
/// Of a processor, what a starved agent may have.
const STARVED: u32 = 15;

pub(super) fn run(profile: Profile, requests: Option<u64>, rate: Option<f64>, starts: u32) -> Result<()> {
    let pace = pace(rate);
    match profile {
        Profile::PostTwoWrites => {
            let args = ["--profile", "post", "--connections", "16"];
            keep_alive("post-two-writes", requests.unwrap_or(400_000), &args, &pace)
        }
        Profile::Pipelined => {
            let args = ["--profile", "mixed", "--connections", "16", "--depth", "8"];
            keep_alive("pipelined", requests.unwrap_or(400_000), &args, &pace)
        }
        Profile::Close => ends("close", requests.unwrap_or(200_000), &pace),
        Profile::Reset => ends("reset", requests.unwrap_or(200_000), &pace),
        Profile::Lossy => lossy(requests.unwrap_or(100_000), &pace),
        Profile::Hostile => hostile::run(requests, starts),
    }
}

/// What tells a client not to be faster than this.
fn pace(rate: Option<f64>) -> Vec<String> {
    rate.map(|rate| vec!["--rate".to_owned(), rate.to_string()]).unwrap_or_default()
}

/// Starts a program that waits at its gate.
fn gated(bed: &mut Testbed, program: &str, server: &Container, args: &[&str], pace: &[String]) -> Result<Container> {
    let target = format!("{}:8080", server.address);
    let mut command = vec![program, "--gate", "/conf/gate", "--target", &target];
    command.extend_from_slice(args);
    command.extend(pace.iter().map(String::as_str));
    bed.run(ContainerSpec::new("client", &command))
}

fn tell(profile: &str, done: &Value, begun: Instant) {
    let took = begun.elapsed().as_secs_f64();
    let figure = |key: &str| done[key].as_u64().unwrap_or(0);
    let (sent, answered) = (figure("sent"), figure("answered"));
    let more = if done["by_ending"].is_object() { format!("; {}", done["by_ending"]) } else { String::new() };
    say(&format!(
        "truth: {profile}: {sent} requests in {took:.1} s ({:.0} a second), {answered} answered{more}",
        sent as f64 / took
    ));
}

fn sent(done: &Value) -> Result<u64> {
    done["sent"].as_u64().context("the client does not say what it sent")
}

/// Connections that stay.
fn keep_alive(profile: &str, requests: u64, args: &[&str], pace: &[String]) -> Result<()> {
    let dropped = equation::Dropped::until_now();
    let mut bed = Testbed::start()?;
    let server = bed.run(ContainerSpec::new("server", &["/bin/api"]))?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let count = requests.to_string();
    let client = gated(&mut bed, "/bin/loadgen", &server, &[args, &["--count", &count]].concat(), pace)?;
    agent.wait_attached(2, PATIENCE)?;
    scene::open_gate(&bed, &client)?;
    let begun = Instant::now();
    let done = scene::last_line(&client, HOURS)?;
    tell(profile, &done, begun);
    equation::hold(&agent, profile, sent(&done)?, &dropped)
}

/// A connection for each script, over many ports, so that closed ones do not use them up.
fn ends(profile: &str, requests: u64, pace: &[String]) -> Result<()> {
    let dropped = equation::Dropped::until_now();
    let mut bed = Testbed::start()?;
    let server = bed.run(ContainerSpec::new("server", &["/bin/api", "--ports", PORTS]))?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let count = requests.to_string();
    let args = ["--ports", PORTS, "--profile", profile, "--count", &count];
    let client = gated(&mut bed, "/bin/ends", &server, &args, pace)?;
    agent.wait_attached(2, PATIENCE)?;
    scene::open_gate(&bed, &client)?;
    let begun = Instant::now();
    let done = scene::last_line(&client, HOURS)?;
    tell(profile, &done, begun);
    equation::hold(&agent, profile, sent(&done)?, &dropped)
}

/// Records and packets are lost at once: a small ring, an agent that is held to little CPU and whose
/// reader sleeps now and then, and a bridge that drops one IP packet in fifty. Messages leave in one
/// to five writes. First with one request under way on each connection, then with eight: each has an
/// agent of its own, so that it is told which of them does not add up.
fn lossy(requests: u64, pace: &[String]) -> Result<()> {
    let single = lossy_at("lossy", requests / 2, "1", pace);
    let deep = lossy_at("lossy and pipelined", requests / 2, "8", pace);
    single.and(deep)
}

fn lossy_at(profile: &str, requests: u64, depth: &str, pace: &[String]) -> Result<()> {
    let dropped = equation::Dropped::until_now();
    let mut bed = Testbed::start()?;
    let server = bed.run(ContainerSpec::new("server", &["/bin/api"]))?;
    let quota = Quota::new(&bed, "agent", STARVED)?;
    let options = AgentOptions {
        ring_bytes: Some(64 << 10),
        debug: true,
        cgroup: Some(quota.procs()),
        ..AgentOptions::default()
    };
    let agent = Agent::start(&bed, &options)?;
    let count = requests.to_string();
    let args = ["--profile", "pieces", "--connections", "32", "--depth", depth, "--count", &count];
    let client = gated(&mut bed, "/bin/loadgen", &server, &args, pace)?;
    agent.wait_attached(2, PATIENCE)?;
    drop_packets(&bed)?;
    scene::open_gate(&bed, &client)?;
    let begun = Instant::now();
    let mut turn = 0_u64;
    let done = loop {
        ensure!(!signals::interrupted(), "interrupted");
        // Pauses of all lengths, so that they begin and end anywhere.
        agent.pause_reader(Duration::from_millis(20 + turn * 37 % 300)).ok();
        turn += 1;
        if let Ok(done) = scene::last_line(&client, Duration::from_millis(700)) {
            break done;
        }
        ensure!(begun.elapsed() < HOURS, "the client does not end");
    };
    tell(profile, &done, begun);
    say(&format!("truth: {profile}: the agent was not let run for {} ms", quota.throttled_ms()));
    equation::hold(&agent, profile, sent(&done)?, &dropped)
}

/// One IP packet in fifty, between the pods: the sender's end saw it, the receiver's did not.
fn drop_packets(bed: &Testbed) -> Result<()> {
    let rules = "add table bridge loss\n\
        add chain bridge loss forward { type filter hook forward priority 0; }\n\
        add rule bridge loss forward ether type ip numgen random mod 100 < 2 drop";
    let status = bed.node().command(&installed("nft")?).arg(rules).status().context("run nft")?;
    ensure!(status.success(), "nft did not take the rule");
    Ok(())
}
