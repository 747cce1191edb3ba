//! Connections that were open before anything was seen of them, and have been silent since.

use super::Pipeline;
use super::flow::SEEDED;
use flow_model::Sink;

impl<S: Sink> Pipeline<S> {
    /// Tells the sink again of every connection that is known by a seed only: the kernel's table
    /// does not have it, so no sample brings it up, and what it is called may have become known. A
    /// walk over the table: 65,000 flows take a millisecond.
    pub fn announce_again(&mut self) {
        let Pipeline { flows, sink, .. } = self;
        flows.values_mut().filter(|flow| flow.id() == SEEDED).for_each(|flow| flow.announce(sink));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::PipelineConfig;
    use flow_model::{
        Endpoint, FiveTuple, FlowDelta, FlowInfo, FlowSeed, L7Record, LossReason, Role, Slot, Transport, Ts,
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
}
