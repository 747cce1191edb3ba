//! The task around the registry: a link to each containerd, the labels of what they run, and the
//! two queues to whoever performs the actions.

use crate::action::{Action, Report};
use crate::config::Config;
use crate::early::Early;
use crate::event::TaskEvent;
use crate::labels::{LabelReader, LabelsRead, Named};
use crate::link::{Link, Message};
use crate::observe::LeaveOut;
use crate::registry::Registry;
use crate::status::{SharedStatus, StatusReader};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// 1024 events: a node starts and stops some tens of containers a second; this is a burst of seconds.
const EVENTS: usize = 1024;
/// 1024 actions or reports on the way between the two tasks, about 100 KiB.
const ACTIONS: usize = 1024;
/// Actions that wait for room, some for each task that can be. Beyond it events are left in their channel and dropped.
const OUTBOX: usize = 4 * 8192;

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
    /// Who is left out from now on; may be cloned.
    pub leave_out: watch::Sender<LeaveOut>,
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
    leave_out: watch::Receiver<LeaveOut>,
}

impl Containerd {
    /// Does nothing until [`run`](Containerd::run).
    #[must_use]
    pub fn new(config: Config) -> (Containerd, Handle) {
        let (actions, actions_out) = mpsc::channel(ACTIONS);
        let (reports_in, reports) = mpsc::channel(ACTIONS);
        let registry = Registry::new(config.limits, config.node)
            .observing_node(config.observe_node)
            .leaving_out(config.leave_out.clone());
        let (leave_out, leave_out_in) = watch::channel(config.leave_out.clone());
        let shared = Arc::new(SharedStatus::new(registry, &config.sockets));
        let status = StatusReader(shared.clone());
        let (outbox, labels) = (VecDeque::new(), LabelReader::new(config.pace.clone()));
        let config = Arc::new(config);
        let early = Early { config: config.clone(), shared: shared.clone() };
        let task = Containerd { config, shared, actions, reports, outbox, labels, leave_out: leave_out_in };
        (task, Handle { actions: actions_out, reports: reports_in, status, early, leave_out })
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
                Ok(()) = self.leave_out.changed() => {
                    let these = self.leave_out.borrow_and_update().clone();
                    self.with_registry(|registry, now| registry.leave_out(these, now));
                    ticking = true;
                }
                () = actions.closed() => return,
                Ok(room) = actions.reserve(), if !self.outbox.is_empty() => {
                    if let Some(action) = self.outbox.pop_front() {
                        room.send(action);
                    }
                }
                read = self.labels.next(|whose| self.shared.registry.lock().follows(whose)), if self.labels.is_asking() => {
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
            Message::Event(mut event) => {
                let listed = match &mut event {
                    TaskEvent::Listed { link, .. } => Some(*link),
                    TaskEvent::Labels { container, labels } => {
                        *labels = self.labels.updated(container, std::mem::take(labels));
                        None
                    }
                    _ => None,
                };
                self.with_registry(|registry, now| registry.apply(event, now));
                if let Some(link) = listed {
                    self.labels.look_again(link, |whose| self.shared.registry.lock().follows(whose));
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
            self.labels_read(unread.into_iter().map(|container| (container, Named::Unread)).collect());
        }
    }

    fn labels_read(&mut self, read: LabelsRead) {
        for (container, named) in read {
            let event = match named {
                Named::As(labels) => TaskEvent::Labels { container, labels },
                Named::Half(labels) => {
                    self.shared.link(container.link).counts.docker_unread += 1;
                    TaskEvent::Labels { container, labels }
                }
                Named::Unread => {
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
