//! Which values share a counter, and where its buckets begin and end.
//!
//! The native buckets and the classic ones cut the same values in two ways. A cell is a piece that
//! neither cuts: so one counter serves both, and each is exact.

/// log2 of the number of buckets in an octave: Prometheus calls it schema, OpenTelemetry scale.
pub const SCHEMA: i32 = 5;
const PER_OCTAVE: usize = 1 << SCHEMA;
/// Bounds of the storage as powers of two of a second: 2^-20 s = 0.95 us and 2^12 s = 68 min. What
/// is shorter goes into the zero bucket, what is longer into the last bucket; `sum` stays exact for
/// both.
const FIRST_OCTAVE: i32 = -20;
const LAST_OCTAVE: i32 = 12;
/// Native buckets of the storage.
const NATIVE: i32 = (LAST_OCTAVE - FIRST_OCTAVE) * PER_OCTAVE as i32;
/// Width of the zero bucket, seconds.
pub const ZERO_THRESHOLD: f64 = 1.0 / (1u64 << 20) as f64;

/// Upper bounds of the classic buckets in nanoseconds with their `le`: OpenTelemetry's advice for
/// HTTP (5 ms to 10 s), continued downwards to 100 us, where services on one node answer.
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

/// For each 64th of an octave the first bucket that a value there can be in. The narrowest bucket
/// (1/46 of an octave's start) is wider than 1/64, so that a single comparison settles the rest.
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
pub(super) const fn bucket(ns: u64) -> i32 {
    let bits = (ns as f64 / 1e9).to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i32 - 1023;
    let mantissa = bits & ((1 << 52) - 1);
    let fraction = f64::from_bits(mantissa | (1023 << 52));
    let guess = FIRST_GUESS[(mantissa >> 46) as usize];
    let j = guess as i32 + (fraction > BOUNDS[guess as usize]) as i32;
    exponent * PER_OCTAVE as i32 + j
}

/// Upper bound of a native bucket, seconds.
pub(super) fn upper_bound(bucket: i32) -> f64 {
    let octave = bucket.div_euclid(PER_OCTAVE as i32);
    BOUNDS[bucket.rem_euclid(PER_OCTAVE as i32) as usize] * f64::exp2(f64::from(octave))
}

/// From a value's bound to the middle of its bucket: at most half a bucket (1.09 %) from any value
/// in it.
pub(super) fn middle(bucket: i32) -> f64 {
    upper_bound(bucket) / BOUNDS[1].sqrt()
}

/// The zero bucket, the native ones, and one more for each classic bound: those that lie within a
/// native bucket cut it in two, the others leave a number unused.
pub(super) const CELLS: usize = 1 + NATIVE as usize + CLASSIC.len();

/// 0: the zero bucket; then the native ones from the first on.
const fn rank(ns: u64) -> usize {
    let bucket = bucket(if ns == 0 { 1 } else { ns }) - FIRST_OCTAVE * PER_OCTAVE as i32;
    if bucket < 0 {
        0
    } else if bucket > NATIVE {
        NATIVE as usize
    } else {
        bucket as usize
    }
}

/// For the zero bucket and each native one the classic bounds that all its values are above.
static BELOW: [u8; NATIVE as usize + 1] = {
    let mut below = [0; NATIVE as usize + 1];
    let (mut bucket, mut bounds) = (0, 0);
    while bucket < below.len() {
        while bounds < CLASSIC.len() && rank(CLASSIC[bounds].0) < bucket {
            bounds += 1;
        }
        below[bucket] = bounds as u8;
        bucket += 1;
    }
    below
};

/// The cell that a value is counted in. Both terms grow with the value, so two values share a cell
/// only where they share both buckets.
#[inline]
pub(super) fn cell(ns: u64) -> usize {
    let rank = rank(ns);
    // A bucket holds one bound at most: the narrowest gap between two is a factor of 4/3.
    let below = BELOW.get(rank).map_or(0, |below| usize::from(*below));
    rank + below + usize::from(CLASSIC.get(below).is_some_and(|(bound, _)| *bound < ns))
}

/// For each classic bound the first cell above it.
const ABOVE: [usize; CLASSIC.len()] = {
    let mut above = [0; CLASSIC.len()];
    let mut i = 0;
    while i < CLASSIC.len() {
        above[i] = rank(CLASSIC[i].0 + 1) + i + 1;
        i += 1;
    }
    above
};

/// The two buckets that a cell lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// `None`: the zero bucket.
    pub(super) native: Option<i32>,
    /// Index of the first bound that is not below it.
    pub(super) classic: usize,
}

pub(super) fn place(cell: usize) -> Place {
    let classic = ABOVE.partition_point(|above| *above <= cell);
    let rank = cell.saturating_sub(classic);
    Place { native: (rank > 0).then(|| rank as i32 + FIRST_OCTAVE * PER_OCTAVE as i32), classic }
}

/// The cells of a native bucket, and the classic bound between the two if there are two. What is
/// outside the storage is at its ends.
pub(super) fn cells_of(native: i32) -> (usize, Option<usize>) {
    let rank = native.saturating_sub(FIRST_OCTAVE * PER_OCTAVE as i32).clamp(1, NATIVE) as usize;
    let classic = BELOW.get(rank).map_or(0, |below| usize::from(*below));
    let cut =
        CLASSIC.get(classic).is_some_and(|(bound, _)| self::rank(*bound) == rank && self::rank(*bound + 1) == rank);
    (rank + classic, cut.then_some(classic))
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
    fn the_ends_of_the_range_have_the_first_and_the_last_cell() {
        assert_eq!((cell(0), cell(1), cell(953)), (0, 0, 0));
        assert_eq!((cell(954), cell(u64::MAX)), (1, CELLS - 1));
        assert_eq!(place(0), Place { native: None, classic: 0 });
        assert_eq!(place(CELLS - 1), Place { native: Some(LAST_OCTAVE * 32), classic: CLASSIC.len() });
    }

    #[test]
    fn a_classic_bound_is_the_last_value_of_its_bucket() {
        for (i, (bound, _)) in CLASSIC.iter().enumerate() {
            assert_eq!((place(cell(*bound)).classic, place(cell(*bound + 1)).classic), (i, i + 1), "{bound}");
        }
    }

    /// All over the range, its ends, and around the classic bounds.
    fn any_value() -> impl Strategy<Value = u64> {
        let near = CLASSIC.iter().flat_map(|(bound, _)| [bound - 1, *bound, bound + 1]).collect::<Vec<_>>();
        prop_oneof![prop::sample::select(near), (0u32..64).prop_flat_map(|bits| 0..=(u64::MAX >> bits))]
    }

    proptest! {
        #[test]
        fn a_value_lies_within_its_bucket(ns in 1_000u64..4_000_000_000_000) {
            let (index, s) = (bucket(ns), ns as f64 / 1e9);
            prop_assert!(s <= upper_bound(index) * (1.0 + 1e-15) && s > upper_bound(index - 1) * (1.0 - 1e-15), "{ns} {index}");
        }

        #[test]
        fn a_cell_knows_both_buckets_of_its_values(ns in any_value()) {
            let Place { native, classic } = place(cell(ns));
            prop_assert_eq!(classic, CLASSIC.iter().filter(|(bound, _)| *bound < ns).count());
            let rank = bucket(ns.max(1)) + 640;
            prop_assert_eq!(native, (rank > 0).then(|| rank.min(1024) - 640));
        }

        #[test]
        fn a_native_bucket_knows_its_cells(ns in any_value()) {
            let cell = cell(ns);
            let Place { native: Some(native), classic } = place(cell) else { return Ok(()) };
            let (first, cut) = cells_of(native);
            prop_assert_eq!(cell, first + usize::from(cut.is_some_and(|bound| bound < classic)));
        }
    }
}
