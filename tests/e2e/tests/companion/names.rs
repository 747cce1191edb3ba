//! Names of the cluster at agents that have no identity there: they come down the stream.

use crate::world::{BACK, NODES, World};
use agent_api::Identity;
use anyhow::{Context, Result, ensure};
use std::net::{IpAddr, Ipv4Addr};
use testbed::cluster::kinds;
use testbed::cluster::objects::{self, Owner, PodSpec};
use testbed::until;

const NAMESPACE: &str = "default";
/// Not one of this node's: nobody but the API knows it.
const POD: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 5));
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 6));

/// What an edge to the address would be called at the agent of a node.
fn called(world: &World, place: usize, address: &str) -> Option<Identity> {
    let told = world.agents[place].cli(&["identity", address, "-o", "json"]).ok()?;
    serde_json::from_str(&told).ok()
}

fn wait_called(world: &World, address: &str, kind: &str, name: &str) -> Result<()> {
    for (place, node) in NODES.iter().enumerate() {
        let is_so =
            || called(world, place, address).is_some_and(|told| (&*told.shown.kind, &*told.shown.name) == (kind, name));
        until(&format!("{address} is {kind} {name} at {node}"), BACK, is_so)
            .with_context(|| format!("{:?}", called(world, place, address)))
            .with_context(|| world.agents[place].cli(&["status"]).unwrap_or_default())
            .with_context(|| world.companion.log_text())?;
    }
    Ok(())
}

/// A Deployment's pod and a Service, named at both nodes, neither of which has a kubeconfig.
pub fn come_down_the_stream(world: &World) -> Result<()> {
    let client = world.plane.client();
    let deployment = client.create(&kinds::DEPLOYMENT, &objects::deployment(NAMESPACE, "checkout"))?;
    let set = client.create(&kinds::REPLICA_SET, &objects::replica_set(NAMESPACE, &Owner::of(&deployment), "5d4c"))?;
    for (name, address) in [("checkout-5d4c-a", POD), ("checkout-5d4c-b", OTHER)] {
        let pod = PodSpec::new(name, NODES[0], &[address]).in_namespace(NAMESPACE);
        pod.label("pod-template-hash", "5d4c").owned_by(&Owner::of(&set)).create_running(client)?;
    }
    let service = objects::service(NAMESPACE, "ledger", &[("app", "ledger")], 80, false);
    let service = client.create(&kinds::SERVICE, &service)?;
    let address = service["spec"]["clusterIP"].as_str().context("an address")?;
    wait_called(world, &POD.to_string(), "Deployment", "checkout")?;
    wait_called(world, &format!("{address}:80"), "Service", "ledger")?;
    world.wait_own("pilotfish_companion_names_streams", &[], |streams| streams == NODES.len() as u64)?;
    for agent in &world.agents {
        let metrics = agent.metrics()?;
        ensure!(metrics.count("pilotfish_k8s_requests_total", &[]) == 0, "an agent asks the API server");
        ensure!(metrics.count("pilotfish_join_names_damaged_total", &[]) == 0, "damaged names");
        ensure!(metrics.count("pilotfish_join_names_unread_total", &[]) == 0, "unread names");
    }
    Ok(())
}

/// While nobody tells of it. To be called when the companion was killed.
pub fn stay_and_one_ends(world: &World) -> Result<()> {
    wait_called(world, &POD.to_string(), "Deployment", "checkout")?;
    world.plane.client().delete(&kinds::POD, Some(NAMESPACE), "checkout-5d4c-b")
}

/// The companion is back: what ended meanwhile is known, what did not is named.
pub fn are_those_of_now(world: &World) -> Result<()> {
    let ended = |place| called(world, place, &OTHER.to_string()).is_none_or(|told| told.shown.name != "checkout");
    until("the deletion arrives", BACK, || (0..NODES.len()).all(ended))
        .with_context(|| format!("{:?}", called(world, 0, &OTHER.to_string())))?;
    wait_called(world, &POD.to_string(), "Deployment", "checkout")
}
