//! The task around the registry: a link to each containerd, the labels of what they run, and the
//! two queues to whoever performs the actions.

use crate::action::{Action, Report};
use crate::client::Client;
use crate::config::Config;
use crate::container::{ContainerRef, LinkId};
use crate::early::Early;
use crate::event::TaskEvent;
use crate::link::{Link, Message};
use crate::name::Labels;
use crate::registry::Registry;
use crate::status::{SharedStatus, StatusReader};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// 1024 events: a node starts and stops some tens of containers a second; this is a burst of seconds.
const EVENTS: usize = 1024;
/// 1024 actions or reports on the way between the two tasks, about 100 KiB.
const ACTIONS: usize = 1024;
/// Actions that wait for room, some for each task that can be. Beyond it events are left in their channel and dropped.
const OUTBOX: usize = 4 * 8192;
/// Label requests to one containerd at a time, so that containerd's own work is not queued behind ours.
const LABEL_CALLS: usize = 4;
/// More waiting containers of one namespace than this are read by one streamed list (0.5 ms for each single call).
const SINGLE_LABEL_CALLS: usize = 32;

/// What whoever performs the actions holds.
#[derive(Debug)]
pub struct Handle {
    /// In order. `FetchLabels` never appears here. When it ends, the task has ended.
    pub actions: mpsc::Receiver<Action>,
    /// Answers to actions. Sending waits only while the task is busy for microseconds; it never waits for `actions`.
    pub reports: mpsc::Sender<Report>,
    /// The state for status pages and metrics; may be cloned.
    pub status: StatusReader,
    /// For whoever hears of a namespace before containerd tells of its task; may be cloned.
    pub early: Early,
}

/// The task that keeps the registry equal to the containerds and hands out its actions.
#[derive(Debug)]
pub struct Containerd {
    config: Arc<Config>,
    shared: Arc<SharedStatus>,
    actions: mpsc::Sender<Action>,
    reports: mpsc::Receiver<Report>,
    outbox: VecDeque<Action>,
    labels: LabelReader,
}

impl Containerd {
    /// Does nothing until [`run`](Containerd::run).
    #[must_use]
    pub fn new(config: Config) -> (Containerd, Handle) {
        let (actions, actions_out) = mpsc::channel(ACTIONS);
        let (reports_in, reports) = mpsc::channel(ACTIONS);
        let registry = Registry::new(config.limits, config.node).observing_node(config.observe_node);
        let shared = Arc::new(SharedStatus::new(registry, &config.sockets));
        let status = StatusReader(shared.clone());
        let (outbox, labels) = (VecDeque::new(), LabelReader::default());
        let config = Arc::new(config);
        let early = Early { config: config.clone(), shared: shared.clone() };
        let task = Containerd { config, shared, actions, reports, outbox, labels };
        (task, Handle { actions: actions_out, reports: reports_in, status, early })
    }

    /// Runs until `drain` is cancelled or nobody receives actions any more. Leaves nothing behind in containerd.
    #[tracing::instrument(name = "containerd", skip_all)]
    pub async fn run(mut self, drain: CancellationToken) {
        let (messages, mut inbox) = mpsc::channel(EVENTS);
        let mut links = JoinSet::new();
        for id in self.shared.ids() {
            let link = Link::new(id, self.config.clone(), self.shared.clone(), messages.clone());
            links.spawn(link.run());
        }
        let (actions, shared) = (self.actions.clone(), self.shared.clone());
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ticking = false;
        loop {
            tokio::select! {
                biased;
                () = drain.cancelled() => return,
                Some(report) = self.reports.recv() => {
                    self.with_registry(|registry, now| registry.report(report, now));
                    ticking = true;
                }
                Some(message) = inbox.recv(), if self.outbox.len() < OUTBOX => {
                    self.message(message);
                    ticking = true;
                }
                () = shared.early.notified() => ticking = true,
                () = actions.closed() => return,
                Ok(room) = actions.reserve(), if !self.outbox.is_empty() => {
                    if let Some(action) = self.outbox.pop_front() {
                        room.send(action);
                    }
                }
                Some(ended) = self.labels.calls.join_next_with_id(), if !self.labels.calls.is_empty() => {
                    let read = self.labels.read(ended);
                    self.labels_read(read);
                }
                _ = tick.tick(), if ticking => {
                    self.with_registry(Registry::tick);
                    ticking = self.shared.registry.lock().needs_tick();
                }
                Some(ended) = links.join_next() => match ended {
                    Ok(never) => match never {},
                    Err(error) => return tracing::error!(%error, "a link to containerd broke off"),
                },
            }
            self.send();
            self.labels.call();
        }
    }

    fn message(&mut self, message: Message) {
        match message {
            Message::Connected(link, client) => self.labels.connected(link, client),
            Message::Disconnected(link) => {
                self.with_registry(|registry, now| registry.apply(TaskEvent::Away { link }, now));
                let unread = self.labels.disconnected(link);
                self.labels_read(unread);
            }
            Message::Event(event) => {
                let listed = match &event {
                    TaskEvent::Listed { link, .. } => Some(*link),
                    _ => None,
                };
                self.with_registry(|registry, now| registry.apply(event, now));
                if let Some(link) = listed {
                    let mut link = self.shared.link(link);
                    link.counts.reconciles += 1;
                    link.last_reconcile = Some(Instant::now());
                }
            }
        }
    }

    fn with_registry(&mut self, change: impl FnOnce(&mut Registry, Instant) -> Vec<Action>) {
        let mut unread = Vec::new();
        for action in change(&mut self.shared.registry.lock(), Instant::now()) {
            match action {
                Action::FetchLabels { container } => unread.extend(self.labels.want(container).err()),
                action => self.outbox.push_back(action),
            }
        }
        if !unread.is_empty() {
            // Its containerd went away meanwhile; the next list asks again.
            self.labels_read(unread.into_iter().map(|container| (container, None)).collect());
        }
    }

    fn labels_read(&mut self, read: LabelsRead) {
        for (container, labels) in read {
            let event = match labels {
                Some(labels) => TaskEvent::Labels { container, labels },
                None => {
                    self.shared.link(container.link).counts.labels_unread += 1;
                    TaskEvent::LabelsUnread { container }
                }
            };
            self.with_registry(|registry, now| registry.apply(event, now));
        }
    }

    /// Hands over what there is room for at once, without another turn of the loop.
    fn send(&mut self) {
        while let Some(action) = self.outbox.pop_front() {
            match self.actions.try_send(action) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(action) | mpsc::error::TrySendError::Closed(action)) => {
                    self.outbox.push_front(action);
                    return;
                }
            }
        }
    }
}

/// Reads labels beside the loop: names may come late, attaching may not. A containerd that is slow
/// to answer delays the names of its own containers only.
#[derive(Debug, Default)]
struct LabelReader {
    of_link: BTreeMap<LinkId, LinkLabels>,
    calls: JoinSet<LabelsRead>,
    /// Whose containerd each call asks.
    under_way: HashMap<tokio::task::Id, LinkId>,
}

type LabelsRead = Vec<(ContainerRef, Option<Labels>)>;

#[derive(Debug)]
struct LinkLabels {
    client: Client,
    /// At most one entry for each admission and list, so bounded by the registry.
    waiting: VecDeque<ContainerRef>,
}

impl LabelReader {
    fn connected(&mut self, link: LinkId, client: Client) {
        self.of_link.insert(link, LinkLabels { client, waiting: VecDeque::new() });
    }

    /// Gives back those that wait for nobody now.
    fn disconnected(&mut self, link: LinkId) -> LabelsRead {
        let waiting = self.of_link.remove(&link).map(|labels| labels.waiting).unwrap_or_default();
        waiting.into_iter().map(|container| (container, None)).collect()
    }

    /// Gives the container back when its containerd is not there to be asked.
    fn want(&mut self, container: ContainerRef) -> Result<(), ContainerRef> {
        match self.of_link.get_mut(&container.link) {
            Some(labels) => labels.waiting.push_back(container),
            None => return Err(container),
        }
        Ok(())
    }

    /// What a call that has ended brought; nothing where it broke off.
    fn read(&mut self, ended: Result<(tokio::task::Id, LabelsRead), JoinError>) -> LabelsRead {
        let (id, read) = ended.unwrap_or_else(|error| (error.id(), LabelsRead::new()));
        self.under_way.remove(&id);
        read
    }

    fn call(&mut self) {
        let LabelReader { of_link, calls, under_way } = self;
        for (link, LinkLabels { client, waiting }) in of_link {
            while under_way.values().filter(|of| *of == link).count() < LABEL_CALLS
                && let Some(container) = waiting.pop_front()
            {
                let client = client.clone();
                let call = if waiting.len() < SINGLE_LABEL_CALLS {
                    calls.spawn(async move {
                        let labels = client.labels(&container).await.ok();
                        vec![(container, labels)]
                    })
                } else {
                    let same = |other: &ContainerRef| other.namespace == container.namespace;
                    let mut wanted: Vec<ContainerRef> = waiting.iter().filter(|other| same(other)).cloned().collect();
                    waiting.retain(|other| !same(other));
                    wanted.push(container);
                    calls.spawn(async move { all_of(&client, wanted).await })
                };
                under_way.insert(call.id(), *link);
            }
        }
    }
}

/// The labels of containers that are all in one namespace, by one list.
async fn all_of(client: &Client, wanted: Vec<ContainerRef>) -> LabelsRead {
    let Some(namespace) = wanted.first().map(|container| container.namespace.clone()) else { return Vec::new() };
    let all = client.all_labels(&namespace).await.unwrap_or_default();
    let mut all: HashMap<_, _> = all.into_iter().collect();
    wanted.into_iter().map(|container| (all.remove(&container.id), container)).map(|(l, c)| (c, l)).collect()
}
