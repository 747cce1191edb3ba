//! The half of the registry that listens to whoever performs its actions: opened, taken or not, and
//! never answered.

use crate::action::{Action, Origin, Report};
use crate::container::TaskId;
use crate::registry::{Registry, Task, TaskStage};
use crate::retry::ANSWER_WITHIN;
use flow_model::{NetnsId, Slot};
use std::time::Instant;

impl Registry {
    /// Takes in what became of an action.
    #[must_use]
    pub fn report(&mut self, report: Report, now: Instant) -> Vec<Action> {
        let mut out = Vec::new();
        match report {
            Report::Opened { task, netns, cookie, began } => {
                self.opened(task, netns, cookie, began, now, &mut out);
            }
            Report::Gone { task } => self.gone(task, now, &mut out),
            Report::OpenFailed { task, reason } => self.open_failed(task, reason, now),
            Report::Answered { slot } => {
                if let Some(entry) = self.slots.get_mut(slot) {
                    (entry.asked, entry.answered) = (None, true);
                    self.in_flight.remove(&entry.via);
                }
            }
            Report::NotTaken { slot, reason } => self.not_taken(slot, &reason, now),
        }
        self.let_found_go(now, &mut out);
        out
    }

    /// Opens again what failed and is due, gives up on actions without an answer, and asks after
    /// the processes of those who have nobody to tell of their end. To be called
    /// about once a second while [`Registry::needs_tick`] says so.
    #[must_use]
    pub fn tick(&mut self, now: Instant) -> Vec<Action> {
        let late = |since: Instant| now.duration_since(since) > ANSWER_WITHIN;
        let mut out = Vec::new();
        for (id, task) in &mut self.tasks {
            match &task.stage {
                TaskStage::Opening { since } if late(*since) => {
                    self.counts.unanswered += 1;
                    self.in_flight.remove(id);
                    task.fail("no answer".into(), now);
                }
                TaskStage::Unopened(failure) if failure.retry_at <= now => {
                    task.stage = TaskStage::Waiting;
                    task.origin = Origin::Found;
                    self.found.push_back(*id);
                }
                _ => {}
            }
        }
        // Whoever attaches will come to it some time: only the turn goes to others.
        for entry in self.slots.values_mut().filter(|entry| entry.asked.is_some_and(late)) {
            self.counts.unanswered += 1;
            self.in_flight.remove(&entry.via);
            entry.asked = None;
        }
        self.end_early(now, &mut out);
        self.look_at_processes(now, &mut out);
        self.let_found_go(now, &mut out);
        out
    }

    /// Whether something is under way, waits for a retry, or for the end of a process.
    #[must_use]
    pub fn needs_tick(&self) -> bool {
        let gauges = self.gauges();
        gauges.discovered + gauges.attaching + gauges.failed > 0 || !self.early.is_empty() || self.waits_for_ends()
    }

    pub(crate) fn open(&mut self, id: TaskId, now: Instant, out: &mut Vec<Action>) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let TaskStage::Waiting = task.stage else { return };
        task.stage = TaskStage::Opening { since: now };
        if task.origin == Origin::Found {
            self.in_flight.insert(id);
        }
        let (container, pid, origin) = (task.container.clone(), task.pid, task.origin);
        out.push(Action::OpenNetns { task: id, container, pid, origin });
    }

    pub(crate) fn let_found_go(&mut self, now: Instant, out: &mut Vec<Action>) {
        while self.in_flight.len() < self.limits.found_in_flight {
            let Some(id) = self.found.pop_front() else { return };
            self.open(id, now, out);
        }
    }

    fn opened(
        &mut self,
        id: TaskId,
        netns: NetnsId,
        cookie: Option<u64>,
        began: Option<u64>,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let Some(task) = self.tasks.get_mut(&id) else {
            out.push(Action::Close { task: id });
            return;
        };
        match task.stage {
            TaskStage::Opening { .. } | TaskStage::Unopened(_) | TaskStage::Waiting => {
                task.began = began;
                self.place(id, netns, cookie, now, out);
            }
            TaskStage::In(_) | TaskStage::Node(_) => out.push(Action::Close { task: id }),
        }
    }

    fn place(&mut self, id: TaskId, netns: NetnsId, cookie: Option<u64>, now: Instant, out: &mut Vec<Action>) {
        if self.node == Some(netns) {
            self.in_flight.remove(&id);
            out.push(Action::Close { task: id });
            self.place_on_node(id, netns, out);
            return;
        }
        match self.slots.find(netns, cookie) {
            Some((slot, false)) => {
                self.in_flight.remove(&id);
                out.push(Action::Close { task: id });
                self.join(slot, id, TaskStage::In(slot), out);
                return;
            }
            Some((slot, true)) => self.forget_namespace(slot, now, out),
            None => {}
        }
        let Some(slot) = self.slots.open(netns, cookie, id, now) else {
            self.open_failed(id, "no slot numbers left".into(), now);
            out.push(Action::Close { task: id });
            return;
        };
        self.set_stage(id, TaskStage::In(slot));
        let Some(task) = self.tasks.get(&id) else { return };
        if let Some(name) = &task.name {
            self.slots.offer_name(slot, id, name);
        }
        let (origin, is_old, name) = (task.origin, task.is_old, task.name.clone());
        if self.is_left_out_now(slot, out) {
            out.push(Action::Close { task: id });
            return;
        }
        out.push(Action::Attach { slot, netns, task: id, origin, is_old, name });
    }

    /// One more task of what has a slot already.
    fn join(&mut self, slot: Slot, id: TaskId, stage: TaskStage, out: &mut Vec<Action>) {
        self.set_stage(id, stage);
        self.early.remove(&slot);
        if let Some(entry) = self.slots.get_mut(slot) {
            entry.tasks.push(id);
        }
        if let Some(name) = self.tasks.get(&id).and_then(|task| task.name.clone())
            && self.slots.offer_name(slot, id, &name)
        {
            out.push(Action::Identify { slot, name });
        }
        self.judge(slot, out);
    }

    pub(crate) fn place_on_node(&mut self, id: TaskId, node: NetnsId, out: &mut Vec<Action>) {
        if let Some(slot) = self.slot_of_process(id) {
            self.join(slot, id, TaskStage::Node(Some(slot)), out);
            return;
        }
        let slot = self.observe_node.then(|| self.slots.open_cgroup(node, id)).flatten();
        self.set_stage(id, TaskStage::Node(slot));
        let (Some(slot), Some(task)) = (slot, self.tasks.get(&id)) else { return };
        if let Some(name) = &task.name {
            self.slots.offer_name(slot, id, name);
        }
        let attach = attach_cgroup(slot, id, task);
        if !self.is_left_out_now(slot, out) {
            out.push(attach);
        }
    }

    /// The namespace died unseen and another has its inode: the tasks that were in it are over.
    fn forget_namespace(&mut self, slot: Slot, now: Instant, out: &mut Vec<Action>) {
        self.counts.netns_reused += 1;
        let dead = self.slots.get(slot).map(|entry| entry.tasks.clone()).unwrap_or_default();
        for id in dead {
            self.counts.corrections.missed_exits += 1;
            self.end(id, now, out);
        }
    }

    fn open_failed(&mut self, id: TaskId, reason: String, now: Instant) {
        self.in_flight.remove(&id);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if let TaskStage::Opening { .. } = task.stage {
            self.counts.open_failures += 1;
            task.fail(reason, now);
        }
    }

    /// Whoever attaches has no use for the namespace now, and has closed it: its tasks begin anew,
    /// under another slot.
    fn not_taken(&mut self, slot: Slot, reason: &str, now: Instant) {
        let Some(entry) = self.slots.remove(slot) else { return };
        self.counts.not_taken += 1;
        self.in_flight.remove(&entry.via);
        for id in entry.tasks {
            if let Some(task) = self.tasks.get_mut(&id) {
                task.fail(reason.to_owned(), now);
            }
        }
    }

    fn set_stage(&mut self, id: TaskId, stage: TaskStage) {
        if let Some(task) = self.tasks.get_mut(&id) {
            task.stage = stage;
        }
    }
}

fn attach_cgroup(slot: Slot, id: TaskId, task: &Task) -> Action {
    let Task { container, pid, name, .. } = task;
    Action::AttachCgroup { slot, task: id, container: container.clone(), pid: *pid, name: name.clone() }
}
