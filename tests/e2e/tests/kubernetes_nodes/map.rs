//! The service map as docs/companion.md says that one comes to it: by a `kubectl port-forward` to the
//! Service, through a real kubelet, and by no other way.

use super::PATIENCE;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::time::Duration;
use testbed::cluster::Cluster;
use testbed::cluster::companion::forward_map;
use testbed::{fetch, installed, until};

pub fn comes_by_port_forward_alone(cluster: &Cluster) -> Result<()> {
    let forwarding = forward_map(cluster)?;
    let get = |path: &str| fetch(forwarding.address, path, Duration::from_secs(10));
    let page = get("/")?;
    ensure!(page.status == 200 && page.body().contains("<title>Pilotfish"), "{} {}", page.status, page.body());
    for file in ["/map.js", "/map.css"] {
        ensure!(get(file)?.status == 200, "{file}");
    }
    let mut told = String::new();
    let shows = |told: &str| {
        let map: Value = serde_json::from_str(told).unwrap_or_default();
        ["workloads", "edges"].iter().all(|list| map[list].as_array().is_some_and(|list| !list.is_empty()))
    };
    until("the map has workloads and edges", PATIENCE, || {
        told = get("/api/map").map(|map| map.body()).unwrap_or_default();
        shows(&told)
    })
    .with_context(|| told.clone())?;
    for pod in cluster.wait_pods("pilotfish", "companion-", 2, PATIENCE)? {
        let address = pod.address.context("its address")?;
        for node in cluster.nodes() {
            let mut get = node.command(&installed("curl")?);
            let output = get.args(["-sS", "--max-time", "5", &format!("http://{address}:8080/")]).output()?;
            // "Failed to connect to host"
            ensure!(output.status.code() == Some(7), "{} comes to it: {output:?}", node.name());
        }
    }
    Ok(())
}
