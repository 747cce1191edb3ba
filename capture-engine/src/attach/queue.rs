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

/// Whom a worker takes from the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serves {
    /// First looks and nothing else.
    New,
    /// What somebody waits for.
    Urgent,
    All,
}

/// Who is to be woken for what was queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// The worker of first looks waits for one.
    FirstLooks,
    /// Whoever is free.
    Others,
}

/// Three lines. Each slot is in them at most once (`Attachment` sees to that), so they are bounded by
/// the number of attachments.
#[derive(Debug, Default)]
pub struct Queue {
    new: VecDeque<Slot>,
    urgent: VecDeque<Slot>,
    background: VecDeque<Slot>,
    /// The worker of first looks waits for one. It is scheduled before all others of the node: a
    /// look that another one took would wait for its processor, often for longer than it takes.
    new_is_awaited: bool,
}

impl Queue {
    pub fn push(&mut self, slot: Slot, priority: Priority) {
        match priority {
            Priority::New => self.new.push_back(slot),
            Priority::Urgent => self.urgent.push_back(slot),
            Priority::Background => self.background.push_back(slot),
        }
    }

    /// Who takes what was queued with this priority.
    #[must_use]
    pub fn for_whom(&self, priority: Priority) -> Awaited {
        if priority == Priority::New && self.new_is_awaited { Awaited::FirstLooks } else { Awaited::Others }
    }

    /// First looks that others than their worker are to take, since it has one now.
    #[must_use]
    pub fn has_more_first_looks(&self) -> bool {
        !self.new_is_awaited && !self.new.is_empty()
    }

    /// The next slot for a worker. The one of first looks that finds none is taken to wait for the
    /// next, until it asks again.
    pub fn pop(&mut self, serves: Serves) -> Option<(Slot, Priority)> {
        let new = |queue: &mut Queue| queue.new.pop_front().map(|slot| (slot, Priority::New));
        if serves == Serves::New {
            let next = new(self);
            self.new_is_awaited = next.is_none();
            return next;
        }
        if !self.new_is_awaited
            && let Some(next) = new(self)
        {
            return Some(next);
        }
        let urgent = self.urgent.pop_front().map(|slot| (slot, Priority::Urgent));
        if serves == Serves::Urgent {
            return urgent;
        }
        urgent.or_else(|| self.background.pop_front().map(|slot| (slot, Priority::Background)))
    }

    /// One that waits with the backlog goes before it from now on; whether it was there.
    pub fn hasten(&mut self, slot: Slot) -> bool {
        let Some(at) = self.background.iter().position(|waiting| *waiting == slot) else { return false };
        self.urgent.extend(self.background.remove(at));
        true
    }

    /// What a worker that serves all takes next is what existed before.
    #[must_use]
    pub fn is_backlog(&self) -> bool {
        let new = !self.new_is_awaited && !self.new.is_empty();
        !new && self.urgent.is_empty() && !self.background.is_empty()
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
    fn one_of_the_backlog_that_is_hastened_goes_before_it_once() {
        let mut queue = queue(&[(1, Priority::Background), (2, Priority::Background), (3, Priority::Background)]);
        assert!(queue.hasten(Slot(2)) && !queue.hasten(Slot(2)) && !queue.hasten(Slot(9)));
        check(&mut queue, Serves::Urgent, Some(2));
        check(&mut queue, Serves::Urgent, None);
        assert_eq!(queue.len(), 2);
    }

    fn queue(slots: &[(u32, Priority)]) -> Queue {
        let mut queue = Queue::default();
        for (slot, priority) in slots {
            queue.push(Slot(*slot), *priority);
        }
        queue
    }

    fn check(queue: &mut Queue, serves: Serves, next: Option<u32>) {
        assert_eq!(queue.pop(serves).map(|(slot, _)| slot.0), next, "{serves:?}");
    }

    #[test]
    fn who_does_not_run_yet_goes_before_all() {
        let mut queue = queue(&[(1, Priority::Background), (2, Priority::Urgent), (3, Priority::New)]);
        queue.push(Slot(4), Priority::New);
        assert_eq!(queue.len(), 4);
        check(&mut queue, Serves::New, Some(3));
        check(&mut queue, Serves::Urgent, Some(4));
        check(&mut queue, Serves::Urgent, Some(2));
        check(&mut queue, Serves::All, Some(1));
    }

    #[test]
    fn nobody_takes_a_first_look_from_the_worker_that_waits_for_it() {
        let mut queue = Queue::default();
        check(&mut queue, Serves::New, None);
        queue.push(Slot(1), Priority::New);
        queue.push(Slot(2), Priority::New);
        // Others may come by for what is theirs.
        check(&mut queue, Serves::All, None);
        check(&mut queue, Serves::Urgent, None);
        assert_eq!(queue.for_whom(Priority::New), Awaited::FirstLooks);
        assert!(!queue.has_more_first_looks());
        check(&mut queue, Serves::New, Some(1));
        // It is at work now: the other one need not wait for it.
        assert_eq!(queue.for_whom(Priority::New), Awaited::Others);
        assert!(queue.has_more_first_looks());
        check(&mut queue, Serves::Urgent, Some(2));
    }

    #[test]
    fn new_containers_overtake_the_backlog_and_one_worker_takes_nothing_else() {
        let mut queue = queue(&[(1, Priority::Background), (2, Priority::Background), (3, Priority::Background)]);
        check(&mut queue, Serves::Urgent, None);
        assert!(queue.is_backlog());
        queue.push(Slot(9), Priority::Urgent);
        assert!(queue.len() == 4 && !queue.is_backlog());
        check(&mut queue, Serves::All, Some(9));
        check(&mut queue, Serves::All, Some(1));
    }

    #[test]
    fn what_another_worker_is_about_to_take_does_not_hide_that_the_rest_is_backlog() {
        let mut queue = queue(&[(1, Priority::Background), (2, Priority::New)]);
        assert!(!queue.is_backlog());
        check(&mut queue, Serves::New, Some(2));
        check(&mut queue, Serves::New, None);
        queue.push(Slot(3), Priority::New);
        assert!(queue.is_backlog());
        check(&mut queue, Serves::All, Some(1));
        assert!(!queue.is_backlog());
    }
}
