//! `pilotfish-companion load` into the containerd that PATH leads to, at the places of a distribution
//! and of k3s: the image is whole, stays, and runs. By command: `cargo xtask runtime-test`. Needs root.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use e2e::alone;
use e2e::place::Place;
use std::path::Path;
use std::process::Command;
use testbed::cluster::companion::{done, make_image};
use testbed::{Containerd, Testbed, built_binary};

const IMAGE: &str = concat!("docker.io/library/pilotfish-companion:", env!("CARGO_PKG_VERSION"));
const USUAL: &str = "/run/containerd";
const K3S: &str = "/run/k3s/containerd";

fn ctr(containerd: &Containerd, args: &[&str]) -> Result<String> {
    containerd.ctr("k8s.io", args)
}

/// Where these containerds have these directories; what it says.
fn load(at: &[(&str, &Containerd)], archive: &Path) -> Result<String> {
    let mut place = Place::new().mounts("mount -t tmpfs run /run");
    for (directory, containerd) in at {
        let own = containerd.socket();
        let own = own.parent().context("a directory")?.display();
        place = place.mounts(format!("mkdir -p {directory}; mount --bind {own} {directory}"));
    }
    let words = place.under();
    let (first, rest) = words.split_first().context("words")?;
    let mut load = Command::new(first);
    done(load.args(rest).arg(built_binary("pilotfish-companion")?).arg("load").arg(archive))
}

fn has_it(containerd: &Containerd) -> Result<bool> {
    Ok(ctr(containerd, &["images", "ls", "-q"])?.contains(IMAGE))
}

/// With all of its blobs, and nothing of the loading is left.
fn is_whole(containerd: &Containerd) -> Result<()> {
    let name = format!("name=={IMAGE}");
    let check = ctr(containerd, &["images", "check", &name])?;
    ensure!(check.contains("complete (2/2)"), "{check}");
    // The kubelet's collector leaves such ones alone (containerd 1.7 and later).
    let list = ctr(containerd, &["images", "ls", &name])?;
    ensure!(list.contains("io.cri-containerd.pinned=pinned"), "{list}");
    let left = [ctr(containerd, &["leases", "ls", "-q"])?, ctr(containerd, &["content", "active"])?];
    ensure!(left.iter().all(|list| !list.contains("pilotfish-companion")), "{left:?}");
    Ok(())
}

fn blobs(containerd: &Containerd) -> Result<usize> {
    Ok(ctr(containerd, &["content", "ls", "-q"])?.lines().count())
}

#[test]
fn the_companions_image_comes_into_the_containerd_that_runs_pods_whole_and_to_stay() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    bed.add_containerd()?;
    let archive = bed.dir().join("companion.tar");
    make_image(&archive)?;
    let (usual, of_k3s) = (bed.containerd(), bed.containerd_at(1));

    // Where there are both, the kubelet's is k3s's.
    let said = load(&[(USUAL, usual), (K3S, of_k3s)], &archive)?;
    ensure!(said.contains("of the containerd at /run/k3s/containerd/containerd.sock"), "{said}");
    ensure!(has_it(of_k3s)? && !has_it(usual)?, "{said}");
    is_whole(of_k3s)?;
    let said = load(&[(USUAL, usual)], &archive)?;
    ensure!(said.contains("of the containerd at /run/containerd/containerd.sock"), "{said}");
    is_whole(usual)?;

    // Once more changes nothing.
    let before = blobs(usual)?;
    load(&[(USUAL, usual)], &archive)?;
    ensure!(blobs(usual)? == before && before > 0, "{before} blobs");
    // The collector goes by what refers to what; a removal waits for it.
    ctr(usual, &["images", "tag", IMAGE, "docker.io/library/another:1"])?;
    ctr(usual, &["images", "rm", "--sync", "docker.io/library/another:1"])?;
    is_whole(usual)?;
    ensure!(blobs(usual)? == before, "{} blobs of {before}", blobs(usual)?);

    let run = ["run", "--rm", "--snapshotter", "native", IMAGE, "pilotfish-image", "pilotfish-companion", "metrics"];
    let said = ctr(usual, &run)?;
    ensure!(said.contains("pilotfish_companion_build_info"), "it says {said:?}");

    // And what was removed is gone for good.
    ctr(usual, &["images", "rm", "--sync", IMAGE])?;
    ensure!(blobs(usual)? == 0, "{}", ctr(usual, &["content", "ls"])?);
    Ok(())
}
