//! An agent whose host is the testbed's node: it runs in that node's network namespace.

use crate::PATIENCE;
use agent_api::{Namespace, Status};
use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use testbed::{Exposition, Known, Process, Testbed, built_binary, fetch_unix, until};

/// The agent in the node's namespace. It answers on its unix socket, which has no namespace.
#[derive(Debug)]
pub struct NodeAgent {
    process: Process,
    log: PathBuf,
    socket: PathBuf,
}

impl NodeAgent {
    pub fn start(bed: &Testbed, more: &str) -> Result<NodeAgent> {
        let (config, socket) = (bed.dir().join("node-agent.toml"), bed.dir().join("node-agent.sock"));
        let text = format!(
            "[containerd]\nsockets = [{:?}]\n[kubernetes]\nmode = \"off\"\n[admin]\nlisten = \"127.0.0.1:0\"\nsocket = {socket:?}\n{more}",
            bed.containerd().socket()
        );
        std::fs::write(&config, text)?;
        let log = bed.log_file("node-agent");
        let mut command = bed.node().command(&built_binary("pilotfish")?);
        command.arg("agent").arg("--config").arg(&config);
        let process = Process::start("pilotfish", &mut command, &log)?;
        bed.record_process(process.pid())?;
        let agent = NodeAgent { process, log, socket };
        until("the agent is ready", PATIENCE, || agent.get("/readyz").is_ok()).with_context(|| agent.log_text())?;
        Ok(agent)
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    #[must_use]
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn get(&self, target: &str) -> Result<String> {
        let response = fetch_unix(&self.socket, "GET", target, Duration::from_secs(5))?;
        ensure!(response.status == 200, "{target}: {}", response.status);
        Ok(response.body())
    }

    pub fn metrics(&self) -> Result<Exposition> {
        let page = Exposition::parse(&self.get("/metrics")?);
        Known::of_agent()?.admits_page(&page)?;
        Ok(page)
    }

    /// A request's count by labels, as `reporter` saw it.
    #[must_use]
    pub fn requests(&self, reporter: &str, client: &str, server: &str) -> u64 {
        let labels = [("client_workload", client), ("server_workload", server), ("reporter", reporter)];
        let name = format!("http_{reporter}_request_duration_seconds_count");
        self.metrics().map_or(0, |metrics| metrics.count(&name, &labels))
    }

    #[must_use]
    pub fn all(&self, reporter: &str) -> (u64, u64) {
        let of = [("reporter", reporter)];
        self.metrics().map_or((0, 0), |metrics| {
            (metrics.count("pilotfish_exchanges_total", &of), metrics.count("pilotfish_exchanges_lost_total", &of))
        })
    }

    #[must_use]
    pub fn open(&self, reporter: &str, client: &str, server: &str) -> Option<f64> {
        let labels = [("client_workload", client), ("server_workload", server), ("reporter", reporter)];
        Some(self.metrics().ok()?.sum("pilotfish_tcp_open_connections", &labels))
    }

    /// Runs a command of the CLI against this agent and returns its output.
    pub fn cli(&self, args: &[&str]) -> Result<String> {
        let output = Command::new(built_binary("pilotfish")?).args(args).arg("--socket").arg(&self.socket).output()?;
        ensure!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    pub fn status(&self) -> Result<Status> {
        Ok(serde_json::from_str(&self.get("/v1/status")?)?)
    }

    /// State of the cgroup of a workload.
    #[must_use]
    pub fn cgroup(&self, workload: &str) -> Option<(String, String)> {
        let row = self.status().ok()?.node.cgroups.into_iter().find(|row| row.workload == workload)?;
        Some((row.state, row.reason))
    }

    pub fn wait_cgroup(&self, workload: &str) -> Result<()> {
        let attached = || self.cgroup(workload).is_some_and(|(state, _)| state == "attached");
        until(&format!("the cgroup of {workload} is attached"), PATIENCE, attached)
            .with_context(|| format!("{:?}\n{}", self.status().map(|status| status.node), self.log_text()))
    }

    /// Waits until the namespace of this workload is attached.
    pub fn wait_attached_to(&self, workload: &str) -> Result<()> {
        let is_it = |row: &Namespace| row.workload == workload && row.state == "attached";
        let attached = || self.status().is_ok_and(|status| status.namespaces.iter().any(is_it));
        until(&format!("{workload} is attached"), PATIENCE, attached).with_context(|| self.log_text())
    }

    pub fn wait_pods(&self, pods: usize) -> Result<()> {
        until(&format!("{pods} pods are attached"), PATIENCE, || {
            self.status().is_ok_and(|status| status.states.get("attached") == Some(&(pods as u64)))
        })
        .with_context(|| self.log_text())
    }

    pub fn wait_requests(&self, reporter: &str, client: &str, server: &str, count: u64) -> Result<()> {
        until(&format!("{count} requests of {client} to {server} at the {reporter}"), PATIENCE, || {
            self.requests(reporter, client, server) == count
        })
        .with_context(|| self.edges())
    }

    #[must_use]
    pub fn edges(&self) -> String {
        let metrics = self.metrics().map(|metrics| metrics.samples).unwrap_or_default();
        let is_it = |name: &str| name.ends_with("request_duration_seconds_count") || name.contains("lost");
        let lines = metrics.iter().filter(|sample| is_it(&sample.name) && sample.value > 0.0);
        lines.map(|sample| format!("{} {:?} {}\n", sample.name, sample.labels, sample.value)).collect()
    }
}
