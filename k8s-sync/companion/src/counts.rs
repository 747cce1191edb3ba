//! What the fleet counts.

use crate::taking::Uncounted;
use join::Reason;

/// What was taken and what was not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FleetCounts {
    /// Complete pushes.
    pub pushes: u64,
    /// Streams that were refused or ended, by `Reason::index`.
    pub refused: [u64; Reason::ALL.len()],
    /// Connections and streams that said nothing in time.
    pub silent: u64,
    /// Values of series for which there was no room.
    pub no_room: u64,
    /// Values of series that their agent had never named.
    pub unnamed: u64,
    /// Pushes that did not fit the copy.
    pub resyncs: u64,
    /// Values that are none.
    pub unreadable: u64,
    /// Values of series whose workload has pods on other nodes alone.
    pub stranger: u64,
    /// Nodes whose series ended after `KEPT`.
    pub expired: u64,
    /// Findings for which there was no room, at each time that they were told.
    pub findings_no_room: u64,
    /// Findings that are none.
    pub findings_unreadable: u64,
    /// Findings of workloads that have pods on other nodes alone.
    pub findings_stranger: u64,
    /// Values of series of failed requests that were not looked at for loops: too many.
    pub loops_no_room: u64,
}

impl FleetCounts {
    pub(crate) fn add(&mut self, uncounted: &Uncounted) {
        let Uncounted { unreadable, stranger } = uncounted;
        self.unreadable += unreadable;
        self.stranger += stranger;
    }
}
