//! What belongs to which namespace, and with that, which flows it only passes on.
//!
//! A capture has no namespaces: nothing is known to belong to them, and every flow is an end.

use super::flow::Part;
use crate::event::FlowKey;
use flow_model::{Slot, Ts};
use hashbrown::{HashMap, HashSet};
use netns::Own;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

/// Between two walks over the table for namespaces whose addresses have changed: one takes a
/// millisecond for 65,000 flows, and whoever may change its addresses can do so without end.
pub(super) const AGAIN: Duration = Duration::from_millis(100);
/// News of an address may come so long after its first connection has ended. Some milliseconds, on
/// a machine that is not starved.
pub(super) const LATE: Duration = Duration::from_secs(5);
/// Flows that were passed on and have ended, as many as one may want to remember.
pub(super) const ENDED: usize = 1024;

/// What belongs to which namespace.
#[derive(Debug, Default)]
pub(super) struct Forwarding {
    slots: HashMap<Slot, Owned, foldhash::fast::RandomState>,
    /// Their flows are to be looked at again.
    again: HashSet<Slot, foldhash::fast::RandomState>,
    next: Ts,
    ended: VecDeque<Ended>,
}

#[derive(Debug)]
struct Owned {
    own: Own,
    /// That only passed through.
    flows: u64,
}

/// A flow that was taken for passed on to its end.
#[derive(Debug)]
struct Ended {
    slot: Slot,
    local: IpAddr,
    remote: IpAddr,
    at: Ts,
}

impl Forwarding {
    /// The last flows of this namespace have ended.
    pub fn gone(&mut self, slot: Slot) {
        self.slots.remove(&slot);
        self.again.remove(&slot);
    }

    pub fn ended(&mut self, key: &FlowKey, at: Ts) {
        if self.ended.len() >= ENDED {
            self.ended.pop_front();
        }
        let FlowKey { slot, tuple } = *key;
        self.ended.push_back(Ended { slot, local: tuple.local.ip, remote: tuple.remote.ip, at });
    }

    pub fn part(&self, key: &FlowKey) -> Part {
        match self.slots.get(&key.slot) {
            None => Part::Unjudged,
            Some(owned) if owned.own.passes_on(key.tuple.local.ip, key.tuple.remote.ip) => Part::PassedOn,
            Some(_) => Part::End,
        }
    }

    /// From now on. Returns how many flows of this namespace ended of late that would have been its
    /// own.
    pub fn know(&mut self, slot: Slot, own: Own, at: Ts) -> u64 {
        if self.slots.get(&slot).is_some_and(|owned| owned.own == own) {
            return 0;
        }
        let before = self.ended.len();
        self.ended.retain(|ended| {
            let is_own = ended.slot == slot && !own.passes_on(ended.local, ended.remote);
            !is_own || at.since(ended.at) > LATE
        });
        let late = before - self.ended.len();
        self.slots.entry(slot).or_insert_with(|| Owned { own: Own::default(), flows: 0 }).own = own;
        self.again.insert(slot);
        late as u64
    }

    /// Namespaces whose flows are to be judged again, when there are any and it is time.
    pub fn due(&mut self, now: Ts) -> Option<HashSet<Slot, foldhash::fast::RandomState>> {
        if self.again.is_empty() || now < self.next {
            return None;
        }
        self.next = now.plus(AGAIN);
        Some(std::mem::take(&mut self.again))
    }

    pub fn passed_on(&mut self, slot: Slot) {
        if let Some(owned) = self.slots.get_mut(&slot) {
            owned.flows += 1;
        }
    }

    /// How many flows each namespace has passed on, of those that did.
    pub fn flows(&self) -> impl Iterator<Item = (Slot, u64)> {
        self.slots.iter().map(|(slot, owned)| (*slot, owned.flows)).filter(|(_, flows)| *flows > 0)
    }

    #[cfg(test)]
    pub fn remembered(&self) -> usize {
        self.ended.len()
    }
}
