//! What a process uses over time.

use std::time::{Duration, Instant};
use testbed::Stat;

#[derive(Debug, Default)]
pub(super) struct Samples(Vec<(Instant, Stat)>);

impl Samples {
    pub fn add(&mut self, now: Instant, stat: Stat) {
        self.0.push((now, stat));
    }

    pub fn is_due(&self, now: Instant, every: Duration) -> bool {
        self.0.last().is_none_or(|(last, _)| now.saturating_duration_since(*last) >= every)
    }

    /// Mean use of a core, percent.
    pub fn mean(&self) -> f64 {
        self.0.first().zip(self.0.last()).map_or(f64::NAN, |(first, last)| percent(first, last))
    }

    /// The worst use of a core in any second, percent: of each sample to the first one that is a second or more later.
    pub fn worst_second(&self) -> f64 {
        let second = Duration::from_secs(1);
        let mut worst: f64 = 0.0;
        let mut later = 0;
        for sample in &self.0 {
            while self.0.get(later).is_some_and(|(at, _)| *at < sample.0 + second) {
                later += 1;
            }
            worst = self.0.get(later).map_or(worst, |end| worst.max(percent(sample, end)));
        }
        worst
    }

    /// First, least and most of a figure.
    pub fn range(&self, figure: impl Fn(&Stat) -> usize) -> (usize, usize, usize) {
        let all = || self.0.iter().map(|(_, stat)| figure(stat));
        (all().next().unwrap_or(0), all().min().unwrap_or(0), all().max().unwrap_or(0))
    }

    pub fn last(&self, figure: impl Fn(&Stat) -> usize) -> usize {
        self.0.last().map_or(0, |(_, stat)| figure(stat))
    }
}

fn percent(from: &(Instant, Stat), to: &(Instant, Stat)) -> f64 {
    let passed = to.0.saturating_duration_since(from.0).as_nanos() as f64;
    to.1.cpu_ns.saturating_sub(from.1.cpu_ns) as f64 / passed * 100.0
}
