//! Ends that the ring refused and that the kernel put aside, since their flows' places were other
//! connections' by then: nothing else tells of them.
//!
//! There is no order between them and the ring. So an end waits until the ring has been read as far as
//! it was filled when the end was taken: by then all that was told of its flow has been handed over. And
//! a flow whose addresses and ports turn out to be in use again, without an end, waits until all that
//! lies aside has been taken: its end was put there before anything of the next connection was told.

use super::Pipeline;
use super::aside::MOST;
use super::flow::Flow;
use super::requests::Word;
use crate::event::{FlowKey, Sample};
use flow_model::{Close, Sink, Ts};

impl<S: Sink> Pipeline<S> {
    /// How many ends there is room for.
    #[must_use]
    pub fn room_aside(&self) -> usize {
        MOST.saturating_sub(self.aside.waiting.len())
    }

    /// An end that lay aside. `written`: how far the ring may have been filled by then
    /// ([`crate::kernel::RingReader::written`]).
    pub fn put_aside(&mut self, end: &Sample, written: u64) {
        let instance = (end.key, end.id);
        self.aside.waiting.push_back((written, instance));
        self.aside.ends.insert(instance, *end);
    }

    /// Tells what can be told by now of ends that lay aside. `read` is how far the ring has been read;
    /// `all`: whether none is left that the kernel put aside before this.
    pub fn settle_aside(&mut self, read: u64, all: bool) {
        if all {
            for (at, flow) in std::mem::take(&mut self.aside.replaced) {
                match self.aside.ends.remove(&(flow.key(), flow.id())) {
                    Some(end) => self.settle_last(flow, &end, Word::Ring),
                    None => self.end_flow(flow, at, Close::Gone),
                }
            }
        }
        while self.aside.waiting.front().is_some_and(|(until, _)| *until <= read) {
            let end = self.aside.waiting.pop_front().and_then(|(_, instance)| self.aside.ends.remove(&instance));
            if let Some(end) = end {
                self.told_late(&end);
            }
        }
    }

    /// The addresses and ports of a flow are in use again, and its end was not handed over.
    pub(super) fn replaced(&mut self, key: &FlowKey, at: Ts) {
        let Some(flow) = self.flows.remove(key) else { return };
        self.peers.removed(key);
        if let Some(end) = self.aside.ends.remove(&(*key, flow.id())) {
            self.settle_last(flow, &end, Word::Ring);
        } else if self.config.has_aside && self.aside.replaced.len() < self.config.flows {
            self.aside.replaced.push((at, flow));
        } else {
            self.end_flow(flow, at, Close::Gone);
        }
    }

    /// The source has ended: nothing more comes.
    pub(super) fn finish_aside(&mut self) {
        self.settle_aside(u64::MAX, true);
    }

    /// All of its flow that the ring has was handed over.
    fn told_late(&mut self, end: &Sample) {
        let Sample { key, id, at, role, joined_midway, .. } = *end;
        if self.requests.is_told(&key, id) {
            self.stats.stale += 1;
            return;
        }
        if self.flows.get(&key).is_some_and(|flow| flow.id() == id || flow.is_seeded()) {
            return self.settled(end, Word::Ring);
        }
        // All that there was of it was refused. It needs no place in the table, which may be the next one's.
        if joined_midway && self.requests.over_before(&key, id, at) {
            self.stats.stale += 1;
            return;
        }
        self.stats.flows_opened += 1;
        let part = self.judge(&key, id);
        let flow = Flow::new(key, id, role, joined_midway, at, &self.config.l7).with_part(part);
        self.settle_last(Box::new(flow), end, Word::Ring);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Counters, Event, FlowId, Segment};
    use crate::pipeline::PipelineConfig;
    use flow_model::{
        Direction, Endpoint, FiveTuple, FlowDelta, FlowInfo, L7Record, LossReason, Role, Slot, Transport,
    };
    use std::time::Duration;

    /// Exchanges counted and lost, and ends.
    #[derive(Debug, Default, PartialEq, Eq)]
    struct Told([u64; 3]);

    impl Sink for Told {
        type PerFlow = ();

        fn exchange(&mut self, _: &FlowInfo, (): &mut (), _: &L7Record) {
            self.0[0] += 1;
        }

        fn exchanges_lost(&mut self, _: &FlowInfo, (): &mut (), _: LossReason, count: u64) {
            self.0[1] += count;
        }

        fn flow(&mut self, _: &FlowInfo, (): &mut (), delta: &FlowDelta) {
            self.0[2] += u64::from(delta.closed.is_some());
        }
    }

    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

    fn key(port: u16) -> FlowKey {
        let end = |last, port| Endpoint { ip: [10, 0, 0, last].into(), port };
        let tuple = FiveTuple { transport: Transport::Tcp, local: end(1, port), remote: end(2, 80) };
        FlowKey { slot: Slot(1), tuple }
    }

    fn says(pipeline: &mut Pipeline<Told>, port: u16, id: u64, turn: u32) {
        let (dir, payload) = if turn % 2 == 1 { (Direction::Egress, GET) } else { (Direction::Ingress, OK) };
        pipeline.event(&Event::Segment(Segment {
            key: key(port),
            id: FlowId(id),
            role: Role::Client,
            joined_midway: false,
            transport: Transport::Tcp,
            dir,
            at: Ts(id),
            seq: 1 + (turn - 1) / 2 * payload.len() as u32,
            turn,
            wire_len: payload.len() as u32,
            first: true,
            prev: None,
            payload,
            acked: None,
            walked: l7::Walked::default(),
        }));
    }

    fn ended(port: u16, id: u64, turns: u32) -> Sample {
        Sample {
            key: key(port),
            id: FlowId(id),
            at: Ts(id + 1),
            role: Role::Client,
            joined_midway: false,
            established: true,
            counters: Counters::default(),
            turns,
            message: None,
            closed: Some(Close::Fin),
            half_closed: false,
        }
    }

    /// Of a server that is known.
    fn pipeline() -> Pipeline<Told> {
        let config = PipelineConfig { has_aside: true, ..PipelineConfig::default() };
        let mut pipeline = Pipeline::new(config, Told::default());
        says(&mut pipeline, 1, 1, 1);
        says(&mut pipeline, 1, 1, 2);
        pipeline.event(&Event::Closed(ended(1, 1, 2)));
        assert_eq!(take(&mut pipeline), [1, 0, 1]);
        pipeline
    }

    fn take(pipeline: &mut Pipeline<Told>) -> [u64; 3] {
        std::mem::take(pipeline.sink_mut()).0
    }

    #[test]
    fn an_end_from_aside_waits_for_what_the_ring_has_of_its_flow() {
        let mut pipeline = pipeline();
        says(&mut pipeline, 2, 10, 1);
        pipeline.put_aside(&ended(2, 10, 4), 100);
        pipeline.settle_aside(99, true);
        assert_eq!(take(&mut pipeline), [0; 3]);
        says(&mut pipeline, 2, 10, 2);
        pipeline.settle_aside(100, true);
        assert_eq!(take(&mut pipeline), [1, 1, 1], "the second was refused");
        assert!(pipeline.is_empty());
        // Another word on it comes late.
        pipeline.sample(&ended(2, 10, 4), Ts(u64::MAX));
        assert_eq!(take(&mut pipeline), [0; 3]);
    }

    #[test]
    fn a_flow_whose_place_is_taken_waits_for_its_end_from_aside() {
        for lies_there in [false, true] {
            let mut pipeline = pipeline();
            says(&mut pipeline, 2, 10, 1);
            says(&mut pipeline, 2, 10, 2);
            if lies_there {
                pipeline.put_aside(&ended(2, 10, 4), 100);
            }
            says(&mut pipeline, 2, 20, 1);
            if !lies_there {
                pipeline.settle_aside(0, false);
                assert_eq!(take(&mut pipeline), [1, 0, 0], "more may lie aside");
                pipeline.put_aside(&ended(2, 10, 4), 100);
                pipeline.settle_aside(0, true);
                assert_eq!(take(&mut pipeline), [0, 1, 1]);
            } else {
                assert_eq!(take(&mut pipeline), [1, 1, 1], "at once");
            }
            says(&mut pipeline, 2, 20, 2);
            pipeline.event(&Event::Closed(ended(2, 20, 2)));
            pipeline.settle_aside(100, true);
            assert_eq!(take(&mut pipeline), [1, 0, 1]);
        }
    }

    #[test]
    fn a_flow_whose_end_lies_nowhere_ends_when_all_has_been_taken() {
        let mut pipeline = pipeline();
        says(&mut pipeline, 2, 10, 1);
        says(&mut pipeline, 2, 20, 1);
        assert_eq!(take(&mut pipeline), [0; 3]);
        pipeline.settle_aside(0, true);
        assert_eq!(take(&mut pipeline), [0, 1, 1], "nobody knows whether it was answered");
    }

    #[test]
    fn of_what_nothing_was_handed_over_an_end_from_aside_tells_once_whatever_came_after_it() {
        let mut pipeline = pipeline();
        // The next one has come and gone.
        says(&mut pipeline, 2, 20, 1);
        says(&mut pipeline, 2, 20, 2);
        pipeline.event(&Event::Closed(ended(2, 20, 2)));
        take(&mut pipeline);
        pipeline.put_aside(&ended(2, 10, 6), 100);
        pipeline.settle_aside(100, true);
        assert_eq!(take(&mut pipeline), [0, 3, 1]);
        assert!(pipeline.requests().is_closed_recently(&key(2)), "the newest is what is remembered");
        assert!(pipeline.requests().closed_recently(&key(2), FlowId(20)));
        // A round told of it.
        pipeline.sample(&ended(3, 10, 2), Ts(Duration::from_secs(1).as_nanos() as u64));
        assert_eq!(take(&mut pipeline), [0, 1, 1]);
        says(&mut pipeline, 3, 20, 1);
        pipeline.event(&Event::Closed(ended(3, 20, 1)));
        take(&mut pipeline);
        pipeline.put_aside(&ended(3, 10, 2), 100);
        pipeline.settle_aside(100, true);
        assert_eq!(take(&mut pipeline), [0; 3], "it was told");
    }

    #[test]
    fn ends_that_wait_have_a_bound_and_an_end_of_the_source_tells_of_all() {
        let mut pipeline = pipeline();
        for port in 0..MOST as u64 {
            pipeline.put_aside(&ended(port as u16, 100 + port, 2), 100);
        }
        assert_eq!(pipeline.room_aside(), 0);
        pipeline.finish(Ts(1));
        assert_eq!(take(&mut pipeline), [0, MOST as u64, MOST as u64]);
        assert_eq!(pipeline.room_aside(), MOST);
    }
}
