use crate::container::Container;
use crate::containerd::Containerd;
use crate::network::{self, Netns, address_of};
use crate::programs::built_binary;
use crate::{rootfs, sweep};
use anyhow::{Context, Result, bail};
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One node: a directory, a containerd or several, a network namespace with a bridge, and containers.
/// Everything is removed on drop.
///
/// Its id begins with `pft` and names all that it makes outside its directory: network namespaces and cgroups.
#[derive(Debug)]
pub struct Testbed {
    id: String,
    dir: PathBuf,
    node: Arc<Netns>,
    containers: Vec<Container>,
    /// The first is in the testbed's directory itself. Empty once it is taken down.
    containerds: Vec<Containerd>,
    next_host: u16,
    /// Held while this process lives: `sweep` takes only what nobody holds.
    lock: Option<sweep::Lock>,
}

impl Testbed {
    /// Builds the node: about a second. Needs root.
    pub fn start() -> Result<Testbed> {
        if !nix::unistd::geteuid().is_root() {
            bail!("the testbed makes network namespaces and runs containerd: it needs root");
        }
        let (id, dir, lock) = sweep::new_directory()?;
        let built = Testbed::build(&id, &dir, lock);
        if built.is_err() {
            sweep::remove(&id, &dir).ok();
        }
        built
    }

    fn build(id: &str, dir: &Path, lock: sweep::Lock) -> Result<Testbed> {
        for name in ["conf", "fifo", "logs", "pids", "rootfs"] {
            fs::create_dir(dir.join(name))?;
        }
        let (loadgen, api) = (built_binary("loadgen")?, built_binary("api")?);
        // Each wanted by a few tests and measurements only.
        let seldom = ["hold", "ends", "storm", "streams", "sql", "maria", "leaves"].map(|name| built_binary(name).ok());
        let ours: Vec<&Path> =
            [&loadgen, &api].into_iter().chain(seldom.iter().flatten()).map(PathBuf::as_path).collect();
        rootfs::create(&dir.join("rootfs"), &ours).context("make the root file system")?;
        let node = Arc::new(network::create_node(&format!("{id}-node"))?);
        let containerd = Containerd::start(dir)?;
        Ok(Testbed {
            id: id.to_owned(),
            dir: dir.to_owned(),
            node,
            containers: Vec::new(),
            containerds: vec![containerd],
            next_host: 2,
            lock: Some(lock),
        })
    }

    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Everything that is a file is below this directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    #[must_use]
    pub fn node(&self) -> &Netns {
        &self.node
    }

    pub(crate) fn node_shared(&self) -> Arc<Netns> {
        Arc::clone(&self.node)
    }

    /// # Panics
    /// Only after the testbed was taken down, which consumes it.
    #[must_use]
    pub fn containerd(&self) -> &Containerd {
        self.containerd_at(0)
    }

    /// # Panics
    /// As [`Testbed::containerd`].
    pub fn containerd_mut(&mut self) -> &mut Containerd {
        self.containerd_at_mut(0)
    }

    /// Starts one more containerd, with a root, a state and a socket of its own; returns its place.
    pub fn add_containerd(&mut self) -> Result<usize> {
        let place = self.containerds.len();
        let dir = self.dir.join(format!("containerd-{place}"));
        fs::create_dir_all(dir.join("logs"))?;
        self.containerds.push(Containerd::start(&dir)?);
        Ok(place)
    }

    /// The one at this place, as [`Testbed::add_containerd`] returned it.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn containerd_at(&self, place: usize) -> &Containerd {
        self.containerds.get(place).expect("it was started, and lives as long as the testbed")
    }

    /// # Panics
    /// As [`Testbed::containerd_at`].
    pub fn containerd_at_mut(&mut self, place: usize) -> &mut Containerd {
        self.containerds.get_mut(place).expect("it was started, and lives as long as the testbed")
    }

    /// Of all of them, by place.
    #[must_use]
    pub fn containerd_sockets(&self) -> Vec<PathBuf> {
        self.containerds.iter().map(Containerd::socket).collect()
    }

    #[must_use]
    pub fn containers(&self) -> &[Container] {
        &self.containers
    }

    /// A log file of its own for a process that belongs to this testbed.
    #[must_use]
    pub fn log_file(&self, name: &str) -> PathBuf {
        self.dir.join("logs").join(format!("{name}.log"))
    }

    /// A pod's namespace with an address, not used by any container yet.
    pub fn new_pod_netns(&mut self, name: &str) -> Result<(Arc<Netns>, Ipv4Addr)> {
        let host = self.next_address()?;
        let netns = network::create_pod(&self.node, &format!("{}-{name}", self.id), host)?;
        Ok((Arc::new(netns), address_of(host)))
    }

    /// Takes a container off the network, and gives its address to a new pod's namespace. The old one
    /// keeps the address where nobody reaches it, as long as it lives.
    pub fn pass_on_address(&self, old: &Container, name: &str) -> Result<Arc<Netns>> {
        let [.., high, low] = old.address.octets();
        let host = u16::from_be_bytes([high, low]);
        network::unplug(&self.node, host)?;
        Ok(Arc::new(network::create_pod(&self.node, &format!("{}-{name}", self.id), host)?))
    }

    /// Adds an interface to a running container's namespace; returns its address.
    pub fn plug(&mut self, container: &Container, interface: &str) -> Result<Ipv4Addr> {
        let host = self.next_address()?;
        network::plug(&self.node, &container.netns, interface, host)?;
        Ok(address_of(host))
    }

    fn next_address(&mut self) -> Result<u16> {
        let host = self.next_host;
        self.next_host = host.checked_add(1).context("65,000 addresses are used up")?;
        Ok(host)
    }

    pub(crate) fn remember(&mut self, container: Container) {
        self.containers.push(container);
    }

    pub(crate) fn forget(&mut self, name: &str) {
        self.containers.retain(|container| container.name != name);
    }

    /// Records a process that outlives a crash of this one, so that `sweep` may end it.
    pub fn record_process(&self, pid: u32) -> Result<()> {
        sweep::record_process(&self.dir, pid)
    }

    /// Takes everything down and tells what is left, which should be nothing.
    pub fn take_down(mut self) -> Result<Vec<String>> {
        self.tear_down()?;
        Ok(sweep::leftovers(&self.id, &self.dir))
    }

    fn tear_down(&mut self) -> Result<()> {
        if self.lock.is_none() {
            return Ok(());
        }
        self.containers.clear();
        for mut containerd in self.containerds.drain(..) {
            // Killed, not asked: the shims are ended by `remove`, and a containerd that saw that
            // would only write about it.
            containerd.kill();
        }
        let removed = sweep::remove(&self.id, &self.dir);
        self.lock = None;
        removed
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        if let Err(error) = self.tear_down() {
            eprintln!("testbed {}: {error:#}", self.id);
        }
    }
}
