//! Slots: who has which, and under what name.

use crate::action::Action;
use crate::container::TaskId;
use crate::name::LocalName;
use crate::observe::{Observe, Why};
use flow_model::{NetnsId, Slot};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

/// One slot: the namespace or cgroup that has it, and the tasks that live there. What becomes of it
/// once somebody has taken it is theirs to know.
#[derive(Debug)]
pub struct SlotEntry {
    pub netns: NetnsId,
    pub cookie: Option<u64>,
    /// The one that the namespace was found through comes first. Empty only while a namespace that
    /// was attached early waits for its task.
    pub tasks: Vec<TaskId>,
    /// The task under which the namespace was opened; `NO_TASK` where none was.
    pub via: TaskId,
    /// Since when it has a turn: until there is an answer, or none in time. None for cgroups.
    pub asked: Option<Instant>,
    /// Whoever attaches has it. Cgroups are not asked about.
    pub answered: bool,
    /// It keeps its slot, and nobody attaches.
    pub left_out: Option<Why>,
    /// What was last told of it.
    pub word: Observe,
    name: Option<(TaskId, Arc<LocalName>)>,
}

/// The last slot number that is given out. Those above it are free for sockets of the node that are
/// no container's.
pub const LAST_SLOT: Slot = Slot(Slot::FIRST_OF_NODE.0 + (1 << 30) - 1);

/// Of no task: their numbers begin with 1.
const NO_TASK: TaskId = TaskId(0);

/// The references to namespaces: one slot for each (dev, inode), whoever shares it. And the tasks
/// of the node's namespace: one slot for each.
#[derive(Debug, Default)]
pub struct Slots {
    entries: BTreeMap<Slot, SlotEntry>,
    by_netns: HashMap<NetnsId, Slot>,
    last: u32,
    cgroups: u32,
}

impl Slots {
    pub fn get(&self, slot: Slot) -> Option<&SlotEntry> {
        self.entries.get(&slot)
    }

    pub fn get_mut(&mut self, slot: Slot) -> Option<&mut SlotEntry> {
        self.entries.get_mut(&slot)
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut SlotEntry> {
        self.entries.values_mut()
    }

    pub fn numbers(&self) -> impl Iterator<Item = Slot> {
        self.entries.keys().copied()
    }

    /// Namespaces with a slot.
    pub fn namespaces(&self) -> usize {
        self.by_netns.len()
    }

    /// The slot of `netns`, and whether the cookies prove that another namespace has taken its
    /// inode since.
    pub fn find(&self, netns: NetnsId, cookie: Option<u64>) -> Option<(Slot, bool)> {
        let slot = *self.by_netns.get(&netns)?;
        let known = self.entries.get(&slot)?.cookie;
        Some((slot, known.zip(cookie).is_some_and(|(known, cookie)| known != cookie)))
    }

    /// A new slot for a namespace that has none. `None` once all below [`Slot::FIRST_OF_NODE`] were
    /// given out.
    pub fn open(&mut self, netns: NetnsId, cookie: Option<u64>, task: TaskId, now: Instant) -> Option<Slot> {
        self.last = self.last.checked_add(1).filter(|last| *last < Slot::FIRST_OF_NODE.0)?;
        let slot = Slot(self.last);
        self.entries.insert(slot, SlotEntry::new(netns, cookie, task, Some(now)));
        self.by_netns.insert(netns, slot);
        Some(slot)
    }

    /// The same for one whose task is still to come.
    pub fn open_early(&mut self, netns: NetnsId, cookie: Option<u64>, now: Instant) -> Option<Slot> {
        let slot = self.open(netns, cookie, NO_TASK, now)?;
        self.entries.get_mut(&slot)?.tasks.clear();
        Some(slot)
    }

    /// A new slot for the cgroup of a task that lives in `node`.
    pub fn open_cgroup(&mut self, node: NetnsId, task: TaskId) -> Option<Slot> {
        let slot = Slot(Slot::FIRST_OF_NODE.0 + self.cgroups);
        if slot > LAST_SLOT {
            return None;
        }
        self.cgroups += 1;
        self.entries.insert(slot, SlotEntry::new(node, None, task, None));
        Some(slot)
    }

    /// Takes `task` out of `slot`; the entry comes back when that was its last.
    pub fn leave(&mut self, slot: Slot, task: TaskId) -> Option<SlotEntry> {
        let entry = self.entries.get_mut(&slot)?;
        entry.tasks.retain(|other| *other != task);
        if entry.tasks.is_empty() { self.remove(slot) } else { None }
    }

    pub fn remove(&mut self, slot: Slot) -> Option<SlotEntry> {
        let entry = self.entries.remove(&slot)?;
        if self.by_netns.get(&entry.netns) == Some(&slot) {
            self.by_netns.remove(&entry.netns);
        }
        Some(entry)
    }

    /// Considers a name for `slot`. True if it is the slot's name now and was not before: a better
    /// source wins, and the task that gave the name may change it. Where that one is gone, another
    /// that lives there is who is meant.
    pub fn offer_name(&mut self, slot: Slot, task: TaskId, name: &Arc<LocalName>) -> bool {
        let Some(entry) = self.entries.get_mut(&slot) else { return false };
        let (taken, told) = match &entry.name {
            None => (true, true),
            Some((giver, known)) => {
                let better = name.source < known.source || (*giver == task && known != name);
                let inherits = !entry.tasks.contains(giver);
                (better || inherits, better || (inherits && !known.is_of_same(name)))
            }
        };
        if taken {
            entry.name = Some((task, name.clone()));
        }
        told
    }

    /// Whether the task that gave the name of `slot` is no longer there.
    pub fn wants_name(&self, slot: Slot) -> bool {
        let given = |entry: &SlotEntry| entry.name.as_ref().is_some_and(|(giver, _)| !entry.tasks.contains(giver));
        self.entries.get(&slot).is_some_and(given)
    }
}

impl SlotEntry {
    fn new(netns: NetnsId, cookie: Option<u64>, task: TaskId, asked: Option<Instant>) -> SlotEntry {
        SlotEntry {
            netns,
            cookie,
            tasks: vec![task],
            via: task,
            asked,
            answered: asked.is_none(),
            left_out: None,
            word: Observe::All,
            name: None,
        }
    }

    /// What lets go of it, unless nobody has it.
    pub fn detach(&self, slot: Slot, ended: bool) -> Option<Action> {
        self.left_out.is_none().then_some(Action::Detach { slot, netns: self.netns, ended })
    }

    /// Who lives there, as far as is known.
    pub fn name(&self) -> Option<&LocalName> {
        self.name.as_ref().map(|(_, name)| &**name)
    }
}
