//! The companion from its image in a cluster with nodes, by the steps of docs/install.md: the archive
//! is loaded on each node, the manifests are applied as they are shipped, and the nodes join.

use super::binaries::{Program, find};
use super::nodes::{Cluster, Node};
use super::{ControlPlaneOptions, User, kinds, objects};
use crate::agent::{Agent, AgentOptions};
use crate::network::ip;
use crate::programs::{built_binary, installed};
use crate::wait::until;
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

/// Of all that is the companion's.
pub const NAMESPACE: &str = "pilotfish";

const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/kubernetes/companion");
/// Where the program of a pod looks for its account.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Whole nodes on a machine that does other things, too.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is installed with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum With {
    /// Nothing.
    Traffic,
    /// Figures for an HPA.
    Figures,
}

impl With {
    fn manifests(self) -> String {
        match self {
            With::Traffic => MANIFESTS.to_owned(),
            With::Figures => format!("{MANIFESTS}-hpa"),
        }
    }
}

/// An image as `cargo xtask image` makes it of the program that was built.
pub fn make_image(archive: &Path) -> Result<()> {
    let mut make = Command::new(built_binary("xtask")?);
    make.args(["image", "--binary"]).arg(built_binary("pilotfish-companion")?).arg("--output").arg(archive);
    done(&mut make).map(drop)
}

/// On each node.
pub fn load(cluster: &Cluster, archive: &Path) -> Result<()> {
    for node in cluster.nodes() {
        let mut load = node.command(&built_binary("pilotfish-companion")?);
        let said = done(load.arg("load").arg(archive))?;
        ensure!(said.contains("of the containerd at /run/containerd/containerd.sock"), "{said}");
    }
    Ok(())
}

/// After its image was loaded: two replicas that are ready. Returns the address of their Service.
pub fn install(cluster: &Cluster, with: With) -> Result<String> {
    kubectl(cluster, &["apply", "--server-side", "-k", &with.manifests()])?;
    as_other_clusters_have_it(cluster)?;
    let service = cluster.plane().client().read(&kinds::SERVICE, Some(NAMESPACE), "companion")?;
    let address = service["spec"]["clusterIP"].as_str().context("a ClusterIP")?.to_owned();
    let mut secrets = Command::new(built_binary("pilotfish-companion")?);
    feed(cluster, "apply", &done(secrets.args(["secrets", "--address", &format!("{address}:10251")]))?)?;
    cluster.wait_pods(NAMESPACE, "companion-", 2, PATIENCE)?;
    Ok(address)
}

pub fn uninstall(cluster: &Cluster, with: With) -> Result<()> {
    kubectl(cluster, &["delete", "--wait=false", "-k", &with.manifests()]).map(drop)
}

/// What the testbed leaves out: its pods are bare, and nobody asks for the API server by its Service. An
/// admission plugin would write this account into each pod.
fn as_other_clusters_have_it(cluster: &Cluster) -> Result<()> {
    let (client, server) = (cluster.plane().client(), cluster.plane().server());
    let authority = std::fs::read_to_string(cluster.plane().authority_file())?;
    let root = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "kube-root-ca.crt", "namespace": NAMESPACE}, "data": {"ca.crt": authority},
    });
    feed(cluster, "apply", &root.to_string())?;
    let mut slice = objects::endpoint_slice("default", "kubernetes", server.port(), &[(server.ip(), "kube-apiserver")]);
    // As its Service calls it.
    slice["ports"][0]["name"] = json!("https");
    client.create(&kinds::ENDPOINT_SLICE, &slice)?;
    // Nobody outside knows the way to a pod: it goes out by its node's address.
    let outward = format!(
        "add table ip outward; \
         add chain ip outward post {{ type nat hook postrouting priority 100; }}; \
         add rule ip outward post ip saddr 10.77.0.0/16 ip daddr {} masquerade",
        server.ip()
    );
    for node in cluster.nodes() {
        done(node.command(&installed("nft")?).arg(&outward))?;
    }
    let sources = json!([
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
        {"configMap": {"name": "kube-root-ca.crt"}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
    ]);
    let spec = json!({
        "volumes": [{"name": "account", "projected": {"sources": sources}}],
        "containers": [{"name": "companion", "volumeMounts": [{"name": "account", "mountPath": ACCOUNT}]}],
    });
    let patch = json!({"spec": {"template": {"spec": spec}}}).to_string();
    kubectl(cluster, &["-n", NAMESPACE, "patch", "deployment", "companion", "-p", &patch]).map(drop)
}

/// An agent on each node, with the one file that a node needs and no identity in Kubernetes.
pub fn join(cluster: &Cluster) -> Result<Vec<Agent>> {
    let template = "go-template={{index .data \"join.toml\" | base64decode}}";
    let join = kubectl(cluster, &["-n", NAMESPACE, "get", "secret", "pilotfish-join", "-o", template])?;
    let start = |node: &Node| {
        let file: PathBuf = node.dir().join("join.toml");
        std::fs::write(&file, &join)?;
        let more =
            format!("\n[companion]\njoin = {file:?}\n\n[kubernetes]\nmode = \"off\"\nnode = {:?}\n", node.name());
        let agent = node.start_agent(cluster.plane(), None, &AgentOptions { more, ..AgentOptions::default() })?;
        let joined = || agent.metrics().is_ok_and(|metrics| metrics.count("pilotfish_join_joined", &[]) == 1);
        until(&format!("{} has joined", node.name()), PATIENCE, joined).with_context(|| agent.log_text())?;
        Ok(agent)
    };
    cluster.nodes().iter().map(start).collect()
}

/// Of a cluster whose API server is to hand over to pods: nothing on its machine makes a pod's address
/// of a Service's, so it does so itself.
#[must_use]
pub fn control() -> ControlPlaneOptions {
    let api_server_flags = vec!["--enable-aggregator-routing=true".to_owned()];
    ControlPlaneOptions { aggregation: true, api_server_flags, ..ControlPlaneOptions::default() }
}

/// Lets the API server hand these groups over to the companion: ways to its pods, as a real cluster's
/// machine has them, and the APIServices as the program prints them. The cluster was started with
/// [`control`]. Returns when they answer.
pub fn aggregate(cluster: &Cluster, groups: &[(&str, &str)]) -> Result<()> {
    for node in cluster.nodes() {
        let number = node.name().trim_start_matches('n');
        // It goes with the link that it is on.
        ip(&["route", "replace", &format!("10.77.{number}.0/24"), "via", &node.address().to_string()])?;
    }
    let template = "go-template={{index .data \"tls.crt\" | base64decode}}";
    let ca = kubectl(cluster, &["-n", NAMESPACE, "get", "secret", "companion-ca", "-o", template])?;
    let (file, beside) = (cluster.plane().dir().join("companion-ca.crt"), cluster.plane().dir().join("services.json"));
    std::fs::write(&file, ca)?;
    std::fs::write(&beside, kubectl(cluster, &["get", "apiservices", "-o", "json"])?)?;
    for (group, service) in groups {
        let mut print = Command::new(built_binary("pilotfish-companion")?);
        print.args(["api-service", "--group", group, "--ca"]).arg(&file).arg("--beside").arg(&beside);
        feed(cluster, "create", &done(&mut print)?)?;
        let wait = ["wait", "--for=condition=Available", "--timeout=90s", &format!("apiservice/{service}")];
        kubectl(cluster, &wait)?;
    }
    Ok(())
}

/// A `kubectl port-forward` to the map, for as long as it lives.
#[derive(Debug)]
pub struct Forwarding {
    child: Child,
    /// It says each connection there, and ends where nobody could read that.
    _told: BufReader<ChildStdout>,
    /// Where the map is on this machine.
    pub address: SocketAddr,
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn forward_map(cluster: &Cluster) -> Result<Forwarding> {
    let mut forward = command(cluster, &["-n", NAMESPACE, "port-forward", "svc/companion", ":8080"])?;
    let mut child = forward.stdout(Stdio::piped()).spawn()?;
    let mut told = BufReader::new(child.stdout.take().context("stdout")?);
    let mut line = String::new();
    told.read_line(&mut line)?;
    // "Forwarding from 127.0.0.1:40123 -> 8080"
    let address = line.split_whitespace().nth(2).and_then(|address| address.parse().ok());
    let address = address.with_context(|| format!("it says {line:?}"));
    if address.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    Ok(Forwarding { child, _told: told, address: address? })
}

/// `kubectl` as administrator.
pub fn command(cluster: &Cluster, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(find(Program::Kubectl)?);
    command.arg("--kubeconfig").arg(cluster.plane().kubeconfig(User::Admin)?);
    command.arg("--cache-dir").arg(cluster.plane().dir().join("kubectl")).args(arguments);
    Ok(command)
}

pub fn kubectl(cluster: &Cluster, arguments: &[&str]) -> Result<String> {
    done(&mut command(cluster, arguments)?)
}

/// `apply` or `create`, what is given.
pub fn feed(cluster: &Cluster, verb: &str, manifest: &str) -> Result<()> {
    let mut apply = command(cluster, &[verb, "-f", "-"])?;
    let mut child = apply.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("stdin")?.write_all(manifest.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "kubectl {verb}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// What it printed.
pub fn done(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
