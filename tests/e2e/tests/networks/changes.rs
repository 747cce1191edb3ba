//! Interfaces that change while they are used.

use anyhow::{Context, Result, ensure};
use e2e::node_agent::NodeAgent;
use e2e::{PATIENCE, alone, api, generator, run_to_end};
use std::time::Duration;
use testbed::{Container, Testbed, filters_in, scene, until};

/// Waits until this interface of the container has our program in each direction.
fn wait_programs(agent: &NodeAgent, of: &Container, interface: &str) -> Result<()> {
    let begins = format!("{interface} ");
    let is_there = || {
        let filters = filters_in(&of.netns.path()).unwrap_or_default();
        filters.iter().filter(|filter| filter.starts_with(&begins)).count() == 2
    };
    until(&format!("{interface} of {} has its programs", of.name), PATIENCE, is_there).with_context(|| agent.log_text())
}

fn wait_both(agent: &NodeAgent, client: &str, server: &str, count: u64) -> Result<()> {
    for reporter in ["client", "server"] {
        agent.wait_requests(reporter, client, server, count)?;
    }
    Ok(())
}

#[test]
fn an_interface_that_is_renamed_under_load_loses_nothing() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = NodeAgent::start(&bed, "")?;
    let server = api(&mut bed, "shop")?;
    let client = generator(&mut bed, "customer", &server, &["--rate", "500", "--for", "600"])?;
    agent.wait_pods(2)?;
    scene::open_gate(&bed, &client)?;
    let mut name = "eth0".to_owned();
    for times in 1..=5 {
        let before = agent.requests("server", "customer", "shop");
        until("traffic is counted", PATIENCE, || agent.requests("server", "customer", "shop") > before + 50)?;
        let next = format!("uplink{times}");
        server.netns.ip(&["link", "set", &name, "name", &next])?;
        name = next;
        wait_programs(&agent, &server, &name)?;
    }
    let done = scene::final_line(&bed, &client, PATIENCE)?;
    let sent = done["sent"].as_u64().context("what was sent")?;
    wait_both(&agent, "customer", "shop", sent)?;
    ensure!([agent.all("client"), agent.all("server")] == [(sent, 0); 2], "{}", agent.edges());
    Ok(())
}

#[test]
fn an_interface_that_leaves_and_comes_back_and_one_that_is_made_anew_are_followed() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = NodeAgent::start(&bed, "")?;
    let server = api(&mut bed, "shop")?;
    agent.wait_pods(1)?;
    let prefix = format!("{}/16", server.address);
    let node = bed.node().name().to_owned();
    let up = |bed: &Testbed| -> Result<()> {
        server.netns.ip(&["addr", "add", &prefix, "dev", "eth0"])?;
        server.netns.ip(&["link", "set", "eth0", "up"])?;
        bed.node().ip(&["neigh", "flush", "all"])?;
        Ok(())
    };
    let ask = |bed: &mut Testbed, name: &str| -> Result<()> {
        wait_programs(&agent, &server, "eth0")?;
        let client = generator(bed, name, &server, &["--count", "40", "--connections", "2"])?;
        agent.wait_attached_to(name)?;
        ensure!(run_to_end(bed, &client)?["answered"] == 40);
        wait_both(&agent, name, "shop", 40)
    };
    ask(&mut bed, "before")?;

    // To the node, under another name there, and back.
    server.netns.ip(&["link", "set", "eth0", "netns", &node, "name", "wanderer"])?;
    bed.node().ip(&["link", "set", "wanderer", "netns", server.netns.name(), "name", "eth0"])?;
    up(&bed)?;
    ask(&mut bed, "moved")?;

    // Deleted, and made once more with the same name and address.
    server.netns.ip(&["link", "del", "eth0"])?;
    bed.node().ip(&["link", "add", "anew", "type", "veth", "peer", "name", "eth0", "netns", server.netns.name()])?;
    bed.node().ip(&["link", "set", "anew", "master", testbed::BRIDGE, "up"])?;
    up(&bed)?;
    ask(&mut bed, "anew")?;
    ensure!([agent.all("client"), agent.all("server")] == [(120, 0); 2], "{}", agent.edges());
    bed.stop(server, Duration::from_secs(2))?;
    Ok(())
}
