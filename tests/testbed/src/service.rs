//! Services of the node, as systemd would run them: a process in a cgroup of `system.slice`.

use crate::bed::Testbed;
use crate::process::Process;
use crate::wait::until;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The cgroup of a service of the node. Needs cgroup v2, alone or beside version 1.
#[derive(Debug)]
pub struct ServiceCgroup(PathBuf);

impl ServiceCgroup {
    /// Without a process so far.
    pub fn new(name: &str) -> Result<ServiceCgroup> {
        let cgroup = unified()?.join("system.slice").join(format!("{name}.service"));
        std::fs::create_dir_all(&cgroup).with_context(|| format!("make {}", cgroup.display()))?;
        Ok(ServiceCgroup(cgroup))
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for ServiceCgroup {
    fn drop(&mut self) {
        let _ = until("the service's cgroup is empty", PATIENCE, || std::fs::remove_dir(&self.0).is_ok());
        // Where systemd is not, it was made for this; others may still use it.
        let _ = self.0.parent().map(std::fs::remove_dir);
    }
}

const PATIENCE: Duration = Duration::from_secs(30);

/// A service that runs in the testbed's node.
#[derive(Debug)]
pub struct Service {
    // Ends before its cgroup is removed.
    process: Process,
    _cgroup: ServiceCgroup,
}

impl Service {
    /// Its cgroup is there before its program runs.
    pub fn start(bed: &Testbed, name: &str, program: &[&str]) -> Result<Service> {
        let cgroup = ServiceCgroup::new(name)?;
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ > \"$0/cgroup.procs\" && exec \"$@\""]).arg(cgroup.path());
        command.arg("nsenter").arg(format!("--net={}", bed.node().path().display())).args(program);
        let process = Process::start(name, &mut command, &bed.log_file(name))?;
        bed.record_process(process.pid())?;
        Ok(Service { process, _cgroup: cgroup })
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// Where cgroups of version 2 are.
fn unified() -> Result<&'static Path> {
    let places = [Path::new("/sys/fs/cgroup"), Path::new("/sys/fs/cgroup/unified")];
    places
        .into_iter()
        .find(|place| place.join("cgroup.procs").exists())
        .context("cgroup v2 is not mounted: mount it at /sys/fs/cgroup/unified")
}
