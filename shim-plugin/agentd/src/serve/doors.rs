//! What the admin address and the socket count of those who come.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[derive(Debug, Default)]
pub struct Doors {
    pub evicted: AtomicU64,
    pub late: AtomicU64,
    pub refused: AtomicU64,
    pub no_descriptor: AtomicU64,
}

/// Since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DoorCounts {
    /// Connections that had to make room for another.
    pub evicted: u64,
    /// Answers that were not read in time.
    pub late: u64,
    /// Requests that were told to come again.
    pub refused: u64,
    /// Times that there was no descriptor left for a connection.
    pub no_descriptor: u64,
}

impl Doors {
    #[must_use]
    pub fn counts(&self) -> DoorCounts {
        let Doors { evicted, late, refused, no_descriptor } = self;
        let [evicted, late, refused, no_descriptor] =
            [evicted, late, refused, no_descriptor].map(|counter| counter.load(Relaxed));
        DoorCounts { evicted, late, refused, no_descriptor }
    }
}
