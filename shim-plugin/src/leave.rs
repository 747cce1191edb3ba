//! What a registry does about those who are left out, and those who want less seen of them.

use crate::action::Action;
use crate::name::{LocalName, NameSource};
use crate::observe::{LeaveOut, Observe, Why};
use crate::registry::{Registry, Task};
use flow_model::Slot;
use std::collections::BTreeSet;
use std::time::Instant;

impl Registry {
    /// From now on these are left out, and no others but by their own word.
    #[must_use]
    pub fn leave_out(&mut self, these: LeaveOut, now: Instant) -> Vec<Action> {
        let mut out = Vec::new();
        if self.leave_out != these {
            self.leave_out = these;
            let all: Vec<Slot> = self.slots.numbers().collect();
            all.into_iter().for_each(|slot| self.judge(slot, &mut out));
        }
        self.let_found_go(now, &mut out);
        out
    }

    /// Why the slot is to be left out, if it is, and what those in it say.
    fn verdict(&self, slot: Slot) -> Option<(Option<Why>, Observe)> {
        let entry = self.slots.get(slot)?;
        let names = entry.tasks.iter().filter_map(|id| self.tasks.get(id)?.name.as_ref());
        let words = names.map(|name| (name.source, self.word_of(name)));
        let said = words.filter(|(_, word)| *word != Observe::All).min_by_key(|(source, _)| *source);
        let word = said.map(|(_, word)| word).unwrap_or_default();
        let named =
            entry.name().is_some_and(|name| self.leave_out.names(&name.workload.namespace)).then_some(Why::Namespace);
        Some((named.or((word == Observe::Nothing).then_some(Why::Label)), word))
    }

    /// What it says, or the sandbox of its pod, which alone has the pod's labels.
    fn word_of(&self, name: &LocalName) -> Observe {
        match name.observe {
            Observe::All => self.observed.get(&name.pod_uid).copied().unwrap_or_default(),
            word => word,
        }
    }

    /// Keeps what a pod's sandbox says as long as the pod has a task: its containers may outlive it,
    /// and on the node's network each has a slot of its own.
    pub(crate) fn sandbox_says(&mut self, name: &LocalName, out: &mut Vec<Action>) {
        let known = self.observed.get(&name.pod_uid).copied().unwrap_or_default();
        if name.source != NameSource::Sandbox || name.pod_uid.is_empty() || known == name.observe {
            return;
        }
        match name.observe {
            Observe::All => self.observed.remove(&name.pod_uid),
            word => self.observed.insert(name.pod_uid.clone(), word),
        };
        let of_pod = self.tasks.values().filter(|task| task.is_of_pod(&name.pod_uid));
        let slots: BTreeSet<Slot> = of_pod.filter_map(Task::slot).collect();
        slots.into_iter().for_each(|slot| self.judge(slot, out));
    }

    /// A task of this name is gone.
    pub(crate) fn forget_word(&mut self, name: Option<&LocalName>) {
        let Some(name) = name.filter(|name| self.observed.contains_key(&name.pod_uid)) else { return };
        if !self.tasks.values().any(|task| task.is_of_pod(&name.pod_uid)) {
            self.observed.remove(&name.pod_uid);
        }
    }

    /// Lets go of a slot that is to be left out by now, and takes up one that is no longer.
    pub(crate) fn judge(&mut self, slot: Slot, out: &mut Vec<Action>) {
        let was = self.slots.get(slot).is_some_and(|entry| entry.left_out.is_some());
        let is = self.is_left_out_now(slot, out);
        match self.slots.get(slot) {
            Some(entry) if is && !was => out.push(Action::Detach { slot, netns: entry.netns, ended: false }),
            Some(_) if was && !is => self.take_up(slot, out),
            _ => {}
        }
    }

    /// The same of a slot that nobody was asked to attach to yet: whether nobody is to be.
    pub(crate) fn is_left_out_now(&mut self, slot: Slot, out: &mut Vec<Action>) -> bool {
        let Some((why, word)) = self.verdict(slot) else { return false };
        let Some(entry) = self.slots.get_mut(slot) else { return false };
        if why.is_some() {
            // Its turn is another's.
            (entry.left_out, entry.asked, entry.answered) = (why, None, true);
            let via = entry.via;
            self.in_flight.remove(&via);
        } else if entry.left_out.is_none() && entry.word != word {
            entry.word = word;
            out.push(Action::Observe { slot, word });
        }
        why.is_some()
    }

    /// Begins anew with the tasks of a slot that was left out.
    fn take_up(&mut self, slot: Slot, out: &mut Vec<Action>) {
        if slot < Slot::FIRST_OF_NODE {
            return self.place_anew(slot, out);
        }
        let Some(gone) = self.slots.remove(slot) else { return };
        gone.tasks.into_iter().for_each(|id| self.place_on_node(id, gone.netns, out));
    }
}
