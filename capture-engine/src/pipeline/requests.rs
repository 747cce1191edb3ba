use crate::event::{FlowId, FlowKey};
use flow_model::{Endpoint, Ts};
use hashbrown::{HashMap, HashSet};
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

/// Closed flows whose end is remembered at most: those that nobody takes out, and those that were taken out.
const MOST_CLOSED: usize = 131_072;

/// What the pipeline wants done by the owner of the kernel's maps, and the timers of its flows.
#[derive(Debug)]
pub struct Requests {
    /// Flows that may wait for their linger.
    lingering: usize,
    interests: Vec<(FlowKey, FlowId, Interest)>,
    headers: Vec<(FlowKey, FlowId, [Option<u32>; 2])>,
    servers: Vec<(Endpoint, bool)>,
    timers: BinaryHeap<Reverse<(Ts, TimerKey)>>,
    /// Flows that have ended and are in the kernel's table, in the order in which that was told.
    closed: VecDeque<(Ts, FlowKey, FlowId)>,
    /// Those that were taken out of it, and the place in the ring before which something of them may come.
    removed: VecDeque<(Ts, Option<u64>, FlowKey, FlowId)>,
    /// The newest instance of both.
    ended: HashMap<FlowKey, Ended, foldhash::fast::RandomState>,
    /// Of both, those of which not the kernel had the last word: it may come.
    told: HashSet<(FlowKey, FlowId), foldhash::fast::RandomState>,
    /// Closed flows that did not wait for their linger.
    closed_early: u64,
}

/// By whose word a flow was settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// The kernel's, of the flow's end, by the ring or from aside: it gives one.
    Ring,
    /// That of a look into the table, or nobody's.
    Table,
}

/// An instance of a flow that has been settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ended {
    id: FlowId,
    /// When its connection was over. None: it was only let go of, and may go on.
    over: Option<Ts>,
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
            servers: Vec::new(),
            timers: BinaryHeap::new(),
            closed: VecDeque::new(),
            removed: VecDeque::new(),
            ended: HashMap::default(),
            told: HashSet::default(),
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

    /// Servers of which new connections are to be copied whole, or no more; drained by the caller.
    pub fn take_servers(&mut self) -> impl Iterator<Item = (Endpoint, bool)> + '_ {
        self.servers.drain(..)
    }

    /// Flows that ended long enough ago, or are too many: their entries in the kernel's table can be
    /// removed, if they still are of this instance. They are remembered until [`forget`](Self::forget).
    pub fn take_removable(&mut self, now: Ts) -> Vec<(FlowKey, FlowId)> {
        let mut removable = Vec::new();
        while let Some(&(at, key, id)) = self.closed.front() {
            if now.since(at) < LINGER && self.closed.len() <= self.lingering {
                break;
            }
            self.closed.pop_front();
            self.closed_early += u64::from(now.since(at) < LINGER);
            self.removed.push_back((at, None, key, id));
            removable.push((key, id));
        }
        removable
    }

    /// Call it once what was removable has been removed. `read` is how far the ring has been read, and
    /// `written` how far it was filled at most when the last entry was removed
    /// ([`crate::kernel::RingReader::read`] and `written`); a source without a ring has 0 for both.
    ///
    /// What a round through the table told of may have news of its end in the ring that was put there
    /// later, since its addresses and ports were used again; and what was sent again may come when the
    /// entry is gone, and begin another one. So an end is forgotten when neither can come any more.
    pub fn forget(&mut self, now: Ts, read: u64, written: u64) {
        self.removed
            .iter_mut()
            .rev()
            .map_while(|removed| removed.1.is_none().then_some(&mut removed.1))
            .for_each(|until| *until = Some(written));
        while let Some(&(at, until, key, id)) = self.removed.front() {
            let may_come = now.since(at) < LINGER || until.is_none_or(|until| read < until);
            if may_come && self.removed.len() <= MOST_CLOSED {
                break;
            }
            self.removed.pop_front();
            self.forget_ended(key, id);
        }
    }

    fn forget_ended(&mut self, key: FlowKey, id: FlowId) {
        self.told.remove(&(key, id));
        if self.ended.get(&key).is_some_and(|ended| ended.id == id) {
            self.ended.remove(&key);
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

    pub(super) fn server(&mut self, server: Endpoint, eager: bool) {
        self.servers.push((server, eager));
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

    /// This instance has been settled. `over`: its connection has ended, so what is seen of it after
    /// this was sent again.
    pub(super) fn closed(&mut self, key: FlowKey, id: FlowId, at: Ts, over: bool, word: Word) {
        // A source without a table of its own (a capture) takes nothing out.
        if self.closed.len() >= MOST_CLOSED
            && let Some((since, key, id)) = self.closed.pop_front()
        {
            self.closed_early += u64::from(at.since(since) < LINGER);
            self.forget_ended(key, id);
        }
        self.closed.push_back((at, key, id));
        if word == Word::Table {
            self.told.insert((key, id));
        }
        // An end that lay aside may be older than one that is known.
        if !self.closed_recently(&key, id) {
            self.ended.insert(key, Ended { id, over: over.then_some(at) });
        }
    }

    /// This very instance has been settled, though not by the kernel's word.
    pub(super) fn is_told(&self, key: &FlowKey, id: FlowId) -> bool {
        self.told.contains(&(*key, id))
    }

    /// As `over_since`, where the connection that ended was there before this one.
    pub(super) fn over_before(&self, key: &FlowKey, id: FlowId, now: Ts) -> bool {
        self.ended.get(key).is_some_and(|ended| ended.id.0 < id.0) && self.over_since(key, now).is_some()
    }

    /// Some instance of this flow ended a moment ago: a seed that was read before is stale.
    pub(super) fn is_closed_recently(&self, key: &FlowKey) -> bool {
        self.ended.contains_key(key)
    }

    /// When the connection ended that had these addresses and ports, if that was a moment ago.
    pub(super) fn over_since(&self, key: &FlowKey, now: Ts) -> Option<Ts> {
        self.ended.get(key)?.over.filter(|at| now.since(*at) < LINGER)
    }

    /// This instance has been settled; what still arrives of it is stale.
    pub(super) fn closed_recently(&self, key: &FlowKey, id: FlowId) -> bool {
        self.ended.get(key).is_some_and(|ended| id.0 <= ended.id.0)
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
            requests.closed(key(port), FlowId(u64::from(port)), Ts(u64::from(port)), true, Word::Ring);
        }
        let early: Vec<u64> = requests.take_removable(Ts(1001)).into_iter().map(|(_, id)| id.0).collect();
        assert_eq!(early, (1..=900).collect::<Vec<u64>>(), "the oldest");
        assert!(requests.take_removable(Ts(1001)).is_empty());
        assert_eq!(requests.closed_early(), 900);
        assert_eq!(requests.take_removable(Ts(1000 + LINGER.as_nanos() as u64)).len(), 100);
        assert_eq!(requests.closed_early(), 900, "those had their time");
    }

    #[test]
    fn an_end_is_remembered_while_anything_may_come_of_it() {
        let mut requests = Requests::new(8);
        let linger = LINGER.as_nanos() as u64;
        requests.closed(key(1), FlowId(1), Ts(0), true, Word::Ring);
        requests.closed(key(2), FlowId(2), Ts(linger), false, Word::Ring);
        assert_eq!(requests.take_removable(Ts(linger)).len(), 1);
        // Sent again after this it would be new, but its news may be in the ring.
        requests.forget(Ts(linger), 70, 100);
        let over = |requests: &Requests, port, at| requests.over_since(&key(port), Ts(at)).is_some();
        assert!(over(&requests, 1, linger - 1) && !over(&requests, 1, linger) && !over(&requests, 2, linger));
        assert!(requests.closed_recently(&key(1), FlowId(1)) && !requests.closed_recently(&key(1), FlowId(2)));
        requests.forget(Ts(linger), 99, 200);
        assert!(requests.is_closed_recently(&key(1)));
        requests.forget(Ts(linger), 100, 200);
        assert!(!requests.is_closed_recently(&key(1)) && requests.is_closed_recently(&key(2)));
        // Taken out early, because there are many.
        requests.closed(key(3), FlowId(3), Ts(linger), true, Word::Ring);
        assert_eq!(requests.take_removable(Ts(linger + 1)).len(), 1);
        requests.forget(Ts(linger + 1), 0, 0);
        assert!(requests.is_closed_recently(&key(2)), "it may be sent again");
        requests.forget(Ts(2 * linger), 0, 0);
        assert!(!requests.is_closed_recently(&key(2)) && over(&requests, 3, 2 * linger - 1));
    }

    #[test]
    fn however_many_ends_come_a_bounded_number_is_remembered() {
        let mut requests = Requests::new(0);
        for id in 1..=3 * MOST_CLOSED as u64 {
            requests.closed(key((id >> 16) as u16), FlowId(id), Ts(1), true, Word::Ring);
            requests.take_removable(Ts(1));
            requests.forget(Ts(1), 0, 1);
        }
        assert!(requests.removed.len() <= MOST_CLOSED && requests.closed.is_empty());
    }
}
