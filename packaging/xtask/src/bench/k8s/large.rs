//! A cluster of 100,000 pods (written straight into etcd) in Deployments of ten, on 500 nodes. An
//! agent that saw an empty cluster is what the table is compared with: resident memory of the one
//! less that of the other, both a while after their lists. The peak of a relist is the highest
//! resident memory (`VmHWM`) while the API server comes back without a past, less what was resident
//! before.

use super::agent::{Agent, Setup};
use super::pods;
use crate::bench::goals::Goals;
use crate::bench::say;
use anyhow::{Context, Result, ensure};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use testbed::cluster::{ControlPlane, ControlPlaneOptions, bulk, kinds, objects};
use testbed::until;

const NODES: u32 = 500;
const PATIENCE: Duration = Duration::from_secs(600);
const MIB: f64 = (1 << 20) as f64;

pub(super) fn run(count: u32) -> Result<()> {
    let mut plane = ControlPlane::start(&ControlPlaneOptions::default())?;
    pods::create_node(plane.client())?;
    let mut agent = Agent::start(&plane, &Setup { name: "empty".into(), ..Setup::alone() })?;
    until("nothing is stale", PATIENCE, || agent.stale().is_ok_and(|reason| reason.is_empty()))?;
    super::pass(Duration::from_secs(5))?;
    let empty = agent.stat()?.rss_bytes;
    agent.stop()?;

    let begun = Instant::now();
    plane.client().create(&kinds::NAMESPACE, &objects::namespace("bulk"))?;
    bulk::write_pods(plane.client(), plane.etcd(), "bulk", count, NODES)?;
    say(&format!("large: {count} pods written in {:.0} s", begun.elapsed().as_secs_f64()));
    // An API server that has just been told of them all is busy, and has memory to return.
    plane.restart_api_server()?;
    let mut goals = Goals::new("large");

    let begun = Instant::now();
    let mut agent = Agent::start(&plane, &Setup { name: "full".into(), ..Setup::alone() })?;
    let (mut first, mut answered) = (None, begun.elapsed());
    until("all pods are named", PATIENCE, || {
        answered = begun.elapsed();
        if first.is_none() && knows(&agent, 0) {
            first = Some(begun.elapsed());
        }
        knows(&agent, count - 1) && agent.stale().is_ok_and(|reason| reason.is_empty())
    })
    .with_context(|| agent.log_tail())?;
    goals.tell("first names, from the agent's start", &first.map_or_else(|| "?".into(), seconds));
    goals.tell("all names", &seconds(answered));
    let peak = agent.peak()?;
    let wrong = (0..count).step_by(97).filter(|n| !knows(&agent, *n)).count();
    goals.check("wrong names in a sample of one in 97", "0", &wrong.to_string(), wrong == 0);
    super::pass(Duration::from_secs(10))?;
    let full = agent.stat()?;
    goals.at_most("table: resident above that of an empty cluster", " MiB", 30.0, above(full.rss_bytes, empty), 1);
    goals.tell(
        "resident: with an empty cluster, full",
        &format!("{:.1}, {:.1} MiB", empty as f64 / MIB, full.rss_bytes as f64 / MIB),
    );
    goals.tell("peak of the first list, above full", &format!("{:.1} MiB", above(peak, full.rss_bytes)));
    goals.tell("CPU for it", &seconds(Duration::from_nanos(full.cpu_ns)));

    relist(&mut plane, &mut goals, &agent, count)?;
    agent.stop()?;

    away(&mut plane, &mut goals, count)?;
    lookups(&goals)?;
    goals.finish()
}

/// The API server comes back without a past, so that the agent has to list anew; somebody asks for names all the time.
fn relist(plane: &mut ControlPlane, goals: &mut Goals, agent: &Agent, count: u32) -> Result<()> {
    let relists = agent.relists("pods")?;
    plane.kill_api_server();
    plane.compact()?;
    agent.forget_peak()?;
    let before = agent.stat()?;
    let (is_over, begun) = (AtomicBool::new(false), Instant::now());
    let ask = || {
        let (mut asked, mut unnamed) = (0, 0);
        while !is_over.load(Ordering::Relaxed) {
            asked += 2;
            unnamed += u32::from(!knows(agent, 0)) + u32::from(!knows(agent, count - 1));
            thread::sleep(Duration::from_millis(50));
        }
        (asked, unnamed)
    };
    let mut back = || {
        plane.start_api_server()?;
        until("listed anew", PATIENCE, || {
            agent.relists("pods").is_ok_and(|now| now > relists) && agent.stale().is_ok_and(|reason| reason.is_empty())
        })
        .with_context(|| agent.log_tail())
    };
    let (listed, (asked, unnamed)) = thread::scope(|scope| {
        let asking = scope.spawn(ask);
        let listed = back();
        is_over.store(true, Ordering::Relaxed);
        (listed, asking.join().unwrap_or_default())
    });
    listed?;
    let took = begun.elapsed();
    super::pass(Duration::from_secs(5))?;
    let after = agent.stat()?;
    goals.at_most("relist: peak above before", " MiB", 30.0, above(agent.peak()?, before.rss_bytes), 1);
    goals.tell("relist: resident after, above before", &format!("{:.1} MiB", above(after.rss_bytes, before.rss_bytes)));
    goals.tell("relist: done after the API server's start", &seconds(took));
    let cpu = Duration::from_nanos(after.cpu_ns - before.cpu_ns);
    goals.tell("relist: CPU, answers to the questions included", &seconds(cpu));
    let told = format!("{unnamed} of {asked}");
    goals.check("relist: names gone meanwhile", "0", &told, unnamed == 0 && asked > 0);
    Ok(())
}

fn knows(agent: &Agent, n: u32) -> bool {
    agent.pod_at(bulk::address(n).into()).is_ok_and(|pod| pod == Some(bulk::name(n)))
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// The same agent's next start, while the API server is away: what it kept on disk.
fn away(plane: &mut ControlPlane, goals: &mut Goals, count: u32) -> Result<()> {
    plane.kill_api_server();
    let begun = Instant::now();
    let mut agent = Agent::start(plane, &Setup { name: "full".into(), ..Setup::alone() })?;
    let last = count - 1;
    let named = until("names from the disk", Duration::from_secs(30), || {
        agent.pod_at(bulk::address(last).into()).is_ok_and(|pod| pod == Some(bulk::name(last)))
    });
    let told = if named.is_ok() { format!("{:.2} s", begun.elapsed().as_secs_f64()) } else { "never".into() };
    goals.check("names of an agent that starts while the API server is away", "yes", &told, named.is_ok());
    agent.stop()
}

fn above(bytes: u64, base: u64) -> f64 {
    (bytes as f64 - base as f64) / MIB
}

/// The crate's own benchmark: it has the table in its hands.
fn lookups(goals: &Goals) -> Result<()> {
    let output = Command::new("cargo")
        .args(["bench", "-q", "-p", "k8s-sync", "--bench", "cluster"])
        .output()
        .context("cargo bench")?;
    ensure!(
        output.status.success(),
        "cargo bench -p k8s-sync --bench cluster:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        if let Some((what, value)) = line.rsplit_once(':') {
            goals.tell(what, value.trim());
        }
    }
    Ok(())
}
