//! The real agent beside a control plane, with no containerd and without looking at the node's own
//! services: only its names matter here.

use agent_api::{Client, Identity, Kubernetes};
use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use testbed::cluster::{ControlPlane, User};
use testbed::{Exposition, Process, Stat, built_binary, fetch_unix, until};

/// Of the agent and of all pods.
pub(super) const NODE: &str = "node-1";

#[derive(Clone, Debug)]
pub(super) struct Setup {
    /// Of this agent among those of its cluster.
    pub name: String,
    /// `kubernetes.node`
    pub node: String,
    /// Where it goes; None: the API server itself.
    pub server: Option<SocketAddr>,
    /// Without Kubernetes, for what an agent costs by itself.
    pub is_off: bool,
}

impl Setup {
    pub fn alone() -> Setup {
        Setup { name: "agent".into(), node: NODE.into(), server: None, is_off: false }
    }

    pub fn behind(server: SocketAddr) -> Setup {
        Setup { server: Some(server), ..Setup::alone() }
    }
}

#[derive(Debug)]
pub(super) struct Agent {
    process: Process,
    socket: PathBuf,
    log: PathBuf,
}

const PATIENCE: Duration = Duration::from_secs(10);

impl Agent {
    /// Returns before it answers.
    pub fn spawn(plane: &ControlPlane, setup: &Setup) -> Result<Agent> {
        let Setup { name, node, server, is_off } = setup;
        let dir = plane.dir().join(name);
        std::fs::create_dir_all(&dir)?;
        let (config, socket, state) = (dir.join("agent.toml"), dir.join("agent.sock"), dir.join("state"));
        std::fs::create_dir_all(&state)?;
        let kubeconfig = plane.kubeconfig_at(User::Agent, server.unwrap_or_else(|| plane.server()))?;
        let mode = if *is_off { "off" } else { "on" };
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let text = format!(
            "[containerd]\nsockets = [{:?}]\n\n[kubernetes]\nmode = \"{mode}\"\nkubeconfig = {kubeconfig:?}\nnode = \"{node}\"\n\n\
             [attach]\nnode = false\n\n[admin]\nlisten = \"{listen}\"\nsocket = {socket:?}\n",
            dir.join("no-containerd.sock"),
        );
        std::fs::write(&config, text)?;
        let mut command = Command::new(built_binary("pilotfish")?);
        command.arg("agent").arg("--config").arg(&config).env("STATE_DIRECTORY", &state);
        let process = plane.start_beside(name, &mut command)?;
        Ok(Agent { process, socket, log: plane.dir().join("logs").join(format!("{name}.log")) })
    }

    /// Returns when it answers; names come later.
    pub fn start(plane: &ControlPlane, setup: &Setup) -> Result<Agent> {
        let mut agent = Agent::spawn(plane, setup)?;
        agent.wait_answers()?;
        Ok(agent)
    }

    pub fn wait_answers(&mut self) -> Result<()> {
        until("the agent answers", Duration::from_secs(60), || {
            !self.process.is_running() || self.get("/livez").is_ok_and(|(status, _)| status == 200)
        })
        .with_context(|| self.log_tail())?;
        ensure!(self.process.is_running(), "the agent ended:\n{}", self.log_tail());
        Ok(())
    }

    fn get(&self, target: &str) -> Result<(u16, String)> {
        let response = fetch_unix(&self.socket, "GET", target, PATIENCE)?;
        Ok((response.status, response.body()))
    }

    fn page(&self, target: &str) -> Result<String> {
        let (status, body) = self.get(target)?;
        ensure!(status == 200, "{target}: {status} {body}");
        Ok(body)
    }

    /// What `pilotfish identity` shows of an address.
    pub fn identity(&self, address: IpAddr) -> Result<Identity> {
        Ok(Client::new(&self.socket).identity(address, None)?)
    }

    /// The pod that holds an address now, by the Kubernetes API.
    pub fn pod_at(&self, address: IpAddr) -> Result<Option<String>> {
        let identity = self.identity(address)?;
        let fact = identity.facts.into_iter().find(|fact| fact.source == "kubernetes" && fact.ended_s.is_none());
        Ok(fact.map(|fact| fact.pod).filter(|pod| !pod.is_empty()))
    }

    pub fn metrics(&self) -> Result<Exposition> {
        Ok(Exposition::parse(&self.page("/metrics")?))
    }

    /// The Kubernetes part of `pilotfish status`.
    pub fn kubernetes(&self) -> Result<Kubernetes> {
        Ok(Client::new(&self.socket).status()?.kubernetes)
    }

    /// Why names may be missing or old; empty when they are whole and fresh.
    pub fn stale(&self) -> Result<String> {
        Ok(self.kubernetes()?.stale)
    }

    /// Status and body of `/readyz`.
    pub fn readiness(&self) -> Result<(u16, String)> {
        self.get("/readyz")
    }

    /// Lists that were needed because the server no longer had the version, by resource.
    pub fn relists(&self, resource: &str) -> Result<u64> {
        let watches = self.kubernetes()?.watches;
        let watch = watches.iter().find(|watch| watch.resource == resource);
        watch.map(|watch| watch.relists).with_context(|| format!("no watch of {resource}"))
    }

    pub fn stat(&self) -> Result<Stat> {
        self.process.stat()
    }

    /// Highest resident memory since [`Agent::forget_peak`], bytes (`VmHWM` of proc_pid_status(5)).
    pub fn peak(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().context("VmHWM")?;
        Ok(kib << 10)
    }

    /// `clear_refs` of proc_pid_clear_refs(5): 5 sets the peak to what is resident now.
    pub fn forget_peak(&self) -> Result<()> {
        std::fs::write(format!("/proc/{}/clear_refs", self.process.pid()), "5").context("reset the peak")
    }

    /// SIGSTOP.
    pub fn freeze(&self) -> Result<()> {
        self.process.signal(Signal::SIGSTOP)
    }

    /// SIGCONT.
    pub fn go_on(&self) -> Result<()> {
        self.process.signal(Signal::SIGCONT)
    }

    pub fn stop(&mut self) -> Result<()> {
        let code = self.process.stop(PATIENCE);
        ensure!(code == Some(0), "the agent ended with {code:?}:\n{}", self.log_tail());
        Ok(())
    }

    pub fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?.local_addr()?.port())
}
