//! What one reader of a tap has not read yet: bounded, and with what did not fit told at its place.

use super::tapped::Tapped;
use flow_model::LossReason;
use std::collections::VecDeque;

/// Records that wait. A reader is served twenty times a second: 80,000 records a second.
const MOST_RECORDS: usize = 4096;
/// And their bytes: a record with a path of usual length takes some 400.
const MOST_BYTES: usize = 2 << 20;

/// One thing that a reader is told.
#[derive(Clone, Debug)]
pub enum Told {
    /// An exchange ended.
    Exchange(Box<Tapped>),
    /// This much is missing here.
    Lost(Gap),
}

/// What is missing between two records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gap {
    /// Records that found no room because the reader was slow.
    pub unread: u64,
    /// Exchanges that took place and were never seen whole, by reason in the order of
    /// `LossReason::ALL`. Whether all of them were asked for is not known.
    pub unseen: [u64; LossReason::ALL.len()],
}

impl Gap {
    /// Nothing is missing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Gap::default()
    }

    fn take(&mut self) -> Option<Gap> {
        let gap = std::mem::take(self);
        (!gap.is_empty()).then_some(gap)
    }
}

#[derive(Debug)]
pub(super) struct Queue {
    told: VecDeque<Told>,
    bytes: usize,
    /// Behind the last one that is told.
    gap: Gap,
    /// That may still be told.
    left: Option<u64>,
    closed: bool,
}

impl Queue {
    pub(super) fn new(limit: Option<u64>) -> Queue {
        Queue { told: VecDeque::new(), bytes: 0, gap: Gap::default(), left: limit, closed: false }
    }

    /// Nothing more is taken.
    pub(super) fn is_over(&self) -> bool {
        self.closed || self.left == Some(0)
    }

    /// `false` where there was no room for it.
    pub(super) fn push(&mut self, record: Tapped) -> bool {
        if self.is_over() {
            return true;
        }
        let held = record.held();
        if self.told.len() + usize::from(!self.gap.is_empty()) >= MOST_RECORDS || self.bytes + held > MOST_BYTES {
            self.gap.unread += 1;
            return false;
        }
        self.told.extend(self.gap.take().map(Told::Lost));
        self.told.push_back(Told::Exchange(Box::new(record)));
        self.bytes += held;
        self.left = self.left.map(|left| left.saturating_sub(1));
        true
    }

    pub(super) fn unseen(&mut self, reason: LossReason, count: u64) {
        if !self.is_over()
            && let Some(unseen) = self.gap.unseen.get_mut(reason.index())
        {
            *unseen = unseen.saturating_add(count);
        }
    }

    /// The next ones, at most so many; what is missing behind the last of all is told once that is read.
    pub(super) fn take(&mut self, most: usize) -> Vec<Told> {
        let count = most.min(self.told.len());
        let mut taken: Vec<Told> = self.told.drain(..count).collect();
        for told in &taken {
            if let Told::Exchange(record) = told {
                self.bytes = self.bytes.saturating_sub(record.held());
            }
        }
        if taken.len() < most && self.told.is_empty() {
            taken.extend(self.gap.take().map(Told::Lost));
            // Bursts are rare, and readers live long.
            self.told.shrink_to(MOST_RECORDS / 16);
        }
        taken
    }

    /// The reader is gone: nothing is kept for it.
    pub(super) fn close(&mut self) {
        *self = Queue { closed: true, ..Queue::new(None) };
    }
}
