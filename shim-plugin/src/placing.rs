//! The half of the registry that listens to whoever performs its actions: opened, attached, failed, and never answered.

use crate::action::{Action, Origin, Report};
use crate::attachment::{AttachState, Attachment, Target};
use crate::event::TaskId;
use crate::registry::{Place, Registry, Task};
use crate::retry::{ANSWER_WITHIN, Failure};
use flow_model::{NetnsId, Slot};
use std::time::Instant;

impl Registry {
    /// Takes in what became of an action.
    #[must_use]
    pub fn report(&mut self, report: Report, now: Instant) -> Vec<Action> {
        let mut out = Vec::new();
        match report {
            Report::Opened { task, netns, cookie } => self.opened(task, netns, cookie, now, &mut out),
            Report::OpenFailed { task, reason } => self.open_failed(task, reason, now),
            Report::Attached { slot, mode } => {
                if let Some(attachment) = self.attachments.get_mut(slot) {
                    attachment.state = AttachState::Attached { mode };
                    self.in_flight.remove(&attachment.via);
                }
            }
            Report::AttachFailed { slot, reason } => {
                if let Some(attachment) = self.attachments.get_mut(slot) {
                    self.counts.attach_failures += 1;
                    self.in_flight.remove(&attachment.via);
                    attachment.fail(reason, now);
                }
            }
            Report::NotAttachable { slot, reason } => {
                if let Some(attachment) = self.attachments.get_mut(slot) {
                    attachment.state = AttachState::GivenUp { reason };
                    self.in_flight.remove(&attachment.via);
                }
            }
        }
        self.let_found_go(now, &mut out);
        out
    }

    /// Retries what failed and is due, and gives up on actions without an answer. To be called about once a second while
    /// [`Registry::needs_tick`] says so.
    #[must_use]
    pub fn tick(&mut self, now: Instant) -> Vec<Action> {
        let late = |since: Instant| now.duration_since(since) > ANSWER_WITHIN;
        let mut out = Vec::new();
        for (id, task) in &mut self.tasks {
            match &task.place {
                Place::Opening { since, attempts } if late(*since) => {
                    self.counts.unanswered += 1;
                    self.in_flight.remove(id);
                    task.place = Place::Unopened(Failure::after(*attempts, "no answer".into(), now));
                }
                Place::Unopened(failure) if failure.retry_at <= now => {
                    task.place = Place::Waiting { attempts: failure.attempts };
                    task.origin = Origin::Found;
                    self.found.push_back(*id);
                }
                _ => {}
            }
        }
        for (slot, attachment) in self.attachments.iter_mut() {
            match &attachment.state {
                AttachState::Attaching { since, .. } | AttachState::Reopening { since, .. } if late(*since) => {
                    self.counts.unanswered += 1;
                    self.in_flight.remove(&attachment.via);
                    attachment.fail("no answer".into(), now);
                }
                AttachState::Failed(failure) if failure.retry_at <= now && attachment.target == Target::Cgroup => {
                    let Some(task) = self.tasks.get(&attachment.via) else { continue };
                    attachment.state = AttachState::Attaching { since: now, attempts: failure.attempts };
                    out.push(attach_cgroup(slot, attachment.via, task));
                }
                AttachState::Failed(failure)
                    if failure.retry_at <= now && self.in_flight.len() < self.limits.found_in_flight =>
                {
                    let Some(via) = attachment.tasks.first().copied() else { continue };
                    let Some(task) = self.tasks.get(&via) else { continue };
                    attachment.via = via;
                    attachment.state = AttachState::Reopening { since: now, attempts: failure.attempts };
                    self.in_flight.insert(via);
                    let (container, pid) = (task.container.clone(), task.pid);
                    out.push(Action::OpenNetns { task: via, container, pid, origin: Origin::Found });
                }
                _ => {}
            }
        }
        self.let_found_go(now, &mut out);
        out
    }

    /// Whether something is under way or waits for a retry.
    #[must_use]
    pub fn needs_tick(&self) -> bool {
        let gauges = self.gauges();
        gauges.discovered + gauges.attaching + gauges.failed > 0 || self.attachments.cgroup_under_way()
    }

    pub(crate) fn open(&mut self, id: TaskId, now: Instant, out: &mut Vec<Action>) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let Place::Waiting { attempts } = task.place else { return };
        task.place = Place::Opening { since: now, attempts };
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

    fn opened(&mut self, id: TaskId, netns: NetnsId, cookie: Option<u64>, now: Instant, out: &mut Vec<Action>) {
        let Some(task) = self.tasks.get(&id) else {
            out.push(Action::Close { task: id });
            return;
        };
        match task.place {
            Place::Opening { .. } | Place::Unopened(_) | Place::Waiting { .. } => {
                self.place(id, netns, cookie, now, out);
            }
            Place::In(slot) => self.reopened(id, slot, netns, cookie, now, out),
            Place::Node(_) => out.push(Action::Close { task: id }),
        }
    }

    fn place(&mut self, id: TaskId, netns: NetnsId, cookie: Option<u64>, now: Instant, out: &mut Vec<Action>) {
        if self.node == Some(netns) {
            self.in_flight.remove(&id);
            out.push(Action::Close { task: id });
            self.place_on_node(id, netns, now, out);
            return;
        }
        match self.attachments.find(netns, cookie) {
            Some((slot, false)) => {
                self.set_place(id, Place::In(slot));
                self.in_flight.remove(&id);
                if let Some(attachment) = self.attachments.get_mut(slot) {
                    attachment.tasks.push(id);
                }
                out.push(Action::Close { task: id });
                if let Some(name) = self.tasks.get(&id).and_then(|task| task.name.clone())
                    && self.attachments.offer_name(slot, id, &name)
                {
                    out.push(Action::Identify { slot, name });
                }
                return;
            }
            Some((slot, true)) => self.forget_namespace(slot, now, out),
            None => {}
        }
        let Some(slot) = self.attachments.open(netns, cookie, id, now) else {
            self.open_failed(id, "no slot numbers left".into(), now);
            out.push(Action::Close { task: id });
            return;
        };
        self.set_place(id, Place::In(slot));
        let Some(task) = self.tasks.get(&id) else { return };
        if let Some(name) = &task.name {
            self.attachments.offer_name(slot, id, name);
        }
        out.push(Action::Attach { slot, netns, task: id, origin: task.origin, name: task.name.clone() });
    }

    fn place_on_node(&mut self, id: TaskId, node: NetnsId, now: Instant, out: &mut Vec<Action>) {
        let slot = self.observe_node.then(|| self.attachments.open_cgroup(node, id, now)).flatten();
        self.set_place(id, Place::Node(slot));
        let (Some(slot), Some(task)) = (slot, self.tasks.get(&id)) else { return };
        if let Some(name) = &task.name {
            self.attachments.offer_name(slot, id, name);
        }
        out.push(attach_cgroup(slot, id, task));
    }

    /// The namespace died unseen and another has its inode: the tasks that were in it are over.
    fn forget_namespace(&mut self, slot: Slot, now: Instant, out: &mut Vec<Action>) {
        self.counts.netns_reused += 1;
        let dead = self.attachments.get(slot).map(|attachment| attachment.tasks.clone()).unwrap_or_default();
        for id in dead {
            self.counts.corrections.missed_exits += 1;
            self.end(id, now, out);
        }
    }

    fn reopened(
        &mut self,
        id: TaskId,
        slot: Slot,
        netns: NetnsId,
        cookie: Option<u64>,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let Some(attachment) = self.attachments.get_mut(slot) else { return };
        match attachment.state {
            AttachState::Reopening { attempts, .. } if attachment.via == id => {
                if attachment.netns == netns {
                    attachment.cookie = cookie.or(attachment.cookie);
                    attachment.state = AttachState::Attaching { since: now, attempts };
                    let name = self.attachments.name(slot);
                    out.push(Action::Attach { slot, netns, task: id, origin: Origin::Found, name });
                } else {
                    // Its process is in another namespace than it was: it moves there.
                    if let Some(gone) = self.attachments.leave(slot, id) {
                        out.push(Action::Detach { slot, netns: gone.netns });
                    }
                    self.place(id, netns, cookie, now, out);
                }
            }
            _ => out.push(Action::Close { task: id }),
        }
    }

    fn open_failed(&mut self, id: TaskId, reason: String, now: Instant) {
        self.in_flight.remove(&id);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        match task.place {
            Place::Opening { attempts, .. } => {
                self.counts.open_failures += 1;
                task.place = Place::Unopened(Failure::after(attempts, reason, now));
            }
            Place::In(slot) => {
                if let Some(attachment) = self.attachments.get_mut(slot)
                    && let AttachState::Reopening { .. } = attachment.state
                {
                    self.counts.open_failures += 1;
                    attachment.fail(reason, now);
                }
            }
            Place::Waiting { .. } | Place::Unopened(_) | Place::Node(_) => {}
        }
    }

    fn set_place(&mut self, id: TaskId, place: Place) {
        if let Some(task) = self.tasks.get_mut(&id) {
            task.place = place;
        }
    }
}

fn attach_cgroup(slot: Slot, id: TaskId, task: &Task) -> Action {
    let Task { container, pid, name, .. } = task;
    Action::AttachCgroup { slot, task: id, container: container.clone(), pid: *pid, name: name.clone() }
}

impl Attachment {
    fn fail(&mut self, reason: String, now: Instant) {
        let attempts = match &self.state {
            AttachState::Attaching { attempts, .. } | AttachState::Reopening { attempts, .. } => *attempts,
            AttachState::Failed(failure) => failure.attempts,
            AttachState::Attached { .. } | AttachState::GivenUp { .. } => 0,
        };
        self.state = AttachState::Failed(Failure::after(attempts, reason, now));
    }
}
