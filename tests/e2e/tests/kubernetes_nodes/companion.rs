//! The companion from its image, by the steps of docs/install.md: the archive is loaded on each node,
//! the manifests are applied as they are shipped, and the nodes join.

use super::{PATIENCE, daemonset};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use testbed::cluster::binaries::{Program, find};
use testbed::cluster::{Cluster, User, kinds, objects};
use testbed::{Agent, AgentOptions, Exposition, built_binary, installed, until};

const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/kubernetes/companion");
const NAMESPACE: Option<&str> = Some("pilotfish");
/// Where the program of a pod looks for its account.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

pub fn runs_from_its_image(cluster: &Cluster) -> Result<()> {
    let archive = cluster.plane().dir().join("companion.tar");
    let mut make = Command::new(built_binary("xtask")?);
    make.args(["image", "--binary"]).arg(built_binary("pilotfish-companion")?).arg("--output").arg(&archive);
    done(&mut make)?;
    refuses_what_is_damaged(cluster, &archive)?;
    // Twice: whoever repeats a step changes nothing.
    for _ in 0..2 {
        load(cluster, &archive)?;
    }
    // Until it is needed.
    let agents_image = daemonset::make_image(cluster)?;
    kubectl(cluster, &["apply", "--server-side", "-k", MANIFESTS])?;
    as_other_clusters_have_it(cluster)?;
    let client = cluster.plane().client();
    let service = client.read(&kinds::SERVICE, NAMESPACE, "companion")?;
    let address = service["spec"]["clusterIP"].as_str().context("a ClusterIP")?.to_owned();
    let secrets = done(Command::new(built_binary("pilotfish-companion")?).args([
        "secrets",
        "--address",
        &format!("{address}:10251"),
    ]))?;
    feed(cluster, &secrets)?;
    cluster.wait_pods("pilotfish", "companion-", 2, PATIENCE)?;
    let agents = join(cluster)?;
    let mut page = String::new();
    until("a replica shows the nodes", PATIENCE, || {
        page = scrape(cluster, &address).unwrap_or_else(|error| format!("{error:#}"));
        let counted = |node: &str| Exposition::parse(&page).count("pilotfish_exchanges_total", &[("node", node)]);
        counted("n1") > 0 && counted("n2") > 0
    })
    .with_context(|| format!("{page}\n{}", agents[0].log_text()))?;
    // Every agent tells of pods of its own node, and the companion knows where they are.
    until("it compares them with where pods run", PATIENCE, || {
        page = scrape(cluster, &address).unwrap_or_default();
        Exposition::parse(&page).count("pilotfish_companion_judges", &[]) == 1
    })?;
    let strangers = Exposition::parse(&page).count("pilotfish_companion_stranger_series", &[]);
    ensure!(strangers == 0, "{strangers} series of pods of a node are refused\n{page}");
    super::map::comes_by_port_forward_alone(cluster)?;
    eprintln!("  the companion ran from its image, and the nodes joined it");
    daemonset::takes_the_place_of(cluster, agents, agents_image, &address)?;
    kubectl(cluster, &["delete", "--wait=false", "-k", MANIFESTS]).map(drop)
}

/// On each node, as docs/install.md says.
pub fn load(cluster: &Cluster, archive: &Path) -> Result<()> {
    for node in cluster.nodes() {
        let mut load = node.command(&built_binary("pilotfish-companion")?);
        let said = done(load.arg("load").arg(archive))?;
        ensure!(said.contains("of the containerd at /run/containerd/containerd.sock"), "{said}");
    }
    Ok(())
}

/// A layer that is not what its digest says is found by containerd, and nothing of it stays. Before it has
/// the right one, which it would not take twice.
fn refuses_what_is_damaged(cluster: &Cluster, archive: &Path) -> Result<()> {
    let node = &cluster.nodes()[0];
    let damaged = archive.with_extension("damaged");
    let mut bytes = std::fs::read(archive)?;
    let name = b"docker.io/library/pilotfish-companion";
    let at = bytes.windows(name.len()).position(|window| window == name).context("its name")?;
    bytes[at + name.len() - 1] = b'x';
    // In the middle of the layer, which is by far the largest part, and comes last.
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&damaged, bytes)?;
    let blobs = || node.ctr(&["content", "ls", "-q"]).map(|list| list.lines().count());
    let before = blobs()?;
    let mut load = node.command(&built_binary("pilotfish-companion")?);
    let output = load.arg("load").arg(&damaged).arg("--containerd").arg(node.containerd_socket()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(70) && said.contains("write sha256:"), "{:?} {said}", output.status);
    ensure!(!node.ctr(&["images", "ls", "-q"])?.contains("companiox"), "it is there");
    ensure!(blobs()? == before, "a blob of it stays");
    let left = [node.ctr(&["leases", "ls", "-q"])?, node.ctr(&["content", "active"])?];
    ensure!(left.iter().all(|list| !list.contains("pilotfish-companion")), "{left:?}");
    Ok(())
}

/// What the testbed leaves out: its pods are bare, and nobody asks for the API server by its Service. An
/// admission plugin would write this account into each pod.
fn as_other_clusters_have_it(cluster: &Cluster) -> Result<()> {
    let (client, server) = (cluster.plane().client(), cluster.plane().server());
    let authority = std::fs::read_to_string(cluster.plane().authority_file())?;
    feed(
        cluster,
        &json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "kube-root-ca.crt", "namespace": "pilotfish"}, "data": {"ca.crt": authority},
        })
        .to_string(),
    )?;
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
    kubectl(cluster, &["-n", "pilotfish", "patch", "deployment", "companion", "-p", &patch]).map(drop)
}

/// An agent on each node, with the one file that a node needs and no identity in Kubernetes.
fn join(cluster: &Cluster) -> Result<Vec<Agent>> {
    let secret = [
        "-n",
        "pilotfish",
        "get",
        "secret",
        "pilotfish-join",
        "-o",
        "go-template={{index .data \"join.toml\" | base64decode}}",
    ];
    let join = kubectl(cluster, &secret)?;
    let start = |node: &testbed::cluster::Node| {
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

/// By the Service, from a node: now the one replica answers, now the other.
pub fn scrape(cluster: &Cluster, address: &str) -> Result<String> {
    let mut get = cluster.nodes()[0].command(&installed("curl")?);
    done(get.args(["-sSf", "--max-time", "5", &format!("http://{address}:9465/metrics?histograms=classic")]))
}

pub fn command(cluster: &Cluster, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(find(Program::Kubectl)?);
    command.arg("--kubeconfig").arg(cluster.plane().kubeconfig(User::Admin)?);
    command.arg("--cache-dir").arg(cluster.plane().dir().join("kubectl")).args(arguments);
    Ok(command)
}

pub fn kubectl(cluster: &Cluster, arguments: &[&str]) -> Result<String> {
    done(&mut command(cluster, arguments)?)
}

fn feed(cluster: &Cluster, manifest: &str) -> Result<()> {
    let mut apply = command(cluster, &["apply", "-f", "-"])?;
    let mut child = apply.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("stdin")?.write_all(manifest.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "kubectl apply: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// What it printed.
pub fn done(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
