//! Who is served next: new containers before the backlog of a start. Pure.

#![forbid(unsafe_code)]

use flow_model::Slot;
use std::collections::VecDeque;

/// Whether a namespace goes before the backlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// A namespace whose container does not run yet: every moment counts.
    New,
    /// A container that starts now, or an interface that appeared.
    Urgent,
    /// What existed before, and retries.
    Background,
}

/// Three lines. Each slot is in them at most once (`Attachment` sees to that), so they are bounded by
/// the number of attachments.
#[derive(Debug, Default)]
pub struct Queue {
    new: VecDeque<Slot>,
    urgent: VecDeque<Slot>,
    background: VecDeque<Slot>,
}

impl Queue {
    pub fn push(&mut self, slot: Slot, priority: Priority) {
        match priority {
            Priority::New => self.new.push_back(slot),
            Priority::Urgent => self.urgent.push_back(slot),
            Priority::Background => self.background.push_back(slot),
        }
    }

    /// The next slot whose first look it is.
    pub fn pop_new(&mut self) -> Option<(Slot, Priority)> {
        self.new.pop_front().map(|slot| (slot, Priority::New))
    }

    /// The next slot; a worker that is kept free for urgent ones takes no others.
    pub fn pop(&mut self, urgent_only: bool) -> Option<(Slot, Priority)> {
        let urgent = self.pop_new().or_else(|| self.urgent.pop_front().map(|slot| (slot, Priority::Urgent)));
        if urgent_only {
            return urgent;
        }
        urgent.or_else(|| self.background.pop_front().map(|slot| (slot, Priority::Background)))
    }

    /// Slots that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.new.len() + self.urgent.len() + self.background.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_run_yet_goes_before_all_and_has_a_worker_of_its_own() {
        let mut queue = Queue::default();
        for (slot, priority) in [(1, Priority::Background), (2, Priority::Urgent), (3, Priority::New)] {
            queue.push(Slot(slot), priority);
        }
        queue.push(Slot(4), Priority::New);
        assert_eq!(queue.len(), 4);
        let new = |slot| Some((Slot(slot), Priority::New));
        assert_eq!([queue.pop_new(), queue.pop(true)], [new(3), new(4)]);
        let rest = [None, Some((Slot(2), Priority::Urgent)), Some((Slot(1), Priority::Background))];
        assert_eq!([queue.pop_new(), queue.pop(true), queue.pop(false)], rest);
    }

    #[test]
    fn new_containers_overtake_the_backlog_and_one_worker_takes_nothing_else() {
        let mut queue = Queue::default();
        for slot in 1..=3 {
            queue.push(Slot(slot), Priority::Background);
        }
        assert_eq!(queue.pop(true), None);
        queue.push(Slot(9), Priority::Urgent);
        assert_eq!(queue.len(), 4);
        let next = [queue.pop(false), queue.pop(false)].map(|next| next.map(|(slot, _)| slot));
        assert_eq!(next, [Some(Slot(9)), Some(Slot(1))]);
    }
}
