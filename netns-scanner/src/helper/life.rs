//! When there is a process that reads, and when the next may be started. Pure: time is passed in.

use std::time::{Duration, Instant};

/// Reads of one process that hang at once. Then it is left behind: what hangs so often hangs for all,
/// and each costs a thread. A single file that hangs costs its own reads alone.
pub(super) const MOST_HANGING: usize = 16;
/// After one that was left behind.
pub(super) const REST: Duration = Duration::from_secs(600);
/// After one that ended by itself: killed for memory, or by a person.
const AGAIN: Duration = Duration::from_secs(10);
/// Processes that were left behind and have not ended. With as many, none is started.
const MOST_LEFT: usize = 4;

/// What to do with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Start one, and ask it.
    Start,
    Ask,
    /// Refuse it.
    Wait,
}

#[derive(Debug, Default)]
pub(super) struct Life {
    runs: bool,
    hanging: usize,
    /// None may be started before; None: at once.
    not_before: Option<Instant>,
    left: usize,
}

impl Life {
    pub fn way(&self, now: Instant) -> Way {
        let waits = self.not_before.is_some_and(|then| now < then) || self.left >= MOST_LEFT;
        match (self.runs, waits) {
            (true, _) => Way::Ask,
            (false, true) => Way::Wait,
            (false, false) => Way::Start,
        }
    }

    pub fn started(&mut self) {
        (self.runs, self.hanging) = (true, 0);
    }

    /// A read did not come back in time. Whether the process is to be left behind: it is as gone then.
    #[must_use]
    pub fn late(&mut self, now: Instant) -> bool {
        self.hanging += 1;
        if !self.runs || self.hanging < MOST_HANGING {
            return false;
        }
        (self.runs, self.not_before) = (false, Some(now + REST));
        self.left += 1;
        true
    }

    /// A read that was late came back.
    pub fn came_back(&mut self) {
        self.hanging = self.hanging.saturating_sub(1);
    }

    /// The one that runs ended, or could not be started.
    pub fn ended(&mut self, now: Instant) {
        (self.runs, self.not_before) = (false, Some(now + AGAIN));
    }

    /// One that was left behind has ended.
    pub fn left_ended(&mut self) {
        self.left = self.left.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many reads hang as one process may have.
    fn hang(life: &mut Life, now: Instant) {
        let left: Vec<bool> = (0..MOST_HANGING).map(|_| life.late(now)).collect();
        assert_eq!(left.iter().position(|left| *left), Some(MOST_HANGING - 1));
    }

    #[test]
    fn one_is_started_when_it_is_needed_and_asked_from_then_on() {
        let (mut life, now) = (Life::default(), Instant::now());
        assert_eq!(life.way(now), Way::Start);
        life.started();
        assert_eq!(life.way(now), Way::Ask);
    }

    #[test]
    fn one_that_hangs_is_left_behind_and_the_next_comes_after_its_rest() {
        let (mut life, now) = (Life::default(), Instant::now());
        life.started();
        hang(&mut life, now);
        assert_eq!(life.way(now), Way::Wait);
        assert_eq!(life.way(now + REST - Duration::from_millis(1)), Way::Wait);
        assert_eq!(life.way(now + REST), Way::Start);
        life.started();
        assert!(!life.late(now + REST), "it hangs anew from nothing");
    }

    #[test]
    fn reads_that_come_back_hang_no_longer() {
        let (mut life, now) = (Life::default(), Instant::now());
        life.started();
        for _ in 0..10 * MOST_HANGING {
            assert!(!life.late(now));
            life.came_back();
        }
        assert_eq!(life.way(now), Way::Ask);
    }

    #[test]
    fn one_that_ended_is_followed_soon() {
        let (mut life, now) = (Life::default(), Instant::now());
        life.started();
        life.ended(now);
        assert_eq!((life.way(now), life.way(now + AGAIN)), (Way::Wait, Way::Start));
    }

    #[test]
    fn those_that_are_left_behind_and_stay_are_bounded() {
        let (mut life, mut now) = (Life::default(), Instant::now());
        for _ in 0..MOST_LEFT {
            assert_eq!(life.way(now), Way::Start);
            life.started();
            hang(&mut life, now);
            now += REST;
        }
        assert_eq!(life.way(now + REST), Way::Wait);
        life.left_ended();
        assert_eq!(life.way(now), Way::Start);
    }
}
