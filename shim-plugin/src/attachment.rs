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
    /// The namespace is being opened again after a failure.
    Reopening {
        since: Instant,
        attempts: u32,
    },
}

/// One namespace with a slot, and the tasks that live in it.
#[derive(Debug)]
pub struct Attachment {
    pub netns: NetnsId,
    pub cookie: Option<u64>,
    /// Never empty; the one that the namespace was found through comes first.
    pub tasks: Vec<TaskId>,
    /// The task under which the namespace was opened for the last attempt.
    pub via: TaskId,
    pub state: AttachState,
    name: Option<(TaskId, Arc<LocalName>)>,
}

/// The references to namespaces: one attachment for each (dev, inode), whoever shares it.
#[derive(Debug, Default)]
pub struct Attachments {
    slots: BTreeMap<Slot, Attachment>,
    by_netns: HashMap<NetnsId, Slot>,
    last: u32,
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

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// The slot of `netns`, and whether the cookies prove that another namespace has taken its inode since.
    pub fn find(&self, netns: NetnsId, cookie: Option<u64>) -> Option<(Slot, bool)> {
        let slot = *self.by_netns.get(&netns)?;
        let known = self.slots.get(&slot)?.cookie;
        Some((slot, known.zip(cookie).is_some_and(|(known, cookie)| known != cookie)))
    }

    /// A new slot for a namespace that has none. `None` once 2^32 - 1 were given out.
    pub fn open(&mut self, netns: NetnsId, cookie: Option<u64>, task: TaskId, now: Instant) -> Option<Slot> {
        self.last = self.last.checked_add(1)?;
        let slot = Slot(self.last);
        let state = AttachState::Attaching { since: now, attempts: 0 };
        self.slots.insert(slot, Attachment { netns, cookie, tasks: vec![task], via: task, state, name: None });
        self.by_netns.insert(netns, slot);
        Some(slot)
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
        self.by_netns.remove(&attachment.netns);
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
