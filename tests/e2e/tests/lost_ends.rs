//! Containers whose end containerd does not tell of, as 2.x forgets to for some of those that are
//! killed and removed at once: what they left is let go of all the same, long before the list of the
//! next minute, and who gets their address has it.
#![forbid(unsafe_code)]

use anyhow::{Context, Result};
use e2e::{PATIENCE, alone, api, exchanges, generator, run_to_end, wait_edge};
use std::time::Duration;
use testbed::{Agent, AgentOptions, ContainerSpec, LossyContainerd, Testbed, scene, until};

const THREADS: usize = 4;
/// Where nobody says otherwise: those versions that continuous integration has forget none.
const ENDS: usize = 20;
/// Far from the minute after which a list would tell.
const SOON: Duration = Duration::from_secs(15);
const OF_ENDS: [&str; 2] = ["/tasks/exit", "/tasks/delete"];

/// Each in a network namespace that ends with it.
fn come_and_go(bed: &Testbed, thread: usize, times: usize) -> Result<()> {
    let (runc, rootfs) = (bed.dir().join("runc").display().to_string(), bed.dir().join("rootfs").display().to_string());
    for round in 0..times {
        let name = format!("short-{thread}-{round}");
        let cgroup = format!("/{}/{name}", bed.id());
        let ctr = |args: &[&str]| bed.containerd().ctr("default", args);
        let run = ["run", "--detach", "--null-io", "--rootfs", "--runc-root", &runc, "--cgroup", &cgroup];
        ctr(&[&run[..], &[&rootfs, &name, "/bin/sleep", "10000"]].concat())?;
        ctr(&["task", "rm", "--force", &name])?;
        ctr(&["container", "rm", &name])?;
    }
    Ok(())
}

fn count(agent: &Agent, name: &str, labels: &[(&str, &str)]) -> u64 {
    agent.metrics().map_or(0, |all| all.count(name, labels))
}

fn found_gone(agent: &Agent) -> u64 {
    count(agent, "pilotfish_containerd_found_gone_total", &[])
}

/// By nobody's list.
fn wait_let_go(agent: &Agent, left: u64) -> Result<()> {
    until("what ended is let go of", SOON, || agent.attached().is_ok_and(|attached| attached == left))
        .with_context(|| format!("{}\n{}", agent.cli(&["status"]).unwrap_or_default(), agent.log_text()))?;
    assert_eq!(count(agent, "pilotfish_containerd_corrections_total", &[]), 0);
    Ok(())
}

#[test]
fn containers_that_are_killed_and_removed_at_once_leave_nothing_attached() -> Result<()> {
    let _alone = alone();
    let asked = std::env::var("PILOTFISH_ENDS").ok().map(|ends| ends.parse()).transpose();
    let each = asked.context("PILOTFISH_ENDS: a number")?.unwrap_or(ENDS) / THREADS;
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    std::thread::scope(|scope| {
        let bed = &bed;
        let all: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || come_and_go(bed, thread, each))).collect();
        all.into_iter().try_for_each(|thread| thread.join().expect("it does not panic"))
    })?;
    wait_let_go(&agent, 0)?;
    assert_eq!(count(&agent, "pilotfish_containerd_events_total", &[("topic", "create")]), (THREADS * each) as u64);
    let told = |topic| count(&agent, "pilotfish_containerd_events_total", &[("topic", topic)]);
    eprintln!(
        "of {}: {} exits and {} deletes of tasks were told of, {} of containers; {} were found gone",
        THREADS * each,
        told("exit"),
        told("delete"),
        told("remove"),
        found_gone(&agent)
    );
    // And what comes next is seen as ever.
    let last = bed.run(ContainerSpec::new("last", &["/bin/sleep", "10000"]))?;
    agent.wait_attached(1, PATIENCE)?;
    bed.stop(last, Duration::from_secs(1))
}

#[test]
fn an_end_that_no_task_event_tells_of_is_seen_when_the_container_is_removed() -> Result<()> {
    const ENDS: usize = 4;
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let lossy = LossyContainerd::start(&bed.dir().join("lossy.sock"), &bed.containerd().socket(), &OF_ENDS)?;
    let options = AgentOptions { sockets: vec![lossy.socket().to_owned()], ..AgentOptions::default() };
    let agent = Agent::start(&bed, &options)?;
    let server = api(&mut bed, "shop")?;
    agent.wait_attached(1, PATIENCE)?;
    come_and_go(&bed, 0, ENDS)?;
    wait_let_go(&agent, 1)?;
    until("they are found gone", SOON, || found_gone(&agent) == ENDS as u64)?;
    // Not each of them, twice: 2.x forgets some of its own accord.
    until("ends were withheld", SOON, || lossy.taken_out() > 0)?;
    for topic in ["exit", "delete"] {
        assert_eq!(count(&agent, "pilotfish_containerd_events_total", &[("topic", topic)]), 0, "{topic}");
    }
    // The first one stays, and so does the way to it.
    let client = generator(&mut bed, "customer", &server, &["--count", "10"])?;
    agent.wait_attached(2, PATIENCE)?;
    run_to_end(&bed, &client)?;
    wait_edge(&agent, "customer", "shop", "http", 10)
}

#[test]
fn an_address_belongs_to_the_newer_of_two_where_nobody_lives_in_the_older() -> Result<()> {
    const REQUESTS: u64 = 20;
    let _alone = alone();
    let mut bed = Testbed::start()?;
    // Nothing at all tells of the end before the list of the next minute.
    let withheld = [&OF_ENDS[..], &["/containers/delete"]].concat();
    let lossy = LossyContainerd::start(&bed.dir().join("lossy.sock"), &bed.containerd().socket(), &withheld)?;
    let options = AgentOptions { sockets: vec![lossy.socket().to_owned()], ..AgentOptions::default() };
    let agent = Agent::start(&bed, &options)?;
    let old = bed.run(ContainerSpec::new("old", &["/bin/sleep", "10000"]))?;
    agent.wait_attached(1, PATIENCE)?;
    let (address, kept) = (old.address, old.netns.clone());
    let netns = bed.pass_on_address(&old, "new")?;
    bed.stop(old, Duration::ZERO)?;
    let new = bed.run(ContainerSpec::new("new", &["/bin/api"]).inside(netns, address))?;
    scene::wait_listening(&new, 8080)?;
    agent.wait_attached(2, PATIENCE)?;
    let client = generator(&mut bed, "customer", &new, &["--count", &REQUESTS.to_string()])?;
    agent.wait_attached(3, PATIENCE)?;
    run_to_end(&bed, &client)?;
    wait_edge(&agent, "customer", "new", "http", REQUESTS)?;
    assert_eq!(exchanges(&agent, "customer", "old", "http", "client"), 0);
    assert_eq!(agent.attached()?, 3, "the end of the old one was told of, and nothing was shown");
    drop(kept);
    Ok(())
}
