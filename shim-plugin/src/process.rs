//! The part of the registry that asks after processes: where no containerd can be asked, a task
//! ends with its process and not with somebody else's list.

use crate::action::Action;
use crate::container::{ContainerRef, LinkId, TaskId};
use crate::registry::{Registry, Task, TaskStage};
use flow_model::Slot;
use std::time::{Duration, Instant};

/// A containerd that restarts is back within this time as a rule, and tells itself what ended.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Processes looked at per tick (a second), each by a read of a file: new containers are opened by
/// such reads, too. 500 of them take their turns in half a minute.
const LOOKS_PER_TICK: usize = 16;

impl Registry {
    /// Its containerd says that the container is deleted. Believed once its process is gone: a
    /// record can be deleted while the task runs on.
    pub(crate) fn removed(&mut self, container: &ContainerRef, now: Instant, out: &mut Vec<Action>) {
        if let Some(id) = self.by_container.get(container).copied() {
            self.look(id, now, out);
        }
    }

    pub(crate) fn went_away(&mut self, link: LinkId, now: Instant) {
        self.away.entry(link).or_insert(now);
    }

    /// Asks after the processes of the links that are away, those that were not asked after for
    /// longest first.
    pub(crate) fn look_at_processes(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.away.is_empty() {
            return;
        }
        let mut due: Vec<(Instant, TaskId)> = Vec::new();
        for (id, task) in &self.tasks {
            let Some(away) = self.away.get(&task.container.link) else { continue };
            let last = task.looked.map_or(*away, |looked| looked.max(*away));
            if now.saturating_duration_since(last) >= LOOK_EVERY {
                due.push((last, *id));
            }
        }
        due.sort_unstable();
        for (_, id) in due.into_iter().take(LOOKS_PER_TICK) {
            self.look(id, now, out);
        }
    }

    fn look(&mut self, id: TaskId, now: Instant, out: &mut Vec<Action>) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.looked = Some(now);
        out.push(Action::LookAtProcess { task: id, pid: task.pid, began: task.began });
    }

    pub(crate) fn gone(&mut self, id: TaskId, now: Instant, out: &mut Vec<Action>) {
        self.counts.found_gone += u64::from(self.tasks.contains_key(&id));
        self.end(id, now, out);
    }

    /// Whether a task waits for its process to end because nobody else tells.
    pub(crate) fn waits_for_ends(&self) -> bool {
        !self.away.is_empty() && self.tasks.values().any(|task| self.away.contains_key(&task.container.link))
    }

    /// The slot of another task with the very same process: two links may lead to one containerd.
    pub(crate) fn slot_of_process(&self, wanted: TaskId) -> Option<Slot> {
        let Task { pid, began: Some(began), .. } = self.tasks.get(&wanted)? else { return None };
        self.tasks.iter().find_map(|(id, task)| match task.stage {
            TaskStage::Node(slot) if *id != wanted && task.pid == *pid && task.began == Some(*began) => slot,
            _ => None,
        })
    }
}
