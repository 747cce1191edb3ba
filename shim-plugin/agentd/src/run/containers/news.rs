//! What is read of `/proc` for the containers task, each on a thread of its own: the task hears of
//! it and waits for nothing.

use super::node_addresses;
use super::node_cgroups::services::Watch;
use super::node_cgroups::{Attached, Job, Jobs, LinksOf, Rest, Why};
use super::process_end;
use crate::run::descriptors::Descriptors;
use crate::run::scan::NodeSockets;
use flow_model::{Slot, Ts};
use netns::{IfAddress, Netns};
use netns_scanner::deadline::{Deadlines, PATIENCE};
use netns_scanner::{Owned, read_owners};
use shim_plugin::TaskId;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// Attaching to a cgroup waits for the kernel's lock of all cgroups, and the first for the verifier.
const CGROUP_PATIENCE: Duration = Duration::from_secs(10);

/// Listing services begins with a read that has [`PATIENCE`] of its own.
const LIST_PATIENCE: Duration = Duration::from_secs(2);

/// What was read.
#[derive(Debug)]
pub enum News {
    /// A container's namespace, or why not.
    Opened(TaskId, Result<Opened, String>),
    /// Whether the process of a task has ended.
    Gone(TaskId, Result<bool, String>),
    /// The node's own addresses.
    Addresses(Result<Vec<IfAddress>, String>),
    /// Who has sockets in the node's own namespace, as it was at that time.
    Owners(Vec<Owned>, Ts),
    /// What came of attaching to a cgroup.
    Cgroup(Slot, Result<Attached, Why>),
    /// Cgroups that have lost our programs.
    TakenOff(Result<Vec<LinksOf>, String>),
    /// What is left of cgroups that are over.
    Rests(Result<Vec<(Slot, Rest)>, String>),
    /// The node's services.
    Services(Result<(Option<Watch>, BTreeMap<String, u64>), String>),
}

#[derive(Debug)]
pub struct Opened {
    pub netns: Netns,
    /// None before Linux 5.14.
    pub cookie: Option<u64>,
    /// Start time of the process.
    pub began: Option<u64>,
}

/// Reads under way. Bounded by `Deadlines`, which refuses more than it has room for.
#[derive(Debug)]
pub struct Reads {
    deadlines: Deadlines,
    jobs: Arc<Jobs>,
    descriptors: Descriptors,
    pub under_way: JoinSet<News>,
}

impl Reads {
    pub fn new(deadlines: Deadlines, jobs: Jobs, descriptors: Descriptors) -> Reads {
        Reads { deadlines, jobs: Arc::new(jobs), descriptors, under_way: JoinSet::new() }
    }

    pub fn open(&mut self, task: TaskId, pid: u32) {
        let descriptors = self.descriptors.clone();
        let read = move || {
            let netns = Netns::open_pid(pid).map_err(|error| error.to_string())?;
            descriptors.room_with(&netns)?;
            // The cookie is worth having, not worth failing for.
            let cookie = netns.run(|inside| inside.cookie()).ok().flatten();
            Ok(Opened { netns, cookie, began: process_end::began(pid) })
        };
        self.begin("netns", format!("/proc/{pid}/ns/net"), PATIENCE, read, move |opened| News::Opened(task, opened));
    }

    /// Whether the process that had `pid` when the task was opened is still there.
    pub fn process(&mut self, task: TaskId, pid: u32, began: Option<u64>) {
        let read = move || process_end::is_gone(pid, began);
        self.begin("process", process_end::path(pid), PATIENCE, read, move |gone| News::Gone(task, gone));
    }

    /// What the cgroups of the node's namespace want done.
    pub fn cgroup(&mut self, job: Job) {
        let jobs = self.jobs.clone();
        match job {
            Job::Container { slot, pid } => {
                let attach = move || Ok(jobs.container(slot, pid));
                self.attach_cgroup(slot, format!("the cgroup of process {pid}"), attach);
            }
            Job::Service { slot, name } => {
                let file = format!("the cgroup of {name}.service");
                self.attach_cgroup(slot, file, move || Ok(jobs.service(slot, &name)));
            }
            Job::List { watch } => {
                let list = move || jobs.services(watch);
                self.begin("cgroup", "system.slice".to_owned(), LIST_PATIENCE, list, News::Services);
            }
        }
    }

    /// Whether these are still where they were put.
    pub fn links(&mut self, links: Vec<LinksOf>) {
        if links.is_empty() {
            return;
        }
        let look = move || Ok(links.into_iter().filter(|(_, links)| !links.in_place()).collect());
        self.begin("cgroup", "links".to_owned(), CGROUP_PATIENCE, look, News::TakenOff);
    }

    /// What is left of these.
    pub fn rests(&mut self, links: Vec<LinksOf>) {
        if links.is_empty() {
            return;
        }
        let look = move || Ok(links.into_iter().map(|(slot, links)| (slot, links.rest())).collect());
        self.begin("cgroup", "links".to_owned(), CGROUP_PATIENCE, look, News::Rests);
    }

    fn attach_cgroup(
        &mut self,
        slot: Slot,
        file: String,
        attach: impl FnOnce() -> Result<Result<Attached, Why>, String> + Send + 'static,
    ) {
        self.begin("cgroup", file, CGROUP_PATIENCE, attach, move |done| {
            News::Cgroup(slot, done.unwrap_or_else(|late| Err(Why::Failed(late))))
        });
    }

    pub fn addresses(&mut self) {
        self.begin("netns", "/proc/self/ns/net".to_owned(), PATIENCE, node_addresses::addresses, News::Addresses);
    }

    /// `containers` share the node's namespace.
    pub fn owners(&mut self, found: NodeSockets, containers: BTreeSet<String>, proc: PathBuf) {
        let deadlines = self.deadlines.clone();
        // It keeps the deadline of each file itself.
        self.under_way.spawn_blocking(move || {
            let NodeSockets { sockets, at } = found;
            News::Owners(read_owners(&sockets, &containers, &proc, &deadlines), at)
        });
    }

    fn begin<T: Send + 'static>(
        &mut self,
        kind: &'static str,
        file: String,
        patience: Duration,
        read: impl FnOnce() -> Result<T, String> + Send + 'static,
        news: impl FnOnce(Result<T, String>) -> News + Send + 'static,
    ) {
        let (tell, told) = oneshot::channel();
        // Nobody listens any more when it is late; what was opened is then closed.
        let begun = self.deadlines.start(&file, patience, read, move |outcome| drop(tell.send(outcome)));
        let deadlines = self.deadlines.clone();
        self.under_way.spawn(async move {
            news(match begun {
                Err(late) => Err(late.to_string()),
                Ok(()) => match tokio::time::timeout(patience, told).await {
                    Ok(Ok(outcome)) => outcome,
                    Ok(Err(_)) => Err(format!("{file}: the read of it panicked")),
                    Err(_) => Err(deadlines.gave_up(kind, &file, patience).to_string()),
                },
            })
        });
    }
}

/// A namespace and a process that lives in it.
#[derive(Clone, Debug)]
pub struct Entrance {
    pub netns: Arc<Netns>,
    pub pid: u32,
}
