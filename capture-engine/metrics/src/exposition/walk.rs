//! What the walk over the families reads: series with their labels, of this agent or of many.

use super::encoder::Labels;
use crate::families::{Cell, MOST_LABELS};
use crate::histogram::{Histogram, HistogramSnapshot};
use crate::labels::{End, Reporter};
use crate::rows::{Numbers, Of};
use crate::series::{Edge, ExchangeSeries};
use crate::snapshot::Snapshot;

/// Labels of an edge, in the order of writing.
pub(super) const EDGE: [&str; 8] = [
    "client_workload",
    "client_namespace",
    "client_kind",
    "server_workload",
    "server_namespace",
    "server_kind",
    "server_service",
    "reporter",
];
/// Of a sample: those of the edge, its family's with `error_type`, the node's, one of the metric.
const MOST: usize = EDGE.len() + MOST_LABELS + 3;

/// Label names and values of one sample.
#[derive(Clone, Copy)]
pub(super) struct LabelSet<'a> {
    labels: [(&'a str, &'a str); MOST],
    len: usize,
}

impl<'a> LabelSet<'a> {
    pub(super) fn new() -> LabelSet<'a> {
        LabelSet { labels: [("", ""); MOST], len: 0 }
    }

    pub(super) fn of(client: &'a End, server: &'a End, service: &'a str, reporter: Reporter) -> LabelSet<'a> {
        let values: [_; EDGE.len()] = [
            &*client.workload,
            &client.namespace,
            client.kind,
            &server.workload,
            &server.namespace,
            server.kind,
            service,
            reporter.as_str(),
        ];
        let mut set = LabelSet::new();
        EDGE.into_iter().zip(values).for_each(|(name, value)| set.add(name, value));
        set
    }

    fn of_edge(edge: &'a Edge) -> LabelSet<'a> {
        LabelSet::of(&edge.client, &edge.server, &edge.service, edge.reporter)
    }

    fn of_exchange(series: &'a ExchangeSeries) -> LabelSet<'a> {
        let mut set = LabelSet::of_edge(&series.edge);
        series.labels.shown.iter().for_each(|(name, value)| set.add(name, value));
        set
    }

    /// Empty ones are left out: to Prometheus that is the same.
    pub(super) fn add(&mut self, name: &'a str, value: &'a str) {
        if value.is_empty() {
            return;
        }
        debug_assert!(self.len < MOST, "no family has more labels");
        if let Some(slot) = self.labels.get_mut(self.len) {
            *slot = (name, value);
            self.len += 1;
        }
    }

    pub(super) fn with(mut self, name: &'a str, value: &'a str) -> LabelSet<'a> {
        self.add(name, value);
        self
    }

    pub(super) fn as_slice(&self) -> &Labels<'a> {
        &self.labels[..self.len]
    }
}

/// Series, in the same order whatever is asked for.
pub(super) trait Walk {
    /// Whether there is any.
    fn has(&self, of: Of) -> bool;

    /// Those that have a histogram, and were seen so.
    fn histograms(
        &self,
        of: Of,
        seen: &dyn Fn(Reporter) -> bool,
        each: &mut dyn FnMut(LabelSet<'_>, &HistogramSnapshot),
    );

    /// All, with all but their histograms.
    fn numbers(&self, of: Of, each: &mut dyn FnMut(LabelSet<'_>, &Numbers));
}

impl Walk for Snapshot {
    fn has(&self, of: Of) -> bool {
        match of {
            Of::Exchanges(id) => !self.published.exchanges[id.index()].is_empty(),
            Of::Tcp => !self.published.tcp.is_empty(),
            Of::Udp => !self.published.udp.is_empty(),
            Of::Counted | Of::Missed | Of::Lost => false,
        }
    }

    fn histograms(
        &self,
        of: Of,
        seen: &dyn Fn(Reporter) -> bool,
        each: &mut dyn FnMut(LabelSet<'_>, &HistogramSnapshot),
    ) {
        match of {
            Of::Exchanges(id) => {
                for series in self.published.exchanges[id.index()].iter().filter(|s| seen(s.edge.reporter)) {
                    let histogram = series.duration.snapshot();
                    // What asks for no answer has no duration.
                    if histogram.count > 0 || series.value(Cell::OneWay) == 0 {
                        each(LabelSet::of_exchange(series), &histogram);
                    }
                }
            }
            Of::Tcp => {
                let handshakes = self.published.tcp.iter().filter_map(|s| Some((s, s.handshake_rtt.get()?)));
                handshakes.for_each(|(s, rtt)| each(LabelSet::of_edge(&s.edge), &Histogram::snapshot(rtt)));
            }
            Of::Udp | Of::Counted | Of::Missed | Of::Lost => {}
        }
    }

    fn numbers(&self, of: Of, each: &mut dyn FnMut(LabelSet<'_>, &Numbers)) {
        match of {
            Of::Exchanges(id) => {
                let series = &self.published.exchanges[id.index()];
                series.iter().for_each(|s| each(LabelSet::of_exchange(s), &Numbers::of_exchanges(s)));
            }
            Of::Tcp => {
                let series = &self.published.tcp;
                series.iter().for_each(|s| each(LabelSet::of_edge(&s.edge), &Numbers::of_tcp(s)));
            }
            Of::Udp => {
                let series = &self.published.udp;
                series.iter().for_each(|s| each(LabelSet::of_edge(&s.edge), &Numbers::of_udp(s)));
            }
            Of::Counted | Of::Missed | Of::Lost => {}
        }
    }
}
