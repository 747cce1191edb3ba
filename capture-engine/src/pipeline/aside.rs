//! Ends that lie aside, and flows that wait for one: see `late`.

use super::flow::Flow;
use crate::event::{FlowId, FlowKey, Sample};
use flow_model::Ts;
use hashbrown::HashMap;
use std::collections::VecDeque;

/// Ends that wait at most. With more the kernel keeps them, and where it has no room either, the
/// connection that would have the place gets none.
pub(super) const MOST: usize = 16_384;

/// An instance of a flow.
pub(super) type Instance = (FlowKey, FlowId);

#[derive(Debug)]
pub(super) struct Aside<P> {
    /// In the order in which they were taken, with the place in the ring before which something of them may come.
    pub waiting: VecDeque<(u64, Instance)>,
    /// Those that no other word has come of.
    pub ends: HashMap<Instance, Sample, foldhash::fast::RandomState>,
    /// Flows whose ends may lie aside, and when the next connection was seen.
    pub replaced: Vec<(Ts, Box<Flow<P>>)>,
}

impl<P> Default for Aside<P> {
    fn default() -> Self {
        Aside { waiting: VecDeque::new(), ends: HashMap::default(), replaced: Vec::new() }
    }
}
