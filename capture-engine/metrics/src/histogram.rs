//! One storage behind the classic and the native form of a histogram: sparse base-2 exponential buckets at scale 5, which is
//! Prometheus' native schema 5 and OpenTelemetry's exponential scale 5, beside exact counters for the classic boundaries.
//!
//! Values are nanoseconds. A bucket `i` holds values in `(2^((i-1)/32), 2^(i/32)]` seconds, so a quantile read from it is at most
//! 1.1 % off. One thread writes; any number read.

use serde::{Deserialize, Serialize};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// log2 of the number of buckets in an octave: Prometheus calls it schema, OpenTelemetry scale.
pub const SCHEMA: i32 = 5;
const PER_OCTAVE: usize = 1 << SCHEMA;
/// Bounds of the storage as powers of two of a second: 2^-20 s = 0.95 us and 2^12 s = 68 min. What is shorter goes into the zero
/// bucket, what is longer into the last bucket; `sum` stays exact for both.
const FIRST_OCTAVE: i32 = -20;
const LAST_OCTAVE: i32 = 12;
const OCTAVES: usize = (LAST_OCTAVE - FIRST_OCTAVE) as usize;
/// Width of the zero bucket, seconds.
pub const ZERO_THRESHOLD: f64 = 1.0 / (1u64 << 20) as f64;

/// Upper bounds of the classic buckets in nanoseconds with their `le`: OpenTelemetry's advice for HTTP (5 ms to 10 s), continued
/// downwards to 100 us, where services on one node answer.
pub const CLASSIC: [(u64, &str); 19] = [
    (100_000, "0.0001"),
    (250_000, "0.00025"),
    (500_000, "0.0005"),
    (1_000_000, "0.001"),
    (2_500_000, "0.0025"),
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (25_000_000, "0.025"),
    (50_000_000, "0.05"),
    (75_000_000, "0.075"),
    (100_000_000, "0.1"),
    (250_000_000, "0.25"),
    (500_000_000, "0.5"),
    (750_000_000, "0.75"),
    (1_000_000_000, "1.0"),
    (2_500_000_000, "2.5"),
    (5_000_000_000, "5.0"),
    (7_500_000_000, "7.5"),
    (10_000_000_000, "10.0"),
];

/// 2^(j/32): where an octave's buckets end, relative to its start.
#[rustfmt::skip]
const BOUNDS: [f64; PER_OCTAVE + 1] = [
    1.0, 1.0218971486541166, 1.0442737824274138, 1.0671404006768237, 1.0905077326652577,
    1.1143867425958924, 1.1387886347566916, 1.1637248587775775, 1.189207115002721, 1.215247359980469,
    1.241857812073484, 1.2690509571917332, 1.2968395546510096, 1.3252366431597413, 1.3542555469368927,
    1.383909881963832, std::f64::consts::SQRT_2, 1.4451808069770467, 1.4768261459394993, 1.5091644275934228,
    1.5422108254079407, 1.5759808451078865, 1.6104903319492543, 1.645755478153965, 1.681792830507429,
    1.718619298122478, 1.7562521603732995, 1.7947090750031072, 1.8340080864093424, 1.8741676341103,
    1.9152065613971474, 1.9571441241754002, 2.0,
];

/// For each 64th of an octave the first bucket that a value there can be in. The narrowest bucket (1/46 of an octave's
/// start) is wider than 1/64, so that a single comparison settles the rest.
const FIRST_GUESS: [u8; 64] = {
    let mut guess = [0; 64];
    let mut cell = 0;
    while cell < 64 {
        let start = 1.0 + cell as f64 / 64.0;
        let mut j = 0;
        while BOUNDS[j] < start {
            j += 1;
        }
        guess[cell] = j as u8;
        cell += 1;
    }
    guess
};

/// Native bucket of a positive duration.
fn bucket(ns: u64) -> i32 {
    let bits = (ns as f64 / 1e9).to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i32 - 1023;
    let mantissa = bits & ((1 << 52) - 1);
    let fraction = f64::from_bits(mantissa | (1023 << 52));
    let guess = FIRST_GUESS[(mantissa >> 46) as usize];
    let j = i32::from(guess) + i32::from(fraction > BOUNDS[usize::from(guess)]);
    exponent * PER_OCTAVE as i32 + j
}

/// Upper bound of a native bucket, seconds.
fn upper_bound(bucket: i32) -> f64 {
    let octave = bucket.div_euclid(PER_OCTAVE as i32);
    BOUNDS[bucket.rem_euclid(PER_OCTAVE as i32) as usize] * f64::exp2(f64::from(octave))
}

type Octave = Box<[AtomicU64; PER_OCTAVE]>;

/// About 0.7 KiB, and 256 bytes more for each factor of two that its values span.
#[derive(Debug)]
pub struct Histogram {
    sum_ns: AtomicU64,
    zero: AtomicU64,
    classic: [AtomicU64; CLASSIC.len()],
    octaves: [OnceLock<Octave>; OCTAVES],
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram {
            sum_ns: AtomicU64::new(0),
            zero: AtomicU64::new(0),
            classic: [const { AtomicU64::new(0) }; CLASSIC.len()],
            octaves: [const { OnceLock::new() }; OCTAVES],
        }
    }
}

impl Histogram {
    pub fn observe(&self, ns: u64) {
        self.sum_ns.fetch_add(ns, Relaxed);
        let classic = CLASSIC.partition_point(|(bound, _)| *bound < ns);
        if let Some(counter) = self.classic.get(classic) {
            counter.fetch_add(1, Relaxed);
        }
        // Bucket i ends at 2^(i/32), inclusive: the storage's cell 0 is the bucket that begins at 2^FIRST_OCTAVE.
        let cell = bucket(ns.max(1)) - FIRST_OCTAVE * PER_OCTAVE as i32 - 1;
        let Ok(cell) = usize::try_from(cell) else {
            self.zero.fetch_add(1, Relaxed);
            return;
        };
        let cell = cell.min(OCTAVES * PER_OCTAVE - 1);
        self.cell(cell).fetch_add(1, Relaxed);
    }

    /// Adds what another one had counted, exactly.
    pub(crate) fn restore(&self, saved: &HistogramSnapshot) {
        let HistogramSnapshot { sum_ns, count: _, zero, classic, buckets } = saved;
        self.sum_ns.fetch_add(*sum_ns, Relaxed);
        self.zero.fetch_add(*zero, Relaxed);
        let mut below = 0;
        for (cell, cumulated) in self.classic.iter().zip(classic) {
            cell.fetch_add(cumulated.saturating_sub(below), Relaxed);
            below = *cumulated;
        }
        for (index, count) in buckets {
            let cell = index.saturating_sub(FIRST_OCTAVE * PER_OCTAVE as i32 + 1);
            let cell = usize::try_from(cell).unwrap_or(0).min(OCTAVES * PER_OCTAVE - 1);
            self.cell(cell).fetch_add(*count, Relaxed);
        }
    }

    fn cell(&self, cell: usize) -> &AtomicU64 {
        let octave =
            self.octaves[cell / PER_OCTAVE].get_or_init(|| Box::new([const { AtomicU64::new(0) }; PER_OCTAVE]));
        &octave[cell % PER_OCTAVE]
    }

    /// Bytes on the heap and in place.
    #[must_use]
    pub fn memory(&self) -> usize {
        let octaves = self.octaves.iter().filter(|o| o.get().is_some()).count();
        size_of::<Self>() + octaves * size_of::<[AtomicU64; PER_OCTAVE]>()
    }

    #[must_use]
    pub fn snapshot(&self) -> HistogramSnapshot {
        let mut buckets = Vec::new();
        for (octave, cells) in self.octaves.iter().enumerate() {
            let Some(cells) = cells.get() else { continue };
            for (j, cell) in cells.iter().enumerate() {
                let count = cell.load(Relaxed);
                if count > 0 {
                    let index = (FIRST_OCTAVE + octave as i32) * PER_OCTAVE as i32 + j as i32 + 1;
                    buckets.push((index, count));
                }
            }
        }
        let zero = self.zero.load(Relaxed);
        let count = zero + buckets.iter().map(|(_, n)| n).sum::<u64>();
        // The writer is not stopped while we read. The native buckets say how many values there are; the cumulated classic counters,
        // which may be ahead by what came in meanwhile, are held to it, so that each snapshot is consistent in itself.
        let mut sum = 0;
        let classic = std::array::from_fn(|i| {
            sum += self.classic[i].load(Relaxed);
            sum.min(count)
        });
        HistogramSnapshot { sum_ns: self.sum_ns.load(Relaxed), count, zero, classic, buckets }
    }
}

/// A histogram's values at one time. Adds up with others and subtracts an earlier one of the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistogramSnapshot {
    pub sum_ns: u64,
    pub count: u64,
    /// Values up to `ZERO_THRESHOLD`.
    pub zero: u64,
    /// Cumulative counts for `CLASSIC`.
    pub classic: [u64; CLASSIC.len()],
    /// Native buckets that hold something, ascending: (index, count).
    pub buckets: Vec<(i32, u64)>,
}

impl HistogramSnapshot {
    /// The value below which a share of `p` (0 to 1) of all values lies, seconds; `None` when there are no values. At most 1.1 %
    /// off, for values between 1 us and 68 min.
    #[must_use]
    pub fn quantile(&self, p: f64) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        let rank = ((p.clamp(0.0, 1.0) * self.count as f64).ceil() as u64).max(1);
        let mut below = self.zero;
        if rank <= below {
            return Some(ZERO_THRESHOLD / 2.0);
        }
        let last = self.buckets.last();
        let found = self.buckets.iter().find(|(_, count)| {
            below += count;
            rank <= below
        });
        // The geometric middle of a bucket is at most half its width (1.09 %) from any value in it.
        found.or(last).map(|(index, _)| upper_bound(*index) / BOUNDS[1].sqrt())
    }

    pub fn add(&mut self, other: &HistogramSnapshot) {
        let HistogramSnapshot { sum_ns, count, zero, classic, buckets } = other;
        self.sum_ns = self.sum_ns.saturating_add(*sum_ns);
        self.count += count;
        self.zero += zero;
        self.classic.iter_mut().zip(classic).for_each(|(a, b)| *a += b);
        self.buckets = merge(&self.buckets, buckets, |a, b| a + b);
    }

    /// What came in since `earlier`, which must be of the same histograms. Where one of them was replaced by a new one meanwhile,
    /// counts stop at zero.
    #[must_use]
    pub fn since(&self, earlier: &HistogramSnapshot) -> HistogramSnapshot {
        let buckets = merge(&self.buckets, &earlier.buckets, u64::saturating_sub);
        let zero = self.zero.saturating_sub(earlier.zero);
        HistogramSnapshot {
            sum_ns: self.sum_ns.saturating_sub(earlier.sum_ns),
            count: zero + buckets.iter().map(|(_, n)| n).sum::<u64>(),
            zero,
            classic: std::array::from_fn(|i| self.classic[i].saturating_sub(earlier.classic[i])),
            buckets,
        }
    }

    /// The buckets as Prometheus' protobuf wants them: spans of adjacent buckets (offset from the end of the span before, length).
    #[must_use]
    pub fn spans(&self) -> Vec<(i32, u32)> {
        let mut spans: Vec<(i32, u32)> = Vec::new();
        let mut next = 0;
        for (index, _) in &self.buckets {
            match spans.last_mut() {
                Some((_, length)) if *index == next => *length += 1,
                _ => spans.push((index - next, 1)),
            }
            next = index + 1;
        }
        spans
    }
}

/// Joins two ascending lists; results of zero are left out.
fn merge(a: &[(i32, u64)], b: &[(i32, u64)], join: impl Fn(u64, u64) -> u64) -> Vec<(i32, u64)> {
    let mut out = Vec::with_capacity(a.len().max(b.len()));
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    loop {
        let (index, x, y) = match (a.peek(), b.peek()) {
            (None, None) => return out,
            (Some((i, x)), Some((j, y))) if i == j => (*i, *x, *y),
            (Some((i, x)), Some((j, _))) if i < j => (*i, *x, 0),
            (Some((i, x)), None) => (*i, *x, 0),
            (_, Some((j, y))) => (*j, 0, *y),
        };
        if a.peek().is_some_and(|(i, _)| *i == index) {
            a.next();
        }
        if b.peek().is_some_and(|(j, _)| *j == index) {
            b.next();
        }
        let joined = join(x, y);
        if joined > 0 {
            out.push((index, joined));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_table_of_bounds_is_the_powers_of_two_that_it_says() {
        for (j, bound) in BOUNDS.iter().enumerate() {
            let exact = f64::exp2(j as f64 / 32.0);
            assert!((bound - exact).abs() <= f64::EPSILON, "{j}: {bound} {exact}");
        }
    }

    #[test]
    fn a_power_of_two_is_the_last_value_of_its_bucket() {
        assert_eq!(bucket(1_000_000_000), 0);
        assert_eq!(bucket(1_000_000_001), 1);
        assert_eq!(bucket(2_000_000_000), 32);
        assert_eq!(bucket(500_000_000), -32);
    }

    #[test]
    fn values_outside_the_range_are_counted_at_its_ends() {
        let histogram = Histogram::default();
        for ns in [0, 1, 900, u64::MAX / 4] {
            histogram.observe(ns);
        }
        let snapshot = histogram.snapshot();
        assert_eq!((snapshot.zero, snapshot.count), (3, 4));
        assert_eq!(snapshot.buckets, [(LAST_OCTAVE * 32, 1)]);
        assert_eq!(snapshot.sum_ns, 901 + u64::MAX / 4);
    }

    #[test]
    fn an_empty_histogram_has_no_quantile() {
        assert_eq!(Histogram::default().snapshot().quantile(0.5), None);
    }

    #[test]
    fn spans_join_adjacent_buckets() {
        let snapshot = HistogramSnapshot { buckets: vec![(-3, 1), (-2, 4), (5, 2)], ..Default::default() };
        assert_eq!(snapshot.spans(), [(-3, 2), (6, 1)]);
    }

    proptest! {
        #[test]
        fn a_value_lies_within_its_bucket(ns in 1_000u64..4_000_000_000_000) {
            let (index, s) = (bucket(ns), ns as f64 / 1e9);
            prop_assert!(s <= upper_bound(index) * (1.0 + 1e-15) && s > upper_bound(index - 1) * (1.0 - 1e-15), "{ns} {index}");
        }

        #[test]
        fn quantiles_are_within_a_percent_of_the_sorted_values(mut values in prop::collection::vec(1_000u64..3_600_000_000_000, 1..400), p in 0.0f64..=1.0) {
            let histogram = Histogram::default();
            values.iter().for_each(|v| histogram.observe(*v));
            values.sort_unstable();
            let rank = ((p * values.len() as f64).ceil() as usize).max(1);
            let exact = values[rank - 1] as f64 / 1e9;
            let read = histogram.snapshot().quantile(p).unwrap();
            prop_assert!((read / exact - 1.0).abs() <= 0.011, "{read} {exact}");
        }

        #[test]
        fn classic_buckets_are_exact(values in prop::collection::vec(prop_oneof![0u64..20_000_000_000, prop::sample::select(CLASSIC.map(|c| c.0).to_vec())], 0..200)) {
            let histogram = Histogram::default();
            values.iter().for_each(|v| histogram.observe(*v));
            let snapshot = histogram.snapshot();
            for (i, (bound, _)) in CLASSIC.iter().enumerate() {
                prop_assert_eq!(snapshot.classic[i], values.iter().filter(|v| *v <= bound).count() as u64);
            }
        }

        #[test]
        fn a_sum_minus_one_part_is_the_other(a in prop::collection::vec(0u64..1_000_000_000, 0..50), b in prop::collection::vec(0u64..1_000_000_000, 0..50)) {
            let of = |values: &[u64]| { let h = Histogram::default(); values.iter().for_each(|v| h.observe(*v)); h.snapshot() };
            let mut both = of(&a);
            both.add(&of(&b));
            prop_assert_eq!(&both, &of(&[a.as_slice(), b.as_slice()].concat()));
            prop_assert_eq!(both.since(&of(&a)), of(&b));
        }
    }
}
