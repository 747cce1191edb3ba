//! What an agent counts of its pushes.

/// What became of pushes, since the link was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PushCounts {
    /// Attempts to reach the companion.
    pub dials: u64,
    /// Pushes that began.
    pub begun: u64,
    /// Of these, those that arrived in full, as the companion says.
    pub answered: u64,
    /// Of these, those whose stream was cut; what they told goes with the next one.
    pub cut: u64,
    /// Of these, those that did not fit what the companion had; everything was sent again.
    pub resyncs: u64,
    /// Streams that the companion refused.
    pub refused: u64,
}

impl std::ops::AddAssign for PushCounts {
    fn add_assign(&mut self, other: PushCounts) {
        let PushCounts { dials, begun, answered, cut, resyncs, refused } = other;
        self.dials += dials;
        self.begun += begun;
        self.answered += answered;
        self.cut += cut;
        self.resyncs += resyncs;
        self.refused += refused;
    }
}
