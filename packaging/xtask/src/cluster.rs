//! `cargo xtask cluster`: a real Kubernetes cluster on this machine, for people, and nothing left of it afterwards.

use anyhow::Result;
use clap::{Args, Subcommand};
use std::process::ExitCode;
use testbed::cluster::binaries::{self, KUBERNETES, Program};
use testbed::cluster::kept::{self, Kept};
use testbed::cluster::{ControlPlaneOptions, kinds};

#[derive(Debug, Subcommand)]
pub enum Cluster {
    /// Start it: etcd, API server, controllers, scheduler, and nodes with a containerd, a kubelet and a kube-proxy each
    Up(Up),
    /// Take it away, also after a start that was killed
    Down,
    /// Tell whether it is there and well
    Status,
    /// Find or build Kubernetes' programs, and print the directory for PILOTFISH_K8S_BIN where all are in one
    Programs,
}

#[derive(Debug, Args)]
pub struct Up {
    /// Number of nodes, each a network namespace of its own
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=20))]
    nodes: u8,
    /// etcd and the API server alone; needs no root
    #[arg(long, conflicts_with = "nodes")]
    no_kubelet: bool,
    /// Let the API server end each watch after one to two times so many seconds
    #[arg(long, value_name = "SECONDS")]
    min_request_timeout: Option<u32>,
}

pub fn run(command: &Cluster) -> Result<ExitCode> {
    match command {
        Cluster::Up(options) => up(options),
        Cluster::Down => down(),
        Cluster::Status => status(),
        Cluster::Programs => programs(),
    }
}

fn up(options: &Up) -> Result<ExitCode> {
    if let Some(kept) = kept::find()? {
        eprintln!("  a cluster is there; `cargo xtask cluster down` removes it");
        tell(&kept)?;
        return Ok(ExitCode::SUCCESS);
    }
    let nodes = (!options.no_kubelet).then_some(options.nodes);
    let control = ControlPlaneOptions { min_request_timeout: options.min_request_timeout, ..Default::default() };
    let kept = kept::start(nodes, &control, |step| eprintln!("  {step}"))?;
    eprintln!("  Kubernetes {KUBERNETES} is ready\n");
    tell(&kept)?;
    Ok(ExitCode::SUCCESS)
}

#[allow(clippy::print_stdout, reason = "the way in is this command's output")]
fn tell(kept: &Kept) -> Result<()> {
    let Kept { dir, server, kubeconfig, agent_kubeconfig, nodes } = kept;
    println!("server      {server}");
    println!("kubeconfig  {}", kubeconfig.display());
    println!("for agents  {}", agent_kubeconfig.display());
    println!(
        "kubectl     {} --kubeconfig {} get pods -A",
        binaries::find(Program::Kubectl)?.display(),
        kubeconfig.display()
    );
    for (name, place) in nodes {
        println!("node {name}     {} sh", place.join("enter").display());
    }
    println!("files       {}", dir.display());
    Ok(())
}

fn down() -> Result<ExitCode> {
    match kept::remove()? {
        None => eprintln!("  no cluster is there"),
        Some(left) if left.is_empty() => eprintln!("  the cluster is gone, and everything that it made"),
        Some(left) => {
            eprintln!("  left behind: {}", left.join(", "));
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[allow(clippy::print_stdout, reason = "the status is this command's output")]
fn status() -> Result<ExitCode> {
    let Some(kept) = kept::find()? else {
        println!("no cluster is there; `cargo xtask cluster up` starts one");
        return Ok(ExitCode::FAILURE);
    };
    tell(&kept)?;
    println!("\n{:<24} {:>8} {:>8} {:>8}", "PROCESS", "PID", "RSS MB", "CPU s");
    for (name, pid, stat) in kept::processes(&kept) {
        println!("{name:<24} {pid:>8} {:>8} {:>8}", stat.rss_bytes >> 20, stat.cpu_ns / 1_000_000_000);
    }
    let client = kept.client()?;
    let count = |kind| client.list(kind, None).map(|all| all.len());
    let (nodes, pods) = (count(&kinds::NODE)?, count(&kinds::POD)?);
    println!("\n{nodes} nodes, {pods} pods");
    Ok(ExitCode::SUCCESS)
}

#[allow(clippy::print_stdout, reason = "the directory is this command's output")]
fn programs() -> Result<ExitCode> {
    let found = binaries::find_all(&Program::ALL)?;
    let mut directories: Vec<_> = found.iter().filter_map(|program| program.parent()).collect();
    directories.dedup();
    if let [directory] = directories.as_slice() {
        println!("{}", directory.display());
    }
    Ok(ExitCode::SUCCESS)
}
