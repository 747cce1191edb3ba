//! The series as a scraper reads them: OpenMetrics 1.0, Prometheus' text 0.0.4 and its protobuf with native histograms.
//! One walk over the families (`families.rs`), one encoder for the two texts, one for protobuf.

mod encoder;
mod families;
mod known;
mod nodes;
mod protobuf;
mod text;
mod walk;

pub use encoder::{Histograms, Kind, SelfMetric};
pub use known::Known;
pub use nodes::NodePage;

use crate::snapshot::Snapshot;
use encoder::Encoder;

/// A form in which scrapers read metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// application/openmetrics-text; version=1.0.0
    OpenMetrics,
    /// text/plain; version=0.0.4
    Text,
    /// Delimited `io.prometheus.client.MetricFamily`, the only one with native histograms.
    Protobuf,
}

impl Format {
    /// The value of `Content-Type`.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
            Format::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }
}

/// Writes a snapshot in the form that a scraper asked for.
#[derive(Clone, Copy, Debug)]
pub struct Exposition;

impl Exposition {
    /// The format that an `Accept` header asks for (RFC 9110 section 12.5.1): the highest q, the
    /// first of equals. Text where nothing that we have is named, as Prometheus' own libraries do:
    /// a scraper that cannot read it says so, a person can.
    #[must_use]
    pub fn negotiate(accept: Option<&str>) -> Format {
        let mut best = (0.0, Format::Text);
        for range in accept.unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (mut q, mut delimited, mut proto, mut version) = (1.0, false, false, None);
            for (name, value) in parts.filter_map(|p| p.split_once('=')) {
                let value = value.trim().trim_matches('"');
                match name.trim().to_ascii_lowercase().as_str() {
                    "q" => q = value.parse().unwrap_or(0.0),
                    "encoding" => delimited = value == "delimited",
                    "proto" => proto = value == "io.prometheus.client.MetricFamily",
                    "version" => version = Some(value),
                    _ => {}
                }
            }
            let format = match media.as_str() {
                "application/vnd.google.protobuf" if delimited && proto => Format::Protobuf,
                "application/openmetrics-text" if version.is_none_or(|v| v == "1.0.0" || v == "0.0.1") => {
                    Format::OpenMetrics
                }
                "text/plain" if version.is_none_or(|v| v == "0.0.4") => Format::Text,
                "text/*" | "*/*" => Format::Text,
                _ => continue,
            };
            if q > best.0 {
                best = (q, format);
            }
        }
        best.1
    }

    /// What a page may have of traffic and of its counting.
    #[must_use]
    pub fn known() -> Vec<Known> {
        known::known()
    }

    /// What a page of many agents may have: the same of each, with the label `node`, but for how full
    /// its own table is.
    #[must_use]
    pub fn known_of_nodes() -> Vec<Known> {
        let mut all = known::pushed();
        all.iter_mut().for_each(|known| known.labels.push("node"));
        all
    }

    /// A whole scrape. `others` are the metrics of other crates, in any order.
    #[must_use]
    pub fn render(snapshot: &Snapshot, others: &[SelfMetric], format: Format) -> Vec<u8> {
        Exposition::render_with(snapshot, others, format, Histograms::default())
    }

    /// As `render`, with the buckets that were asked for.
    #[must_use]
    pub fn render_with(snapshot: &Snapshot, others: &[SelfMetric], format: Format, histograms: Histograms) -> Vec<u8> {
        let mut page = Vec::new();
        Exposition::render_to(snapshot, others, format, histograms, &mut |piece| page.extend_from_slice(piece));
        page
    }

    /// As `render_with`, handed over in pieces as they are made, for who does not want to hold the
    /// page. A text's pieces are of some 32 KiB. Protobuf's are whole families, since the length
    /// of each comes first.
    pub fn render_to(
        snapshot: &Snapshot,
        others: &[SelfMetric],
        format: Format,
        histograms: Histograms,
        take: &mut dyn FnMut(&[u8]),
    ) {
        encoded(format, histograms, take, &Page { snapshot, others });
    }

    /// As `render_to`, of the series of many agents, each with a label `node`.
    pub fn render_nodes(
        nodes: &NodePage<'_>,
        others: &[SelfMetric],
        format: Format,
        histograms: Histograms,
        take: &mut dyn FnMut(&[u8]),
    ) {
        encoded(format, histograms, take, &Nodes { nodes, others });
    }
}

/// What is written whatever the encoder.
trait Write {
    fn write<E: Encoder>(&self, out: &mut E);
}

struct Page<'a> {
    snapshot: &'a Snapshot,
    others: &'a [SelfMetric],
}

impl Write for Page<'_> {
    fn write<E: Encoder>(&self, out: &mut E) {
        families::write(out, self.snapshot);
        families::write_others(out, self.others);
    }
}

struct Nodes<'a> {
    nodes: &'a NodePage<'a>,
    others: &'a [SelfMetric],
}

impl Write for Nodes<'_> {
    fn write<E: Encoder>(&self, out: &mut E) {
        families::series(out, self.nodes);
        families::totals(out, self.nodes, &self.nodes.losses());
        families::write_others(out, self.others);
    }
}

fn encoded(format: Format, histograms: Histograms, take: &mut dyn FnMut(&[u8]), what: &impl Write) {
    fn all<E: Encoder>(mut encoder: E, what: &impl Write) {
        what.write(&mut encoder);
        encoder.finish();
    }
    match format {
        Format::OpenMetrics => all(text::TextEncoder::open_metrics(histograms, take), what),
        Format::Text => all(text::TextEncoder::plain(histograms, take), what),
        Format::Protobuf => all(protobuf::ProtobufEncoder::new(histograms, take), what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negotiates_what_prometheus_asks_for() {
        let check = |accept, format| assert_eq!(Exposition::negotiate(accept), format, "{accept:?}");
        check(None, Format::Text);
        check(Some("*/*"), Format::Text);
        check(Some("text/html,application/xhtml+xml,*/*;q=0.8"), Format::Text);
        check(Some("application/openmetrics-text"), Format::OpenMetrics);
        check(Some("application/openmetrics-text; version=9.0.0, text/plain;q=0.1"), Format::Text);
        check(
            Some(
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
            ),
            Format::OpenMetrics,
        );
        check(
            Some(
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
                 application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1",
            ),
            Format::Protobuf,
        );
        check(Some("application/vnd.google.protobuf;proto=other;encoding=delimited"), Format::Text);
        check(Some("application/openmetrics-text;q=0, text/plain;q=0.5"), Format::Text);
        check(Some(";;;=,,q=;"), Format::Text);
    }
}
