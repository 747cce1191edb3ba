/// Why an exchange that took place was not counted. Closed set: it is a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LossReason {
    /// The kernel had no room in the ring for the head of one of its messages.
    RingFull,
    /// Bytes that the dissector needed were not seen (dropped by the capture, cut by the snaplen).
    Gap,
    /// The flow ended, or its namespace went, before the response did.
    Unfinished,
    /// The connection was joined in the middle of this exchange.
    JoinedMidway,
    /// A bound was reached: open exchanges per flow, flows in the table.
    Limit,
}

impl LossReason {
    /// Each reason once, at its `index`.
    pub const ALL: [LossReason; 5] =
        [LossReason::RingFull, LossReason::Gap, LossReason::Unfinished, LossReason::JoinedMidway, LossReason::Limit];

    /// Its place in `ALL`, and in every array that has a cell for each reason.
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }

    /// The label value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            LossReason::RingFull => "ring_full",
            LossReason::Gap => "gap",
            LossReason::Unfinished => "unfinished",
            LossReason::JoinedMidway => "joined_midway",
            LossReason::Limit => "limit",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::LossReason;

    #[test]
    fn the_index_of_a_reason_is_its_place_in_the_list() {
        assert_eq!(LossReason::ALL.map(LossReason::index), std::array::from_fn(|i| i));
    }
}
