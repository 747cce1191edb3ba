//! What is kept for the next process, by name.

use super::raw::Raw;
use super::row::Row;
use std::collections::BTreeMap;

/// What is kept of another version's counts: 10,000 series of one family, and then some. What does
/// not fit is counted.
pub(super) const FOREIGN_BYTES: usize = 16 << 20;
/// Counts by reporter and by protocol or reason.
pub(super) type ByName = BTreeMap<String, BTreeMap<String, u64>>;

/// All counters and histograms of a process, as its successor takes them over.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// By family; "tcp" and "udp" are two of them.
    pub(super) series: BTreeMap<String, Vec<Row>>,
    pub(super) exchanges: ByName,
    pub(super) lost: ByName,
    pub(super) expired: u64,
    /// (stage, reason, total)
    pub(super) losses: Vec<(String, String, u64)>,
    /// Fields that this version does not know.
    pub(super) rest: BTreeMap<String, Raw>,
    /// Rows and fields that are in `FOREIGN_BYTES` no more.
    pub(super) dropped: u64,
}

/// What this version cannot show and hands on.
#[derive(Debug, Default)]
pub(crate) struct Foreign {
    pub(super) series: BTreeMap<String, Vec<Raw>>,
    pub(super) exchanges: ByName,
    pub(super) lost: ByName,
    pub(super) rest: BTreeMap<String, Raw>,
}

impl Saved {
    /// Series of all families that this version knows.
    #[must_use]
    pub fn series(&self) -> usize {
        self.series.values().flatten().filter(|row| !matches!(row, Row::Foreign(_))).count()
    }
}
