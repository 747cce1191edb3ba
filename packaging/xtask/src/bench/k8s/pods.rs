//! Pods of a scenario: bare ones on a node that nobody runs, each named by its number, so that an
//! address says which pod is to be found there.

use super::agent::{Agent, NODE};
use anyhow::{Context, Result};
use serde_json::json;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};
use testbed::cluster::{Client, PodSpec, kinds, objects};
use testbed::until;

/// Address number `n`, 10.60.0.0 and on.
pub(super) fn address(n: u32) -> IpAddr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 60, 0, 0)) + n).into()
}

pub(super) fn create_node(client: &Client) -> Result<()> {
    objects::create_node(client, NODE, Ipv4Addr::new(192, 0, 2, 1).into()).map(drop)
}

/// Pods `<prefix>-<n>` with address number `n`.
pub(super) fn create(
    client: &Client,
    prefix: &str,
    numbers: impl IntoIterator<Item = u32>,
) -> Result<Vec<(IpAddr, String)>> {
    let create = |n| {
        let name = format!("{prefix}-{n}");
        PodSpec::new(&name, NODE, &[address(n)]).create_running(client)?;
        Ok((address(n), name))
    };
    numbers.into_iter().map(create).collect()
}

pub(super) fn delete(client: &Client, name: &str) -> Result<()> {
    client.delete(&kinds::POD, Some("default"), name)
}

/// Reports another address of a pod, as its kubelet would.
pub(super) fn readdress(client: &Client, name: &str, address: IpAddr) -> Result<()> {
    let status = json!({"status": {"podIP": address, "podIPs": [{"ip": address}]}});
    client.patch_status(&kinds::POD, Some("default"), name, &status).map(drop)
}

/// Whether the agent names every one of these, and how many it does not.
pub(super) fn unnamed(agent: &Agent, pods: &[(IpAddr, String)]) -> Result<usize> {
    let is_named =
        |(address, name): &(IpAddr, String)| -> Result<bool> { Ok(agent.pod_at(*address)?.as_ref() == Some(name)) };
    pods.iter().try_fold(0, |unnamed, pod| Ok(unnamed + usize::from(!is_named(pod)?)))
}

pub(super) fn wait_named(agent: &Agent, pods: &[(IpAddr, String)], patience: Duration) -> Result<()> {
    // Looked at in order and no further than the first that has no name: a question costs the agent some time.
    let mut from = 0;
    until("the agent names all pods", patience, || {
        while let Some((address, name)) = pods.get(from) {
            match agent.pod_at(*address) {
                Ok(Some(found)) if found == *name => from += 1,
                _ => return false,
            }
        }
        true
    })
    .with_context(|| format!("{from} of {} are named\n{}", pods.len(), agent.log_tail()))
}

/// Gives a pod a new address and waits until the agent says so. From `since` until then.
pub(super) fn follow(
    agent: &Agent,
    client: &Client,
    name: &str,
    to: IpAddr,
    since: Instant,
    patience: Duration,
) -> Result<Duration> {
    readdress(client, name, to)?;
    wait_named(agent, &[(to, name.to_owned())], patience)?;
    Ok(since.elapsed())
}
