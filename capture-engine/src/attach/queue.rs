//! Who is served next: new containers before the backlog of a start. Pure.

#![forbid(unsafe_code)]

use flow_model::Slot;
use std::collections::VecDeque;

/// Whether a namespace goes before the backlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// A container that starts now, or an interface that appeared.
    Urgent,
    /// What existed before, and retries.
    Background,
}

/// Two lines. Each slot is in them at most once (`Attachment` sees to that), so they are bounded by
/// the number of attachments.
#[derive(Debug, Default)]
pub struct Queue {
    urgent: VecDeque<Slot>,
    background: VecDeque<Slot>,
}

impl Queue {
    pub fn push(&mut self, slot: Slot, priority: Priority) {
        match priority {
            Priority::Urgent => self.urgent.push_back(slot),
            Priority::Background => self.background.push_back(slot),
        }
    }

    /// The next slot; a worker that is kept free for urgent ones takes no others.
    pub fn pop(&mut self, urgent_only: bool) -> Option<Slot> {
        let urgent = self.urgent.pop_front();
        if urgent_only { urgent } else { urgent.or_else(|| self.background.pop_front()) }
    }

    /// Slots that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.urgent.len() + self.background.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_containers_overtake_the_backlog_and_one_worker_takes_nothing_else() {
        let mut queue = Queue::default();
        for slot in 1..=3 {
            queue.push(Slot(slot), Priority::Background);
        }
        assert_eq!(queue.pop(true), None);
        queue.push(Slot(9), Priority::Urgent);
        assert_eq!(queue.len(), 4);
        assert_eq!([queue.pop(false), queue.pop(false)], [Some(Slot(9)), Some(Slot(1))]);
    }
}
