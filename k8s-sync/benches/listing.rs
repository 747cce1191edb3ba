//! What a list of all pods costs the API server and this agent: as a stream, and in pages. The
//! server is restarted before each round, so that its peak is the round's own; the agent is a
//! process of its own.
//!
//! `cargo bench -p k8s-sync --bench listing [-- PODS]`; 20,000 pods without a number. Needs no
//! root, but 1 GB of memory for each 20,000.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout)]

use anyhow::{Context, Result, ensure};
use flow_model::Ts;
use k8s_sync::access::Sources;
use k8s_sync::cluster::{Limits, Moment};
use k8s_sync::watch::{Config, start};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};
use testbed::cluster::{ControlPlane, ControlPlaneOptions, User, bulk};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(300);

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["agent", kubeconfig, way] => agent(PathBuf::from(kubeconfig), *way == "stream"),
        [] => measure(20_000),
        [pods] => measure(pods.parse().context("a number of pods")?),
        _ => anyhow::bail!("one number of pods"),
    }
}

fn clock() -> Moment {
    Moment { mono: Ts(0), wall: SystemTime::now() }
}

fn measure(pods: u32) -> Result<()> {
    let mut plane = ControlPlane::start(&ControlPlaneOptions::default())?;
    bulk::write_pods(plane.client(), plane.etcd(), "default", pods, 50)?;
    println!("{pods} pods; MiB, seconds; server: resident before -> peak of the round, CPU");
    for way in ["stream", "pages", "stream", "pages"] {
        plane.restart_api_server()?;
        let server = PathBuf::from(format!("/proc/{}", plane.api_server_pid()));
        // Its watch cache is filled by the first who asks.
        let listed = plane.client().get("/api/v1/pods?limit=1")?;
        ensure!(listed["items"].as_array().is_some_and(|items| items.len() == 1), "pods are there");
        std::fs::write(server.join("clear_refs"), "5")?;
        let (before, cpu) = (memory(&server, "VmRSS")?, cpu_seconds(&server)?);
        let me = std::env::current_exe()?;
        let told = Command::new(me).arg("agent").arg(plane.kubeconfig(User::Agent)?).arg(way).output()?;
        ensure!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
        let (peak, cpu) = (memory(&server, "VmHWM")?, cpu_seconds(&server)? - cpu);
        let agent = String::from_utf8_lossy(&told.stdout);
        println!("{way:>6}: server {before} -> {peak}, {cpu:.2} s; agent: {}", agent.trim());
    }
    Ok(())
}

fn agent(kubeconfig: PathBuf, is_stream: bool) -> Result<()> {
    let own = Path::new("/proc/self");
    let sources = Sources { kubeconfig: Some(kubeconfig), ..Sources::default() };
    let config = Config { sources, streaming_lists: is_stream, node: Some("node-00001".into()), ..Config::default() };
    let (begun, before, stop) = (Instant::now(), memory(own, "VmRSS")?, CancellationToken::new());
    let handle = start(config, Limits::default(), clock, stop.clone())?;
    testbed::until("all is listed", PATIENCE, || {
        let report = handle.report(Instant::now());
        !report.watches.is_empty() && report.is_fresh().is_ok()
    })?;
    let report = handle.report(Instant::now());
    let pods = report.watches.first().map_or(0, |watch| watch.objects);
    let requests: u64 = report.requests.iter().map(|asked| asked.count).sum();
    let sockets = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter(|link| link.to_string_lossy().starts_with("socket:"))
        .count();
    println!(
        "{pods} pods after {:.2} s, {requests} requests, {sockets} sockets, {before} -> {} MiB, peak {}, {:.2} s of CPU",
        begun.elapsed().as_secs_f64(),
        memory(own, "VmRSS")?,
        memory(own, "VmHWM")?,
        cpu_seconds(own)?,
    );
    stop.cancel();
    Ok(())
}

/// MiB, of `/proc/<pid>/status`.
fn memory(process: &Path, field: &str) -> Result<u64> {
    let status = std::fs::read_to_string(process.join("status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).context("the field")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024)
}

/// User and system time; the kernel counts in hundredths of a second (`USER_HZ`).
fn cpu_seconds(process: &Path) -> Result<f64> {
    let stat = std::fs::read_to_string(process.join("stat"))?;
    let (_, after) = stat.rsplit_once(')').context("a name in brackets")?;
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks = |at: usize| -> Result<f64> { Ok(fields.get(at).context("a time")?.parse::<f64>()?) };
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}
