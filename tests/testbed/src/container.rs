//! What is asked of a container, and one that runs.

use crate::network::Netns;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
    /// Place of the containerd that runs it.
    pub(crate) containerd: usize,
    /// Beside those that containerd gives to all.
    pub(crate) capabilities: Vec<&'static str>,
    /// A sandbox that is no container, and the shim that both are run by.
    pub(crate) sandbox: Option<(String, String)>,
    /// Bytes that all its processes may have.
    pub(crate) memory: Option<u64>,
    /// Paths of the node, and where they are inside.
    pub(crate) mounts: Vec<(PathBuf, String)>,
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
            containerd: 0,
            capabilities: Vec::new(),
            sandbox: None,
            memory: None,
            mounts: Vec::new(),
        }
    }

    /// Finds what is at `from` at `to`, to be read.
    #[must_use]
    pub fn mount(mut self, from: &Path, to: &str) -> Self {
        self.mounts.push((from.to_owned(), to.into()));
        self
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

    /// Has it run by the containerd at this place of the testbed, not by the first.
    #[must_use]
    pub fn run_by(mut self, containerd: usize) -> Self {
        self.containerd = containerd;
        self
    }

    /// Gives it one more capability (`CAP_..`).
    #[must_use]
    pub fn may(mut self, capability: &'static str) -> Self {
        self.capabilities.push(capability);
        self
    }

    /// Lets its processes have so many bytes of memory together.
    #[must_use]
    pub fn with_memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// Puts it into this sandbox of containerd's, run by the same shim.
    #[must_use]
    pub fn in_sandbox(mut self, sandbox: &str, shim: &str) -> Self {
        self.sandbox = Some((sandbox.into(), shim.into()));
        self
    }

    /// Shares the network namespace of another container.
    #[must_use]
    pub fn sharing(mut self, other: &Container) -> Self {
        self.shares = Some(Arc::clone(&other.netns));
        self.address = Some(other.address);
        self
    }

    /// Lives in this namespace, which has this address.
    #[must_use]
    pub fn inside(mut self, netns: Arc<Netns>, address: Ipv4Addr) -> Self {
        self.shares = Some(netns);
        self.address = Some(address);
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

/// A running container. Stopped by its testbed, or by [`Testbed::stop`](crate::Testbed::stop).
#[derive(Clone, Debug)]
pub struct Container {
    pub name: String,
    pub namespace: String,
    pub address: Ipv4Addr,
    /// Its first process, in the machine's pid namespace.
    pub pid: u32,
    pub netns: Arc<Netns>,
    pub(crate) log: PathBuf,
    /// Place of the containerd that runs it.
    pub(crate) containerd: usize,
}

impl Container {
    /// What it has written so far.
    #[must_use]
    pub fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}
