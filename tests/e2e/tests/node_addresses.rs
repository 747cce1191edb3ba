//! An address that the node gets while the agent runs is the node's at once, and nobody's when it is
//! taken away.
#![forbid(unsafe_code)]

use anyhow::{Result, ensure};
use e2e::alone;
use std::process::Command;
use std::time::Duration;
use testbed::{Agent, AgentOptions, Testbed, until};

/// Of no network here; on `lo` it reaches nobody.
const ADDRESS: &str = "100.71.255.254";
/// Addresses are looked at once a minute in any case; this is far from it.
const SOON: Duration = Duration::from_secs(10);

struct Added;

impl Added {
    fn add() -> Result<Added> {
        ip("add")?;
        Ok(Added)
    }
}

impl Drop for Added {
    fn drop(&mut self) {
        ip("del").ok();
    }
}

fn ip(verb: &str) -> Result<()> {
    let address = format!("{ADDRESS}/32");
    let status = Command::new("ip").args(["addr", verb, &address, "dev", "lo", "scope", "global"]).status()?;
    ensure!(status.success(), "ip addr {verb} {address}");
    Ok(())
}

#[test]
fn an_address_that_the_node_gets_is_its_own_at_once() -> Result<()> {
    let _alone = alone();
    let bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let is_the_nodes = || agent.cli(&["identity", ADDRESS, "-o", "json"]).is_ok_and(|it| it.contains("\"Node\""));
    assert!(!is_the_nodes());
    let added = Added::add()?;
    until("it is the node's", SOON, is_the_nodes)?;
    drop(added);
    until("it is nobody's", SOON, || !is_the_nodes())
}
