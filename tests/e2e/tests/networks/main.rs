//! One load over every kind of link, and through every kind of translation: each exchange is counted
//! once at each end, under the right names. docs/limits.md has the table. Needs root.
#![forbid(unsafe_code)]

mod changes;
mod ingress;
mod links;
#[cfg(feature = "modules")]
mod modules;
mod world;

use anyhow::{Context, Result};
use e2e::node_agent::NodeAgent;
use e2e::{PATIENCE, alone, run_to_end};
use links::{SCENES, Scene};
use testbed::{ContainerSpec, Testbed, scene, until};
use world::{COUNT, Made, edges, node_name};

#[test]
fn each_exchange_is_counted_once_at_each_end_whatever_the_pods_are_connected_by() -> Result<()> {
    check(SCENES)
}

/// Makes all of them beside each other, and has each client ask at once.
fn check(scenes: &'static [Scene]) -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = NodeAgent::start(&bed, "")?;
    let mut all = Vec::new();
    // Two digits: ports and tables are made of them.
    for (scene, number) in scenes.iter().zip(10..) {
        all.push(Made::start(&mut bed, scene, number)?);
        eprintln!("{} is made", scene.name);
    }
    agent.wait_pods(all.iter().map(Made::pods).sum())?;
    for made in &all {
        scene::open_gate(&bed, &made.client)?;
    }
    for Made { scene, client, .. } in &all {
        let sent = scene::last_line(client, PATIENCE).with_context(|| scene.name)?;
        assert_eq!((&sent["sent"], &sent["answered"]), (&COUNT.into(), &COUNT.into()), "{}: {sent}", scene.name);
    }
    let node = node_name()?;
    let mut wanted: Vec<String> = all.iter().flat_map(|made| made.edges(&node)).collect();
    wanted.sort();
    let (mut missing, mut strange) = (Vec::new(), Vec::new());
    let whole = until("these edges, and no others", PATIENCE, || {
        let found = edges(&agent).unwrap_or_default();
        missing = wanted.iter().filter(|line| !found.contains(line)).cloned().collect();
        strange = found.into_iter().filter(|line| !wanted.contains(line)).collect::<Vec<_>>();
        missing.is_empty() && strange.is_empty()
    });
    whole.with_context(|| format!("missing {missing:#?}\nstrange {strange:#?}\n{}", agent.edges()))?;
    let sent = COUNT * scenes.len() as u64;
    let seen = scenes.iter().filter(|scene| scene.server_end.is_some()).count() as u64 * COUNT;
    assert_eq!([agent.all("client"), agent.all("server")], [(sent, 0), (seen, 0)], "{}", agent.edges());
    // What wraps an exchange up inside a pod is traffic of its own, and what the node wraps up is none
    // of its pods'.
    for made in &all {
        let datagrams = || made.datagrams(&agent).unwrap_or_default();
        if made.scene.wrapped {
            until(&format!("{}: datagrams are counted", made.scene.name), PATIENCE, || datagrams() > 0.0)?;
        } else {
            assert_eq!(datagrams(), 0.0, "{}", made.scene.name);
        }
    }
    drop(agent);
    drop(all);
    assert_eq!(bed.take_down()?, Vec::<String>::new());
    Ok(())
}

#[test]
fn what_a_process_of_the_node_sends_through_vxlan_is_counted_once() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = NodeAgent::start(&bed, "")?;
    let scene = SCENES.iter().find(|scene| scene.name == "vxlan-nodes").context("the scene")?;
    let _made = Made::start(&mut bed, scene, 10)?;
    let command = ["/bin/loadgen", "--gate", "/conf/gate", "--target", "10.81.10.3:8080", "--count", "60"];
    let prober = bed.run(ContainerSpec::new("prober", &command).on_the_node())?;
    agent.wait_pods(2)?;
    agent.wait_cgroup("prober")?;
    assert_eq!(run_to_end(&bed, &prober)?["answered"], COUNT);
    for reporter in ["client", "server"] {
        agent.wait_requests(reporter, "prober", "vxlan-nodes-server", COUNT)?;
        assert_eq!(agent.all(reporter), (COUNT, 0), "{}", agent.edges());
    }
    let datagrams = agent.metrics()?.sum("pilotfish_udp_sent_bytes_total", &[]);
    assert_eq!(datagrams, 0.0, "what the kernel wraps up is no process's");
    Ok(())
}
