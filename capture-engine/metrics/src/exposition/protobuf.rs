//! Prometheus' protobuf: `MetricFamily` messages of `io/prometheus/client/metrics.proto`
//! (prometheus/client_model), each after its length. Written by hand: a dozen fields of four
//! messages, straight into the output instead of a tree of owned strings first.

use super::encoder::{Descriptor, Encoder, Histograms, Labels, Taker, Type};
use crate::histogram::varint::push as varint;
use crate::histogram::{CLASSIC, HistogramSnapshot, SCHEMA, ZERO_THRESHOLD, spans};
use crate::proto::{bytes, double, uint, zigzag};

pub(super) struct ProtobufEncoder<'a> {
    take: &'a mut Taker<'a>,
    histograms: Histograms,
    /// The family under way; its length comes first, so it is collected here.
    family: Vec<u8>,
    kind: Option<Type>,
    metric: Vec<u8>,
    message: Vec<u8>,
    inner: Vec<u8>,
}

impl<'a> ProtobufEncoder<'a> {
    pub(super) fn new(histograms: Histograms, take: &'a mut Taker<'a>) -> ProtobufEncoder<'a> {
        let (family, metric, message, inner) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        ProtobufEncoder { take, histograms, family, kind: None, metric, message, inner }
    }

    fn end_family(&mut self) {
        if self.kind.take().is_some() {
            self.inner.clear();
            varint(&mut self.inner, self.family.len() as u64);
            (self.take)(&self.inner);
            (self.take)(&self.family);
            self.family.clear();
        }
    }

    /// Metric { label = 1, .. }
    fn begin_metric(&mut self, labels: &Labels<'_>) {
        self.metric.clear();
        for (name, value) in labels {
            self.inner.clear();
            bytes(&mut self.inner, 1, name.as_bytes());
            bytes(&mut self.inner, 2, value.as_bytes());
            bytes(&mut self.metric, 1, &self.inner);
        }
    }
}

impl Encoder for ProtobufEncoder<'_> {
    /// MetricFamily { name = 1, help = 2, type = 3, metric = 4 }
    fn family(&mut self, family: Descriptor<'_>) {
        self.end_family();
        let Descriptor { name, help, kind } = family;
        bytes(&mut self.family, 1, name.as_bytes());
        bytes(&mut self.family, 2, help.as_bytes());
        let number = match kind {
            Type::Counter => 0,
            Type::Gauge => 1,
            Type::Histogram => 4,
        };
        uint(&mut self.family, 3, number);
        self.kind = Some(kind);
    }

    /// Metric { gauge = 2 | counter = 3 }, each { value = 1 }
    fn number(&mut self, labels: &Labels<'_>, value: f64) {
        self.begin_metric(labels);
        self.message.clear();
        double(&mut self.message, 1, value);
        bytes(&mut self.metric, if self.kind == Some(Type::Counter) { 3 } else { 2 }, &self.message);
        bytes(&mut self.family, 4, &self.metric);
    }

    /// Metric { histogram = 7 }; Histogram { sample_count = 1, sample_sum = 2, bucket = 3, schema =
    /// 5, zero_threshold = 6, zero_count = 7, positive_span = 12, positive_delta = 13 }
    fn histogram(&mut self, labels: &Labels<'_>, histogram: &HistogramSnapshot) {
        self.begin_metric(labels);
        let out = &mut self.message;
        out.clear();
        uint(out, 1, histogram.count);
        double(out, 2, histogram.sum_ns as f64 / 1e9);
        if self.histograms != Histograms::Native {
            classic(out, &mut self.inner, histogram);
        }
        if self.histograms != Histograms::Classic {
            native(out, &mut self.inner, histogram);
        }
        bytes(&mut self.metric, 7, &self.message);
        bytes(&mut self.family, 4, &self.metric);
    }

    fn finish(mut self) {
        self.end_family();
    }
}

/// Bucket { cumulative_count = 1, upper_bound = 2 }
fn classic(out: &mut Vec<u8>, inner: &mut Vec<u8>, histogram: &HistogramSnapshot) {
    for ((bound, _), count) in CLASSIC.iter().zip(histogram.classic()) {
        inner.clear();
        uint(inner, 1, count);
        double(inner, 2, *bound as f64 / 1e9);
        bytes(out, 3, inner);
    }
}

/// BucketSpan { offset = 1, length = 2 }; the counts as differences from one bucket to the next.
fn native(out: &mut Vec<u8>, inner: &mut Vec<u8>, histogram: &HistogramSnapshot) {
    uint(out, 5, zigzag(i64::from(SCHEMA)));
    double(out, 6, ZERO_THRESHOLD);
    uint(out, 7, histogram.zero());
    let buckets = histogram.buckets();
    for (offset, length) in spans(&buckets) {
        inner.clear();
        uint(inner, 1, zigzag(i64::from(offset)));
        uint(inner, 2, u64::from(length));
        bytes(out, 12, inner);
    }
    inner.clear();
    let mut before = 0;
    for (_, count) in buckets {
        varint(inner, zigzag(count as i64 - before));
        before = count as i64;
    }
    if !inner.is_empty() {
        bytes(out, 13, inner);
    }
}
