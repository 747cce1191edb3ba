//! An agent with hardly any descriptors: it answers, and says which pods it left out. Needs root.
#![forbid(unsafe_code)]

use agent_api::{Client, Namespace};
use anyhow::ensure;
use e2e::{PATIENCE, alone};
use std::time::{Duration, Instant};
use testbed::{Agent, AgentOptions, ContainerSpec, Testbed, until};

const PODS: usize = 40;

#[test]
fn without_descriptors_the_doors_stay_open_and_the_pods_that_are_left_out_are_failed() -> anyhow::Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let begun = Instant::now();
    let agent = Agent::start(&bed, &AgentOptions { descriptors: Some(64), ..AgentOptions::default() })?;
    let mut pods = Vec::new();
    for number in 0..PODS {
        pods.push(bed.run(ContainerSpec::new(&format!("pod-{number}"), &["/bin/sleep", "10000"]))?);
    }
    let rows = || -> anyhow::Result<Vec<Namespace>> { Ok(Client::new(&agent.socket).status()?.namespaces) };
    let left_out = |row: &&Namespace| row.state == "failed" && row.reason.contains("too few descriptors: of 64");
    let mut seen = Vec::new();
    let settled = until("each pod is attached or left out", PATIENCE, || {
        seen = rows().unwrap_or_default();
        let attached = seen.iter().filter(|row| row.state == "attached").count();
        seen.len() == PODS && attached + seen.iter().filter(left_out).count() == PODS
    });
    settled.map_err(|error| error.context(format!("{seen:#?}\n{}", agent.log_text())))?;
    ensure!(seen.iter().any(|row| left_out(&row)), "40 pods need more than 64 descriptors");

    let ready = agent.get("/readyz")?;
    ensure!(ready.status == 200 && ready.body().contains("could not be attached"), "{}", ready.body());
    ensure!(agent.metrics()?.count("pilotfish_netns", &[("state", "failed")]) > 0);
    let silent: Vec<_> = (0..70).filter_map(|_| std::net::TcpStream::connect(agent.admin).ok()).collect();
    ensure!(agent.get("/livez")?.status == 200, "{} silent connections keep nobody out", silent.len());
    let said = agent.log_text().matches("left out for want of descriptors").count() as u64;
    ensure!((1..=1 + begun.elapsed().as_secs() / 60).contains(&said), "{said} lines:\n{}", agent.log_text());
    drop(silent);

    // A pod that ends makes room for one that was left out, and nobody has to start anything anew.
    let of = |state: &str| -> Vec<String> {
        let rows = seen.iter().filter(|row| row.state == state);
        rows.map(|row| row.workload.clone()).collect()
    };
    let (attached, waiting) = (of("attached"), of("failed"));
    ensure!(!attached.is_empty(), "there is room for some");
    for pod in pods.into_iter().filter(|pod| attached.contains(&pod.name)) {
        bed.stop(pod, Duration::ZERO)?;
    }
    until("one that was left out is attached", PATIENCE * 4, || {
        rows().is_ok_and(|rows| rows.iter().any(|row| row.state == "attached" && waiting.contains(&row.workload)))
    })
}
