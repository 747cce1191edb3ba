use crate::bed::Testbed;
use crate::exposition::Exposition;
use crate::fetch::{Response, fetch, fetch_fresh, fetch_unix};
use crate::known::Known;
use crate::native::{self, NativeHistogram};
use crate::process::{Process, Stat};
use crate::programs::built_binary;
use crate::wait::until;
use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What a test may want of the agent; the rest is as shipped.
#[derive(Clone, Debug, Default)]
pub struct AgentOptions {
    /// `[attach] mode`: auto, tcx or clsact.
    pub attach_mode: Option<&'static str>,
    /// `[containerd] sockets`; empty: those of the testbed's containerds.
    pub sockets: Vec<PathBuf>,
    /// `[containerd] sockets` stays empty: those of the usual places are looked for.
    pub usual_sockets: bool,
    /// `[containerd] namespaces`; empty: all.
    pub namespaces: Vec<String>,
    /// `[capture] ring_bytes`.
    pub ring_bytes: Option<u32>,
    /// `[debug] enabled`: needed for [`Agent::pause_reader`].
    pub debug: bool,
    /// More of the configuration file: whole sections.
    pub more: String,
    /// `cgroup.procs` of the control group that it runs in from its first instruction on.
    pub cgroup: Option<PathBuf>,
    /// Where counters are kept from one run to the next, as systemd's `StateDirectory=` says it.
    pub state: Option<PathBuf>,
    /// Descriptors that it may have, soft and hard limit.
    pub descriptors: Option<u64>,
    /// What starts it: words before its own that make the place it runs in (`unshare`, `setpriv`,
    /// a shell) and become it at last, with the same process id.
    pub under: Vec<String>,
}

impl AgentOptions {
    /// The configuration file of an agent that watches these containerds and answers at `admin` and `socket`.
    pub(crate) fn to_toml(&self, containerds: &[PathBuf], admin: SocketAddr, socket: &Path) -> String {
        let sockets = match self.usual_sockets {
            true => &[],
            false if self.sockets.is_empty() => containerds,
            false => self.sockets.as_slice(),
        };
        let mut text = format!(
            "[containerd]\nsockets = {:?}\nnamespaces = {:?}\n\n[admin]\nlisten = \"{admin}\"\nsocket = {:?}\n",
            sockets, self.namespaces, socket
        );
        if let Some(mode) = self.attach_mode {
            text += &format!("\n[attach]\nmode = \"{mode}\"\n");
        }
        if let Some(bytes) = self.ring_bytes {
            text += &format!("\n[capture]\nring_bytes = {bytes}\n");
        }
        if self.debug {
            text += "\n[debug]\nenabled = true\n";
        }
        text + &self.more
    }
}

/// The agent under test: the real binary, with a configuration file, an admin port and a socket of its own.
#[derive(Debug)]
pub struct Agent {
    pub(crate) process: Process,
    pub(crate) config: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) state: Option<PathBuf>,
    pub admin: SocketAddr,
    pub socket: PathBuf,
}

impl Agent {
    /// Starts it against the testbed's containerd; returns before it is ready.
    pub fn spawn(bed: &Testbed, options: &AgentOptions) -> Result<Agent> {
        let port = free_port()?;
        let name = format!("agent-{port}");
        let (config, socket) = (bed.dir().join(format!("{name}.toml")), bed.dir().join(format!("{name}.sock")));
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let text = options.to_toml(&bed.containerd_sockets(), admin, &socket);
        std::fs::write(&config, text)?;
        let log = bed.log_file(&name);
        let state = options.state.clone();
        let process = Agent::start_process(bed, options, state.as_deref(), &config, &log)?;
        Ok(Agent { process, config, log, state, admin, socket })
    }

    /// Starts it and waits until it says that it is ready.
    pub fn start(bed: &Testbed, options: &AgentOptions) -> Result<Agent> {
        let mut agent = Agent::spawn(bed, options)?;
        agent.wait_ready()?;
        Ok(agent)
    }

    fn start_process(
        bed: &Testbed,
        options: &AgentOptions,
        state: Option<&Path>,
        config: &Path,
        log: &Path,
    ) -> Result<Process> {
        let program = built_binary("pilotfish")?;
        let mut command = match &options.cgroup {
            None => Command::new("env"),
            Some(cgroup) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(cgroup);
                shell
            }
        };
        if let Some(most) = options.descriptors {
            command.arg("prlimit").arg(format!("--nofile={most}:{most}"));
        }
        command.args(&options.under).arg(program);
        command.arg("agent").arg("--config").arg(config);
        // What the developer's shell says of a cluster is no part of a test.
        command.env_remove("KUBECONFIG").env_remove("NODE_NAME").env_remove("KUBERNETES_SERVICE_HOST");
        if let Some(state) = state {
            command.env("STATE_DIRECTORY", state);
        }
        let process = Process::start("pilotfish", &mut command, log)?;
        bed.record_process(process.pid())?;
        Ok(process)
    }

    pub fn wait_ready(&mut self) -> Result<()> {
        let admin = self.admin;
        let ready = until("the agent is ready", Duration::from_secs(15), || {
            !self.process.is_running()
                || fetch(admin, "/readyz", Duration::from_secs(1)).is_ok_and(|response| response.status == 200)
        });
        if !self.process.is_running() {
            bail!("the agent ended with {:?}:\n{}", self.process.exit_code(), self.log_text());
        }
        ready.with_context(|| self.log_text())
    }

    /// After [`Agent::kill`] or [`Agent::stop`]: the same configuration again.
    pub fn start_again(&mut self, bed: &Testbed) -> Result<()> {
        self.process =
            Agent::start_process(bed, &AgentOptions::default(), self.state.as_deref(), &self.config, &self.log)?;
        self.wait_ready()
    }

    /// Its configuration file.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.config
    }

    #[must_use]
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    pub fn stat(&self) -> Result<Stat> {
        self.process.stat()
    }

    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    pub fn get(&self, target: &str) -> Result<Response> {
        fetch(self.admin, target, Duration::from_secs(5))
    }

    pub fn metrics(&self) -> Result<Exposition> {
        let page = Exposition::parse(&fetch_fresh(self.admin, "/metrics", "*/*", Duration::from_secs(5))?.body());
        Known::of_agent()?.admits_page(&page)?;
        Ok(page)
    }

    /// The native histograms called `name` whose series have `labels`, added up.
    pub fn native(&self, name: &str, labels: &[(&str, &str)]) -> Result<NativeHistogram> {
        let patience = Duration::from_secs(5);
        Ok(NativeHistogram::read(
            &fetch_fresh(self.admin, "/metrics", native::MEDIA_TYPE, patience)?.bytes,
            name,
            labels,
        ))
    }

    /// Exchanges counted and exchanges lost, as `reporter` (client or server) saw them, all protocols together.
    pub fn counted_and_lost(&self, reporter: &str) -> Result<(u64, u64)> {
        let metrics = self.metrics()?;
        let of = [("reporter", reporter)];
        Ok((metrics.count("pilotfish_exchanges_total", &of), metrics.count("pilotfish_exchanges_lost_total", &of)))
    }

    /// Namespaces that are attached now, by the agent's own gauge.
    pub fn attached(&self) -> Result<u64> {
        Ok(self.metrics()?.count("pilotfish_netns", &[("state", "attached")]))
    }

    pub fn wait_attached(&self, namespaces: u64, patience: Duration) -> Result<()> {
        until(&format!("{namespaces} namespaces are attached"), patience, || {
            self.attached().is_ok_and(|n| n == namespaces)
        })
        .with_context(|| self.log_text())
    }

    /// Waits until the namespace of this workload is attached.
    pub fn wait_attached_to(&self, workload: &str, patience: Duration) -> Result<()> {
        let attached = || -> Result<bool> {
            let status: serde_json::Value = serde_json::from_str(&self.cli(&["status", "-o", "json"])?)?;
            let mut rows = status["namespaces"].as_array().into_iter().flatten();
            Ok(rows.any(|row| row["workload"] == workload && row["state"] == "attached"))
        };
        until(&format!("{workload} is attached"), patience, || attached().unwrap_or(false))
            .with_context(|| self.log_text())
    }

    /// Makes the ring's reader sleep, so that the ring overflows.
    pub fn pause_reader(&self, pause: Duration) -> Result<()> {
        let target = format!("/debug/pause?ms={}", pause.as_millis());
        let response = fetch_unix(&self.socket, "POST", &target, Duration::from_secs(5))?;
        anyhow::ensure!(response.status == 202, "{target}: {}", response.status);
        Ok(())
    }

    /// Runs a command of the CLI against this agent and returns its output.
    pub fn cli(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new(built_binary("pilotfish")?);
        command.args(args).arg("--socket").arg(&self.socket);
        crate::network::run(&mut command)
    }

    /// Graceful stop; the exit code.
    pub fn stop(&mut self) -> Option<i32> {
        self.process.stop(Duration::from_secs(10))
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}

/// A port of the loopback that was free a moment ago. None that the kernel gives to connections or
/// to who asks for any port (ip_local_port_range, from 32,768 on): those are taken in between.
pub(crate) fn free_port() -> Result<u16> {
    let any = || 10_000 + u16::try_from(RandomState::new().hash_one(0) % 22_000).unwrap_or(0);
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    std::iter::repeat_with(any).take(100).find(is_free).context("find a free port")
}
