//! The cluster that the companion reads, the companion, and what it uses.

use crate::bench::goals::Goals;
use crate::bench::say;
use anyhow::{Context, Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use testbed::cluster::{ControlPlane, ControlPlaneOptions, bulk, kinds, objects};
use testbed::{Companion, Exposition, apply_manifests, installed, until};

const POD: &str = "companion-0";
const NAMESPACE: &str = "bulk";
const PATIENCE: Duration = Duration::from_secs(300);
const MIB: f64 = (1 << 20) as f64;

pub(super) struct Bed {
    // Dropped in this order.
    companion: Companion,
    plane: ControlPlane,
    pods: u32,
    /// From the companion's first start until it had all names.
    read: Duration,
}

/// What the companion has used, and what has come and gone on its connections to agents.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    at: Instant,
    pub cpu_ns: u64,
    pub rss: u64,
    received: u64,
    sent: u64,
}

impl Sample {
    pub fn since(&self, before: &Sample) -> f64 {
        self.at.duration_since(before.at).as_secs_f64()
    }

    /// Percent of a core.
    pub fn cpu(&self, before: &Sample) -> f64 {
        (self.cpu_ns - before.cpu_ns) as f64 / 1e7 / self.since(before)
    }

    /// Bytes a second in and out. The connections are the same at both times.
    pub fn rates(&self, before: &Sample) -> [f64; 2] {
        let passed = self.since(before);
        let rate = |after: u64, before: u64| after.saturating_sub(before) as f64 / passed;
        [rate(self.received, before.received), rate(self.sent, before.sent)]
    }
}

/// What the companion has told of names since its start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names {
    pub bytes: u64,
    pub encoded: u64,
}

/// Each agent has a connection, here and there.
pub(super) fn raise_descriptors() -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("raise the number of descriptors")
}

impl Bed {
    pub fn start(nodes: u32, pods: u32) -> Result<Bed> {
        let plane = ControlPlane::start(&ControlPlaneOptions { aggregation: true, ..ControlPlaneOptions::default() })?;
        let began = Instant::now();
        create_nodes(&plane, nodes)?;
        plane.client().create(&kinds::NAMESPACE, &objects::namespace(NAMESPACE))?;
        bulk::write_pods(plane.client(), plane.etcd(), NAMESPACE, pods, nodes)?;
        say(&format!("companion: {nodes} nodes and {pods} pods written in {:.0} s", began.elapsed().as_secs_f64()));
        let kubeconfig = apply_manifests(&plane)?;
        let began = Instant::now();
        // Agents push each 10 s, as always.
        let companion = Companion::start_with(&plane, &kubeconfig, POD, "")?;
        let mut bed = Bed { companion, plane, pods, read: Duration::ZERO };
        bed.wait_names()?;
        bed.read = began.elapsed();
        Ok(bed)
    }

    /// Of the file that nodes get.
    pub fn join_file(&self) -> Result<PathBuf> {
        let path = self.plane.dir().join("join.toml");
        std::fs::write(&path, self.companion.join_toml()?)?;
        Ok(path)
    }

    fn wait_names(&self) -> Result<()> {
        let all = || self.own("pilotfish_companion_names", &[]).is_ok_and(|names| names >= u64::from(self.pods));
        until("the companion has all names", PATIENCE, all).with_context(|| self.companion.log_text())
    }

    fn own(&self, name: &str, labels: &[(&str, &str)]) -> Result<u64> {
        Ok(self.companion.own_metrics()?.count(name, labels))
    }

    /// Agents that push.
    pub fn live(&self) -> Result<u64> {
        self.own("pilotfish_companion_agents", &[("state", "live")])
    }

    pub fn names(&self) -> Result<Names> {
        let own = self.companion.own_metrics()?;
        let count = |name| own.count(name, &[]);
        Ok(Names {
            bytes: count("pilotfish_companion_names_bytes_total"),
            encoded: count("pilotfish_companion_names_encoded_total"),
        })
    }

    pub fn sample(&self) -> Result<Sample> {
        let stat = self.companion.stat()?;
        let (received, sent) = self.traffic()?;
        Ok(Sample { at: Instant::now(), cpu_ns: stat.cpu_ns, rss: stat.rss_bytes, received, sent })
    }

    /// On all connections that agents have now (tcp_info of tcp(7), as ss(8) prints it).
    fn traffic(&self) -> Result<(u64, u64)> {
        let filter = format!("sport = :{}", self.companion.push.port());
        let output = Command::new(installed("ss")?).args(["-tniOH", "state", "established", &filter]).output()?;
        ensure!(output.status.success(), "ss: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout);
        let sum =
            |name: &str| text.split_whitespace().filter_map(|word| word.strip_prefix(name)?.parse::<u64>().ok()).sum();
        Ok((sum("bytes_received:"), sum("bytes_sent:")))
    }

    /// Highest resident memory since `forget_peak` (`VmHWM` of proc_pid_status(5)).
    pub fn peak(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.companion.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().context("VmHWM")?;
        Ok(kib << 10)
    }

    pub fn forget_peak(&self) -> Result<()> {
        std::fs::write(format!("/proc/{}/clear_refs", self.companion.pid()), "5").context("reset the peak")
    }

    /// Before anybody has joined.
    pub fn tell_alone(&self, goals: &Goals) -> Result<()> {
        let (stat, peak) = (self.companion.stat()?, self.peak()?);
        let cpu = stat.cpu_ns as f64 / 1e9;
        let told = format!("{:.1} s, {cpu:.1} s of CPU", self.read.as_secs_f64());
        goals.tell(&format!("{} pods, no agent: all names after", self.pods), &told);
        let told = format!("{:.0}, {:.0} MiB", stat.rss_bytes as f64 / MIB, peak as f64 / MIB);
        goals.tell(&format!("{} pods, no agent: resident, and highest", self.pods), &told);
        Ok(())
    }

    /// What a scrape of the series of all nodes costs, by what Prometheus asks for.
    pub fn tell_pages(&self, goals: &Goals, what: &str) -> Result<()> {
        let protobuf =
            "Accept: application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        let forms: [(&str, &[&str]); 4] = [
            ("text", &[]),
            ("text, gzip", &["Accept-Encoding: gzip"]),
            ("protobuf", &[protobuf]),
            ("protobuf, gzip", &[protobuf, "Accept-Encoding: gzip"]),
        ];
        let url = format!("http://{}/metrics", self.companion.metrics);
        for (form, headers) in forms {
            let mut curl = Command::new(installed("curl")?);
            curl.args(["-sSf", "-o", "/dev/null", "-w", "%{size_download} %{time_total}", &url]);
            for header in headers {
                curl.args(["-H", header]);
            }
            self.forget_peak()?;
            let before = self.companion.stat()?;
            let output = curl.output()?;
            ensure!(output.status.success(), "curl: {}", String::from_utf8_lossy(&output.stderr));
            let after = self.companion.stat()?;
            let told = String::from_utf8_lossy(&output.stdout).into_owned();
            let (bytes, took) = told.split_once(' ').with_context(|| told.clone())?;
            let (bytes, took): (f64, f64) = (bytes.parse()?, took.parse()?);
            let cpu = (after.cpu_ns - before.cpu_ns) as f64 / 1e9;
            let more = self.peak()?.saturating_sub(before.rss_bytes) as f64 / MIB;
            let told = format!("{:.1} MB, {took:.2} s, {cpu:.2} s of CPU, +{more:.0} MiB", bytes / 1e6);
            goals.tell(&format!("{what}, {form}"), &told);
        }
        Ok(())
    }

    /// Everything that came was taken, since the companion's latest start.
    pub fn is_whole(&self, goals: &mut Goals) -> Result<()> {
        let own: Exposition = self.companion.own_metrics()?;
        let lost = own.count("pilotfish_companion_lost_total", &[]);
        goals.check("series, pushes and nodes lost", "0", &lost.to_string(), lost == 0);
        let (names, values) = (
            own.count("pilotfish_companion_series_bytes", &[("of", "names")]),
            own.count("pilotfish_companion_series_bytes", &[("of", "values")]),
        );
        let series = own.count("pilotfish_companion_series", &[]);
        let told = format!("{series} series, {:.0} MiB, names {:.0} MiB", values as f64 / MIB, names as f64 / MIB);
        goals.tell("series kept", &told);
        Ok(())
    }

    pub fn kill(&mut self) -> Result<()> {
        self.companion.kill();
        Ok(())
    }

    pub fn start_again(&mut self) -> Result<()> {
        self.companion.start_again(&self.plane)
    }
}

/// As their kubelets would, some at a time.
fn create_nodes(plane: &ControlPlane, nodes: u32) -> Result<()> {
    let next = AtomicU32::new(0);
    let work = || -> Result<()> {
        let client = plane.client().clone();
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= nodes {
                return Ok(());
            }
            let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + n);
            objects::create_node(&client, &format!("node-{n:05}"), address.into())?;
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|_| anyhow::bail!("a worker panicked")))
    })
}
