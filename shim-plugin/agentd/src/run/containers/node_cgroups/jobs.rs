//! What blocks: reading which cgroup a process is in, and attaching to it, which takes the kernel's
//! lock of all cgroups. Run on threads with a deadline; what they read of `/proc` is read for them.

use super::hierarchy::Hierarchy;
use super::services::{self, Watch};
use crate::clock;
use crate::run::descriptors::Descriptors;
use capture_engine::attach::CgroupLinks;
use capture_engine::kernel::Kernel;
use flow_model::{NetnsId, Slot, Ts, in_full};
use netns::Netns;
use netns_scanner::deadline::{Deadlines, PATIENCE};
use netns_scanner::name_of_service;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// What is to be done, and how it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// Attach to the cgroup of `pid`, which is known to live in the node's namespace.
    Container { slot: Slot, pid: u32 },
    /// Attach to the cgroup of a service of the node.
    Service { slot: Slot, name: String },
    /// List the node's services; with `watch`, begin to listen to changes first.
    List { watch: bool },
}

/// Our programs on a cgroup: they go with it.
pub trait Links: std::fmt::Debug + Send + Sync {
    /// The kernel's number of the cgroup.
    fn id(&self) -> u64;

    /// Whether nobody has taken them off. Waits for the kernel's lock of all cgroups.
    fn in_place(&self) -> bool;

    /// What is left where they are, likewise.
    fn rest(&self) -> Rest;
}

/// What is left of a cgroup whose processes have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Our programs went with its last socket.
    Nothing,
    /// It is removed; sockets keep our programs.
    Sockets,
    /// It is not removed, or not yet. Whether it has sockets nobody tells.
    Directory,
}

/// Those of one slot's cgroup.
pub type LinksOf = (Slot, Arc<dyn Links>);

impl Links for CgroupLinks {
    fn id(&self) -> u64 {
        self.id()
    }

    fn in_place(&self) -> bool {
        self.in_place()
    }

    fn rest(&self) -> Rest {
        match (self.in_place(), self.is_removed()) {
            (false, _) => Rest::Nothing,
            (true, true) => Rest::Sockets,
            (true, false) => Rest::Directory,
        }
    }
}

/// A cgroup with our programs on it.
#[derive(Debug)]
pub struct Attached {
    pub links: Arc<dyn Links>,
    pub path: PathBuf,
    /// Of a service: what it is called.
    pub name: String,
    /// Nothing of it goes unseen from then on.
    pub at: Ts,
}

/// Taking programs off a cgroup may take a while.
pub fn let_go(attached: Option<Attached>) {
    if let Some(attached) = attached {
        tokio::task::spawn_blocking(move || drop(attached));
    }
}

/// Why nothing is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// And nothing will be.
    Never(String),
    Failed(String),
    /// A service without a process, whose namespace nobody can tell.
    Empty,
    /// A service in another network namespace.
    Elsewhere,
}

/// What the jobs have in common; found out by the first of them.
#[derive(Debug)]
pub struct Jobs {
    kernel: Arc<Kernel>,
    proc: PathBuf,
    descriptors: Descriptors,
    deadlines: Deadlines,
    hierarchy: OnceLock<Hierarchy>,
    home: OnceLock<Result<Home, String>>,
}

/// The namespace that the agent runs in.
#[derive(Debug)]
struct Home {
    netns: NetnsId,
    cookie: Option<u64>,
}

impl Jobs {
    #[must_use]
    pub fn new(kernel: Arc<Kernel>, proc: PathBuf, descriptors: Descriptors, deadlines: Deadlines) -> Jobs {
        Jobs { kernel, proc, descriptors, deadlines, hierarchy: OnceLock::new(), home: OnceLock::new() }
    }

    /// To the cgroup of `pid`, which is known to live in the node's namespace.
    pub fn container(&self, slot: Slot, pid: u32) -> Result<Attached, Why> {
        let hierarchy = self.hierarchy()?;
        let text = self.text(&self.proc.join(pid.to_string()).join("cgroup"))?;
        let path = hierarchy.directory(&text).map_err(|error| Why::Never(error.to_string()))?;
        self.attach(slot, path, String::new())
    }

    /// To the cgroup of a service of the node, unless its processes live in another namespace.
    pub fn service(&self, slot: Slot, service: &str) -> Result<Attached, Why> {
        let path = self.hierarchy()?.services().join(services::file_name(service));
        let processes = self.text(&path.join("cgroup.procs"))?;
        let pid: Option<u32> = processes.lines().next().and_then(|line| line.parse().ok());
        let name = match pid {
            Some(pid) => {
                let process = self.proc.join(pid.to_string());
                let home = self.home().map_err(Why::Failed)?.netns;
                // It may have ended meanwhile; the programs look at the namespace, too, where the kernel lets them.
                let file = fs::metadata(process.join("ns/net")).map_err(|error| Why::Failed(error.to_string()))?;
                if (NetnsId { dev: file.dev(), ino: file.ino() }) != home {
                    return Err(Why::Elsewhere);
                }
                name_of_service(service, &self.text(&process.join("comm")).unwrap_or_default())
            }
            None => service.to_owned(),
        };
        let attached = self.attach(slot, path, name)?;
        if pid.is_none() && self.kernel.node_checks_namespace() != Some(true) {
            return Err(Why::Empty);
        }
        Ok(attached)
    }

    /// Names of the node's services, and with `watch` also what tells when they change.
    pub fn services(&self, watch: bool) -> Result<(Option<Watch>, BTreeMap<String, u64>), String> {
        let directory = self.hierarchy().map_err(|why| why.to_string())?.services();
        let fail = |error| format!("{}: {error}", directory.display());
        // Watch before listing: what comes in between is then in either.
        let watch = watch.then(|| Watch::new(&directory)).transpose().map_err(fail)?;
        Ok((watch, services::list(&directory).map_err(fail)?))
    }

    fn attach(&self, slot: Slot, path: PathBuf, name: String) -> Result<Attached, Why> {
        let cookie = self.home().map_err(Why::Failed)?.cookie;
        let opened = fs::File::open(&path).map_err(|error| Why::Failed(format!("{}: {error}", path.display())))?;
        self.descriptors.room_with(&opened).map_err(Why::Failed)?;
        drop(opened);
        let links =
            CgroupLinks::attach(&*self.kernel, slot, &path, cookie).map_err(|error| Why::Failed(in_full(&error)))?;
        Ok(Attached { links: Arc::new(links), path, name, at: clock::now() })
    }

    /// Found once. Where it cannot be read now it is looked for again.
    fn hierarchy(&self) -> Result<&Hierarchy, Unknown> {
        if let Some(found) = self.hierarchy.get() {
            return Ok(found);
        }
        let found = find_hierarchy(&self.proc, &self.deadlines)?;
        Ok(self.hierarchy.get_or_init(|| found))
    }

    fn text(&self, file: &Path) -> Result<String, Why> {
        text(file, &self.deadlines).map_err(Why::Failed)
    }

    fn home(&self) -> Result<&Home, String> {
        let find = || {
            let netns = Netns::current().map_err(|error| error.to_string())?;
            let cookie = netns.run(|inside| inside.cookie()).map_err(|error| error.to_string())?;
            Ok(Home { netns: netns.id(), cookie })
        };
        self.home.get_or_init(find).as_ref().map_err(Clone::clone)
    }
}

/// Why it is not known where the cgroups are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// No remedy of ours helps against it.
    #[error("cgroups of version 2 are not mounted")]
    Nowhere,
    /// What says it could not be read.
    #[error("{0}")]
    Unread(String),
}

impl From<Unknown> for Why {
    fn from(why: Unknown) -> Why {
        match why {
            Unknown::Nowhere => Why::Never(why.to_string()),
            Unknown::Unread(why) => Why::Failed(why),
        }
    }
}

/// Where cgroups of version 2 are mounted.
///
/// # Errors
/// Nowhere, or it cannot be read.
pub fn find_hierarchy(proc: &Path, deadlines: &Deadlines) -> Result<Hierarchy, Unknown> {
    let text = text(&proc.join("self/mountinfo"), deadlines).map_err(Unknown::Unread)?;
    Hierarchy::find(&text).ok_or(Unknown::Nowhere)
}

/// The words of a late file name it, those of the kernel do not.
fn text(file: &Path, deadlines: &Deadlines) -> Result<String, String> {
    let read = deadlines.text("cgroup", file, PATIENCE).map_err(|late| late.to_string())?;
    read.map_err(|error| format!("{}: {error}", file.display()))
}

/// How many services a node has there.
///
/// # Errors
/// Nothing can be listed.
pub fn services_of(hierarchy: &Hierarchy) -> Result<usize, String> {
    let directory = hierarchy.services();
    services::list(&directory).map(|names| names.len()).map_err(|error| format!("{}: {error}", directory.display()))
}
