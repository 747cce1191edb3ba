//! What a histogram takes, beside what it says that it takes.

mod sys;

use golden_metrics::Histogram;

#[global_allocator]
static ALLOCATOR: sys::Counting = sys::Counting;

#[test]
fn a_histogram_knows_what_it_takes() {
    let mut before = sys::bytes();
    let histogram = Box::new(Histogram::default());
    for i in 0..64u32 {
        // One value more in each factor of two, then more than a narrow counter holds.
        let times = if i < 40 { 1 } else { 70_000 };
        (0..times).for_each(|_| histogram.observe(1 << i));
        assert_eq!(sys::bytes() - before, histogram.memory() as isize, "2^{i} ns");
    }
    before = sys::bytes();
    drop(histogram.snapshot());
    assert_eq!(sys::bytes(), before, "a reader leaves nothing behind");
}

#[test]
fn a_value_in_a_bucket_that_is_there_asks_for_no_memory() {
    let histogram = Histogram::default();
    let values: Vec<u64> = (0..500u64).map(|i| 100_000 + i * 100_000).collect();
    let observe = || values.iter().for_each(|ns| histogram.observe(*ns));
    observe();
    let before = sys::calls();
    (0..100).for_each(|_| observe());
    assert_eq!(sys::calls(), before);
}

#[test]
fn a_histogram_of_two_decades_takes_less_than_a_kilobyte() {
    let histogram = Histogram::default();
    (1..=100u64).for_each(|i| histogram.observe(i * 100_000));
    // 14 half octaves or so.
    assert!(Histogram::default().memory() <= 288, "{}", Histogram::default().memory());
    assert!(histogram.memory() <= 288 + 384, "{}", histogram.memory());
}
