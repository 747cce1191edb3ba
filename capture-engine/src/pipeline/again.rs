//! Connections that were open before anything was seen of them, and have been silent since.

use super::Pipeline;
use super::flow::SEEDED;
use crate::event::FlowKey;
use flow_model::{Close, FiveTuple, Sink, Slot, Ts};

impl<S: Sink> Pipeline<S> {
    /// Tells the sink again of every connection that is known by a seed only: the kernel's table
    /// does not have it, so no sample brings it up, and what it is called may have become known. A
    /// walk over the table: 65,000 flows take a millisecond.
    pub fn announce_again(&mut self) {
        let Pipeline { flows, sink, .. } = self;
        flows.values_mut().filter(|flow| flow.id() == SEEDED).for_each(|flow| flow.announce(sink));
    }

    /// All of these connections, for somebody who looks whether they are still there: the kernel's
    /// programs keep no flow whose first packet is a FIN, so nothing else tells when one closes. A
    /// walk over the table, as above.
    pub fn silent(&self) -> Vec<(Slot, FiveTuple)> {
        self.flows
            .values()
            .filter(|flow| flow.id() == SEEDED)
            .map(|flow| flow.key())
            .map(|key| (key.slot, key.tuple))
            .collect()
    }

    /// This connection was no longer there at `at`. One that was seen since then has an end of its own.
    pub fn ended_unseen(&mut self, slot: Slot, tuple: FiveTuple, at: Ts) {
        let key = FlowKey { slot, tuple };
        if self.flows.get(&key).is_some_and(|flow| flow.id() == SEEDED) {
            self.end(&key, at, Close::Gone);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, FlowId, Segment};
    use crate::pipeline::PipelineConfig;
    use flow_model::{
        Direction, Endpoint, FiveTuple, FlowDelta, FlowInfo, FlowSeed, L7Record, LossReason, Role, Slot, Transport, Ts,
    };

    #[derive(Default)]
    struct Told(Vec<(u16, FlowDelta)>);

    impl Sink for Told {
        type PerFlow = ();

        fn exchange(&mut self, _: &FlowInfo, (): &mut (), _: &L7Record) {}

        fn exchanges_lost(&mut self, _: &FlowInfo, (): &mut (), _: LossReason, _: u64) {}

        fn flow(&mut self, flow: &FlowInfo, (): &mut (), delta: &FlowDelta) {
            self.0.push((flow.tuple.local.port, *delta));
        }
    }

    #[test]
    fn a_silent_connection_from_before_is_brought_up_again_and_nothing_is_counted_of_it() {
        let mut pipeline = Pipeline::new(PipelineConfig::default(), Told::default());
        let end = |last, port| Endpoint { ip: [10, 0, 0, last].into(), port };
        let tuple = FiveTuple { transport: Transport::Tcp, local: end(1, 40_000), remote: end(2, 80) };
        pipeline.seed(&FlowSeed { slot: Slot(1), tuple, role: Role::Client, pid: 0 }, Ts(5));
        pipeline.announce_again();
        assert_eq!(pipeline.sink().0, [(40_000, FlowDelta::default()), (40_000, FlowDelta::default())]);
    }

    #[test]
    fn a_silent_connection_from_before_ends_when_it_is_no_longer_there_and_one_that_spoke_does_not() {
        let mut pipeline = Pipeline::new(PipelineConfig::default(), Told::default());
        let end = |last, port| Endpoint { ip: [10, 0, 0, last].into(), port };
        let tuple = |port| FiveTuple { transport: Transport::Tcp, local: end(1, port), remote: end(2, 80) };
        for port in [1, 2, 3] {
            let seed = FlowSeed { slot: Slot(1), tuple: tuple(port), role: Role::Client, pid: 0 };
            pipeline.seed(&seed, Ts(5));
        }
        pipeline.event(&Event::Segment(Segment {
            key: FlowKey { slot: Slot(1), tuple: tuple(2) },
            id: FlowId(7),
            role: Role::Unknown,
            joined_midway: true,
            transport: Transport::Tcp,
            dir: Direction::Egress,
            at: Ts(7),
            seq: 1,
            turn: 1,
            wire_len: 4,
            first: true,
            prev: None,
            payload: b"PING",
            acked: None,
            walked: l7::Walked::default(),
        }));
        let mut silent: Vec<u16> = pipeline.silent().iter().map(|(_, tuple)| tuple.local.port).collect();
        silent.sort_unstable();
        assert_eq!(silent, [1, 3]);
        pipeline.sink_mut().0.clear();
        // Read before the second one spoke; and it takes no harm if it comes twice.
        for port in [1, 2, 2, 1] {
            pipeline.ended_unseen(Slot(1), tuple(port), Ts(9));
        }
        let gone = FlowDelta { closed: Some(Close::Gone), ..FlowDelta::default() };
        assert_eq!(pipeline.sink().0, [(1, gone)]);
        assert_eq!((pipeline.len(), pipeline.silent().len()), (2, 1));
    }
}
