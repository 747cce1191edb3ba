use crate::event::{FlowId, FlowKey};
use flow_model::Ts;
use hashbrown::HashMap;
use l7::Interest;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

/// Trailing ACKs of a closed connection arrive for about this long; the kernel's entry must still
/// be there to swallow them.
const LINGER: Duration = Duration::from_secs(2);

/// Closed flows that wait for their linger; as many as the table may hold. With more, the oldest go
/// early: what still arrives of them makes a small flow of its own.
const MOST_CLOSED: usize = 65_536;

/// What the pipeline wants done by the owner of the kernel's maps, and the timers of its flows.
#[derive(Debug, Default)]
pub struct Requests {
    interests: Vec<(FlowKey, FlowId, Interest)>,
    headers: Vec<(FlowKey, FlowId, [Option<u32>; 2])>,
    timers: BinaryHeap<Reverse<(Ts, TimerKey)>>,
    closed: VecDeque<(Ts, FlowKey, FlowId)>,
    closed_ids: HashMap<FlowKey, FlowId, foldhash::fast::RandomState>,
}

/// Orders timers by time only.
#[derive(Debug, PartialEq, Eq)]
struct TimerKey(FlowKey, FlowId);

impl Ord for TimerKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.1.0.cmp(&other.1.0)
    }
}

impl PartialOrd for TimerKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Requests {
    /// Flows whose dissector changed its mind on how much it needs; drained by the caller.
    pub fn take_interests(&mut self) -> impl Iterator<Item = (FlowKey, FlowId, Interest)> + '_ {
        self.interests.drain(..)
    }

    /// Walked flows of which the kernel does not know where the next header is, and where it is, by
    /// direction; drained by the caller.
    pub fn take_headers(&mut self) -> impl Iterator<Item = (FlowKey, FlowId, [Option<u32>; 2])> + '_ {
        self.headers.drain(..)
    }

    /// Flows that ended long enough ago: their entries in the kernel's table can be removed, if
    /// they still are of this instance.
    pub fn take_removable(&mut self, now: Ts) -> Vec<(FlowKey, FlowId)> {
        let mut removable = Vec::new();
        while let Some(&(at, key, id)) = self.closed.front() {
            if now.since(at) < LINGER && self.closed.len() <= MOST_CLOSED {
                break;
            }
            self.closed.pop_front();
            self.forget_closed(key, id);
            removable.push((key, id));
        }
        removable
    }

    fn forget_closed(&mut self, key: FlowKey, id: FlowId) {
        if self.closed_ids.get(&key) == Some(&id) {
            self.closed_ids.remove(&key);
        }
    }

    /// Timers held; a gauge.
    pub fn timers(&self) -> usize {
        self.timers.len()
    }

    pub(super) fn interest(&mut self, key: FlowKey, id: FlowId, interest: Interest) {
        self.interests.push((key, id, interest));
    }

    /// Of several of one flow in a row the last one counts.
    pub(super) fn headers(&mut self, key: FlowKey, id: FlowId, headers: [Option<u32>; 2]) {
        match self.headers.last_mut() {
            Some(last) if last.0 == key && last.1 == id => last.2 = headers,
            _ => self.headers.push((key, id, headers)),
        }
    }

    pub(super) fn timer(&mut self, due: Ts, key: FlowKey, id: FlowId) {
        self.timers.push(Reverse((due, TimerKey(key, id))));
    }

    pub(super) fn due(&mut self, now: Ts) -> Option<(FlowKey, FlowId)> {
        if self.timers.peek()?.0.0 > now {
            return None;
        }
        self.timers.pop().map(|Reverse((_, TimerKey(key, id)))| (key, id))
    }

    pub(super) fn closed(&mut self, key: FlowKey, id: FlowId, at: Ts) {
        // A source without a table of its own (a capture) takes nothing out.
        if self.closed.len() >= 2 * MOST_CLOSED
            && let Some((_, key, id)) = self.closed.pop_front()
        {
            self.forget_closed(key, id);
        }
        self.closed.push_back((at, key, id));
        self.closed_ids.insert(key, id);
    }

    /// Some instance of this flow ended a moment ago: a seed that was read before is stale.
    pub(super) fn is_closed_recently(&self, key: &FlowKey) -> bool {
        self.closed_ids.contains_key(key)
    }

    /// This instance has been settled; what still arrives of it is stale.
    pub(super) fn closed_recently(&self, key: &FlowKey, id: FlowId) -> bool {
        self.closed_ids.get(key).is_some_and(|closed| id.0 <= closed.0)
    }
}
