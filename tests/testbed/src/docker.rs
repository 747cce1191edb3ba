//! A real dockerd on the testbed's node: its data, its sockets and its networks are the testbed's own,
//! and its containers are run by the testbed's containerd.

use crate::bed::Testbed;
use crate::network::{Netns, run};
use crate::process::Process;
use crate::programs::installed;
use crate::wait::until;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// What containers are made of: the testbed's root file system.
pub const IMAGE: &str = "testbed";

/// Ends its containers when it is dropped. To be dropped before its testbed.
#[derive(Debug)]
pub struct Docker {
    dir: PathBuf,
    log: PathBuf,
    containerd: PathBuf,
    node: Arc<Netns>,
    process: Process,
}

impl Docker {
    /// With live restore: what runs outlives a restart of dockerd.
    pub fn start(bed: &Testbed) -> Result<Docker> {
        let dir = bed.dir().join("docker");
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("daemon.json"), "{\"live-restore\": true}\n")?;
        let (log, containerd, node) = (bed.log_file("dockerd"), bed.containerd().socket(), bed.node_shared());
        let process = spawn(&dir, &log, &containerd, &node)?;
        let docker = Docker { dir, log, containerd, node, process };
        docker.wait_ready()?;
        bed.record_process(docker.process.pid())?;
        let import = format!("tar -C \"$0\" -c . | \"$1\" --host \"$2\" import - {IMAGE}");
        let mut shell = Command::new("sh");
        shell.args(["-c", &import]).arg(bed.dir().join("rootfs")).arg(installed("docker")?).arg(docker.host());
        run(&mut shell)?;
        Ok(docker)
    }

    /// `docker ...` against this daemon.
    pub fn docker(&self, args: &[&str]) -> Result<String> {
        let text = run(Command::new(installed("docker")?).arg("--host").arg(self.host()).args(args))?;
        Ok(text.trim().to_owned())
    }

    /// `docker run --detach --name NAME OPTIONS IMAGE COMMAND`.
    pub fn run(&self, name: &str, options: &[&str], command: &[&str]) -> Result<String> {
        self.docker(&[&["run", "--detach", "--name", name], options, &[IMAGE], command].concat())
    }

    /// The address of a container in a network.
    pub fn address(&self, name: &str, network: &str) -> Result<String> {
        let format = format!("{{{{(index .NetworkSettings.Networks {network:?}).IPAddress}}}}");
        self.docker(&["inspect", "--format", &format, name])
    }

    /// SIGKILL, and the daemon again.
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill();
        fs::remove_file(self.dir.join("docker.pid")).ok();
        self.process = spawn(&self.dir, &self.log, &self.containerd, &self.node)?;
        self.wait_ready()
    }

    fn host(&self) -> String {
        format!("unix://{}", self.dir.join("docker.sock").display())
    }

    fn wait_ready(&self) -> Result<()> {
        until("dockerd answers", Duration::from_secs(60), || self.docker(&["version"]).is_ok())
            .with_context(|| fs::read_to_string(&self.log).unwrap_or_default())
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let all = self.docker(&["ps", "--all", "--quiet"]).unwrap_or_default();
        for id in all.split_whitespace() {
            self.docker(&["rm", "--force", id]).ok();
        }
        self.process.stop(Duration::from_secs(20));
    }
}

fn spawn(dir: &Path, log: &Path, containerd: &Path, node: &Netns) -> Result<Process> {
    let dockerd = installed("dockerd").context("scripts/setup.sh --docker installs it")?;
    let mut command = node.command(&dockerd);
    command.arg("--config-file").arg(dir.join("daemon.json")).arg("--containerd").arg(containerd);
    command.arg("--data-root").arg(dir.join("data")).arg("--exec-root").arg(dir.join("exec"));
    command.arg("--pidfile").arg(dir.join("docker.pid"));
    command.arg("--host").arg(format!("unix://{}", dir.join("docker.sock").display()));
    command.args(["--exec-opt", "native.cgroupdriver=cgroupfs"]);
    Process::start("dockerd", &mut command, log)
}
