use crate::event::{FlowId, FlowKey};
use flow_model::Ts;
use hashbrown::HashMap;
use l7::Interest;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

/// Trailing packets of a closed connection arrive for about this long; the kernel's entry must
/// still be there to swallow them.
const LINGER: Duration = Duration::from_secs(2);

/// Of the table, what flows may have that wait for their linger. With more, the oldest go early: a
/// table full of connections that are over has no room for those that are not. Of what still
/// arrives of them, an ACK or a FIN begins no flow, and payload was sent again for nothing.
const SHARE_CLOSED: usize = 8;

/// Closed flows whose end is remembered where nobody takes them out.
const MOST_CLOSED: usize = 131_072;

/// What the pipeline wants done by the owner of the kernel's maps, and the timers of its flows.
#[derive(Debug)]
pub struct Requests {
    /// Flows that may wait for their linger.
    lingering: usize,
    interests: Vec<(FlowKey, FlowId, Interest)>,
    headers: Vec<(FlowKey, FlowId, [Option<u32>; 2])>,
    timers: BinaryHeap<Reverse<(Ts, TimerKey)>>,
    closed: VecDeque<(Ts, FlowKey, FlowId)>,
    closed_ids: HashMap<FlowKey, FlowId, foldhash::fast::RandomState>,
    /// Closed flows that did not wait for their linger.
    closed_early: u64,
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
    /// For a table of so many flows.
    pub(super) fn new(flows: usize) -> Requests {
        Requests {
            lingering: flows / SHARE_CLOSED,
            interests: Vec::new(),
            headers: Vec::new(),
            timers: BinaryHeap::new(),
            closed: VecDeque::new(),
            closed_ids: HashMap::default(),
            closed_early: 0,
        }
    }

    /// Flows whose dissector changed its mind on how much it needs; drained by the caller.
    pub fn take_interests(&mut self) -> impl Iterator<Item = (FlowKey, FlowId, Interest)> + '_ {
        self.interests.drain(..)
    }

    /// Walked flows of which the kernel does not know where the next header is, and where it is, by
    /// direction; drained by the caller.
    pub fn take_headers(&mut self) -> impl Iterator<Item = (FlowKey, FlowId, [Option<u32>; 2])> + '_ {
        self.headers.drain(..)
    }

    /// Flows that ended long enough ago, or are too many: their entries in the kernel's table can be
    /// removed, if they still are of this instance.
    pub fn take_removable(&mut self, now: Ts) -> Vec<(FlowKey, FlowId)> {
        let mut removable = Vec::new();
        while let Some(&(at, key, id)) = self.closed.front() {
            if now.since(at) < LINGER && self.closed.len() <= self.lingering {
                break;
            }
            self.closed.pop_front();
            self.closed_early += u64::from(now.since(at) < LINGER);
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

    /// Closed flows that made room for others before their trailing packets had come.
    pub fn closed_early(&self) -> u64 {
        self.closed_early
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
        if self.closed.len() >= MOST_CLOSED
            && let Some((since, key, id)) = self.closed.pop_front()
        {
            self.closed_early += u64::from(at.since(since) < LINGER);
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

#[cfg(test)]
mod tests {
    use super::*;
    use flow_model::{Endpoint, Slot, Transport};

    fn key(port: u16) -> FlowKey {
        let end = |port| Endpoint { ip: "10.0.0.1".parse().expect("address"), port };
        FlowKey {
            slot: Slot(1),
            tuple: flow_model::FiveTuple { transport: Transport::Tcp, local: end(port), remote: end(80) },
        }
    }

    #[test]
    fn what_is_over_has_an_eighth_of_the_table_and_the_rest_of_it_goes_early() {
        let mut requests = Requests::new(800);
        for port in 1..=1000 {
            requests.closed(key(port), FlowId(u64::from(port)), Ts(u64::from(port)));
        }
        let early: Vec<u64> = requests.take_removable(Ts(1001)).into_iter().map(|(_, id)| id.0).collect();
        assert_eq!(early, (1..=900).collect::<Vec<u64>>(), "the oldest");
        assert!(requests.take_removable(Ts(1001)).is_empty());
        assert!(requests.is_closed_recently(&key(901)) && !requests.is_closed_recently(&key(900)));
        assert_eq!(requests.closed_early(), 900);
        assert_eq!(requests.take_removable(Ts(1000 + LINGER.as_nanos() as u64)).len(), 100);
        assert_eq!(requests.closed_early(), 900, "those had their time");
    }
}
