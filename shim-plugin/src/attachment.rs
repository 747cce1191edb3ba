use crate::event::TaskId;
use crate::name::LocalName;
use crate::retry::Failure;
use flow_model::{NetnsId, Slot};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

#[derive(Clone, Debug)]
pub enum AttachState {
    Attaching {
        since: Instant,
        attempts: u32,
    },
    Attached {
        mode: &'static str,
    },
    Failed(Failure),
    /// For good.
    GivenUp {
        reason: String,
    },
    /// The namespace is being opened again after a failure.
    Reopening {
        since: Instant,
        attempts: u32,
    },
}

/// What of a task is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Its namespace, which others may share.
    Namespace,
    /// Its cgroup: its namespace is the node's.
    Cgroup,
}

/// One namespace or cgroup with a slot, and the tasks that live in it.
#[derive(Debug)]
pub struct Attachment {
    pub target: Target,
    pub netns: NetnsId,
    pub cookie: Option<u64>,
    /// Never empty; the one that the namespace was found through comes first.
    pub tasks: Vec<TaskId>,
    /// The task under which the namespace was opened for the last attempt.
    pub via: TaskId,
    pub state: AttachState,
    name: Option<(TaskId, Arc<LocalName>)>,
}

/// The last slot number that is given out. Those above it are free for sockets of the node that are no container's.
pub const LAST_SLOT: Slot = Slot(Slot::FIRST_OF_NODE.0 + (1 << 30) - 1);

/// The references to namespaces: one attachment for each (dev, inode), whoever shares it. And the tasks of the node's namespace: one for each.
#[derive(Debug, Default)]
pub struct Attachments {
    slots: BTreeMap<Slot, Attachment>,
    by_netns: HashMap<NetnsId, Slot>,
    last: u32,
    cgroups: u32,
}

impl Attachments {
    pub fn get(&self, slot: Slot) -> Option<&Attachment> {
        self.slots.get(&slot)
    }

    pub fn get_mut(&mut self, slot: Slot) -> Option<&mut Attachment> {
        self.slots.get_mut(&slot)
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Slot, &mut Attachment)> {
        self.slots.iter_mut().map(|(slot, attachment)| (*slot, attachment))
    }

    /// Namespaces with a slot.
    pub fn namespaces(&self) -> usize {
        self.by_netns.len()
    }

    /// Whether a cgroup's attachment waits for an answer or for another try.
    pub fn cgroup_under_way(&self) -> bool {
        let waits = |state: &AttachState| !matches!(state, AttachState::Attached { .. } | AttachState::GivenUp { .. });
        self.slots.values().any(|attachment| attachment.target == Target::Cgroup && waits(&attachment.state))
    }

    /// The slot of `netns`, and whether the cookies prove that another namespace has taken its inode since.
    pub fn find(&self, netns: NetnsId, cookie: Option<u64>) -> Option<(Slot, bool)> {
        let slot = *self.by_netns.get(&netns)?;
        let known = self.slots.get(&slot)?.cookie;
        Some((slot, known.zip(cookie).is_some_and(|(known, cookie)| known != cookie)))
    }

    /// A new slot for a namespace that has none. `None` once all below [`Slot::FIRST_OF_NODE`] were given out.
    pub fn open(&mut self, netns: NetnsId, cookie: Option<u64>, task: TaskId, now: Instant) -> Option<Slot> {
        self.last = self.last.checked_add(1).filter(|last| *last < Slot::FIRST_OF_NODE.0)?;
        let slot = self.add(Slot(self.last), Target::Namespace, netns, cookie, task, now);
        self.by_netns.insert(netns, slot);
        Some(slot)
    }

    /// A new slot for the cgroup of a task that lives in `node`.
    pub fn open_cgroup(&mut self, node: NetnsId, task: TaskId, now: Instant) -> Option<Slot> {
        let slot = Slot(Slot::FIRST_OF_NODE.0 + self.cgroups);
        if slot > LAST_SLOT {
            return None;
        }
        self.cgroups += 1;
        Some(self.add(slot, Target::Cgroup, node, None, task, now))
    }

    fn add(
        &mut self,
        slot: Slot,
        target: Target,
        netns: NetnsId,
        cookie: Option<u64>,
        task: TaskId,
        now: Instant,
    ) -> Slot {
        let state = AttachState::Attaching { since: now, attempts: 0 };
        let attachment = Attachment { target, netns, cookie, tasks: vec![task], via: task, state, name: None };
        self.slots.insert(slot, attachment);
        slot
    }

    pub fn name(&self, slot: Slot) -> Option<Arc<LocalName>> {
        self.slots.get(&slot)?.name.as_ref().map(|(_, name)| name.clone())
    }

    /// Takes `task` out of `slot`; the attachment comes back when that was its last.
    pub fn leave(&mut self, slot: Slot, task: TaskId) -> Option<Attachment> {
        let attachment = self.slots.get_mut(&slot)?;
        attachment.tasks.retain(|other| *other != task);
        if attachment.tasks.is_empty() { self.remove(slot) } else { None }
    }

    pub fn remove(&mut self, slot: Slot) -> Option<Attachment> {
        let attachment = self.slots.remove(&slot)?;
        if attachment.target == Target::Namespace {
            self.by_netns.remove(&attachment.netns);
        }
        Some(attachment)
    }

    /// Considers a name for `slot`. True if it is the slot's name now and was not before: a better source wins, and the
    /// task that gave the name may change it.
    pub fn offer_name(&mut self, slot: Slot, task: TaskId, name: &Arc<LocalName>) -> bool {
        let Some(attachment) = self.slots.get_mut(&slot) else { return false };
        let better = match &attachment.name {
            None => true,
            Some((giver, known)) => name.source < known.source || (*giver == task && known != name),
        };
        if better {
            attachment.name = Some((task, name.clone()));
        }
        better
    }
}
