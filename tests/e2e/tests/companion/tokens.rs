//! An agent that is a pod joins by the token that the kubelet would write for it, and the API server says
//! whose that is.

use crate::world::{BACK, NODES, World};
use anyhow::{Context, Result, ensure};
use std::net::{IpAddr, Ipv4Addr};
use testbed::cluster::kinds;
use testbed::cluster::objects::PodSpec;
use testbed::until;

const NAMESPACE: &str = "pilotfish";
/// The testbed has it, for agents with a kubeconfig.
const ACCOUNT: &str = "pilotfish-agent";
const POD: &str = "agent-x7k2p";

/// For an audience, bound to the pod or to nothing.
fn token(world: &World, audience: &str, bound: &[&str]) -> Result<String> {
    let create = ["-n", NAMESPACE, "create", "token", ACCOUNT, "--audience", audience];
    world.kubectl(&[&create[..], bound].concat())
}

/// The node's agent shows the token from now on, and nothing else.
pub fn are_asked_about(world: &World, place: usize) -> Result<()> {
    let client = world.plane.client();
    let mut pod = PodSpec::new(POD, NODES[place], &[IpAddr::V4(Ipv4Addr::new(10, 77, 0, 11))])
        .in_namespace(NAMESPACE)
        .on_host_network()
        .object();
    pod["spec"]["serviceAccountName"] = ACCOUNT.into();
    client.create(&kinds::POD, &pod)?;
    let (join, file) = (world.join_file(place), world.bed.dir().join("pod-token"));
    let ticket = world.companion.join_toml()?;
    let of_pod = |line: &str| match line.starts_with("token") {
        true => format!("token_file = {file:?}"),
        false => line.to_owned(),
    };
    let taken = || world.own("pilotfish_companion_token_reviews_total", &[("outcome", "taken")]);
    ensure!(taken() == 0, "somebody else joins so");

    let bound = ["--bound-object-kind", "Pod", "--bound-object-name", POD];
    std::fs::write(&file, token(world, "pilotfish", &bound)?)?;
    std::fs::write(&join, ticket.lines().map(of_pod).collect::<Vec<_>>().join("\n"))?;
    until("it joins by it", BACK, || taken() > 0).with_context(|| world.agents[place].log_text())?;
    world.wait_joined(place)?;
    ensure!(taken() == 1, "it was asked {} times", taken());
    let metrics = world.agents[place].metrics()?;
    ensure!(metrics.count("pilotfish_join_credential", &[]) == 0, "it joins by a credential");
    // It goes back to what other nodes have, and the next steps wait for that.
    client.delete(&kinds::POD, Some(NAMESPACE), POD)?;
    std::fs::write(&join, ticket).map_err(Into::into)
}
