//! The two text formats. They differ in the name of a counter's family, in the content type, and in
//! OpenMetrics' final line. <https://prometheus.io/docs/specs/om/open_metrics_spec/> (1.0.0),
//! <https://prometheus.io/docs/instrumenting/exposition_formats/> (0.0.4)

use super::encoder::{Descriptor, Encoder, Histograms, Labels, Taker, Type};
use crate::histogram::{CLASSIC, HistogramSnapshot};
use std::fmt::Write;

/// Collected before it is handed over; a line more at most.
const PIECE: usize = 32 << 10;

pub(super) struct TextEncoder<'a> {
    take: &'a mut Taker<'a>,
    out: String,
    open_metrics: bool,
    histograms: Histograms,
    name: String,
    /// Labels of the current sample, escaped once though a histogram repeats them on every line.
    labels: String,
}

impl<'a> TextEncoder<'a> {
    pub(super) fn open_metrics(histograms: Histograms, take: &'a mut Taker<'a>) -> TextEncoder<'a> {
        TextEncoder { open_metrics: true, ..TextEncoder::plain(histograms, take) }
    }

    pub(super) fn plain(histograms: Histograms, take: &'a mut Taker<'a>) -> TextEncoder<'a> {
        let (out, name, labels) = (String::new(), String::new(), String::new());
        TextEncoder { take, out, open_metrics: false, histograms, name, labels }
    }

    fn hand_over(&mut self) {
        (self.take)(self.out.as_bytes());
        self.out.clear();
    }

    fn set_labels(&mut self, labels: &Labels<'_>) {
        self.labels.clear();
        for (name, value) in labels {
            if !self.labels.is_empty() {
                self.labels.push(',');
            }
            self.labels.push_str(name);
            self.labels.push_str("=\"");
            escape(&mut self.labels, value, true);
            self.labels.push('"');
        }
    }

    /// `le` is written after the other labels.
    fn line(&mut self, suffix: &str, le: Option<&str>, value: f64) {
        self.out.push_str(&self.name);
        self.out.push_str(suffix);
        if le.is_some() || !self.labels.is_empty() {
            self.out.push('{');
            self.out.push_str(&self.labels);
            if let Some(le) = le {
                self.out.push_str(if self.labels.is_empty() { "le=\"" } else { ",le=\"" });
                self.out.push_str(le);
                self.out.push('"');
            }
            self.out.push('}');
        }
        self.out.push(' ');
        push_number(&mut self.out, value);
        self.out.push('\n');
        if self.out.len() >= PIECE {
            self.hand_over();
        }
    }
}

impl Encoder for TextEncoder<'_> {
    fn family(&mut self, family: Descriptor<'_>) {
        let Descriptor { name, help, kind } = family;
        self.name.clear();
        self.name.push_str(name);
        let family = match kind {
            Type::Counter if self.open_metrics => name.strip_suffix("_total").unwrap_or(name),
            _ => name,
        };
        let kind = match kind {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
            Type::Histogram => "histogram",
        };
        for part in ["# HELP ", family, " "] {
            self.out.push_str(part);
        }
        // 0.0.4 knows no escaped quote in a help text.
        escape(&mut self.out, help, self.open_metrics);
        for part in ["\n# TYPE ", family, " ", kind, "\n"] {
            self.out.push_str(part);
        }
        let unit =
            ["seconds", "bytes"].into_iter().find(|u| family.strip_suffix(u).is_some_and(|rest| rest.ends_with('_')));
        if let Some(unit) = unit.filter(|_| self.open_metrics) {
            for part in ["# UNIT ", family, " ", unit, "\n"] {
                self.out.push_str(part);
            }
        }
    }

    fn number(&mut self, labels: &Labels<'_>, value: f64) {
        self.set_labels(labels);
        self.line("", None, value);
    }

    fn histogram(&mut self, labels: &Labels<'_>, histogram: &HistogramSnapshot) {
        self.set_labels(labels);
        // Neither text has native buckets. Without the classic ones there is the one left that both
        // demand of a histogram: so Prometheus' own libraries write a native one in text.
        if self.histograms != Histograms::Native {
            for ((_, le), count) in CLASSIC.iter().zip(histogram.classic()) {
                self.line("_bucket", Some(le), count as f64);
            }
        }
        self.line("_bucket", Some("+Inf"), histogram.count as f64);
        self.line("_count", None, histogram.count as f64);
        self.line("_sum", None, histogram.sum_ns as f64 / 1e9);
    }

    fn finish(mut self) {
        if self.open_metrics {
            self.out.push_str("# EOF\n");
        }
        self.hand_over();
    }
}

fn escape(out: &mut String, text: &str, quotes: bool) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            c => out.push(c),
        }
    }
}

/// Counts, which most numbers are, without the detour through the float formatter. 2^53: up to there they are exact.
fn push_number(out: &mut String, value: f64) {
    let written = match value {
        _ if value.is_nan() => out.write_str("NaN"),
        _ if value.is_infinite() => out.write_str(if value > 0.0 { "+Inf" } else { "-Inf" }),
        _ if value >= 0.0 && value < (1u64 << 53) as f64 && value.fract() == 0.0 => write!(out, "{}", value as u64),
        _ => write!(out, "{value}"),
    };
    debug_assert!(written.is_ok(), "a String takes everything");
}
