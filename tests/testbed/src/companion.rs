use crate::agent::free_port;
use crate::bed::Testbed;
use crate::cluster::{ControlPlane, User, binaries};
use crate::exposition::Exposition;
use crate::fetch::{Response, fetch};
use crate::known::Known;
use crate::process::{Process, Stat};
use crate::programs::built_binary;
use crate::wait::until;
use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Where a companion has its files, which go with it.
pub trait Home {
    fn dir(&self) -> &Path;
    /// Its output is in the file that `log` names, and it is found again after a kill -9.
    fn start(&self, name: &str, command: &mut Command) -> Result<Process>;
    fn log(&self, name: &str) -> PathBuf;
}

impl Home for Testbed {
    fn dir(&self) -> &Path {
        Testbed::dir(self)
    }

    fn start(&self, name: &str, command: &mut Command) -> Result<Process> {
        let process = Process::start(name, command, &self.log_file(name))?;
        self.record_process(process.pid())?;
        Ok(process)
    }

    fn log(&self, name: &str) -> PathBuf {
        self.log_file(name)
    }
}

impl Home for ControlPlane {
    fn dir(&self) -> &Path {
        ControlPlane::dir(self)
    }

    fn start(&self, name: &str, command: &mut Command) -> Result<Process> {
        self.start_beside(name, command)
    }

    fn log(&self, name: &str) -> PathBuf {
        ControlPlane::dir(self).join("logs").join(format!("{name}.log"))
    }
}

/// With both groups for an HPA.
const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/kubernetes/companion-hpa");
const ACCOUNT: &str = "system:serviceaccount:pilotfish:companion";

/// Its manifests as they are shipped, in a cluster that runs no pods: for a process that is started
/// beside it. Returns a kubeconfig of its account.
pub fn apply_manifests(plane: &ControlPlane) -> Result<PathBuf> {
    let mut apply = Command::new(binaries::find(binaries::Program::Kubectl)?);
    apply.arg("--kubeconfig").arg(plane.kubeconfig(User::Admin)?).arg("--cache-dir").arg(plane.dir().join("kubectl"));
    let applied = apply.args(["apply", "--server-side", "-k", MANIFESTS]).output()?;
    ensure!(applied.status.success(), "kubectl apply: {}", String::from_utf8_lossy(&applied.stderr));
    plane.kubeconfig_with_certificate(ACCOUNT, &["system:serviceaccounts"])
}

/// The companion under test: the real binary, with ports of the loopback and with the Secrets that
/// it prints itself.
#[derive(Debug)]
pub struct Companion {
    process: Process,
    dir: PathBuf,
    log: PathBuf,
    pod: String,
    /// Where agents push.
    pub push: SocketAddr,
    /// Where the API server asks.
    pub api: SocketAddr,
    pub metrics: SocketAddr,
}

impl Companion {
    /// Starts it and waits until it serves. It reads the cluster of `kubeconfig`, takes itself for
    /// `pod`, and asks agents to push each second.
    pub fn start(home: &impl Home, kubeconfig: &Path, pod: &str) -> Result<Companion> {
        Companion::start_with(home, kubeconfig, pod, "[limits]\nperiod_s = 1\n")
    }

    /// The same with more tables of its configuration.
    pub fn start_with(home: &impl Home, kubeconfig: &Path, pod: &str, more: &str) -> Result<Companion> {
        let dir = home.dir().join(pod);
        std::fs::create_dir_all(&dir)?;
        let address = || -> Result<SocketAddr> { Ok((Ipv4Addr::LOCALHOST, free_port()?).into()) };
        let (push, api, metrics) = (address()?, address()?, address()?);
        write_secrets(&dir, push)?;
        let file = |name: &str| dir.join(name);
        let text = format!(
            "[push]\nlisten = \"{push}\"\n[api]\nlisten = \"{api}\"\n[metrics]\nlisten = \"{metrics}\"\n\
             [tls]\ncertificate = {:?}\nkey = {:?}\n[join]\ntoken = {:?}\n\
             [kubernetes]\nkubeconfig = {kubeconfig:?}\n[hpa]\ncustom_metrics = true\nexternal_metrics = true\n{more}",
            file("tls.crt"),
            file("tls.key"),
            file("token"),
        );
        std::fs::write(file("companion.toml"), text)?;
        let log = home.log(pod);
        let process = start_process(home, &dir, pod)?;
        let mut companion = Companion { process, dir, log, pod: pod.to_owned(), push, api, metrics };
        companion.wait_serves()?;
        Ok(companion)
    }

    fn wait_serves(&mut self) -> Result<()> {
        let metrics = self.metrics;
        let serves = until("the companion serves", Duration::from_secs(15), || {
            !self.process.is_running()
                || fetch(metrics, "/readyz", Duration::from_secs(1)).is_ok_and(|response| response.status == 200)
        });
        if !self.process.is_running() {
            bail!("the companion ended with {:?}:\n{}", self.process.exit_code(), self.log_text());
        }
        serves.with_context(|| self.log_text())
    }

    pub fn stat(&self) -> Result<Stat> {
        self.process.stat()
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// After [`Companion::kill`]: the same files, the same ports.
    pub fn start_again(&mut self, home: &impl Home) -> Result<()> {
        self.process = start_process(home, &self.dir, &self.pod)?;
        self.wait_serves()
    }

    /// Graceful stop; the exit code.
    pub fn stop(&mut self) -> Option<i32> {
        self.process.stop(Duration::from_secs(10))
    }

    #[must_use]
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn get(&self, target: &str) -> Result<Response> {
        fetch(self.metrics, target, Duration::from_secs(5))
    }

    /// A scrape, with the buckets that agents show.
    pub fn scrape(&self) -> Result<Exposition> {
        let page = Exposition::parse(&self.get("/metrics?histograms=classic")?.body());
        Known::of_companion()?.admits_page(&page)?;
        Ok(page)
    }

    /// What it says of itself, without the series of nodes.
    pub fn own_metrics(&self) -> Result<Exposition> {
        Ok(Exposition::parse(&self.get("/metrics?node=-")?.body()))
    }

    /// The text of the `join.toml` that nodes get.
    pub fn join_toml(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.dir.join("join.toml"))?)
    }

    /// Another join token, as whoever changes it in the Secret; the text of the `join.toml` with it.
    pub fn change_token(&self, token: &str) -> Result<String> {
        std::fs::write(self.dir.join("token"), token)?;
        let file = self.dir.join("join.toml");
        let is_token = |line: &str| line.starts_with("token = ");
        let changed: Vec<String> = std::fs::read_to_string(&file)?
            .lines()
            .map(|line| if is_token(line) { format!("token = {token:?}") } else { line.to_owned() })
            .collect();
        std::fs::write(&file, changed.join("\n"))?;
        self.join_toml()
    }

    /// The APIService of a group that leads to it through Service `name` of the type `ExternalName`, as the
    /// program prints it beside those that `kubectl get apiservices -o json` has listed.
    pub fn api_service(&self, group: &str, name: &str, listed: &str) -> Result<String> {
        let mut command = Command::new(built_binary("pilotfish-companion")?);
        command.args(["api-service", "--port", &self.api.port().to_string(), "--name", name, "--group", group, "--ca"]);
        command.arg(self.dir.join("ca.crt"));
        if !listed.is_empty() {
            let file = self.dir.join("apiservices.json");
            std::fs::write(&file, listed)?;
            command.arg("--beside").arg(file);
        }
        let printed = command.output()?;
        ensure!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
        Ok(String::from_utf8(printed.stdout)?)
    }
}

fn start_process(home: &impl Home, dir: &Path, pod: &str) -> Result<Process> {
    let mut command = Command::new(built_binary("pilotfish-companion")?);
    command.args(["serve", "--config"]).arg(dir.join("companion.toml"));
    // What the developer's shell says of a cluster is no part of a test.
    command.env_remove("KUBECONFIG").env_remove("KUBERNETES_SERVICE_HOST").env("POD_NAME", pod);
    home.start(pod, &mut command)
}

/// As an admin's `pilotfish-companion secrets | kubectl apply` and the kubelet would.
fn write_secrets(dir: &Path, push: SocketAddr) -> Result<()> {
    let output = Command::new(built_binary("pilotfish-companion")?)
        .args(["secrets", "--address", &push.to_string()])
        .output()
        .context("run pilotfish-companion secrets")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let list: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    for (item, name, file) in [
        (0, "tls.crt", "ca.crt"),
        (1, "tls.crt", "tls.crt"),
        (1, "tls.key", "tls.key"),
        (2, "token", "token"),
        (2, "join.toml", "join.toml"),
    ] {
        let data = list["items"][item]["data"][name].as_str().with_context(|| format!("{name} of {list}"))?;
        std::fs::write(dir.join(file), STANDARD.decode(data)?)?;
    }
    Ok(())
}
