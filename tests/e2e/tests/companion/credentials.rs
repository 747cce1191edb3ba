//! A node joins by the cluster's token once, and by a credential of its own from then on.

use crate::world::{BACK, NODES, World};
use anyhow::{Context, Result, ensure};
use std::os::unix::fs::PermissionsExt;
use testbed::until;

const FILE: &str = "companion-credential";

fn joined(world: &World) -> Result<String> {
    let names = "go-template={{range $name, $hash := .data}}{{$name}} {{end}}";
    world.kubectl(&["-n", "pilotfish", "get", "secret", "pilotfish-nodes", "-o", names])
}

/// In files that nobody else reads; the Secret has their names.
pub fn each_node_has_its_own(world: &World) -> Result<()> {
    world.wait_own("pilotfish_companion_credentials", &[], |nodes| nodes == NODES.len() as u64)?;
    let names = joined(world)?;
    ensure!(NODES.iter().all(|node| names.split_whitespace().any(|name| name == *node)), "{names}");
    for (place, agent) in world.agents.iter().enumerate() {
        until("it joins by it", BACK, || {
            agent.metrics().is_ok_and(|metrics| metrics.count("pilotfish_join_credential", &[]) == 1)
        })
        .with_context(|| agent.log_text())?;
        let file = world.state(place).join(FILE);
        let mode = std::fs::metadata(&file)?.permissions().mode() & 0o777;
        ensure!(mode == 0o600, "{}: {mode:o}", file.display());
        let text = std::fs::read_to_string(&file)?;
        let secret = text.lines().find_map(|line| line.strip_prefix("credential = ")).context(text.clone())?;
        let secret = secret.trim_matches('"');
        ensure!(secret.len() == 64 && text.contains("joined = true"), "it has not joined by it");
        for log in [agent.log_text(), world.companion.log_text()] {
            ensure!(!log.contains(secret), "a log shows the credential");
        }
    }
    Ok(())
}

/// No node that has joined is touched: the next step kills an agent, whose file has the old one.
pub fn the_join_token_is_changed(world: &World) -> Result<()> {
    let read = world.own("pilotfish_companion_files_read_total", &[]);
    world.companion.change_token("another-token-of-this-cluster")?;
    world.wait_own("pilotfish_companion_files_read_total", &[], |now| now > read)
}

/// The node's machine is another one now, whose disk is empty. It has the cluster's file.
pub fn a_second_machine_is_refused(world: &World, place: usize) -> Result<()> {
    let refused = |world: &World| world.own("pilotfish_companion_refused_total", &[("reason", "taken")]);
    let (before, node) = (refused(world), NODES[place]);
    std::fs::remove_file(world.state(place).join(FILE))?;
    std::fs::write(world.join_file(place), world.companion.join_toml()?)?;
    let agent = &world.agents[place];
    until("it says what to do", BACK, || agent.cli(&["status"]).is_ok_and(|status| status.contains("join --reset")))
        .with_context(|| agent.log_text())?;
    ensure!(refused(world) > before, "it is not counted");
    let bad = world.join(&["--reset", "n\u{1b}[2J"]);
    ensure!(bad.is_err_and(|error| error.to_string().contains("is no name of a node")), "a name that is none");
    let taken = world.join(&["--node", node, "--ticket", &world.join_file(place).display().to_string()]);
    ensure!(taken.is_err_and(|error| error.to_string().contains("has a credential already")), "made twice");
    let said = world.join(&["--reset", node])?;
    ensure!(said.starts_with(&format!("the credential of node {node} is ended")), "{said}");
    let said = world.join(&["--reset", node])?;
    ensure!(said.starts_with(&format!("node {node} has no credential")), "{said}");
    // What an admin makes needs no join token.
    let made = world.join(&["--node", "n9", "--ticket", &world.join_file(place).display().to_string()])?;
    ensure!(made.contains("node = \"n9\"") && !made.contains("token ="), "{made}");
    world.join(&["--reset", "n9"]).map(drop)
}
