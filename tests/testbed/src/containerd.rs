use crate::network::run;
use crate::process::Process;
use crate::programs::installed;
use crate::wait::until;
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A containerd of the testbed's own: its root, state and socket are in the testbed's directory.
/// Containers survive its end, as they do on any node: their shims are processes of their own.
#[derive(Debug)]
pub struct Containerd {
    dir: PathBuf,
    process: Process,
}

impl Containerd {
    pub(crate) fn start(dir: &Path) -> Result<Containerd> {
        std::fs::write(dir.join("containerd.toml"), config(dir))?;
        let process = spawn(dir)?;
        let mut containerd = Containerd { dir: dir.to_owned(), process };
        containerd.wait_ready()?;
        Ok(containerd)
    }

    #[must_use]
    pub fn socket(&self) -> PathBuf {
        socket(&self.dir)
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// `ctr -n NAMESPACE ...` against this containerd.
    pub fn ctr(&self, namespace: &str, args: &[&str]) -> Result<String> {
        run(self.ctr_command(namespace)?.args(args))
    }

    pub(crate) fn ctr_command(&self, namespace: &str) -> Result<Command> {
        let mut command = Command::new(installed("ctr")?);
        command.arg("-a").arg(self.socket()).args(["-n", namespace]);
        Ok(command)
    }

    /// SIGKILL: what a crash looks like to those who are connected.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    pub fn start_again(&mut self) -> Result<()> {
        self.process = spawn(&self.dir)?;
        self.wait_ready()
    }

    fn wait_ready(&mut self) -> Result<()> {
        let socket = self.socket();
        until("containerd answers", Duration::from_secs(30), || {
            socket.exists() && self.ctr("default", &["version"]).is_ok()
        })
    }
}

pub(crate) fn socket(dir: &Path) -> PathBuf {
    dir.join("containerd.sock")
}

fn spawn(dir: &Path) -> Result<Process> {
    let mut command = Command::new(installed("containerd")?);
    command.arg("-c").arg(dir.join("containerd.toml"));
    Process::start("containerd", &mut command, &dir.join("logs/containerd.log"))
}

/// Without CRI (there is no kubelet) and without what would touch the machine outside `dir`
/// (`/opt/containerd`) or is not used here.
fn config(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        r#"version = 2
root = "{dir}/root"
state = "{dir}/state"
disabled_plugins = [
  "io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing",
  "io.containerd.tracing.processor.v1.otlp", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]
[grpc]
  address = "{dir}/containerd.sock"
[ttrpc]
  address = "{dir}/containerd.ttrpc"
"#
    )
}
