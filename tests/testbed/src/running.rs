//! Starts containers, runs commands in them, and ends them.

use crate::bed::Testbed;
use crate::container::{Container, ContainerSpec};
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

impl Testbed {
    /// Starts a container: its network namespace first (interface up, address set), then the task.
    pub fn run(&mut self, spec: ContainerSpec) -> Result<Container> {
        let ContainerSpec {
            name,
            namespace,
            command,
            labels,
            files,
            shares,
            address,
            processor,
            on_the_node,
            containerd,
            capabilities,
            sandbox,
            memory,
            mounts,
        } = spec;
        let (netns, address) = match (shares, address) {
            _ if on_the_node => (self.node_shared(), crate::network::address_of(1)),
            (Some(netns), Some(address)) => (netns, address),
            _ => self.new_pod_netns(&name)?,
        };
        let conf = self.dir().join("conf").join(&name);
        fs::create_dir_all(&conf)?;
        for (file, content) in &files {
            fs::write(conf.join(file), content)?;
        }
        let log = self.dir().join("logs").join(format!("{name}.log"));
        let pid_file = self.dir().join("pids").join(&name);
        fs::write(&log, "")?;
        fs::remove_file(&pid_file).ok();
        let mut ctr = self.containerd_at(containerd).ctr_command(&namespace)?;
        ctr.args(["run", "--detach", "--rootfs", "--runc-root"]).arg(self.dir().join("runc"));
        if on_the_node && let Some(runtime) = self.runtime_with_cgroup()? {
            ctr.arg("--runc-binary").arg(runtime);
        }
        ctr.arg("--cgroup").arg(format!("/{}/{name}", self.id()));
        ctr.arg("--with-ns").arg(format!("network:{}", netns.path().display()));
        ctr.arg("--log-uri").arg(format!("file://{}", log.display()));
        ctr.arg("--pid-file").arg(&pid_file);
        ctr.arg("--mount").arg(format!("type=bind,src={},dst=/conf,options=rbind:ro", conf.display()));
        for (from, to) in mounts {
            ctr.arg("--mount").arg(format!("type=bind,src={},dst={to},options=rbind:ro", from.display()));
        }
        for capability in capabilities {
            ctr.args(["--cap-add", capability]);
        }
        if let Some((sandbox, shim)) = sandbox {
            ctr.args(["--sandbox", &sandbox, "--runtime", &shim]);
        }
        if let Some(bytes) = memory {
            ctr.arg("--memory-limit").arg(bytes.to_string());
        }
        for (label, value) in &labels {
            ctr.arg("--label").arg(format!("{label}={value}"));
        }
        ctr.arg(self.dir().join("rootfs")).arg(&name);
        if let Some(processor) = processor {
            ctr.args(["/bin/busybox", "taskset", &format!("{:x}", 1_u64 << processor)]);
        }
        ctr.args(&command);
        crate::network::run(&mut ctr).with_context(|| format!("start container {name}"))?;
        let pid = fs::read_to_string(&pid_file)?.trim().parse().context("pid file")?;
        let container = Container { name, namespace, address, pid, netns, log, containerd };
        self.remember(container.clone());
        Ok(container)
    }

    /// Where version 2 is only mounted beside version 1, runc leaves containers at its root. This
    /// runs runc from a cgroup `/<testbed>/<container>`, which its child inherits. None where
    /// version 2 stands alone: runc makes that cgroup itself.
    fn runtime_with_cgroup(&self) -> Result<Option<PathBuf>> {
        let unified = Path::new("/sys/fs/cgroup/unified");
        if !unified.join("cgroup.procs").exists() {
            return Ok(None);
        }
        let script = self.dir().join("runc-with-cgroup");
        let text = format!(
            "#!/bin/sh\nfor word; do last=$word; done\ncase \" $* \" in *\" create \"*)\n  mkdir -p {0}/{1}/$last && echo $$ > {0}/{1}/$last/cgroup.procs ;;\nesac\nexec runc \"$@\"\n",
            unified.display(),
            self.id()
        );
        fs::write(&script, text)?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        Ok(Some(script))
    }

    /// Runs a command inside a container and returns what it wrote.
    pub fn exec(&self, container: &Container, command: &[&str]) -> Result<String> {
        // containerd wants a name for each; the clock's nanoseconds are unique enough among a test's few.
        let id = format!("exec-{}", nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)?.tv_nsec());
        let mut args = vec!["task", "exec", "--fifo-dir"];
        let fifos = self.dir().join("fifo").display().to_string();
        args.extend([fifos.as_str(), "--exec-id", &id, &container.name]);
        args.extend_from_slice(command);
        self.containerd_at(container.containerd).ctr(&container.namespace, &args)
    }

    /// Ends a container with SIGTERM (SIGKILL after `grace`) and removes it; its namespace goes with its last user.
    pub fn stop(&mut self, container: Container, grace: Duration) -> Result<()> {
        let Container { name, namespace, pid, .. } = &container;
        let ctr = |args: &[&str]| self.containerd_at(container.containerd).ctr(namespace, args);
        let gone = || crate::process::start_time(*pid).is_none();
        ctr(&["task", "kill", "--signal", "SIGTERM", name]).ok();
        if crate::wait::until("container ends", grace, gone).is_err() {
            ctr(&["task", "kill", "--signal", "SIGKILL", name]).ok();
            crate::wait::until("container ends after SIGKILL", Duration::from_secs(5), gone)?;
        }
        // The shim tells containerd of the end a moment after the process is gone.
        crate::wait::until("container is removed", Duration::from_secs(5), || {
            ctr(&["task", "rm", "--force", name]).ok();
            ctr(&["container", "rm", name]).is_ok()
        })?;
        self.forget(name);
        Ok(())
    }
}
