//! What the walk over the families hands to an encoder, and what a caller gives along.

use crate::histogram::HistogramSnapshot;
use std::borrow::Cow;

/// Which buckets of a histogram are written. Its count and its sum always are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Histograms {
    /// Native and classic, as far as the format has both.
    #[default]
    Both,
    /// Native ones alone. A text has none; what is left there is the bucket of everything.
    Native,
    /// Classic ones alone, with the bounds of `CLASSIC`.
    Classic,
}

/// What a metric's value means to a scraper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The name carries its `_total`.
    Counter,
    /// May go down.
    Gauge,
}

impl Kind {
    /// As on `# TYPE`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        }
    }
}

/// A metric of another crate, given along when a scrape is rendered. Those of one name become one
/// family with the first one's help.
#[derive(Clone, Debug, PartialEq)]
pub struct SelfMetric {
    /// Of the family, with its unit as suffix; a counter's ends in `_total`.
    pub name: Cow<'static, str>,
    /// The family's `# HELP`, one sentence; not escaped yet.
    pub help: Cow<'static, str>,
    /// The family's `# TYPE`.
    pub kind: Kind,
    /// (name, value) in the order of writing; values are not escaped yet.
    pub labels: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    /// In the unit that the name ends with.
    pub value: f64,
}

impl SelfMetric {
    /// A gauge without labels.
    #[must_use]
    pub fn gauge(name: impl Into<Cow<'static, str>>, help: impl Into<Cow<'static, str>>, value: f64) -> SelfMetric {
        SelfMetric { name: name.into(), help: help.into(), kind: Kind::Gauge, labels: Vec::new(), value }
    }

    /// `name` with its `_total`.
    #[must_use]
    pub fn counter(name: impl Into<Cow<'static, str>>, help: impl Into<Cow<'static, str>>, total: u64) -> SelfMetric {
        SelfMetric { kind: Kind::Counter, ..SelfMetric::gauge(name, help, total as f64) }
    }

    /// Adds a label. Does not look whether it has one of this name.
    #[must_use]
    pub fn with(mut self, label: impl Into<Cow<'static, str>>, value: impl Into<Cow<'static, str>>) -> SelfMetric {
        self.labels.push((label.into(), value.into()));
        self
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Counter,
    Gauge,
    Histogram,
}

/// What a family is called; counters with their `_total`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Descriptor<'a> {
    pub name: &'a str,
    pub help: &'a str,
    pub kind: Type,
}

pub(super) type Labels<'a> = [(&'a str, &'a str)];

/// Families come one after the other, each followed by its samples.
pub(super) trait Encoder {
    fn family(&mut self, family: Descriptor<'_>);
    fn number(&mut self, labels: &Labels<'_>, value: f64);
    fn histogram(&mut self, labels: &Labels<'_>, histogram: &HistogramSnapshot);
    /// Hands over what is left.
    fn finish(self);
}

/// Who takes the page, a piece at a time.
pub(super) type Taker<'a> = dyn FnMut(&[u8]) + 'a;
