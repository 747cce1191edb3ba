//! What a histogram had counted at one time. Kept by the thousand, so packed: two or three bytes
//! for a bucket.

use super::cells::{self, CLASSIC, ZERO_THRESHOLD, cells_of, place};
use super::varint;
use crate::proto::{Field, Fields, bytes, uint, unzigzag, zigzag};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A histogram's values at one time. Adds up with others and subtracts an earlier one of the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct HistogramSnapshot {
    /// Sum of all values, nanoseconds.
    pub sum_ns: u64,
    /// Number of values.
    pub count: u64,
    cells: Packed,
}

/// Cells that hold something, ascending: for each the distance from the one before, and its count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Packed(Box<[u8]>);

#[derive(Debug, Default)]
pub(super) struct Packer {
    bytes: Vec<u8>,
    next: usize,
    count: u64,
}

impl Packer {
    /// Cells come in ascending order. Those of zero are left out.
    pub(super) fn push(&mut self, cell: usize, count: u64) {
        if count > 0 {
            varint::push(&mut self.bytes, cell.saturating_sub(self.next) as u64);
            varint::push(&mut self.bytes, count);
            self.next = cell + 1;
            self.count = self.count.saturating_add(count);
        }
    }

    pub(super) fn finish(self, sum_ns: u64) -> HistogramSnapshot {
        HistogramSnapshot { sum_ns, count: self.count, cells: Packed(self.bytes.into_boxed_slice()) }
    }
}

impl HistogramSnapshot {
    /// Cells that hold something, ascending, with their counts.
    pub(super) fn cells(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        let mut rest = &*self.cells.0;
        let mut next = 0;
        std::iter::from_fn(move || {
            let cell = next + usize::try_from(varint::take(&mut rest)?).ok()?;
            next = cell + 1;
            Some((cell, varint::take(&mut rest)?))
        })
    }

    /// Values up to `ZERO_THRESHOLD`.
    #[must_use]
    pub fn zero(&self) -> u64 {
        self.cells().next().filter(|(cell, _)| *cell == 0).map_or(0, |(_, count)| count)
    }

    /// Cumulative counts for `CLASSIC`.
    #[must_use]
    pub fn classic(&self) -> [u64; CLASSIC.len()] {
        let mut counts = [0u64; CLASSIC.len()];
        for (cell, count) in self.cells() {
            if let Some(sum) = counts.get_mut(place(cell).classic) {
                *sum = sum.saturating_add(count);
            }
        }
        let mut below: u64 = 0;
        counts.map(|count| {
            below = below.saturating_add(count);
            below
        })
    }

    /// Native buckets that hold something, ascending: (index, count).
    #[must_use]
    pub fn buckets(&self) -> Vec<(i32, u64)> {
        let mut buckets: Vec<(i32, u64)> = Vec::new();
        for (cell, count) in self.cells() {
            match (place(cell).native, buckets.last_mut()) {
                (Some(index), Some((last, sum))) if index == *last => *sum += count,
                (Some(index), _) => buckets.push((index, count)),
                (None, _) => {}
            }
        }
        buckets
    }

    /// For another process: `sum_ns` = 1, zero bucket = 2, native buckets = 3 (distance from the one
    /// before, count, ..), classic buckets = 4, not cumulative. What both kinds say, as in files.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let mut packed = Vec::new();
        let mut before = 0;
        uint(out, 1, self.sum_ns);
        uint(out, 2, self.zero());
        for (index, count) in self.buckets() {
            varint::push(&mut packed, zigzag(i64::from(index) - before));
            varint::push(&mut packed, count);
            before = i64::from(index);
        }
        bytes(out, 3, &packed);
        packed.clear();
        let mut below = 0;
        for cumulated in self.classic() {
            varint::push(&mut packed, cumulated - below);
            below = cumulated;
        }
        bytes(out, 4, &packed);
    }

    /// `None` for what nobody wrote. Fields of a later version are passed over.
    pub(crate) fn read(message: &[u8]) -> Option<HistogramSnapshot> {
        let mut stored = Stored { sum_ns: 0, count: 0, zero: 0, classic: [0; CLASSIC.len()], buckets: Vec::new() };
        for field in Fields(message) {
            match field? {
                (1, Field::Uint(sum_ns)) => stored.sum_ns = sum_ns,
                (2, Field::Uint(zero)) => stored.zero = zero,
                (3, Field::Bytes(mut packed)) => {
                    let mut index = 0_i64;
                    while !packed.is_empty() {
                        index = index.saturating_add(unzigzag(varint::take(&mut packed)?));
                        stored.buckets.push((i32::try_from(index).ok()?, varint::take(&mut packed)?));
                    }
                }
                (4, Field::Bytes(mut packed)) => {
                    let mut below = 0_u64;
                    for cumulated in &mut stored.classic {
                        below = below.saturating_add(varint::take(&mut packed)?);
                        *cumulated = below;
                    }
                }
                _ => {}
            }
        }
        Some(stored.into())
    }

    /// The value below which a share of `p` (0 to 1) of all values lies, seconds; `None` when there
    /// are no values. At most 1.1 % off, for values between 1 us and 68 min.
    #[must_use]
    pub fn quantile(&self, p: f64) -> Option<f64> {
        let rank = ((p.clamp(0.0, 1.0) * self.count as f64).ceil() as u64).max(1);
        let mut below = 0u64;
        let mut found = None;
        for (cell, count) in self.cells() {
            below = below.saturating_add(count);
            found = Some(cell);
            if rank <= below {
                break;
            }
        }
        found.map(|cell| place(cell).native.map_or(ZERO_THRESHOLD / 2.0, cells::middle))
    }

    /// Adds the values of `other`. Counts saturate.
    pub fn add(&mut self, other: &HistogramSnapshot) {
        *self = self.joined(other, u64::saturating_add, self.sum_ns.saturating_add(other.sum_ns));
    }

    /// What came in since `earlier`, which must be of the same histograms. Where one of them was
    /// replaced by a new one meanwhile, counts stop at zero.
    #[must_use]
    pub fn since(&self, earlier: &HistogramSnapshot) -> HistogramSnapshot {
        self.joined(earlier, u64::saturating_sub, self.sum_ns.saturating_sub(earlier.sum_ns))
    }

    fn joined(&self, other: &HistogramSnapshot, join: fn(u64, u64) -> u64, sum_ns: u64) -> HistogramSnapshot {
        let mut packer = Packer::default();
        let (mut mine, mut theirs) = (self.cells().peekable(), other.cells().peekable());
        while let Some(cell) = [mine.peek(), theirs.peek()].into_iter().flatten().map(|(cell, _)| *cell).min() {
            let of = |next: Option<(usize, u64)>| next.map_or(0, |(_, count)| count);
            let a = of(mine.next_if(|(at, _)| *at == cell));
            let b = of(theirs.next_if(|(at, _)| *at == cell));
            packer.push(cell, join(a, b));
        }
        packer.finish(sum_ns)
    }
}

/// Spans of adjacent buckets (offset from the end of the span before, length), as Prometheus'
/// protobuf wants them.
pub(crate) fn spans(buckets: &[(i32, u64)]) -> Vec<(i32, u32)> {
    let mut spans: Vec<(i32, u32)> = Vec::new();
    let mut next = 0;
    for (index, _) in buckets {
        match spans.last_mut() {
            Some((_, length)) if *index == next => *length += 1,
            _ => spans.push((index - next, 1)),
        }
        next = index + 1;
    }
    spans
}

/// The form in files: what both kinds of buckets say, and nothing of how they are kept here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stored {
    sum_ns: u64,
    count: u64,
    zero: u64,
    classic: [u64; CLASSIC.len()],
    buckets: Vec<(i32, u64)>,
}

impl From<HistogramSnapshot> for Stored {
    fn from(snapshot: HistogramSnapshot) -> Stored {
        let HistogramSnapshot { sum_ns, count, cells: _ } = snapshot;
        Stored { sum_ns, count, zero: snapshot.zero(), classic: snapshot.classic(), buckets: snapshot.buckets() }
    }
}

impl From<Stored> for HistogramSnapshot {
    /// A bucket that a classic bound cuts in two is cut as the cumulated counts say.
    fn from(stored: Stored) -> HistogramSnapshot {
        let Stored { sum_ns, count: _, zero, classic, mut buckets } = stored;
        buckets.sort_unstable();
        let mut cells = BTreeMap::from([(0, zero)]);
        let mut add = |cell, count: u64| {
            let sum: &mut u64 = cells.entry(cell).or_default();
            *sum = sum.saturating_add(count);
        };
        let mut below = zero;
        for (index, count) in buckets {
            let (first, cut) = cells_of(index);
            let lower =
                cut.and_then(|bound| classic.get(bound)).map_or(count, |up_to| up_to.saturating_sub(below).min(count));
            add(first, lower);
            add(first + 1, count - lower);
            below = below.saturating_add(count);
        }
        let mut packer = Packer::default();
        cells.into_iter().for_each(|(cell, count)| packer.push(cell, count));
        packer.finish(sum_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(zero: u64, classic: [u64; CLASSIC.len()], buckets: &[(i32, u64)]) -> Stored {
        Stored { sum_ns: 9, count: 0, zero, classic, buckets: buckets.to_vec() }
    }

    #[test]
    fn spans_join_adjacent_buckets() {
        assert_eq!(spans(&[(-3, 1), (-2, 4), (5, 2)]), [(-3, 2), (6, 1)]);
    }

    // The form in the state file of every version so far.
    #[test]
    fn a_file_has_both_kinds_of_buckets() {
        let snapshot = HistogramSnapshot::from(stored(1, [1; CLASSIC.len()], &[(384, 2)]));
        let zeros = vec!["1"; CLASSIC.len()].join(",");
        let text = format!("{{\"sum_ns\":9,\"count\":3,\"zero\":1,\"classic\":[{zeros}],\"buckets\":[[384,2]]}}");
        assert_eq!(serde_json::to_string(&snapshot).unwrap(), text);
        assert_eq!(serde_json::from_str::<HistogramSnapshot>(&text).unwrap(), snapshot);
    }

    #[test]
    fn a_file_that_nobody_wrote_loses_no_value() {
        let odd = [(i32::MIN, 1), (i32::MAX, 2), (-100, 3), (-100, 4), (7, u64::MAX)];
        for classic in [[0; CLASSIC.len()], [u64::MAX; CLASSIC.len()]] {
            let snapshot = HistogramSnapshot::from(stored(u64::MAX, classic, &odd));
            assert_eq!(snapshot.count, u64::MAX);
            assert_eq!(snapshot.buckets(), [(-639, 1), (-100, 7), (7, u64::MAX), (384, 2)]);
            assert!(snapshot.quantile(0.5).is_some() && snapshot.classic()[18] == u64::MAX);
        }
    }
}
