//! The histogram beside a plain model of it.

use super::cells::{bucket, upper_bound};
use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// What was counted, in the words of Prometheus: no cells, no blocks.
#[derive(Debug, Default)]
struct Model {
    sum_ns: u64,
    zero: u64,
    classic: [u64; CLASSIC.len()],
    buckets: BTreeMap<i32, u64>,
}

impl Model {
    fn add(&mut self, ns: u64, times: u64) {
        self.sum_ns = self.sum_ns.wrapping_add(ns.wrapping_mul(times));
        for (count, (bound, _)) in self.classic.iter_mut().zip(CLASSIC) {
            *count += if ns <= bound { times } else { 0 };
        }
        match bucket(ns.max(1)) {
            ..=-640 => self.zero += times,
            index => *self.buckets.entry(index.min(384)).or_default() += times,
        }
    }

    fn check(&self, read: &HistogramSnapshot) -> Result<(), TestCaseError> {
        let Model { sum_ns, zero, classic, buckets } = self;
        let buckets: Vec<(i32, u64)> = buckets.iter().map(|(index, count)| (*index, *count)).collect();
        prop_assert_eq!(read.sum_ns, *sum_ns);
        prop_assert_eq!(read.count, zero + buckets.iter().map(|(_, count)| count).sum::<u64>());
        prop_assert_eq!(read.zero(), *zero);
        prop_assert_eq!(read.classic(), *classic);
        prop_assert_eq!(read.buckets(), buckets);
        Ok(())
    }
}

/// All over the range, its ends, and around the classic bounds.
fn any_value() -> impl Strategy<Value = u64> {
    let near = CLASSIC.iter().flat_map(|(bound, _)| [bound - 1, *bound, bound + 1]).collect::<Vec<_>>();
    prop_oneof![prop::sample::select(near), (0u32..64).prop_flat_map(|bits| 0..=(u64::MAX >> bits))]
}

fn of(values: &[u64]) -> Histogram {
    let histogram = Histogram::default();
    values.iter().for_each(|ns| histogram.observe(*ns));
    histogram
}

/// One value as often as nobody would wait for.
fn many(ns: u64, times: u64) -> HistogramSnapshot {
    let mut packer = Packer::default();
    packer.push(cells::cell(ns), times);
    packer.finish(ns.wrapping_mul(times))
}

proptest! {
    #[test]
    fn counts_what_the_model_counts(values in prop::collection::vec(any_value(), 0..300)) {
        let mut model = Model::default();
        values.iter().for_each(|ns| model.add(*ns, 1));
        model.check(&of(&values).snapshot())?;
    }

    #[test]
    fn counts_go_on_exactly_where_a_counter_is_full(
        values in prop::collection::vec((any_value(), prop_oneof![1u64..4, 65_530u64..65_540, 4_295_032_820u64..4_295_032_840]), 0..40)
    ) {
        let (mut model, histogram) = (Model::default(), Histogram::default());
        for (ns, times) in values {
            histogram.restore(&many(ns, times));
            histogram.observe(ns);
            model.add(ns, times + 1);
        }
        model.check(&histogram.snapshot())?;
    }

    #[test]
    fn what_is_restored_is_added(a in prop::collection::vec(any_value(), 0..50), b in prop::collection::vec(any_value(), 0..50)) {
        let both = of(&a);
        let text = serde_json::to_string(&of(&b).snapshot()).unwrap();
        both.restore(&serde_json::from_str(&text).unwrap());
        prop_assert_eq!(both.snapshot(), of(&[a, b].concat()).snapshot());
    }

    #[test]
    fn quantiles_are_within_a_percent_of_the_sorted_values(mut values in prop::collection::vec(1_000u64..3_600_000_000_000, 1..400), p in 0.0f64..=1.0) {
        let histogram = of(&values);
        values.sort_unstable();
        let rank = ((p * values.len() as f64).ceil() as usize).max(1);
        let exact = values[rank - 1] as f64 / 1e9;
        let read = histogram.snapshot().quantile(p).unwrap();
        prop_assert!((read / exact - 1.0).abs() <= 0.011, "{read} {exact}");
    }

    #[test]
    fn a_sum_minus_one_part_is_the_other(a in prop::collection::vec(0u64..1_000_000_000, 0..50), b in prop::collection::vec(0u64..1_000_000_000, 0..50)) {
        let of = |values: &[u64]| of(values).snapshot();
        let mut both = of(&a);
        both.add(&of(&b));
        prop_assert_eq!(&both, &of(&[a.as_slice(), b.as_slice()].concat()));
        prop_assert_eq!(both.since(&of(&a)), of(&b));
    }
}

#[test]
fn values_outside_the_range_are_counted_at_its_ends() {
    let snapshot = of(&[0, 1, 900, u64::MAX / 4]).snapshot();
    assert_eq!((snapshot.zero(), snapshot.count), (3, 4));
    assert_eq!(snapshot.buckets(), [(384, 1)]);
    assert_eq!(snapshot.sum_ns, 901 + u64::MAX / 4);
    assert!(snapshot.quantile(1.0).is_some_and(|s| (s / upper_bound(384) - 1.0).abs() <= 0.011));
}

#[test]
fn an_empty_histogram_has_no_quantile() {
    assert_eq!(Histogram::default().snapshot().quantile(0.5), None);
}

#[test]
fn every_cell_has_room() {
    let histogram = Histogram::default();
    let all = Packer::default();
    let all = (0..cells::CELLS).fold(all, |mut all, cell| {
        all.push(cell, u64::MAX);
        all
    });
    histogram.restore(&all.finish(7));
    assert!(histogram.snapshot().cells().eq((0..cells::CELLS).map(|cell| (cell, u64::MAX))));
}

// Across the width of a narrow counter, and while new blocks come.
#[test]
fn a_reader_beside_the_writer_sees_counts_that_only_grow_and_agree() {
    let (histogram, over) = (Histogram::default(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let readers = [(); 2].map(|()| {
            scope.spawn(|| {
                let mut before = histogram.snapshot();
                let mut reads = 0u32;
                while !over.load(SeqCst) || reads == 0 {
                    let now = histogram.snapshot();
                    let grown = now.since(&before);
                    assert_eq!(grown.count, now.count - before.count, "a counter fell");
                    assert!(now.sum_ns >= before.sum_ns);
                    assert!(now.classic().is_sorted() && now.classic()[CLASSIC.len() - 1] <= now.count);
                    assert_eq!(now.buckets().iter().map(|(_, n)| n).sum::<u64>() + now.zero(), now.count);
                    (before, reads) = (now, reads + 1);
                }
            })
        });
        for i in 0..200_000u64 {
            histogram.observe(5_000_000);
            histogram.observe(1_000 << (i / 8_000));
        }
        over.store(true, SeqCst);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
    assert_eq!(histogram.snapshot().count, 400_000);
}
