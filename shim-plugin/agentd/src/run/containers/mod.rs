//! Performs what the registry of containers asks for: opens namespaces, has them attached, gives
//! them and their addresses names, and lets go of all that when the last container of a namespace
//! has ended and its sockets are done.

mod attach_news;
mod beginning;
mod early;
mod namespace;
mod news;
mod node_addresses;
mod node_cgroups;
mod node_news;
mod node_over;
mod process_end;
mod show;
mod show_links;

use crate::clock;
use crate::run::descriptors::Descriptors;
use crate::run::node_ports::NodePorts;
use crate::run::orders::Order;
use crate::run::scan::Scan;
use crate::serve::board::Board;
use crate::serve::counts::{CountPublisher, Counted, HeardCounts};
pub use attach_news::{AttachNews, channel as attach_news};
use beginning::{Beginning, Reached};
use capture_engine::attach::{AttachEvent, Attacher, Priority};
use capture_engine::kernel::Overrides;
pub use early::{Early, EarlyNews, EarlyTeller, channel as early_news};
use flow_model::{Identity, NetnsId, Slot, Ts, Workload};
use golden_metrics::{Loss, Losses};
use k8s_sync::IdentityIndex;
use namespace::{Met, Namespace};
use netns::IfAddress;
use netns_scanner::Owned;
use netns_scanner::deadline::Deadlines;
use news::{Entrance, News, Opened, Reads};
use node_addresses::NodeAddresses;
use node_cgroups::{Job, NodeCgroups, let_go};
pub use node_cgroups::{Jobs, find_hierarchy, services_of};
use node_news::{Look, NodeNews};
use parking_lot::Mutex;
use shim_plugin::{Action, Handle, OBSERVE, Observe, Origin, Report, TaskId, TaskState, TaskView};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// How stale `pilotfish status` may be.
const PUBLISH: Duration = Duration::from_millis(200);
/// The same beside a CPU quota: rows of some hundreds of namespaces are a millisecond and more.
const PUBLISH_IN_QUOTA: Duration = Duration::from_secs(1);
/// How often names of the past are forgotten, and the node's own addresses looked at.
const UPKEEP: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
pub struct Config {
    /// What the node is called among the names.
    pub node: String,
    /// Observe the namespace that the agent runs in.
    pub observe_node: bool,
    pub loopback: bool,
}

/// What it works with.
#[derive(Debug)]
pub struct ContainersParts {
    pub handle: Handle,
    pub attacher: Attacher,
    pub attach_events: AttachNews,
    pub early: EarlyNews,
    /// Filled by whoever hears of namespaces early.
    pub heard: Arc<Mutex<HeardCounts>>,
    pub identities: IdentityIndex,
    pub pipeline: std::sync::mpsc::Sender<Order>,
    pub board: Arc<Board>,
    pub scan: Scan,
    pub deadlines: Deadlines,
    pub descriptors: Descriptors,
    /// How the namespace that the agent runs in is observed.
    pub node: Jobs,
    /// Where pods are kept from being copied.
    pub overrides: Overrides,
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
    early: EarlyNews,
    heard: Arc<Mutex<HeardCounts>>,
    identities: IdentityIndex,
    pipeline: std::sync::mpsc::Sender<Order>,
    board: Arc<Board>,
    scan: Scan,
    ready: CancellationToken,
    proc: PathBuf,
    reads: Reads,
    descriptors: Descriptors,
    overrides: Overrides,
    /// Of which nothing is copied.
    quiet: BTreeSet<Slot>,
    node: NodeCgroups,
    node_ports: NodePorts,
    node_addresses: NodeAddresses,
    node_news: NodeNews,
    node_look: Look,
    open: HashMap<TaskId, Open>,
    /// Those that the attacher has.
    namespaces: BTreeMap<Slot, Namespace>,
    counts: CountPublisher,
    addresses_full: Loss,
    contested: Loss,
    /// Packets of namespaces that were met late, before they were attached.
    late_packets: u64,
    dirty: bool,
    /// When the rows were made last.
    shown: Option<Instant>,
    /// Tasks without a slot, when they were shown last.
    waiting: usize,
    /// Tasks of what is left out, likewise.
    left_out: usize,
    beginning: Beginning,
}

/// A namespace that is being opened for a task, or is open until it is attached or not wanted.
#[derive(Debug)]
enum Open {
    Asked(Instant, u32),
    Done(Instant, Entrance),
}

impl Containers {
    pub fn new(config: Config, parts: ContainersParts, losses: &Losses) -> Containers {
        let ContainersParts {
            handle,
            attacher,
            attach_events,
            early,
            heard,
            identities,
            pipeline,
            board,
            scan,
            deadlines,
            descriptors,
            node,
            overrides,
            ready,
            proc,
        } = parts;
        let Config { node: node_name, observe_node, loopback } = config;
        Containers {
            handle,
            attacher,
            attach_events,
            early,
            heard,
            identities,
            pipeline,
            board,
            scan,
            ready,
            proc,
            reads: Reads::new(deadlines, node, descriptors.clone()),
            descriptors,
            overrides,
            quiet: BTreeSet::new(),
            node: NodeCgroups::new(observe_node, loopback, losses),
            node_ports: NodePorts::new(losses),
            node_addresses: NodeAddresses::called(&node_name),
            node_news: NodeNews::subscribe(),
            node_look: Look::default(),
            open: HashMap::new(),
            namespaces: BTreeMap::new(),
            counts: CountPublisher::new(losses),
            addresses_full: losses.place("identity", "addresses_full", "addresses that name nobody, at each look"),
            contested: losses.place("identity", "contested", "claims on an address that is somebody else's"),
            late_packets: 0,
            dirty: false,
            shown: None,
            waiting: 0,
            left_out: 0,
            beginning: Beginning::default(),
        }
    }

    /// Runs until `stop`, or until the containerd task has ended. Gives back the attacher, which
    /// still holds every namespace.
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
                    Ok(news) => self.news(news).await,
                    Err(error) => tracing::error!(%error, "a read broke off"),
                },
                event = self.attach_events.next() => self.attach_event(event).await,
                Some(news) = self.early.next() => self.early(news),
                Some(found) = self.scan.node.recv() => {
                    self.scan.hand_on(self.node.seeds(&found), found.at);
                    let containers = self.node_containers().into_keys().collect();
                    self.reads.owners(found, containers, self.proc.clone());
                }
                () = ready.cancelled(), if !released => {
                    released = true;
                    self.node_ports.look_soon(Instant::now());
                    self.begin(self.node.release());
                    self.scan.release();
                }
                _ = publish.tick() => {
                    self.publish();
                    if self.node_news.any() {
                        self.look_at_addresses();
                    }
                }
                _ = upkeep.tick() => {
                    self.identities.forget(clock::now());
                    self.look_at_addresses();
                }
            }
        }
        self.publish();
        self.attacher
    }

    async fn news(&mut self, news: News) {
        match news {
            News::Opened(task, opened) => self.opened(task, opened).await,
            News::Gone(task, Ok(true)) => self.report(Report::Gone { task }).await,
            News::Gone(_, Ok(false)) => {}
            News::Gone(_, Err(error)) => tracing::debug!(%error, "whether a process lives could not be told"),
            News::Addresses(read) => {
                match read {
                    Ok(addresses) => self.node_addresses.addressed(&addresses, &mut self.identities),
                    Err(error) => tracing::debug!(%error, "the node's own addresses could not be read"),
                }
                if self.node_look.over() {
                    self.reads.addresses();
                }
            }
            News::Owners(owned, at) => self.owners(&owned, at),
            News::Cgroup(slot, outcome) => {
                if let Ok(attached) = &outcome {
                    self.node_passed_on(attached.links.id());
                }
                let unwanted = self.node.attached(slot, outcome, Instant::now(), &mut self.identities);
                let_go(unwanted);
            }
            News::TakenOff(Ok(off)) => {
                self.node.taken_off(off, Instant::now()).into_iter().for_each(|left| let_go(Some(left)));
            }
            News::TakenOff(Err(error)) => {
                tracing::debug!(%error, "whether our programs are in place could not be told")
            }
            News::Rests(rests) => self.node_looked(rests),
            News::Services(listed) => {
                let listed = self.node.listed(listed, Instant::now());
                self.begin(listed.jobs);
                for slot in listed.gone {
                    self.node_gone(slot, true);
                }
            }
        }
    }

    fn look_at_addresses(&mut self) {
        if self.node_look.ask() {
            self.reads.addresses();
        }
    }

    fn begin(&mut self, jobs: impl IntoIterator<Item = Job>) {
        jobs.into_iter().for_each(|job| self.reads.cgroup(job));
    }

    /// Takes in what was given to the attacher by others.
    fn early(&mut self, news: early::News) {
        self.dirty = true;
        match news {
            early::News::Given(Early { slot, netns, heard, since, pid }, coming) => {
                self.scan.live(slot);
                let met = Met { asked: heard, since, pid, is_new: true, is_old: false };
                self.namespaces.insert(slot, Namespace::new(netns, met, coming));
            }
            early::News::NotTaken(slot) => {
                self.scan.gone(slot);
                self.namespaces.remove(&slot);
            }
        }
    }

    fn early_so_far(&mut self) {
        while let Some(news) = self.early.take() {
            self.early(news);
        }
    }

    async fn perform(&mut self, action: Action) {
        self.early_so_far();
        match action {
            Action::OpenNetns { task, container, pid, origin: _ } => {
                tracing::debug!(%container, pid, "opening its network namespace");
                self.open.insert(task, Open::Asked(Instant::now(), pid));
                self.reads.open(task, pid);
            }
            Action::Attach { slot, netns, task, origin, is_old, name } => {
                match self.attach(slot, netns, task, origin, is_old) {
                    Ok(()) => name.iter().for_each(|name| self.identify(slot, name)),
                    Err(reason) => self.report(Report::NotTaken { slot, reason }).await,
                }
            }
            Action::AttachCgroup { slot, container, pid, name, .. } => {
                tracing::debug!(%container, pid, "attaching to its cgroup");
                let job = self.node.attach(slot, pid, Instant::now());
                self.reads.cgroup(job);
                name.iter().for_each(|name| self.identify(slot, name));
            }
            Action::LookAtProcess { task, pid, began } => self.reads.process(task, pid, began),
            Action::Close { task } => {
                self.open.remove(&task);
            }
            Action::Identify { slot, name } => self.identify(slot, &name),
            Action::Observe { slot, word } => self.observe(slot, word),
            Action::Detach { slot, netns: _, ended } => {
                if self.node_gone(slot, ended) {
                    return;
                }
                let Some(namespace) = self.namespaces.get_mut(&slot) else { return };
                self.scan.gone(slot);
                if ended {
                    namespace.ended();
                    self.attacher.leave(slot);
                } else {
                    namespace.leaving(clock::now());
                    self.attacher.detach(slot);
                }
                self.dirty = true;
            }
            Action::Tell(news) => {
                if let Some(history) = self.board.history.get() {
                    history.news(news);
                }
            }
            // Performed by the containerd task itself, as its contract says.
            Action::FetchLabels { .. } => {}
        }
    }

    async fn opened(&mut self, task: TaskId, opened: Result<Opened, String>) {
        // Closed meanwhile: the task is gone, and dropping the namespace is all there is to do.
        let Some(open) = self.open.get_mut(&task) else { return };
        match opened {
            Ok(Opened { netns, cookie, began }) => {
                let id = netns.id();
                let (asked, pid) = match open {
                    Open::Asked(asked, pid) | Open::Done(asked, Entrance { pid, .. }) => (*asked, *pid),
                };
                *open = Open::Done(asked, Entrance { netns: Arc::new(netns), pid });
                self.report(Report::Opened { task, netns: id, cookie, began }).await;
            }
            Err(reason) => {
                self.open.remove(&task);
                self.report(Report::OpenFailed { task, reason }).await;
            }
        }
    }

    /// Gives the open namespace to the attacher, which tries until it is told to detach. Says why
    /// it was not taken.
    fn attach(&mut self, slot: Slot, netns: NetnsId, task: TaskId, origin: Origin, is_old: bool) -> Result<(), String> {
        let Some(Open::Done(asked, Entrance { netns: open, pid })) = self.open.remove(&task) else {
            return Err("its namespace was closed before it could be attached".to_owned());
        };
        let priority = match origin {
            Origin::Live => Priority::New,
            Origin::Found => Priority::Background,
        };
        self.descriptors.room_for_another(self.namespaces.len()).inspect_err(|_| self.attacher.make_room())?;
        // Its addresses are its own from before anything of it is seen, and its name is on its way.
        let (since, coming) = (clock::now(), self.identities.expectation().begin());
        self.attacher.attach(slot, open.clone(), priority).map_err(|error| error.to_string())?;
        match origin {
            Origin::Live => self.scan.live(slot),
            // Attach, then scan: nothing opens unseen in between.
            Origin::Found => self.scan.found(slot, open, pid),
        }
        let is_new = matches!(origin, Origin::Live);
        self.namespaces.insert(slot, Namespace::new(netns, Met { asked, since, pid, is_new, is_old }, coming));
        self.dirty = true;
        Ok(())
    }

    fn identify(&mut self, slot: Slot, name: &Arc<shim_plugin::LocalName>) {
        if self.node.identify(slot, name, &mut self.identities) {
            return;
        }
        let Some(namespace) = self.namespaces.get_mut(&slot) else { return };
        let pod = k8s_sync::cluster::object::Uid::parse(&name.pod_uid);
        self.identities.set_slot(slot, Identity::Known(name.workload.clone()), pod);
        namespace.named(name.workload.clone(), pod, &mut self.identities);
        self.dirty = true;
    }

    fn observe(&mut self, slot: Slot, word: Observe) {
        if word == Observe::Unclear {
            let slot = slot.0;
            tracing::warn!(slot, "a label {OBSERVE} says neither \"true\" nor \"tcp\" nor \"false\"");
        }
        self.quiet(slot, word == Observe::Tcp);
    }

    /// Nothing is copied of its messages, or all is as usual.
    fn quiet(&mut self, slot: Slot, quiet: bool) {
        let changes = if quiet { self.quiet.insert(slot) } else { self.quiet.remove(&slot) };
        self.dirty |= changes;
        if !changes {
            return;
        }
        if let Err(error) = self.overrides.quiet(slot, quiet) {
            let slot = slot.0;
            tracing::error!(%error, slot, quiet, "what is copied of a pod cannot be changed");
        }
    }

    async fn attach_event(&mut self, event: AttachEvent) {
        self.early_so_far();
        self.dirty = true;
        let (AttachEvent::Attached { slot, .. }
        | AttachEvent::Interfaces { slot, .. }
        | AttachEvent::Addresses { slot, .. }
        | AttachEvent::Failed { slot, .. }
        | AttachEvent::Detached { slot }) = event;
        if !self.namespaces.contains_key(&slot) {
            return;
        }
        match event {
            AttachEvent::Attached { addresses, before, .. } => {
                if self.namespaces.get(&slot).is_some_and(|namespace| !namespace.is_old()) {
                    self.late_packets += before;
                }
                self.addressed(slot, &addresses);
                self.scan.attached(slot);
                self.report(Report::Answered { slot }).await;
            }
            // The attacher shows them.
            AttachEvent::Interfaces { .. } => {}
            AttachEvent::Addresses { addresses, .. } => self.addressed(slot, &addresses),
            AttachEvent::Failed { .. } => {
                self.namespaces.get_mut(&slot).into_iter().for_each(Namespace::failed);
                self.scan.answered(slot);
                self.report(Report::Answered { slot }).await;
            }
            AttachEvent::Detached { .. } => {
                let Some(namespace) = self.namespaces.remove(&slot) else { return };
                self.scan.gone(slot);
                let at = namespace.gone(&mut self.identities);
                self.identities.release_slot(slot, at);
                self.quiet(slot, false);
                // The pipeline thread may have ended first; then there are no flows to settle.
                let _ = self.pipeline.send(Order::NamespaceGone { slot, at });
            }
        }
    }

    fn addressed(&mut self, slot: Slot, addresses: &[IfAddress]) {
        let Some(namespace) = self.namespaces.get_mut(&slot) else { return };
        let (given, since) = namespace.addressed(addresses, clock::now(), &mut self.identities);
        self.addresses_full.add(namespace.take_crowded());
        let mut tasks = None;
        let others = self.namespaces.iter_mut().filter(|(other, _)| !given.is_empty() && **other != slot);
        for (other, older) in others.filter(|(_, older)| older.holds_any(&given)) {
            // Asked for once, and only where two have one address.
            let tasks = tasks.get_or_insert_with(|| self.handle.status.tasks());
            let inside: Vec<u32> = tasks.iter().filter(|task| lives_in(task, *other)).map(|task| task.pid).collect();
            older.yield_to_newer(&given, &inside, since, &mut self.identities);
        }
    }

    /// Ids of the containers that share the node's namespace, and who they are.
    fn node_containers(&self) -> HashMap<String, Arc<Workload>> {
        let of_node = |view: TaskView| match (view.state, view.name) {
            (TaskState::Node | TaskState::LeftOut { on_node: true, .. }, Some(name)) => {
                Some((view.container.id.to_string(), name.workload.clone()))
            }
            _ => None,
        };
        self.handle.status.tasks().into_iter().filter_map(of_node).collect()
    }

    fn owners(&mut self, owned: &[Owned], at: Ts) {
        let (addresses, containers) = (self.node_addresses.addresses(), self.node_containers());
        self.node_ports.take(owned, &addresses, &containers, at, &mut self.identities);
    }

    async fn report(&self, report: Report) {
        // The containerd task is gone only when the agent is about to be.
        let _ = self.handle.reports.send(report).await;
    }

    fn publish(&mut self) {
        let now = Instant::now();
        let status = self.handle.status.read();
        let counted = Counted {
            attach: self.attacher.counters(),
            late_packets: self.late_packets,
            node_ended: self.node.ended(),
            heard: *self.heard.lock(),
            tasks: status.counts,
            link: status.links.iter().map(|link| link.counts).sum(),
        };
        self.counts.publish(counted, &self.board);
        if let Some(history) = self.board.history.get() {
            history.tick();
        }
        *self.board.containerd.lock() = show_links::containerd(status.links, now);
        self.contested.set_total(self.identities.contested());
        *self.board.table_metrics.lock() = self.identities.metrics().to_vec();
        let settled = status.tasks.discovered + status.tasks.attaching == 0;
        let in_quota = self.board.pacer.is_limited();
        self.scan.tick(settled, in_quota, now);
        let scan = self.scan.publish();
        let reached = Reached {
            connected: self.board.containerd.lock().connected,
            settled,
            scanned: self.ready.is_cancelled() && scan.done >= scan.total,
        };
        *self.board.scan.lock() = scan;
        let named = || self.namespaces.values().all(|namespace| namespace.workload().is_some());
        self.board.begun.store(self.beginning.is_over(reached, named, now), Ordering::Relaxed);
        let due = self.node.tick(settled, now);
        self.begin(due.jobs);
        self.reads.links(due.links);
        self.reads.rests(due.endings);
        if self.ready.is_cancelled() && (self.node_ports.is_due(status.tasks.node, now) || due.look) {
            self.scan.look_at_node(in_quota, now);
        }
        if let Some(shown) = self.node.shown() {
            *self.board.node.lock() = Arc::new(shown);
        }
        let waiting = status.tasks.discovered + status.tasks.failed;
        let left_out = status.tasks.left_out;
        let changed = std::mem::take(&mut self.dirty) || left_out != self.left_out;
        if (changed || waiting > 0 || self.waiting > 0) && self.shows(now) {
            (self.waiting, self.left_out) = (waiting, left_out);
            let tasks = if waiting + left_out > 0 { self.handle.status.tasks() } else { Vec::new() };
            let all = show::namespaces(&self.namespaces, &self.quiet, self.attacher.snapshot(), tasks);
            *self.board.namespaces.lock() = Arc::new(all);
        }
    }

    /// Whether the rows are made now. What changed meanwhile is in them the next time.
    fn shows(&mut self, now: Instant) -> bool {
        let is_soon = |last: Instant| now.saturating_duration_since(last) < PUBLISH_IN_QUOTA;
        let shows = !self.board.pacer.is_limited() || !self.shown.is_some_and(is_soon);
        if shows {
            self.shown = Some(now);
        } else {
            self.dirty = true;
        }
        shows
    }
}

fn lives_in(task: &TaskView, slot: Slot) -> bool {
    matches!(task.state, TaskState::Placed(of) | TaskState::Attaching(of) if of == slot)
}
