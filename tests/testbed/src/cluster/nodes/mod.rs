//! Whole nodes: real pods by a real kubelet. Needs root.

mod agent;
mod config;
mod image;
mod names;
mod network;
mod node;

use super::binaries::{self, Program};
use super::control::{ControlPlane, ControlPlaneOptions};
use super::controllers;
use super::kinds::{self, Kind};
use super::kubeconfig::User;
use super::place::Place;
use crate::agent::free_port;
use crate::network::run;
use crate::process::Process;
use crate::wait::{until, until_some};
use anyhow::{Context, Result, bail, ensure};
use network::Management;
use serde_json::Value;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

pub use image::IMAGE;
pub use node::Node;
use node::NodeConfig;

/// A control plane with controllers, a scheduler, and nodes. Everything is gone after
/// [`Cluster::take_down`] or the drop.
#[derive(Debug)]
pub struct Cluster {
    // Dropped in this order: what works first, the directory last.
    nodes: Vec<Node>,
    names: Option<Process>,
    scheduler: Process,
    controllers: Process,
    network: Management,
    plane: ControlPlane,
}

#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// 1 to 20, called n1, n2, ...
    pub nodes: u8,
    pub control: ControlPlaneOptions,
    /// How many addresses each node has for its pods. They are given in turn, so with a few, a new
    /// pod soon has the address of one that is gone; with 252, as without this, none does in a
    /// test's time. Containers that restart keep theirs.
    pub pod_addresses: Option<u8>,
}

/// A pod as a test wants to see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodView {
    pub name: String,
    pub node: String,
    pub address: Option<IpAddr>,
    pub is_ready: bool,
}

impl Cluster {
    /// Nodes n1 to n`nodes`, each ready. A quarter of a minute, told step by step. Needs root and
    /// what `scripts/setup.sh --k8s` installs.
    pub fn start(nodes: u8, control: &ControlPlaneOptions, progress: impl FnMut(&str)) -> Result<Cluster> {
        Cluster::start_with(&ClusterOptions { nodes, control: control.clone(), pod_addresses: None }, progress)
    }

    pub fn start_with(options: &ClusterOptions, progress: impl FnMut(&str)) -> Result<Cluster> {
        Cluster::start_in(Place::new()?, options, progress)
    }

    pub(super) fn start_in(place: Place, options: &ClusterOptions, mut progress: impl FnMut(&str)) -> Result<Cluster> {
        let ClusterOptions { nodes, control, pod_addresses } = options;
        let (nodes, last) = (*nodes, pod_addresses.unwrap_or(252).clamp(1, 252) + 1);
        if !nix::unistd::geteuid().is_root() {
            bail!("nodes are made of namespaces, and run containerd: this needs root");
        }
        ensure!((1..=20).contains(&nodes), "1 to 20 nodes");
        ensure!(Path::new("/usr/lib/cni/ptp").exists(), "no CNI plugins in /usr/lib/cni; run scripts/setup.sh --k8s");
        binaries::find_all(&Program::ALL)?;
        progress("starting etcd and the API server");
        let network = Management::create(place.id())?;
        let control = ControlPlaneOptions { address: Some(network.machine().into()), ..control.clone() };
        let plane = ControlPlane::start_in(place, &control)?;
        progress("starting controllers and scheduler");
        let controllers = controllers::start(&plane, &controllers::OF_WORKLOADS, &[])?;
        let scheduler = start_scheduler(&plane)?;
        progress("making the image of the pods");
        let image = image::make(plane.dir())?;
        let mut cluster = Cluster { nodes: Vec::new(), names: None, scheduler, controllers, network, plane };
        for n in 1..=nodes {
            progress(&format!("starting node n{n}"));
            let netns = cluster.network.node(n, nodes)?;
            let config = NodeConfig { netns, number: n, last_pod: last, image: &image };
            cluster.nodes.push(Node::start(&cluster.plane, &cluster.network, config)?);
        }
        std::fs::remove_file(image)?;
        cluster.names = Some(names::start(&cluster.plane, &cluster.nodes)?);
        progress("waiting until the nodes are ready");
        cluster.wait_nodes_ready()?;
        Ok(cluster)
    }

    #[must_use]
    pub fn plane(&self) -> &ControlPlane {
        &self.plane
    }

    pub fn plane_mut(&mut self) -> &mut ControlPlane {
        &mut self.plane
    }

    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Nodes with the control plane, for what needs both.
    pub fn nodes_and_plane(&mut self) -> (&mut [Node], &mut ControlPlane) {
        (&mut self.nodes, &mut self.plane)
    }

    pub fn wait_nodes_ready(&mut self) -> Result<()> {
        let wanted = self.nodes.len();
        let (client, plane) = (self.plane.client(), &self.plane);
        let mut ended = None;
        // Ready, and without the taint that keeps pods off a node that is not.
        let is_usable = |node: &&Value| is_ready(node) && node["spec"]["taints"].is_null();
        let ready = until("the nodes are ready", Duration::from_secs(120), || {
            ended = self.nodes.iter_mut().find_map(|node| node.check(plane).err());
            let usable = client.list(&kinds::NODE, None).map_or(0, |nodes| nodes.iter().filter(is_usable).count());
            ended.is_some() || usable == wanted
        });
        ended.map_or(ready, Err)
    }

    /// Pods of a namespace, by name.
    pub fn pods(&self, namespace: &str) -> Result<Vec<PodView>> {
        let pods = self.plane.client().list(&kinds::POD, Some(namespace))?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let view = |pod: &Value| PodView {
            name: text(&pod["metadata"]["name"]),
            node: text(&pod["spec"]["nodeName"]),
            address: pod["status"]["podIP"].as_str().and_then(|address| address.parse().ok()),
            is_ready: is_ready(pod) && pod["metadata"]["deletionTimestamp"].is_null(),
        };
        Ok(pods.iter().map(view).collect())
    }

    /// Waits until a namespace has so many pods whose name begins so, all of them ready and none on its way out.
    pub fn wait_pods(&self, namespace: &str, prefix: &str, count: usize, patience: Duration) -> Result<Vec<PodView>> {
        let mut last = Vec::new();
        let ready = until_some(&format!("{count} pods {prefix}* are ready"), patience, || {
            last = self.pods(namespace).ok()?.into_iter().filter(|pod| pod.name.starts_with(prefix)).collect();
            (last.len() == count && last.iter().all(|pod| pod.is_ready)).then(|| last.clone())
        });
        ready.with_context(|| format!("{last:#?}"))
    }

    /// `kubectl` as administrator.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.kubectl_with(&self.plane.kubeconfig(User::Admin)?, args)
    }

    /// `kubectl` as whom this kubeconfig says.
    pub fn kubectl_with(&self, kubeconfig: &Path, args: &[&str]) -> Result<String> {
        run(Command::new(binaries::find(Program::Kubectl)?).arg("--kubeconfig").arg(kubeconfig).args(args))
    }

    /// Deletes all workloads, so that kubelets end the pods in order, and waits for that.
    pub fn delete_workloads(&self) -> Result<()> {
        let client = self.plane.client();
        let of_users = |object: &Value| object["metadata"]["namespace"].as_str().map(str::to_owned);
        let all: [Kind; 6] = [
            kinds::CRON_JOB,
            kinds::JOB,
            kinds::DEPLOYMENT,
            kinds::DAEMON_SET,
            kinds::STATEFUL_SET,
            kinds::REPLICA_SET,
        ];
        for kind in all.iter().chain([&kinds::POD]) {
            for object in client.list(kind, None)? {
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                client.delete_gracefully(kind, of_users(&object).as_deref(), name).ok();
            }
        }
        until("the pods are gone", Duration::from_secs(60), || {
            client.list(&kinds::POD, None).is_ok_and(|all| all.is_empty())
        })
    }

    /// Ends workloads, nodes and control plane, and tells what is left, which should be nothing.
    pub fn take_down(mut self) -> Result<Vec<String>> {
        // Without an API server there is no order to be had; what is removed below is removed in any case.
        if self.plane.is_api_server_running() {
            self.delete_workloads().ok();
        }
        let Cluster { nodes, names, scheduler, controllers, network, plane } = self;
        drop((nodes, names, scheduler, controllers));
        let left = plane.take_down();
        drop(network);
        left
    }
}

fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn start_scheduler(plane: &ControlPlane) -> Result<Process> {
    let mut command = Command::new(binaries::find(Program::Scheduler)?);
    command.arg("--kubeconfig").arg(plane.kubeconfig(User::Scheduler)?);
    command.args(["--leader-elect=false", "--bind-address=127.0.0.1", &format!("--secure-port={}", free_port()?)]);
    command.arg(format!("--cert-dir={}", plane.dir().join("scheduler-pki").display()));
    plane.place.start("kube-scheduler", &mut command)
}
