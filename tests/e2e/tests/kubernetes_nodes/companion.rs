//! The companion from its image, by the steps of docs/install.md: the archive is loaded on each node,
//! the manifests are applied as they are shipped, and the nodes join.

use super::{PATIENCE, daemonset};
use anyhow::{Context, Result, ensure};
use std::path::Path;
use testbed::cluster::Cluster;
use testbed::cluster::companion::{self, With, done};
use testbed::{Exposition, built_binary, installed, until};

pub fn runs_from_its_image(cluster: &Cluster) -> Result<()> {
    let archive = cluster.plane().dir().join("companion.tar");
    companion::make_image(&archive)?;
    refuses_what_is_damaged(cluster, &archive)?;
    // Twice: whoever repeats a step changes nothing.
    for _ in 0..2 {
        companion::load(cluster, &archive)?;
    }
    // Until it is needed.
    let agents_image = daemonset::make_image(cluster)?;
    let address = companion::install(cluster, With::Traffic)?;
    let agents = companion::join(cluster)?;
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
    companion::uninstall(cluster, With::Traffic)
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

/// By the Service, from a node: now the one replica answers, now the other.
pub fn scrape(cluster: &Cluster, address: &str) -> Result<String> {
    let mut get = cluster.nodes()[0].command(&installed("curl")?);
    done(get.args(["-sSf", "--max-time", "5", &format!("http://{address}:9465/metrics?histograms=classic")]))
}
