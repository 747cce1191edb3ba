use crate::action::{Action, Origin};
use crate::container::{ContainerRef, LinkId, TaskId};
use crate::counts::{Counts, TaskGauges};
use crate::ended::RecentlyEnded;
use crate::event::{ListedTask, TaskEvent};
use crate::name::{LocalName, NameSource};
use crate::news::{ExitStatus, Run, TaskNews};
use crate::observe::{LeaveOut, Observe, Why};
use crate::retry::Failure;
use crate::slots::Slots;
use flow_model::{NetnsId, Slot};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// Which containers run, in which network namespace, and what is to be done about it. Pure: the clock is passed in, and
/// nothing is performed.
#[derive(Debug)]
pub struct Registry {
    pub(crate) limits: Limits,
    pub(crate) node: Option<NetnsId>,
    /// Tasks of the node's namespace are attached to by their cgroups.
    pub(crate) observe_node: bool,
    pub(crate) leave_out: LeaveOut,
    /// What pods say of themselves, by their uid: of those that say anything but the usual.
    pub(crate) observed: HashMap<Arc<str>, Observe>,
    pub(crate) tasks: BTreeMap<TaskId, Task>,
    pub(crate) by_container: HashMap<ContainerRef, TaskId>,
    pub(crate) slots: Slots,
    ended: RecentlyEnded,
    /// Found by a list, or failed before: their turn comes when fewer than `limits.found_in_flight` are under way.
    pub(crate) found: VecDeque<TaskId>,
    pub(crate) in_flight: HashSet<TaskId>,
    last: u64,
    /// Links that gave a list.
    pub(crate) listed_before: HashSet<LinkId>,
    /// Links that do not answer now, and since when. What they had is kept.
    pub(crate) away: BTreeMap<LinkId, Instant>,
    /// Attached before their first task is heard of, and since when. They have a slot without tasks.
    pub(crate) early: BTreeMap<Slot, Instant>,
    pub(crate) counts: Counts,
}

/// Bounds of a [`Registry`].
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Tasks remembered; more are refused and counted. A node has at most some 110-500 pods of a few containers each.
    pub tasks: usize,
    /// Opens and attaches of found tasks under way at once, so that a new container never waits behind more than these.
    pub found_in_flight: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { tasks: 8192, found_in_flight: 16 }
    }
}

#[derive(Debug)]
pub(crate) struct Task {
    pub container: ContainerRef,
    pub pid: u32,
    /// Start time of its process, once that was opened.
    pub began: Option<u64>,
    pub origin: Origin,
    /// It ran before its containerd was listed first: what it said until then is nobody's loss.
    pub is_old: bool,
    pub stage: TaskStage,
    /// Times in a row that its namespace was not opened, or not taken by whoever attaches.
    pub attempts: u32,
    pub name: Option<Arc<LocalName>>,
    labels: LabelState,
    started: bool,
    /// Set when it is over.
    exit: Option<ExitStatus>,
    /// When an event last spoke of it. A list that began earlier does not overrule that.
    touched: Instant,
    /// When its process was asked after.
    pub looked: Option<Instant>,
}

/// How far a task is on its way to a slot.
#[derive(Clone, Debug)]
pub(crate) enum TaskStage {
    /// For its turn to be opened.
    Waiting,
    Opening {
        since: Instant,
    },
    Unopened(Failure),
    /// With a slot where its cgroup is to be attached to.
    Node(Option<Slot>),
    In(Slot),
}

/// What is known of a task when it is met.
#[derive(Clone, Copy, Debug)]
struct Flags {
    started: bool,
    is_old: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LabelState {
    Asked,
    Known,
    Unread,
}

/// A task as `pilotfish status` shows it.
#[derive(Clone, Debug)]
pub struct TaskView {
    /// The run.
    pub task: TaskId,
    /// What it is a run of.
    pub container: ContainerRef,
    /// Of its init process, as the node counts pids.
    pub pid: u32,
    /// How far it is.
    pub state: TaskState,
    /// None while the labels are not read.
    pub name: Option<Arc<LocalName>>,
}

/// How far a task is on its way to a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// Its namespace is not known yet.
    Discovered,
    /// Its namespace is with whoever attaches, who has not answered yet.
    Attaching(Slot),
    /// Its namespace is with whoever attaches, who knows how it stands there.
    Placed(Slot),
    /// Its namespace could not be opened, or was not taken by whoever attaches. Opened again later.
    Failed {
        /// For people; at most 200 bytes.
        reason: String,
        /// Failures in a row, from 1 on.
        attempts: u32,
    },
    /// It shares the node's namespace, which is not attached to (its cgroup may be).
    Node,
    /// Nobody is to attach to its namespace, or, where that is the node's, to its cgroup.
    LeftOut {
        /// Who says so.
        why: Why,
        /// It shares the node's namespace.
        on_node: bool,
        /// It stands for those that share its namespace.
        first: bool,
    },
}

impl Registry {
    /// `node` is the namespace that the agent itself runs in: it is not attached to, whoever shares it.
    #[must_use]
    pub fn new(limits: Limits, node: Option<NetnsId>) -> Registry {
        Registry {
            limits,
            node,
            observe_node: false,
            leave_out: LeaveOut::default(),
            observed: HashMap::new(),
            tasks: BTreeMap::new(),
            by_container: HashMap::new(),
            slots: Slots::default(),
            ended: RecentlyEnded::default(),
            found: VecDeque::new(),
            in_flight: HashSet::new(),
            last: 0,
            listed_before: HashSet::new(),
            away: BTreeMap::new(),
            early: BTreeMap::new(),
            counts: Counts::default(),
        }
    }

    /// Containers that share the node's namespace are to be attached to by their cgroups.
    #[must_use]
    pub fn observing_node(mut self, observe: bool) -> Registry {
        self.observe_node = observe;
        self
    }

    /// These are left out from the start.
    #[must_use]
    pub fn leaving_out(mut self, these: LeaveOut) -> Registry {
        self.leave_out = these;
        self
    }

    /// Takes in what a containerd said at `now`.
    #[must_use]
    pub fn apply(&mut self, event: TaskEvent, now: Instant) -> Vec<Action> {
        let mut out = Vec::new();
        match event {
            TaskEvent::Created { container, pid } => self.begun(container, pid, false, now, &mut out),
            TaskEvent::Started { container, pid } => self.begun(container, pid, true, now, &mut out),
            TaskEvent::Exited { container, process, pid, exit }
            | TaskEvent::Deleted { container, process, pid, exit } => {
                if process.is_empty() || *process == *container.id {
                    self.over(container, pid, exit, now, &mut out);
                } else {
                    self.counts.exec_exits += 1;
                }
            }
            TaskEvent::OutOfMemory { container, at } => self.out_of_memory(container, at, &mut out),
            TaskEvent::Labels { container, labels } => {
                let name = Arc::new(LocalName::of(&container, &labels));
                self.named(&container, name, &mut out);
            }
            TaskEvent::LabelsUnread { container } => {
                let id = self.by_container.get(&container);
                if let Some(task) = id.and_then(|id| self.tasks.get_mut(id))
                    && task.labels == LabelState::Asked
                {
                    task.labels = LabelState::Unread;
                }
            }
            TaskEvent::Removed { container } => self.removed(&container, now, &mut out),
            TaskEvent::Away { link } => self.went_away(link, now),
            TaskEvent::Listed { link, began, tasks, unread } => {
                self.away.remove(&link);
                self.listed(link, began, tasks, &unread, now, &mut out);
            }
        }
        self.let_found_go(now, &mut out);
        out
    }

    fn begun(&mut self, container: ContainerRef, pid: u32, started: bool, now: Instant, out: &mut Vec<Action>) {
        if pid == 0 || self.ended.contains(&container, pid, now) {
            self.counts.stale += 1;
            return;
        }
        let known = self.by_container.get(&container).copied();
        if let Some(id) = known {
            if let Some(task) = self.tasks.get_mut(&id)
                && task.pid == pid
            {
                task.touched = now;
                let begins = started && !task.started;
                if !begins {
                    self.counts.duplicates += 1;
                }
                task.started |= started;
                if begins {
                    out.extend(self.run(id).map(|run| Action::Tell(TaskNews::Began(run))));
                }
                if let Some(task) = self.tasks.get_mut(&id)
                    && let TaskStage::Waiting = task.stage
                {
                    task.origin = Origin::Live;
                    self.open(id, now, out);
                }
                return;
            }
            self.end(id, now, out);
        }
        self.admit(container, pid, Origin::Live, Flags { started, is_old: false }, now, out);
    }

    fn over(
        &mut self,
        container: ContainerRef,
        pid: u32,
        exit: Option<ExitStatus>,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        match self.by_container.get(&container).copied() {
            Some(id) if pid == 0 || self.tasks.get(&id).is_some_and(|task| task.pid == pid) => {
                if let Some(task) = self.tasks.get_mut(&id) {
                    task.exit = exit;
                }
                self.end(id, now, out);
            }
            _ if pid == 0 => self.counts.stale += 1,
            _ => {
                // The exit may have overtaken the start, or this is the delete after the exit.
                if self.ended.contains(&container, pid, now) {
                    self.counts.duplicates += 1;
                } else {
                    self.counts.stale += 1;
                    self.ended.add(container, pid, now);
                }
            }
        }
    }

    fn admit(
        &mut self,
        container: ContainerRef,
        pid: u32,
        origin: Origin,
        flags: Flags,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let Flags { started, is_old } = flags;
        if self.tasks.len() >= self.limits.tasks {
            self.counts.refused += 1;
            return;
        }
        self.last += 1;
        let id = TaskId(self.last);
        let task = Task {
            container: container.clone(),
            pid,
            began: None,
            origin,
            is_old,
            stage: TaskStage::Waiting,
            attempts: 0,
            name: None,
            labels: LabelState::Asked,
            started,
            exit: None,
            touched: now,
            looked: None,
        };
        self.tasks.insert(id, task);
        self.by_container.insert(container.clone(), id);
        if started && !is_old {
            out.extend(self.run(id).map(|run| Action::Tell(TaskNews::Began(run))));
        }
        match origin {
            Origin::Live => self.open(id, now, out),
            Origin::Found => self.found.push_back(id),
        }
        out.push(Action::FetchLabels { container });
    }

    /// Forgets a run; its namespace is detached from if it was the last one in it.
    pub(crate) fn end(&mut self, id: TaskId, now: Instant, out: &mut Vec<Action>) {
        let run = self.run(id);
        let Some(task) = self.tasks.remove(&id) else { return };
        // Before its namespace is let go of: what is seen there until then was its own.
        out.extend(run.map(|run| Action::Tell(TaskNews::Ended { run, exit: task.exit })));
        self.in_flight.remove(&id);
        if self.by_container.get(&task.container) == Some(&id) {
            self.by_container.remove(&task.container);
        }
        if let TaskStage::Node(Some(slot)) = task.stage
            && let Some(gone) = self.slots.leave(slot, id)
        {
            out.extend(gone.detach(slot, true));
        }
        self.forget_word(task.name.as_deref());
        if let TaskStage::In(slot) = task.stage {
            let vouched = self.slots.get(slot).is_none_or(|it| it.cookie.is_some() || it.tasks.first() != Some(&id));
            if let Some(gone) = self.slots.leave(slot, id) {
                self.in_flight.remove(&gone.via);
                out.extend(gone.detach(slot, true));
            } else if vouched {
                self.name_anew(slot, out);
                self.judge(slot, out);
            } else {
                self.place_anew(slot, out);
            }
        }
        self.ended.add(task.container, task.pid, now);
    }

    fn out_of_memory(&mut self, container: ContainerRef, at: Option<SystemTime>, out: &mut Vec<Action>) {
        let run = self.by_container.get(&container).and_then(|id| self.run(*id));
        out.push(Action::Tell(TaskNews::OutOfMemory { container, run, at }));
    }

    /// As the history is told of it.
    fn run(&self, id: TaskId) -> Option<Run> {
        let task = self.tasks.get(&id)?;
        let slot = task.slot();
        let tasks = slot.and_then(|slot| self.slots.get(slot)).map(|entry| &*entry.tasks).unwrap_or_default();
        let is_sandbox = |name: &Arc<LocalName>| name.source == NameSource::Sandbox;
        let serves = |id: &&TaskId| self.tasks.get(id).is_some_and(|task| !task.name.as_ref().is_some_and(is_sandbox));
        let sharing = tasks.iter().filter(serves).count();
        let (container, name) = (task.container.clone(), task.name.clone());
        Some(Run { task: id, container, pid: task.pid, name, slot, sharing })
    }

    /// Where the task has ended that a namespace has its name of, the best of the others names it.
    fn name_anew(&mut self, slot: Slot, out: &mut Vec<Action>) {
        if !self.slots.wants_name(slot) {
            return;
        }
        let tasks = self.slots.get(slot).map(|entry| &*entry.tasks).unwrap_or_default();
        let named = |id: &TaskId| Some((*id, self.tasks.get(id)?.name.clone()?));
        let best = tasks.iter().filter_map(named).min_by_key(|(_, name)| name.source);
        if let Some((id, name)) = best
            && self.slots.offer_name(slot, id, &name)
        {
            out.push(Action::Identify { slot, name });
        }
    }

    /// The task that a namespace was attached through has ended while others seem to share it. It
    /// was the proof that the namespace lives: if they came after its death, they are in another
    /// one that took the inode. They are placed anew.
    pub(crate) fn place_anew(&mut self, slot: Slot, out: &mut Vec<Action>) {
        let Some(gone) = self.slots.remove(slot) else { return };
        self.in_flight.remove(&gone.via);
        out.extend(gone.detach(slot, false));
        for id in gone.tasks {
            if let Some(task) = self.tasks.get_mut(&id) {
                task.stage = TaskStage::Waiting;
                task.attempts = 0;
                task.origin = Origin::Found;
                self.found.push_back(id);
            }
        }
    }

    fn named(&mut self, container: &ContainerRef, name: Arc<LocalName>, out: &mut Vec<Action>) {
        let Some(id) = self.by_container.get(container).copied() else { return };
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.labels = LabelState::Known;
        task.name = Some(name.clone());
        out.push(Action::Tell(TaskNews::Named { task: id, name: name.clone() }));
        let slot = task.slot();
        if let Some(slot) = slot
            && self.slots.offer_name(slot, id, &name)
        {
            out.push(Action::Identify { slot, name: name.clone() });
        }
        self.sandbox_says(&name, out);
        if let Some(slot) = slot {
            self.judge(slot, out);
        }
    }

    fn listed(
        &mut self,
        link: LinkId,
        began: Instant,
        mut listed: Vec<ListedTask>,
        unread: &[Arc<str>],
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let first = self.listed_before.insert(link);
        let mut alive = HashSet::with_capacity(listed.len());
        // Higher pids are newer as a rule, and the newest pods are asked about first.
        listed.sort_by_key(|task| std::cmp::Reverse(task.pid));
        for ListedTask { container, pid } in listed {
            let known = self.by_container.get(&container).copied();
            let task = known.and_then(|id| Some((id, self.tasks.get_mut(&id)?)));
            let Some(pid) = pid.filter(|pid| *pid != 0) else {
                alive.extend(known);
                continue;
            };
            match task {
                Some((id, task)) if task.pid == pid || task.touched >= began => {
                    alive.insert(id);
                    if task.labels == LabelState::Unread {
                        task.labels = LabelState::Asked;
                        out.push(Action::FetchLabels { container });
                    }
                    continue;
                }
                // It ended while the list was made. An earlier end is overruled: events may have come out of order.
                _ if self.ended.since(&container, pid, began) => continue,
                Some((id, _)) => {
                    self.counts.corrections.replaced += 1;
                    self.end(id, now, out);
                }
                None if first => self.counts.found_at_start += 1,
                None => self.counts.corrections.missed_starts += 1,
            }
            let flags = Flags { started: true, is_old: first };
            self.admit(container.clone(), pid, Origin::Found, flags, now, out);
            alive.extend(self.by_container.get(&container));
        }
        let gone: Vec<TaskId> = self
            .tasks
            .iter()
            .filter(|(id, task)| {
                task.container.link == link
                    && !alive.contains(*id)
                    && task.touched < began
                    && !unread.contains(&task.container.namespace)
            })
            .map(|(id, _)| *id)
            .collect();
        self.counts.corrections.missed_exits += gone.len() as u64;
        for id in gone {
            self.end(id, now, out);
        }
        self.found.retain(|id| self.tasks.contains_key(id));
    }

    /// Whether a run of it is known.
    pub(crate) fn follows(&self, container: &ContainerRef) -> bool {
        self.by_container.contains_key(container)
    }

    /// What happened since the registry was made.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Every task, oldest first.
    pub fn tasks(&self) -> impl Iterator<Item = TaskView> {
        self.tasks.iter().map(|(id, task)| TaskView {
            task: *id,
            container: task.container.clone(),
            pid: task.pid,
            state: self.state(*id, task),
            name: task.name.clone(),
        })
    }

    fn state(&self, id: TaskId, task: &Task) -> TaskState {
        if let Some((why, tasks)) = task.slot().and_then(|slot| self.left_out(slot)) {
            let on_node = matches!(task.stage, TaskStage::Node(_));
            return TaskState::LeftOut { why, on_node, first: tasks.first() == Some(&id) };
        }
        match &task.stage {
            TaskStage::Waiting | TaskStage::Opening { .. } => TaskState::Discovered,
            TaskStage::Unopened(failure) => {
                TaskState::Failed { reason: failure.reason.clone(), attempts: task.attempts }
            }
            TaskStage::Node(_) => TaskState::Node,
            TaskStage::In(slot) if self.is_awaited(*slot) => TaskState::Attaching(*slot),
            TaskStage::In(slot) => TaskState::Placed(*slot),
        }
    }

    fn left_out(&self, slot: Slot) -> Option<(Why, &[TaskId])> {
        self.slots.get(slot).and_then(|entry| Some((entry.left_out?, &*entry.tasks)))
    }

    fn is_awaited(&self, slot: Slot) -> bool {
        self.slots.get(slot).is_some_and(|entry| !entry.answered)
    }

    /// How many tasks are in which state.
    #[must_use]
    pub fn gauges(&self) -> TaskGauges {
        let mut gauges = TaskGauges { namespaces: self.slots.namespaces(), ..TaskGauges::default() };
        for task in self.tasks.values() {
            let of_state = match &task.stage {
                TaskStage::Waiting | TaskStage::Opening { .. } => &mut gauges.discovered,
                TaskStage::Unopened(_) => &mut gauges.failed,
                TaskStage::In(slot) | TaskStage::Node(Some(slot)) if self.left_out(*slot).is_some() => {
                    &mut gauges.left_out
                }
                TaskStage::Node(_) => &mut gauges.node,
                TaskStage::In(slot) if self.is_awaited(*slot) => &mut gauges.attaching,
                TaskStage::In(_) => &mut gauges.placed,
            };
            *of_state += 1;
        }
        gauges
    }
}

impl Task {
    pub fn slot(&self) -> Option<Slot> {
        match self.stage {
            TaskStage::In(slot) => Some(slot),
            TaskStage::Node(slot) => slot,
            TaskStage::Waiting | TaskStage::Opening { .. } | TaskStage::Unopened(_) => None,
        }
    }

    pub fn is_of_pod(&self, uid: &str) -> bool {
        self.name.as_ref().is_some_and(|name| *name.pod_uid == *uid)
    }

    /// Its namespace was not opened or not taken: it is opened again later.
    pub fn fail(&mut self, reason: String, now: Instant) {
        self.attempts = self.attempts.saturating_add(1);
        self.stage = TaskStage::Unopened(Failure::after(self.attempts, reason, now));
    }
}
