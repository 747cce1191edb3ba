//! A node tells of workloads that have a pod there, and of no others.

use crate::world::{BACK, NODES, World};
use anyhow::{Context, Result, ensure};
use std::net::{IpAddr, Ipv4Addr};
use testbed::cluster::kinds;
use testbed::cluster::objects::PodSpec;
use testbed::{Sample, until};

const NAMESPACE: &str = "shop";
/// A server of the second node, which answers all the time.
const POD: &str = "second1-server";
const BYTES: &str = "pilotfish_http_response_bytes_total";
const OF_POD: [(&str, &str); 2] = [("node", NODES[1]), ("server_workload", POD)];

/// The API server says where the pod is.
fn is_at(world: &World, node: &str) -> Result<()> {
    let client = world.plane.client();
    let address = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 9));
    PodSpec::new(POD, node, &[address]).in_namespace(NAMESPACE).create_running(client).map(drop)
}

/// What is shown of it; with another reporter it is the client's, who is nobody's. What was counted before
/// its client had a name goes on no more, and is no stranger's.
fn shown(world: &World) -> u64 {
    let of = [("client_workload", "second1-client"), ("reporter", "server")];
    world.companion.scrape().map_or(0, |page| page.count(BYTES, &[&OF_POD[..], &of].concat()))
}

/// For the message of a test that fails: every series of the server, and whether anybody is judged.
fn page(world: &World) -> String {
    let page = world.companion.scrape().map(|page| page.samples).unwrap_or_default();
    let own = ["pilotfish_companion_judges", "pilotfish_companion_stranger_series"];
    let is_of_it = |sample: &Sample| {
        own.contains(&&*sample.name)
            || sample.name == BYTES && OF_POD.iter().all(|(name, value)| sample.label(name) == *value)
    };
    page.iter().filter(|sample| is_of_it(sample)).map(|sample| format!("{sample:?}\n")).collect()
}

fn reason(world: &World) -> Result<String> {
    let path = ["get", "nodeagent", NODES[1], "-o", "jsonpath={.reason}"];
    world.kubectl(&path)
}

/// Until now it was a container of which the API server knew nothing.
pub fn are_refused(world: &World) -> Result<()> {
    world.wait_own("pilotfish_companion_judges", &[], |judges| judges == 1)?;
    ensure!(world.own("pilotfish_companion_stranger_series", &[]) == 0, "{}", reason(world)?);
    is_at(world, NODES[0])?;
    world.wait_own("pilotfish_companion_stranger_series", &[], |series| series > 0)?;
    until("nothing of it is shown", BACK, || shown(world) == 0)
        .with_context(|| page(world))
        .with_context(|| world.companion.log_text())?;
    until("kubectl says why", BACK, || {
        reason(world).is_ok_and(|reason| reason.ends_with("series are of workloads that have no pod on this node"))
    })
    .with_context(|| reason(world).unwrap_or_default())?;
    // It is where its agent says: what came meanwhile is there.
    world.plane.client().delete(&kinds::POD, Some(NAMESPACE), POD)?;
    is_at(world, NODES[1])?;
    world.wait_own("pilotfish_companion_stranger_series", &[], |series| series == 0)?;
    until("it is shown", BACK, || shown(world) > 0)?;
    world.plane.client().delete(&kinds::POD, Some(NAMESPACE), POD)
}
