use crate::action::{Action, Report};
use crate::client::Client;
use crate::config::Config;
use crate::container::ContainerRef;
use crate::event::TaskEvent;
use crate::link::{Link, Message};
use crate::name::Labels;
use crate::registry::Registry;
use crate::status::{LinkStatus, SharedStatus, StatusReader};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// 1024 events: a node starts and stops some tens of containers a second; this is a burst of seconds.
const EVENTS: usize = 1024;
/// 1024 actions or reports on the way between the two tasks, about 100 KiB.
const ACTIONS: usize = 1024;
/// Actions that wait for room, some for each task that can be. Beyond it events are left in their channel and dropped.
const OUTBOX: usize = 4 * 8192;
/// Label requests at a time, so that containerd's own work is not queued behind ours.
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
}

/// The task that keeps the registry equal to containerd and hands out its actions.
#[derive(Debug)]
pub struct Containerd {
    config: Config,
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
        let registry = Mutex::new(Registry::new(config.limits, config.node).observing_node(config.observe_node));
        let shared = Arc::new(SharedStatus { registry, link: Mutex::new(LinkStatus::default()) });
        let status = StatusReader(shared.clone());
        let task =
            Containerd { config, shared, actions, reports, outbox: VecDeque::new(), labels: LabelReader::default() };
        (task, Handle { actions: actions_out, reports: reports_in, status })
    }

    /// Runs until `drain` is cancelled or nobody receives actions any more. Leaves nothing behind in containerd.
    #[tracing::instrument(name = "containerd", skip_all)]
    pub async fn run(mut self, drain: CancellationToken) {
        let (messages, mut inbox) = mpsc::channel(EVENTS);
        let link = Link::new(self.config.clone(), self.shared.clone(), messages);
        let mut link = pin!(link.run());
        let actions = self.actions.clone();
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
                () = actions.closed() => return,
                Ok(room) = actions.reserve(), if !self.outbox.is_empty() => {
                    if let Some(action) = self.outbox.pop_front() {
                        room.send(action);
                    }
                }
                Some(read) = self.labels.calls.join_next(), if !self.labels.calls.is_empty() => {
                    self.labels_read(read.unwrap_or_default());
                }
                _ = tick.tick(), if ticking => {
                    self.with_registry(Registry::tick);
                    ticking = self.shared.registry.lock().needs_tick();
                }
                never = &mut link => match never {},
            }
            self.send();
            self.labels.call();
        }
    }

    fn message(&mut self, message: Message) {
        match message {
            Message::Connected(client) => self.labels.client = Some(client),
            Message::Disconnected => {
                self.labels.client = None;
                let unread = self.labels.waiting.drain(..).map(|container| (container, None)).collect();
                self.labels_read(unread);
            }
            Message::Event(event) => {
                let listed = matches!(event, TaskEvent::Listed { .. });
                self.with_registry(|registry, now| registry.apply(event, now));
                if listed {
                    let mut link = self.shared.link.lock();
                    link.counts.reconciles += 1;
                    link.last_reconcile = Some(Instant::now());
                }
            }
        }
    }

    fn with_registry(&mut self, change: impl FnOnce(&mut Registry, Instant) -> Vec<Action>) {
        for action in change(&mut self.shared.registry.lock(), Instant::now()) {
            match action {
                Action::FetchLabels { container } => self.labels.waiting.push_back(container),
                action => self.outbox.push_back(action),
            }
        }
    }

    fn labels_read(&mut self, read: Vec<(ContainerRef, Option<Labels>)>) {
        for (container, labels) in read {
            let event = match labels {
                Some(labels) => TaskEvent::Labels { container, labels },
                None => {
                    self.shared.link.lock().counts.labels_unread += 1;
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

/// Reads labels beside the loop: names may come late, attaching may not.
#[derive(Debug, Default)]
struct LabelReader {
    client: Option<Client>,
    /// At most one entry for each admission and list, so bounded by the registry.
    waiting: VecDeque<ContainerRef>,
    calls: JoinSet<Vec<(ContainerRef, Option<Labels>)>>,
}

impl LabelReader {
    fn call(&mut self) {
        while self.calls.len() < LABEL_CALLS
            && let Some(client) = self.client.clone()
            && let Some(container) = self.waiting.pop_front()
        {
            if self.waiting.len() < SINGLE_LABEL_CALLS {
                self.calls.spawn(async move {
                    let labels = client.labels(&container).await.ok();
                    vec![(container, labels)]
                });
                continue;
            }
            let same = |other: &ContainerRef| other.namespace == container.namespace;
            let mut wanted: Vec<ContainerRef> = self.waiting.iter().filter(|other| same(other)).cloned().collect();
            self.waiting.retain(|other| !same(other));
            wanted.push(container);
            self.calls.spawn(async move {
                let Some(namespace) = wanted.first().map(|container| container.namespace.clone()) else {
                    return Vec::new();
                };
                let all = client.all_labels(&namespace).await.unwrap_or_default();
                let mut all: std::collections::HashMap<_, _> = all.into_iter().collect();
                wanted
                    .into_iter()
                    .map(|container| (all.remove(&container.id), container))
                    .map(|(l, c)| (c, l))
                    .collect()
            });
        }
    }
}
