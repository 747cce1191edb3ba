//! One storage behind the classic and the native form of a histogram: sparse base-2 exponential
//! buckets at scale 5, which is Prometheus' native schema 5 and OpenTelemetry's exponential scale
//! 5, cut once more at the classic boundaries.
//!
//! Values are nanoseconds. A bucket `i` holds values in `(2^((i-1)/32), 2^(i/32)]` seconds, so a
//! quantile read from it is at most 1.1 % off. One thread writes; any number read.

mod cells;
mod snapshot;
mod store;
pub(crate) mod varint;

pub use cells::{CLASSIC, SCHEMA, ZERO_THRESHOLD};
pub use snapshot::HistogramSnapshot;
pub(crate) use snapshot::spans;

use snapshot::Packer;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};
use store::{BLOCKS, Store};

/// 288 bytes, and 32 more for each half octave that its values span beyond the first four. A
/// counter that has counted 65,535 values goes on in a wider one.
#[derive(Debug, Default)]
pub struct Histogram {
    sum_ns: AtomicU64,
    narrow: Store<AtomicU16>,
    wide: OnceLock<Box<Wide>>,
}

/// What the narrow counters could not hold. They stay as they are when they are full: a value is
/// the sum of the three.
#[derive(Debug, Default)]
struct Wide {
    counters: Store<AtomicU32>,
    widest: OnceLock<Box<Store<AtomicU64>>>,
}

impl Histogram {
    /// To be called by one thread at a time.
    pub fn observe(&self, ns: u64) {
        self.add_to_sum(ns);
        self.add(cells::cell(ns), 1);
    }

    /// Adds what another one had counted, exactly.
    pub(crate) fn restore(&self, saved: &HistogramSnapshot) {
        self.add_to_sum(saved.sum_ns);
        saved.cells().for_each(|(cell, count)| self.add(cell, count));
    }

    fn add_to_sum(&self, ns: u64) {
        // Only one thread writes: no need to lock the bus for it.
        self.sum_ns.store(self.sum_ns.load(Relaxed).wrapping_add(ns), Relaxed);
    }

    fn add(&self, cell: usize, count: u64) {
        let rest = self.narrow.add(cell, count);
        if rest > 0 {
            let wide = self.wide.get_or_init(Box::default);
            let rest = wide.counters.add(cell, rest);
            if rest > 0 {
                wide.widest.get_or_init(Box::default).add(cell, rest);
            }
        }
    }

    /// Bytes on the heap and in place.
    #[must_use]
    pub fn memory(&self) -> usize {
        let wide = self.wide.get().map_or(0, |wide| {
            let widest = wide.widest.get().map_or(0, |widest| size_of_val(&**widest) + widest.heap());
            size_of::<Wide>() + wide.counters.heap() + widest
        });
        size_of::<Self>() + self.narrow.heap() + wide
    }

    /// The writer is not stopped meanwhile; what it adds is in this one or in the next. `count` and
    /// both kinds of buckets are made of the same counters, so they agree.
    #[must_use]
    pub fn snapshot(&self) -> HistogramSnapshot {
        let mut packer = Packer::default();
        let wide = self.wide.get();
        let widest = wide.and_then(|wide| wide.widest.get());
        for place in 0..BLOCKS {
            let Some(narrow) = self.narrow.block(place) else { continue };
            let wide = wide.and_then(|wide| wide.counters.block(place));
            let widest = widest.and_then(|widest| widest.block(place));
            for (i, counter) in narrow.iter().enumerate() {
                let mut count = u64::from(counter.load(Relaxed));
                if let Some(more) = wide.and_then(|block| block.get(i)) {
                    count += u64::from(more.load(Relaxed));
                }
                if let Some(more) = widest.and_then(|block| block.get(i)) {
                    count = count.saturating_add(more.load(Relaxed));
                }
                packer.push(place * narrow.len() + i, count);
            }
        }
        packer.finish(self.sum_ns.load(Relaxed))
    }
}

#[cfg(test)]
mod tests;
