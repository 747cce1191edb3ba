use crate::{FlowDelta, FlowInfo, L7Record, LossReason};

/// Where the capture engine puts what it found. Called on the pipeline's thread for every exchange,
/// so it must not block, lock for long, or do I/O.
pub trait Sink {
    /// What the sink keeps of a flow between calls: resolved names, handles of series. Lives and dies with the flow.
    type PerFlow: Default;

    /// One exchange is over. Called exactly once for each that is counted.
    fn exchange(&mut self, flow: &FlowInfo, cache: &mut Self::PerFlow, record: &L7Record);

    /// `count` exchanges of this flow took place and will never be reported.
    fn exchanges_lost(&mut self, flow: &FlowInfo, cache: &mut Self::PerFlow, reason: LossReason, count: u64);

    /// What the flow's packets did since the last call. UDP flows report packets and bytes here too.
    fn flow(&mut self, flow: &FlowInfo, cache: &mut Self::PerFlow, delta: &FlowDelta);
}
