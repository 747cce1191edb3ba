use crate::bed::Testbed;
use crate::network::Netns;
use anyhow::{Context, Result};
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What the kubelet's CRI plugin writes on the containers of a pod.
#[derive(Clone, Debug)]
pub struct PodLabels {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

/// A container to be started.
#[derive(Clone, Debug)]
pub struct ContainerSpec {
    pub(crate) name: String,
    /// containerd's namespace.
    pub(crate) namespace: String,
    pub(crate) command: Vec<String>,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) files: Vec<(String, String)>,
    pub(crate) shares: Option<Arc<Netns>>,
    pub(crate) address: Option<Ipv4Addr>,
    /// Processors that it may use (`cpuset.cpus` style), by taskset inside.
    pub(crate) processor: Option<usize>,
    /// In the node's own network namespace.
    pub(crate) on_the_node: bool,
}

impl ContainerSpec {
    /// A container called `name` that runs `command` (a path inside the testbed's root file system, and arguments).
    #[must_use]
    pub fn new(name: &str, command: &[&str]) -> ContainerSpec {
        ContainerSpec {
            name: name.into(),
            namespace: "testbed".into(),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            labels: Vec::new(),
            files: Vec::new(),
            shares: None,
            address: None,
            processor: None,
            on_the_node: false,
        }
    }

    /// Puts it into containerd's namespace `namespace`.
    #[must_use]
    pub fn in_namespace(mut self, namespace: &str) -> Self {
        self.namespace = namespace.into();
        self
    }

    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.labels.push((name.into(), value.into()));
        self
    }

    /// A file that it finds as `/conf/<name>`.
    #[must_use]
    pub fn file(mut self, name: &str, content: &str) -> Self {
        self.files.push((name.into(), content.into()));
        self
    }

    /// Shares the network namespace of another container.
    #[must_use]
    pub fn sharing(mut self, other: &Container) -> Self {
        self.shares = Some(Arc::clone(&other.netns));
        self.address = Some(other.address);
        self
    }

    /// Shares the node's network namespace, as a pod with `hostNetwork` does, and has a cgroup of version 2 of its own.
    #[must_use]
    pub fn on_the_node(mut self) -> Self {
        self.on_the_node = true;
        self
    }

    /// The sandbox container of a pod, as CRI labels it; containerd's namespace becomes `k8s.io`.
    #[must_use]
    pub fn sandbox_of(self, pod: &PodLabels) -> Self {
        self.pod_labels(pod).label("io.cri-containerd.kind", "sandbox")
    }

    /// An application container of a pod.
    #[must_use]
    pub fn part_of(self, pod: &PodLabels, container: &str) -> Self {
        self.pod_labels(pod)
            .label("io.cri-containerd.kind", "container")
            .label("io.kubernetes.container.name", container)
    }

    fn pod_labels(self, pod: &PodLabels) -> Self {
        let PodLabels { namespace, name, uid } = pod;
        self.in_namespace("k8s.io")
            .label("io.kubernetes.pod.namespace", namespace)
            .label("io.kubernetes.pod.name", name)
            .label("io.kubernetes.pod.uid", uid)
    }

    /// Pins its processes to one processor.
    #[must_use]
    pub fn pinned_to(mut self, processor: usize) -> Self {
        self.processor = Some(processor);
        self
    }
}

/// A running container. Stopped by its testbed, or by [`Testbed::stop`].
#[derive(Clone, Debug)]
pub struct Container {
    pub name: String,
    pub namespace: String,
    pub address: Ipv4Addr,
    /// Its first process, in the machine's pid namespace.
    pub pid: u32,
    pub netns: Arc<Netns>,
    pub(crate) log: PathBuf,
}

impl Container {
    /// What it has written so far.
    #[must_use]
    pub fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Testbed {
    /// Starts a container: its network namespace first (interface up, address set), then the task.
    pub fn run(&mut self, spec: ContainerSpec) -> Result<Container> {
        let ContainerSpec { name, namespace, command, labels, files, shares, address, processor, on_the_node } = spec;
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
        let mut ctr = self.containerd().ctr_command(&namespace)?;
        ctr.args(["run", "--detach", "--rootfs", "--runc-root"]).arg(self.dir().join("runc"));
        if on_the_node && let Some(runtime) = self.runtime_with_cgroup()? {
            ctr.arg("--runc-binary").arg(runtime);
        }
        ctr.arg("--cgroup").arg(format!("/{}/{name}", self.id()));
        ctr.arg("--with-ns").arg(format!("network:{}", netns.path().display()));
        ctr.arg("--log-uri").arg(format!("file://{}", log.display()));
        ctr.arg("--pid-file").arg(&pid_file);
        ctr.arg("--mount").arg(format!("type=bind,src={},dst=/conf,options=rbind:ro", conf.display()));
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
        let container = Container { name, namespace, address, pid, netns, log };
        self.remember(container.clone());
        Ok(container)
    }

    /// Where version 2 is only mounted beside version 1, runc leaves containers at its root. This runs runc from a cgroup `/<testbed>/<container>`, which
    /// its child inherits. None where version 2 stands alone: runc makes that cgroup itself.
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
        self.containerd().ctr(&container.namespace, &args)
    }

    /// Ends a container with SIGTERM (SIGKILL after `grace`) and removes it; its namespace goes with its last user.
    pub fn stop(&mut self, container: Container, grace: Duration) -> Result<()> {
        let Container { name, namespace, pid, .. } = &container;
        let gone = || crate::process::start_time(*pid).is_none();
        self.containerd().ctr(namespace, &["task", "kill", "--signal", "SIGTERM", name]).ok();
        if crate::wait::until("container ends", grace, gone).is_err() {
            self.containerd().ctr(namespace, &["task", "kill", "--signal", "SIGKILL", name]).ok();
            crate::wait::until("container ends after SIGKILL", Duration::from_secs(5), gone)?;
        }
        // The shim tells containerd of the end a moment after the process is gone.
        crate::wait::until("container is removed", Duration::from_secs(5), || {
            self.containerd().ctr(namespace, &["task", "rm", "--force", name]).ok();
            self.containerd().ctr(namespace, &["container", "rm", name]).is_ok()
        })?;
        self.forget(name);
        Ok(())
    }
}
