//! From events to exchanges: the flow table, one dissector per flow, and what the kernel is to be told in return.
//!
//! A pure state machine: events, samples and times go in; a [`Sink`] hears of exchanges, losses and
//! TCP health; [`Requests`] collects what only the owner of the kernel's maps can do. One instance
//! belongs to one thread; there is nothing to lock.

mod again;
mod aside;
mod flow;
mod forwarding;
mod judge;
mod late;
mod peers;
mod requests;
mod sampling;
mod servers;
mod shed;
mod unfollowed;

pub use requests::Requests;
pub use sampling::Sampling;

use crate::event::{Event, FlowId, FlowKey, Sample, Segment};
use aside::Aside;
use flow::{Collected, Flow, SEEDED};
use flow_model::{Close, FlowDelta, FlowSeed, LossReason, Role, Sink, Slot, Ts};
use forwarding::Forwarding;
use hashbrown::HashMap;
use l7::{Interest, Out};
use peers::Peers;
use requests::Word;
use servers::Servers;
use std::time::Duration;

/// Bounds of the table. Sizes are counts of flows.
#[derive(Clone, Copy, Debug)]
pub struct PipelineConfig {
    /// Flows held at once; the same as the kernel table's size, because each of its flows may have one here.
    pub flows: usize,
    /// Bounds of each flow's dissector.
    pub l7: l7::Limits,
    /// Ends may lie aside, which the owner of the kernel's maps hands over: see [`Pipeline::put_aside`].
    pub has_aside: bool,
}

impl Default for PipelineConfig {
    fn default() -> Self {
        PipelineConfig { flows: 65_536, l7: l7::Limits::default(), has_aside: false }
    }
}

/// What the pipeline did and could not do; monotonic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PipelineStats {
    /// Segments taken in, of TCP and UDP.
    pub segments: u64,
    /// Exchanges handed to the sink.
    pub exchanges: u64,
    /// Flows that got into the table, by a packet, a sample or a seed.
    pub flows_opened: u64,
    /// Flows that left it, for whatever reason.
    pub flows_closed: u64,
    /// Segments of new flows that found the table full.
    pub table_full: u64,
    /// Connections that became known from a seed.
    pub seeded: u64,
    /// Segments of an instance of a flow that had already ended.
    pub stale: u64,
    /// Holes in the streams of flows that have ended: their bytes never came.
    pub holes: u64,
    /// Those of them that were given up because a bound of `l7::Limits` was reached.
    pub holes_bounded: u64,
    /// Responses of servers that nothing had asked for: no exchanges.
    pub unasked: u64,
    /// Flows that only passed through a namespace.
    pub forwarded_flows: u64,
    /// Their packets, as the interfaces hand them over.
    pub forwarded_packets: u64,
    /// Their IP bytes.
    pub forwarded_bytes: u64,
    /// Flows that were forgotten before the last packets of their end, because too many ended at once.
    pub closed_early: u64,
    /// Those that were over before their address was known to be the namespace's own.
    pub address_late: u64,
    /// Flows that have ended and spoke what is not to be read.
    pub left_out: u64,
}

/// What [`Pipeline::shed`] found and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shed {
    /// Bytes that the dissectors of all flows hold on to, afterwards.
    pub held: usize,
    /// Flows that had to let go of what they held.
    pub flows: u64,
}

impl PipelineStats {
    fn forwarded(&mut self, passed: &FlowDelta) {
        self.forwarded_packets += passed.packets.iter().sum::<u64>();
        self.forwarded_bytes += passed.bytes.iter().sum::<u64>();
    }

    fn flow_closed(&mut self, holes: l7::Counters) {
        let l7::Counters { gaps, bounded } = holes;
        self.flows_closed += 1;
        self.holes += u64::from(gaps);
        self.holes_bounded += u64::from(bounded);
    }
}

/// Longest time that is thought possible between the kernel's counting of a packet and its event's being in the ring.
const SETTLED: Duration = Duration::from_millis(250);
/// First look at a flow whose response has more bytes than were copied, after its last event. Most
/// are ended by the next message first.
const FIRST_PROBE: Duration = Duration::from_millis(50);
/// Later looks double up to this: a response that takes minutes costs one map lookup per 5 s.
const MAX_PROBE: Duration = Duration::from_secs(5);

/// The flow table and everything behind it.
#[derive(Debug)]
pub struct Pipeline<S: Sink> {
    config: PipelineConfig,
    sink: S,
    flows: HashMap<FlowKey, Box<Flow<S::PerFlow>>, foldhash::fast::RandomState>,
    collected: Collected,
    requests: Requests,
    stats: PipelineStats,
    servers: Servers,
    peers: Peers,
    forwarding: Forwarding,
    aside: Aside<S::PerFlow>,
}

impl<S: Sink> Pipeline<S> {
    /// An empty table. The sink hears of everything on the thread that calls.
    pub fn new(config: PipelineConfig, sink: S) -> Self {
        Pipeline {
            config,
            sink,
            flows: HashMap::default(),
            collected: Collected::default(),
            requests: Requests::new(config.flows),
            stats: PipelineStats::default(),
            servers: Servers::default(),
            peers: Peers::default(),
            forwarding: Forwarding::default(),
            aside: Aside::default(),
        }
    }

    /// What hears of exchanges.
    pub fn sink(&self) -> &S {
        &self.sink
    }

    /// The same, to be changed between two events.
    pub fn sink_mut(&mut self) -> &mut S {
        &mut self.sink
    }

    /// Whether records of exchanges that begin from now on have targets and hosts: HTTP's paths. What
    /// an exchange under way has kept goes with it. Walks over all flows where that changes.
    pub fn keep_strings(&mut self, keep: bool) {
        if std::mem::replace(&mut self.config.l7.keep_strings, keep) != keep {
            self.flows.values_mut().for_each(|flow| flow.keep_strings(keep));
        }
    }

    /// Counts since the start; a copy.
    pub fn stats(&self) -> PipelineStats {
        PipelineStats { unasked: self.collected.unasked(), closed_early: self.requests.closed_early(), ..self.stats }
    }

    /// Flows held now.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether no flow is held.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// Reads these protocols, and no others, of flows that begin from now on.
    pub fn read(&mut self, wires: l7::Wires) {
        self.config.l7.wires = wires;
    }

    /// What the owner of the kernel's maps should do; emptied by the caller.
    pub fn requests(&mut self) -> &mut Requests {
        &mut self.requests
    }

    /// A connection that was open before anything was seen of it. Never overwrites what was
    /// observed: a flow that is known takes at most the role from it. Seeds beyond the table's size
    /// are counted as `table_full`.
    pub fn seed(&mut self, seed: &FlowSeed, at: Ts) {
        let key = FlowKey { slot: seed.slot, tuple: seed.tuple };
        if let Some(flow) = self.flows.get_mut(&key) {
            flow.suggest_role(seed.role);
            // Whatever its address: there is a socket.
            self.proved(&key);
            return;
        }
        if self.requests.is_closed_recently(&key) || !self.admit(key, SEEDED, seed.role, true, at) {
            return;
        }
        if let Some(flow) = self.flows.get_mut(&key) {
            flow.announce(&mut self.sink);
            self.stats.seeded += 1;
        }
    }

    /// Something happened on a flow.
    pub fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Segment(segment) => self.segment(segment),
            // In the ring behind all that was told of the flow.
            Event::Closed(sample) => self.settled(sample, Word::Ring),
        }
    }

    fn segment(&mut self, segment: &Segment<'_>) {
        let Segment { key, id, role, joined_midway, at, .. } = *segment;
        self.stats.segments += 1;
        // One look into the table for all but the first segment of a flow.
        if self.take(segment) {
            return;
        }
        let full = self.stats.table_full;
        if self.admit(key, id, role, joined_midway, at) {
            self.take(segment);
        } else if self.stats.table_full > full {
            self.refused(segment);
        }
    }

    /// `false` when the table does not hold this instance of the flow.
    fn take(&mut self, segment: &Segment<'_>) -> bool {
        let Segment { key, id, at, .. } = *segment;
        let Pipeline { flows, collected, sink, requests, stats, servers, .. } = self;
        let Some(flow) = flows.get_mut(&key).filter(|flow| flow.id() == id) else { return false };
        if flow.is_passed_on() {
            if flow.wants_nothing_more(segment.turn) {
                requests.interest(key, id, Interest::Nothing);
            }
            return true;
        }
        flow.segment(segment, collected);
        stats.exchanges += flow.deliver(collected, sink);
        if let Some(server) = flow.newly_recognised() {
            servers.speaks(server, flow.wire(), requests);
        }
        let changed = flow.interest_if_changed();
        if let Some(interest) = changed {
            if matches!(interest, Interest::Frames(_)) {
                servers.is_walked(flow.server_end().1, flow.wire(), requests);
            }
            requests.interest(key, id, interest);
        }
        if segment.walked.astray || matches!(changed, Some(Interest::Frames(_))) {
            requests.headers(key, id, flow.headers());
        }
        if let Some(due) = flow.want_timer(at, FIRST_PROBE) {
            requests.timer(due, key, id);
        }
        true
    }

    /// The state of a flow as the kernel's table has it. The caller must have handed over every
    /// event that was in the ring before the sample was taken: a message that the sample counts and
    /// no event told of is then known to be lost.
    ///
    /// But only once the flow has been quiet for `SETTLED`: the kernel counts a message a moment
    /// before its event is in the ring, and a CPU can be taken away in between. Of a flow that is
    /// not quiet the counters are believed and nothing else; what it lost shows with its next
    /// event.
    pub fn sample(&mut self, sample: &Sample, now: Ts) {
        if now.since(sample.at) >= SETTLED {
            return self.settled(sample, Word::Table);
        }
        if sample.closed.is_some() || !self.admit_sampled(sample) {
            return;
        }
        match self.flows.get_mut(&sample.key) {
            Some(flow) if flow.is_passed_on() => self.stats.forwarded(&flow.since_last(sample)),
            Some(flow) => flow.report(sample, &mut self.sink),
            None => {}
        }
    }

    /// Whether the flow has ended and no event told of that: only its place in the kernel's table does.
    pub fn is_untold(&self, sample: &Sample) -> bool {
        sample.closed.is_some() && !self.requests.closed_recently(&sample.key, sample.id)
    }

    /// As `sample`, of a flow of which nothing more will be seen, however lately it was: its
    /// namespace is gone. `closed` says how it ended.
    pub fn last_word(&mut self, sample: &Sample) {
        self.settled(sample, Word::Table);
    }

    fn admit_sampled(&mut self, sample: &Sample) -> bool {
        let Sample { key, id, at, role, joined_midway, .. } = *sample;
        matches!(self.flows.get(&key), Some(flow) if flow.id() == id) || self.admit(key, id, role, joined_midway, at)
    }

    /// All events before this state have been handed over: it is the flow's last word, or nothing is under way.
    fn settled(&mut self, sample: &Sample, word: Word) {
        let Sample { key, id, closed, .. } = *sample;
        if !self.admit_sampled(sample) {
            return;
        }
        if closed.is_some() {
            self.peers.removed(&key);
            if let Some(flow) = self.flows.remove(&key) {
                self.settle_last(flow, sample, word);
            }
            return;
        }
        let Pipeline { flows, collected, sink, requests, stats, servers, .. } = self;
        let Some(flow) = flows.get_mut(&key) else { return };
        if flow.is_passed_on() {
            return stats.forwarded(&flow.since_last(sample));
        }
        flow.sample(sample, collected);
        if flow.is_unrecognised() && servers.is_known(&flow.server_end()) {
            let pairs = flow.settle_open();
            if pairs > 0 {
                collected.lost(LossReason::RingFull, pairs);
            }
        }
        stats.exchanges += flow.deliver(collected, sink);
        flow.report(sample, sink);
        if let Some(due) = flow.want_timer(sample.at, FIRST_PROBE) {
            requests.timer(due, key, id);
        }
    }

    /// The last word on a flow that has left the table, whose end `sample` is.
    fn settle_last(&mut self, mut flow: Box<Flow<S::PerFlow>>, sample: &Sample, word: Word) {
        let Pipeline { collected, sink, requests, stats, servers, forwarding, .. } = self;
        let Sample { key, id, at, closed, .. } = *sample;
        if flow.is_passed_on() {
            stats.forwarded(&flow.since_last(sample));
            forwarding.ended(&key, at);
            stats.flow_closed(l7::Counters::default());
            return requests.closed(key, id, at, false, word);
        }
        flow.sample(sample, collected);
        settle(&flow, servers, collected);
        stats.exchanges += flow.deliver(collected, sink);
        flow.report(sample, sink);
        stats.flow_closed(flow.holes());
        stats.left_out += u64::from(flow.is_left_out());
        requests.closed(key, id, at, closed != Some(Close::Gone), word);
    }

    /// Time passed: unanswered queries expire, flows that wait for the end of a response are to be
    /// looked at. Call some ten times a second; `probe` is asked for the kernel's view of a flow
    /// and may answer `None` when it has none.
    pub fn tick(&mut self, now: Ts, mut probe: impl FnMut(&FlowKey) -> Option<Sample>) {
        self.judge_again(now);
        let Pipeline { flows, collected, sink, requests, stats, .. } = self;
        while let Some((key, id)) = requests.due(now) {
            let Some(flow) = flows.get_mut(&key).filter(|flow| flow.id() == id && !flow.is_passed_on()) else {
                continue;
            };
            flow.expire(now, collected);
            if flow.waits_for_end()
                && let Some(sample) = probe(&key)
                && sample.id == id
                && sample.closed.is_none()
            {
                flow.progress(&sample, now, collected);
            }
            stats.exchanges += flow.deliver(collected, sink);
            if let Some(interest) = flow.interest_if_changed() {
                requests.interest(key, id, interest);
            }
            if let Some(due) = flow.rearm(now, MAX_PROBE) {
                requests.timer(due, key, id);
            }
        }
    }

    /// The namespace is gone, and its flows with it: what is open ends as `Close::Gone`.
    pub fn namespace_gone(&mut self, slot: Slot, at: Ts) {
        let keys: Vec<FlowKey> = self.flows.keys().filter(|key| key.slot == slot).copied().collect();
        for key in keys {
            self.end(&key, at, Close::Gone);
        }
        self.forwarding.gone(slot);
    }

    /// A flow that fell idle and is let go of (UDP after its timeout, the oldest when the table is under pressure).
    pub fn let_go(&mut self, key: &FlowKey, at: Ts) {
        self.end(key, at, Close::Gone);
    }

    /// The source has ended: everything that is open is settled.
    pub fn finish(&mut self, at: Ts) {
        self.finish_aside();
        let keys: Vec<FlowKey> = self.flows.keys().copied().collect();
        for key in keys {
            self.end(&key, at, Close::Gone);
        }
    }

    fn end(&mut self, key: &FlowKey, at: Ts, close: Close) {
        let Some(flow) = self.flows.remove(key) else { return };
        self.peers.removed(key);
        self.end_flow(flow, at, close);
    }

    /// Nobody has the last word on a flow that has left the table.
    fn end_flow(&mut self, mut flow: Box<Flow<S::PerFlow>>, at: Ts, close: Close) {
        let key = flow.key();
        if flow.is_passed_on() {
            self.forwarding.ended(&key, at);
            self.stats.flow_closed(l7::Counters::default());
            return self.requests.closed(key, flow.id(), at, false, Word::Table);
        }
        flow.closed(at, close, &mut self.collected);
        settle(&flow, &mut self.servers, &mut self.collected);
        self.stats.exchanges += flow.deliver(&mut self.collected, &mut self.sink);
        flow.report_gone(close, &mut self.sink);
        self.stats.flow_closed(flow.holes());
        self.stats.left_out += u64::from(flow.is_left_out());
        self.requests.closed(key, flow.id(), at, false, Word::Table);
    }

    /// Makes sure that the table holds this instance of the flow. `false` when it is an instance
    /// that has ended, or the table is full.
    fn admit(&mut self, key: FlowKey, id: FlowId, role: Role, joined_midway: bool, at: Ts) -> bool {
        match self.flows.get_mut(&key) {
            Some(flow) if flow.id() == id => return true,
            Some(flow) if flow.is_seeded() => {
                flow.adopt(id, role);
                return true;
            }
            Some(flow) if flow.id().0 > id.0 => {
                // Told of before the tuple was used again; the older instance has been settled.
                self.stats.stale += 1;
                return false;
            }
            // The tuple was used again and the old connection's end was not seen.
            Some(_) => self.replaced(&key, at),
            None if self.requests.closed_recently(&key, id) => {
                self.stats.stale += 1;
                return false;
            }
            // Without a handshake, so soon after the end: sent again, when the kernel had forgotten the connection.
            None if joined_midway && let Some(over) = self.requests.over_since(&key, at) => {
                self.stats.stale += 1;
                self.requests.closed(key, id, over, true, Word::Table);
                return false;
            }
            None => {}
        }
        if self.flows.len() >= self.config.flows {
            self.stats.table_full += 1;
            return false;
        }
        self.stats.flows_opened += 1;
        let part = self.judge(&key, id);
        let flow = Flow::new(key, id, role, joined_midway, at, &self.config.l7).with_part(part);
        let is_passed_on = flow.is_passed_on();
        self.flows.insert(key, Box::new(flow));
        if !is_passed_on {
            self.meet(&key);
        }
        true
    }

    /// Tells both ends of each other where the other one is in the table, too.
    fn meet(&mut self, key: &FlowKey) {
        let Some(other) = self.peers.added(key) else { return };
        let Some(met) = self.flows.get_mut(&other) else { return };
        if key.slot.is_of_node() {
            met.set_peer(key.slot);
            met.announce(&mut self.sink);
        }
        if other.slot.is_of_node()
            && let Some(flow) = self.flows.get_mut(key)
        {
            flow.set_peer(other.slot);
        }
    }
}

/// A connection ends whose protocol never showed because heads were lost: its exchanges are counted
/// as lost where its server is known to speak a protocol of ours. (If it isn't, nobody can tell
/// whether these were exchanges at all.)
fn settle<P: Default>(flow: &Flow<P>, servers: &mut Servers, collected: &mut Collected) {
    let unsettled = flow.unsettled();
    if unsettled > 0 && servers.is_known(&flow.server_end()) {
        collected.lost(LossReason::RingFull, unsettled);
    }
}

/// Names the transport's part of a key; used where TCP and UDP part ways.
#[cfg(test)]
mod tests;
