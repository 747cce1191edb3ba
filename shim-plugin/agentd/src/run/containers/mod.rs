//! Performs what the registry of containers asks for: opens namespaces, has them attached, gives them and their addresses names, and
//! lets go of all that when the last container of a namespace ends.

mod attach_news;
mod namespace;
mod news;
mod node_addresses;
mod node_cgroups;

use crate::api;
use crate::clock;
use crate::config::Config;
use crate::run::kubernetes;
use crate::run::pipeline_thread::Order;
use crate::run::scan::{NodePorts, Owned, Scan};
use crate::serve::board::Board;
pub use attach_news::{AttachNews, channel as attach_news};
use capture_engine::attach::{AttachError, AttachEvent, Attacher, Priority};
use flow_model::{Identity, NetnsId, Slot, Ts, Workload};
use golden_metrics::Losses;
use k8s_sync::IdentityIndex;
use namespace::Namespace;
use netns::Netns;
use netns_scanner::deadline::Deadlines;
use news::{Entrance, News, Opened, Reads};
use node_addresses::NodeAddresses;
use node_cgroups::NodeCgroups;
pub use node_cgroups::{Jobs, find_hierarchy, services_of};
use shim_plugin::{Action, Connection, Handle, Origin, Report, TaskId, TaskState, TaskView};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// How stale `pilotfish status` may be.
const PUBLISH: Duration = Duration::from_millis(200);
/// How often names of the past are forgotten, and the node's own addresses looked at.
const UPKEEP: Duration = Duration::from_secs(60);

/// What it works with.
#[derive(Debug)]
pub struct Parts {
    pub handle: Handle,
    pub attacher: Attacher,
    pub attach_events: AttachNews,
    pub identities: IdentityIndex,
    pub pipeline: std::sync::mpsc::Sender<Order>,
    pub board: Arc<Board>,
    pub scan: Scan,
    pub deadlines: Deadlines,
    /// How the namespace that the agent runs in is observed.
    pub node: Jobs,
    /// READY was said.
    pub ready: CancellationToken,
    /// `/proc`, or what stands for it.
    pub proc: PathBuf,
}

#[derive(Debug)]
pub struct Containers {
    handle: Handle,
    attacher: Attacher,
    attach_events: AttachNews,
    identities: IdentityIndex,
    pipeline: std::sync::mpsc::Sender<Order>,
    board: Arc<Board>,
    scan: Scan,
    ready: CancellationToken,
    proc: PathBuf,
    reads: Reads,
    node: NodeCgroups,
    node_ports: NodePorts,
    state: State,
}

#[derive(Debug)]
struct State {
    open: HashMap<TaskId, Open>,
    namespaces: BTreeMap<Slot, Namespace>,
    node: NodeAddresses,
    dirty: bool,
    /// Tasks without a slot, when they were shown last.
    waiting: usize,
}

/// A namespace that is being opened for a task, or is open until it is attached or not wanted.
#[derive(Debug)]
enum Open {
    Asked(Instant, u32),
    Done(Instant, Entrance),
}

impl Containers {
    pub fn new(config: &Config, parts: Parts, losses: &Losses) -> Containers {
        let Parts { handle, attacher, attach_events, identities, pipeline, board, scan, deadlines, node, ready, proc } =
            parts;
        let node_name = kubernetes::node_name(&config.kubernetes);
        Containers {
            handle,
            attacher,
            attach_events,
            identities,
            pipeline,
            board,
            scan,
            ready,
            proc,
            reads: Reads::new(deadlines),
            node: NodeCgroups::new(config.attach.node, config.attach.loopback, node, losses),
            node_ports: NodePorts::new(losses),
            state: State {
                open: HashMap::new(),
                namespaces: BTreeMap::new(),
                node: NodeAddresses::called(node_name.as_deref().unwrap_or("node")),
                dirty: false,
                waiting: 0,
            },
        }
    }

    /// Runs until `stop`, or until the containerd task has ended. Gives back the attacher, which still holds every namespace.
    #[tracing::instrument(name = "containers", skip_all)]
    pub async fn run(mut self, stop: CancellationToken) -> Attacher {
        let mut publish = tokio::time::interval(PUBLISH);
        publish.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut upkeep = tokio::time::interval(UPKEEP);
        upkeep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let ready = self.ready.clone();
        let mut released = false;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                action = self.handle.actions.recv() => match action {
                    Some(action) => self.perform(action).await,
                    None => break,
                },
                Some(news) = self.reads.under_way.join_next(), if !self.reads.under_way.is_empty() => match news {
                    Ok(News::Opened(task, opened)) => self.opened(task, opened).await,
                    Ok(News::Addresses(Ok(addresses))) => {
                        self.state.node.addressed(&addresses, &mut self.identities);
                    }
                    Ok(News::Addresses(Err(error))) => {
                        tracing::debug!(%error, "the node's own addresses could not be read");
                    }
                    Ok(News::Owners(owned, at)) => self.owners(&owned, at),
                    Ok(News::Cgroup(slot, outcome)) => {
                        let report = self.node.attached(slot, outcome, Instant::now(), &mut self.identities);
                        if let Some(report) = report {
                            self.report(report).await;
                        }
                    }
                    Ok(News::Services(listed)) => {
                        for slot in self.node.listed(listed, &mut self.reads) {
                            self.node_gone(slot);
                        }
                    }
                    Err(error) => tracing::error!(%error, "a read broke off"),
                },
                event = self.attach_events.next() => self.attach_event(event).await,
                Some(found) = self.scan.node.recv() => {
                    self.scan.hand_on(self.node.seeds(&found), found.at);
                    let containers = self.node_containers().into_keys().collect();
                    self.reads.owners(found, containers, self.proc.clone());
                }
                () = ready.cancelled(), if !released => {
                    released = true;
                    self.node_ports.look_soon(Instant::now());
                    self.node.release(&mut self.reads);
                    self.scan.release();
                }
                _ = publish.tick() => self.publish(),
                _ = upkeep.tick() => {
                    self.identities.forget(clock::now());
                    self.reads.addresses();
                }
            }
        }
        self.publish();
        self.attacher
    }

    async fn perform(&mut self, action: Action) {
        match action {
            Action::OpenNetns { task, container, pid, origin: _ } => {
                tracing::debug!(%container, pid, "opening its network namespace");
                self.state.open.insert(task, Open::Asked(Instant::now(), pid));
                self.reads.open(task, pid);
            }
            Action::Attach { slot, netns, task, origin, name } => {
                self.attach(slot, netns, task, origin).await;
                if let Some(name) = name {
                    self.identify(slot, &name);
                }
            }
            Action::AttachCgroup { slot, container, pid, name, .. } => {
                tracing::debug!(%container, pid, "attaching to its cgroup");
                self.node.attach(slot, pid, &mut self.reads);
                if let Some(name) = name {
                    self.identify(slot, &name);
                }
            }
            Action::Close { task } => {
                self.state.open.remove(&task);
            }
            Action::Identify { slot, name } => self.identify(slot, &name),
            Action::Detach { slot, netns: _ } => {
                if self.node_gone(slot) {
                    return;
                }
                let Some(namespace) = self.state.namespaces.get_mut(&slot) else { return };
                namespace.leaving(clock::now());
                self.scan.gone(slot);
                self.attacher.detach(slot);
                self.state.dirty = true;
            }
            // Performed by the containerd task itself, as its contract says.
            Action::FetchLabels { .. } => {}
        }
    }

    async fn opened(&mut self, task: TaskId, opened: Result<Opened, String>) {
        // Closed meanwhile: the task is gone, and dropping the namespace is all there is to do.
        let Some(open) = self.state.open.get_mut(&task) else { return };
        match opened {
            Ok(Opened { netns, cookie }) => {
                let id = netns.id();
                let (asked, pid) = match open {
                    Open::Asked(asked, pid) | Open::Done(asked, Entrance { pid, .. }) => (*asked, *pid),
                };
                *open = Open::Done(asked, Entrance { netns: Arc::new(netns), pid });
                self.report(Report::Opened { task, netns: id, cookie }).await;
            }
            Err(reason) => {
                self.state.open.remove(&task);
                self.report(Report::OpenFailed { task, reason }).await;
            }
        }
    }

    async fn attach(&mut self, slot: Slot, netns: NetnsId, task: TaskId, origin: Origin) {
        let Some(Open::Done(asked, Entrance { netns: open, pid })) = self.state.open.remove(&task) else {
            let reason = "its namespace was closed before it could be attached".to_owned();
            return self.report(Report::AttachFailed { slot, reason }).await;
        };
        let namespace = self.state.namespaces.entry(slot).or_insert_with(|| Namespace::new(netns, asked, clock::now()));
        self.state.dirty = true;
        let priority = match origin {
            Origin::Live => {
                self.scan.live(slot);
                Priority::Urgent
            }
            // Attach, then scan: nothing opens unseen in between.
            Origin::Found => {
                self.scan.found(slot, open.clone(), pid);
                Priority::Background
            }
        };
        match self.attacher.attach(slot, open, priority) {
            Ok(()) => {}
            // Asked again after a failure, or after an answer that came late: the attacher has not let go of it.
            Err(AttachError::Known(_)) => match namespace.mode() {
                Some(mode) => {
                    self.scan.attached(slot);
                    self.report(Report::Attached { slot, mode }).await;
                }
                None => self.attacher.recheck(slot),
            },
            Err(error) => {
                self.scan.answered(slot);
                namespace.failed(error.to_string());
                self.report(Report::AttachFailed { slot, reason: error.to_string() }).await;
            }
        }
    }

    fn identify(&mut self, slot: Slot, name: &Arc<shim_plugin::LocalName>) {
        if self.node.identify(slot, name, &mut self.identities) {
            return;
        }
        let Some(namespace) = self.state.namespaces.get_mut(&slot) else { return };
        let pod = k8s_sync::cluster::object::Uid::parse(&name.pod_uid);
        self.identities.set_slot(slot, Identity::Known(name.workload.clone()), pod);
        namespace.named(name.workload.clone(), &mut self.identities);
        self.state.dirty = true;
    }

    async fn attach_event(&mut self, event: AttachEvent) {
        self.state.dirty = true;
        let (AttachEvent::Attached { slot, .. }
        | AttachEvent::Interfaces { slot, .. }
        | AttachEvent::Addresses { slot, .. }
        | AttachEvent::Failed { slot, .. }
        | AttachEvent::Detached { slot }) = event;
        let Some(namespace) = self.state.namespaces.get_mut(&slot) else { return };
        match event {
            AttachEvent::Attached { interfaces, addresses, .. } => {
                let mode = namespace.attached(interfaces, Instant::now());
                namespace.addressed(&addresses, clock::now(), &mut self.identities);
                self.scan.attached(slot);
                self.report(Report::Attached { slot, mode }).await;
            }
            AttachEvent::Interfaces { interfaces, .. } => namespace.interfaces(interfaces),
            AttachEvent::Addresses { addresses, .. } => {
                namespace.addressed(&addresses, clock::now(), &mut self.identities);
            }
            AttachEvent::Failed { reason, .. } => {
                self.scan.answered(slot);
                namespace.failed(reason.clone());
                self.report(Report::AttachFailed { slot, reason }).await;
            }
            AttachEvent::Detached { .. } => {
                let Some(namespace) = self.state.namespaces.remove(&slot) else { return };
                self.scan.gone(slot);
                let at = namespace.gone(&mut self.identities);
                self.identities.release_slot(slot, at);
                // The pipeline thread may have ended first; then there are no flows to settle.
                let _ = self.pipeline.send(Order::NamespaceGone { slot, at });
            }
        }
    }

    /// False when the slot is no cgroup's.
    fn node_gone(&mut self, slot: Slot) -> bool {
        if !self.node.gone(slot) {
            return false;
        }
        let at = clock::now();
        self.identities.release_slot(slot, at);
        // As for namespaces.
        let _ = self.pipeline.send(Order::NamespaceGone { slot, at });
        true
    }

    /// Ids of the containers that share the node's namespace, and who they are.
    fn node_containers(&self) -> HashMap<String, Arc<Workload>> {
        let of_node = |view: TaskView| match (view.state, view.name) {
            (TaskState::Node, Some(name)) => Some((view.container.id.to_string(), name.workload.clone())),
            _ => None,
        };
        self.handle.status.tasks().into_iter().filter_map(of_node).collect()
    }

    fn owners(&mut self, owned: &[Owned], at: Ts) {
        let (addresses, containers) = (self.state.node.addresses(), self.node_containers());
        self.node_ports.take(owned, &addresses, &containers, at, &mut self.identities);
    }

    async fn report(&self, report: Report) {
        // The containerd task is gone only when the agent is about to be.
        let _ = self.handle.reports.send(report).await;
    }

    fn publish(&mut self) {
        let status = self.handle.status.read(Instant::now());
        *self.board.containerd.lock() = containerd(status.link);
        *self.board.figures.lock() = self.identities.figures().to_vec();
        let settled = status.tasks.discovered + status.tasks.attaching == 0;
        self.scan.tick(settled, Instant::now());
        *self.board.scan.lock() = self.scan.publish();
        let older = self.node.tick(settled, Instant::now(), &mut self.reads);
        if self.ready.is_cancelled() && (self.node_ports.is_due(status.tasks.node, Instant::now()) || older) {
            self.scan.look_at_node();
        }
        if let Some(shown) = self.node.shown() {
            *self.board.node.lock() = Arc::new(shown);
        }
        let waiting = status.tasks.discovered + status.tasks.failed;
        if std::mem::take(&mut self.state.dirty) || waiting > 0 || self.state.waiting > 0 {
            self.state.waiting = waiting;
            let mut all: Vec<api::Namespace> =
                self.state.namespaces.iter().map(|(slot, namespace)| namespace.shown(*slot)).collect();
            if waiting > 0 {
                all.extend(self.handle.status.tasks().into_iter().filter_map(without_namespace));
            }
            *self.board.namespaces.lock() = Arc::new(all);
        }
    }
}

/// The containerd task's configuration.
#[must_use]
pub fn containerd_config(config: &Config) -> shim_plugin::Config {
    let mut out = shim_plugin::Config { namespaces: config.containerd.namespaces.clone(), ..Default::default() };
    if !config.containerd.sockets.is_empty() {
        out.sockets.clone_from(&config.containerd.sockets);
    }
    out.observe_node = config.attach.node;
    // "The host's" namespace is the one that the agent runs in. Without /proc nothing would work anyway.
    out.node = Netns::current().ok().map(|netns| netns.id());
    out
}

/// A container whose namespace could not be opened, or not yet.
fn without_namespace(view: TaskView) -> Option<api::Namespace> {
    let TaskView { container, state, name, .. } = view;
    let (state, reason) = match state {
        TaskState::Discovered => ("discovered", String::new()),
        TaskState::Failed { slot: None, reason, .. } => ("failed", reason),
        TaskState::Failed { .. } | TaskState::Attaching(_) | TaskState::Attached(..) | TaskState::Node => return None,
    };
    let (namespace, workload) = match name {
        Some(name) => (name.workload.namespace.to_string(), name.workload.name.to_string()),
        None => (container.namespace.to_string(), container.id.to_string()),
    };
    Some(api::Namespace { state: state.to_owned(), reason, namespace, workload, ..Default::default() })
}

fn containerd(link: shim_plugin::LinkStatus) -> api::Containerd {
    let shim_plugin::LinkStatus { connection, version, reconnects, last_failure, .. } = link;
    let failure = last_failure.map(|failure| format!("; last failure: {failure}")).unwrap_or_default();
    let (connected, socket, detail) = match connection {
        Connection::Searching => (false, None, format!("none of its sockets exists{failure}")),
        Connection::Syncing { socket } => {
            let detail = format!("subscribing on {}{failure}", socket.display());
            (false, Some(socket), detail)
        }
        Connection::Live { socket } => (true, Some(socket), String::new()),
        Connection::Down { reason } => (false, None, reason),
    };
    let socket = socket.map(|socket| socket.display().to_string()).unwrap_or_default();
    api::Containerd { connected, socket, version: version.unwrap_or_default(), reconnects, detail }
}
