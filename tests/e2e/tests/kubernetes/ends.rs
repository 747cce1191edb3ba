//! Pods that are deleted, and how their containers end.

use crate::world::{World, wait_named};
use anyhow::{Context, Result, ensure};
use e2e::{PATIENCE, alone};
use serde_json::Value;
use std::process::Command;
use std::time::SystemTime;
use testbed::cluster::kinds;
use testbed::{Agent, Container, built_binary, until};

/// `doctor --id term-ignored`: its exit code, and the workloads that it names.
fn term_ignored(agent: &Agent) -> Result<(i32, Vec<String>)> {
    let mut command = Command::new(built_binary("pilotfish")?);
    command.args(["doctor", "--id", "term-ignored", "-o", "json", "--socket"]).arg(&agent.socket);
    let output = command.output()?;
    let document: Value =
        serde_json::from_slice(&output.stdout).with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let named = document["findings"].as_array().into_iter().flatten();
    let named = named.map(|found| format!("{}/{}", found["subject"]["namespace"], found["subject"]["name"]));
    Ok((output.status.code().context("it ends by itself")?, named.map(|name| name.replace('"', "")).collect()))
}

fn kill(world: &World, container: &Container, signal: &str) -> Result<()> {
    let kill = ["task", "kill", "--signal", signal, &container.name];
    world.bed.containerd().ctr(&container.namespace, &kill).map(drop)
}

/// What the timeline says of how this workload ended.
fn exit_of(agent: &Agent, workload: &str) -> Result<Value> {
    let exit = || -> Result<Option<Value>> {
        let document: Value = serde_json::from_str(&agent.cli(&["timeline", workload, "-o", "json"])?)?;
        let mut events = document["events"].as_array().into_iter().flatten();
        Ok(events.find(|event| event["event"] == "exit").cloned())
    };
    until(&format!("the exit of {workload} is told"), PATIENCE, || exit().is_ok_and(|exit| exit.is_some()))?;
    exit()?.context("an exit")
}

#[test]
fn who_ignores_sigterm_is_found_and_who_listens_is_not() -> Result<()> {
    let _alone = alone();
    let mut world = World::start()?;
    let agent = world.agent(None)?;
    let (deaf, polite) = (world.deployment("deaf", "7d9f8")?, world.deployment("polite", "5c6b7")?);
    // As the first process of its container, what has no handler for a signal never gets it.
    let deaf = world.app("deaf-7d9f8-abcde", &deaf, &["/bin/sleep", "10000"])?;
    let polite = world.app("polite-5c6b7-abcde", &polite, &["/bin/api"])?;
    for container in [&deaf, &polite] {
        agent.wait_attached_to(container.name.split('-').next().unwrap_or_default(), PATIENCE)?;
        world.plane.client().delete_gracefully(&kinds::POD, Some("default"), &container.name)?;
    }
    // A watch tells in order: who knows of this one knows that the others were deleted.
    let later = world.deployment("later", "11111")?;
    let there = world.remote("later")?;
    world.remote_pod("later-11111-abcde", &later, &there)?;
    wait_named(&agent, there.address, "Deployment", "later")?;

    // What the kubelet does: it asks, waits for as long as the pod may take, and kills.
    kill(&world, &deaf, "SIGTERM")?;
    kill(&world, &polite, "SIGTERM")?;
    let listened = exit_of(&agent, "polite")?;
    ensure!(listened["code"] == 0 && listened["cause"] == "exit", "{listened:#}");
    ensure!(term_ignored(&agent)? == (0, Vec::new()));
    until("the grace period is over", PATIENCE, || {
        world.deleted_by(&deaf.name).is_ok_and(|by| SystemTime::now() >= by)
    })?;
    kill(&world, &deaf, "SIGKILL")?;
    let ignored = exit_of(&agent, "deaf")?;
    ensure!(ignored["code"] == 137 && ignored["cause"] == "term", "{ignored:#}");
    ensure!(ignored["deleted_by_ms"].is_u64() && ignored["container"] == "app", "{ignored:#}");
    ensure!(term_ignored(&agent)? == (1, vec!["default/deaf".to_owned()]));
    Ok(())
}
