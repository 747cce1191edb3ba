//! A cluster that stays when the program that made it ends: at most one on a machine, in a
//! directory of its own name, for people. `sweep` lets it be; [`remove`] takes it away, however it
//! was left.

use super::client::Client;
use super::control::{ControlPlane, ControlPlaneOptions};
use super::kubeconfig::User;
use super::nodes::{Cluster, ClusterOptions};
use super::place::Place;
use crate::process::Stat;
use crate::sweep;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Names its directory, its namespaces and its link.
const ID: &str = "pfcluster";

/// What `up` left, for whoever comes later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub dir: PathBuf,
    pub server: String,
    /// The administrator's.
    pub kubeconfig: PathBuf,
    /// With the rights of `packaging/kubernetes` and no others.
    pub agent_kubeconfig: PathBuf,
    /// Each with a script `enter` in its directory that runs a program on it.
    pub nodes: Vec<(String, PathBuf)>,
}

impl Kept {
    /// The administrator.
    pub fn client(&self) -> Result<Client> {
        Ok(Client::from_kubeconfig(&self.kubeconfig)?.with_patience(Duration::from_secs(5)))
    }
}

/// Starts it and leaves it running: a control plane alone without `nodes`.
pub fn start(nodes: Option<u8>, options: &ControlPlaneOptions, mut progress: impl FnMut(&str)) -> Result<Kept> {
    let place = Place::kept(ID)?;
    let state = place.dir().join("cluster.json");
    match nodes {
        None => {
            progress("starting etcd and the API server");
            let plane = ControlPlane::start_in(place, options)?;
            write_state(&state, &plane, &[])?;
            // Its processes live on, and its directory.
            std::mem::forget(plane);
        }
        Some(count) => {
            let options = ClusterOptions { nodes: count, control: options.clone(), pod_addresses: None };
            let cluster = Cluster::start_in(place, &options, progress)?;
            let nodes: Vec<&str> = cluster.nodes().iter().map(super::Node::name).collect();
            write_state(&state, cluster.plane(), &nodes)?;
            std::mem::forget(cluster);
        }
    }
    find()?.context("it was just made")
}

fn write_state(path: &Path, plane: &ControlPlane, nodes: &[&str]) -> Result<()> {
    let text = json!({
        "server": plane.url(),
        "kubeconfig": plane.kubeconfig(User::Admin)?,
        "agent_kubeconfig": plane.kubeconfig(User::Agent)?,
        "nodes": nodes,
    });
    std::fs::write(path, text.to_string()).with_context(|| format!("write {}", path.display()))
}

/// The cluster that is there. An error: there is one, but it was not finished, or lost its
/// description; [`remove`] takes it away.
pub fn find() -> Result<Option<Kept>> {
    let dir = sweep::base().join(ID);
    if !dir.exists() {
        return Ok(None);
    }
    let what = || format!("the cluster in {} is not complete; take it down and start it again", dir.display());
    let text = std::fs::read_to_string(dir.join("cluster.json")).with_context(what)?;
    let state: Value = serde_json::from_str(&text).with_context(what)?;
    let text = |key: &str| state[key].as_str().map(str::to_owned).with_context(what);
    let names = state["nodes"].as_array().into_iter().flatten().filter_map(Value::as_str);
    Ok(Some(Kept {
        server: text("server")?,
        kubeconfig: text("kubeconfig")?.into(),
        agent_kubeconfig: text("agent_kubeconfig")?.into(),
        nodes: names.map(|name| (name.to_owned(), dir.join(name))).collect(),
        dir,
    }))
}

/// Its processes that run now: name, pid, and what they use.
pub fn processes(kept: &Kept) -> Vec<(String, u32, Stat)> {
    let named = |pid: u32| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim().to_owned();
        Some((name, pid, Stat::of(pid).ok()?))
    };
    // Some are found in two ways.
    let pids: BTreeSet<u32> = sweep::processes_of(&kept.dir).into_iter().collect();
    pids.into_iter().filter_map(named).collect()
}

/// Takes away what is there, whole or not, and tells what is left, which should be nothing. `None`: nothing was there.
pub fn remove() -> Result<Option<Vec<String>>> {
    let dir = sweep::base().join(ID);
    if std::fs::File::open(dir.join("lock")).is_ok_and(|lock| lock.try_lock().is_err()) {
        bail!("another process is starting the cluster in {} right now; end that first", dir.display());
    }
    let there = !sweep::leftovers(ID, &dir).is_empty();
    if there {
        sweep::remove(ID, &dir)?;
    }
    Ok(there.then(|| sweep::leftovers(ID, &dir)))
}
