//! Two containerds on a node, as k3s beside a distribution's own: each comes, restarts and goes by
//! itself, and nothing that runs is lost because of the other.
#![forbid(unsafe_code)]

use anyhow::{Context, Result};
use e2e::{PATIENCE, alone, api, check_attached_once, exchanges, generator_spec, losses, wait_equation};
use std::time::Duration;
use testbed::{Agent, AgentOptions, Container, Testbed, scene, until};

fn generator(bed: &mut Testbed, name: &str, server: &Container, args: &[&str]) -> Result<Container> {
    bed.run(generator_spec(name, server, args).run_by(1))
}

fn wait_grows(agent: &Agent, what: &str) -> Result<()> {
    let counted = || exchanges(agent, "customer", "shop", "http", "client");
    let before = counted();
    until(what, PATIENCE, || counted() > before + 100)
}

fn link(agent: &Agent, bed: &Testbed, place: usize) -> Result<serde_json::Value> {
    let status: serde_json::Value = serde_json::from_str(&agent.cli(&["status", "-o", "json"])?)?;
    let socket = bed.containerd_at(place).socket().display().to_string();
    let mut links = status["containerd"]["links"].as_array().into_iter().flatten();
    Ok(links.find(|link| link["socket"] == socket.as_str()).cloned().unwrap_or_default())
}

fn wait_link(agent: &Agent, bed: &Testbed, place: usize, state: &str) -> Result<()> {
    until(&format!("link {place} is {state}"), PATIENCE, || {
        link(agent, bed, place).is_ok_and(|link| link["state"] == state)
    })
}

/// Ends of containers that nobody saw, or that were only believed: none, where none ended.
fn check_nothing_was_taken_for_ended(agent: &Agent) -> Result<()> {
    let metrics = agent.metrics()?;
    for name in ["pilotfish_containerd_corrections_total", "pilotfish_containerd_found_gone_total"] {
        assert_eq!(metrics.count(name, &[]), 0, "{name}");
    }
    Ok(())
}

/// For the message of a test that fails.
fn told(agent: &Agent, late: usize) -> String {
    let status = agent.cli(&["status"]).unwrap_or_default();
    format!("containerd {late} came late\n{status}\n{}", agent.log_text())
}

/// The server is run by the first containerd and its client by the second, so that each request is
/// seen by both.
#[test]
fn either_order_of_start_and_a_restart_of_each_under_load_lose_nothing() -> Result<()> {
    let args = ["--rate", "500", "--connections", "4", "--for", "600"];
    let _alone = alone();
    let mut bed = Testbed::start()?;
    bed.add_containerd()?;
    for late in [1, 0] {
        let server = api(&mut bed, "shop")?;
        let client = generator(&mut bed, "customer", &server, &args)?;
        bed.containerd_at_mut(late).kill();
        let agent = Agent::start(&bed, &AgentOptions::default())?;
        agent.wait_attached(1, PATIENCE)?;
        bed.containerd_at_mut(late).start_again()?;
        agent.wait_attached(2, PATIENCE)?;
        scene::open_gate(&bed, &client)?;
        for restarted in [late, 1 - late] {
            wait_grows(&agent, "traffic is counted")?;
            bed.containerd_at_mut(restarted).kill();
            wait_link(&agent, &bed, restarted, "down")?;
            let ready = agent.get("/readyz")?;
            let socket = bed.containerd_at(restarted).socket().display().to_string();
            assert!(ready.status == 200 && ready.body().contains(&socket), "{}", ready.body());
            wait_grows(&agent, "traffic is counted while a containerd is away")?;
            bed.containerd_at_mut(restarted).start_again()?;
            wait_link(&agent, &bed, restarted, "live")?;
        }
        let done = scene::final_line(&bed, &client, PATIENCE)?;
        let sent = done["sent"].as_u64().context("what was sent")?;
        let lost = wait_equation(&agent, sent).with_context(|| told(&agent, late))?;
        assert_eq!(lost, [0, 0], "{}", losses(&agent));
        check_attached_once(&server, &["eth0"])?;
        check_nothing_was_taken_for_ended(&agent)?;
        assert_eq!(agent.metrics()?.count("pilotfish_containerd_connected", &[]), 1);
        drop(agent);
        bed.stop(client, Duration::from_secs(2))?;
        bed.stop(server, Duration::from_secs(2))?;
        std::fs::remove_file(bed.dir().join("conf/customer/gate"))?;
    }
    Ok(())
}

#[test]
fn what_a_removed_containerd_ran_is_counted_until_its_processes_end() -> Result<()> {
    const SENT: u64 = 1500;
    let _alone = alone();
    let mut bed = Testbed::start()?;
    bed.add_containerd()?;
    let server = api(&mut bed, "shop")?;
    let client = generator(&mut bed, "customer", &server, &["--rate", "300", "--count", "1500"])?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    agent.wait_attached(2, PATIENCE)?;
    bed.containerd_at_mut(1).kill();
    std::fs::remove_file(bed.containerd_at(1).socket())?;
    wait_link(&agent, &bed, 1, "absent")?;
    assert_eq!(link(&agent, &bed, 1)?["containers"], 1);
    scene::open_gate(&bed, &client)?;
    scene::last_line(&client, PATIENCE)?;
    assert_eq!(wait_equation(&agent, SENT)?, [0, 0], "{}", losses(&agent));
    // Its process has ended by now, and nobody is there to say so.
    until("the end of the process is seen", PATIENCE, || agent.attached().is_ok_and(|n| n == 1))?;
    let found_gone = || agent.metrics().map_or(0, |all| all.count("pilotfish_containerd_found_gone_total", &[]));
    until("it is counted", PATIENCE, || found_gone() > 0)?;
    assert_eq!(found_gone(), 1);
    let ready = agent.get("/readyz")?.body();
    assert!(!ready.contains("containerd"), "nothing is missed any more: {ready}");
    check_attached_once(&server, &["eth0"])
}
