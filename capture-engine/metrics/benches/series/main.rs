//! What the series of many pods take, in memory and in a scrape, as one line of JSON. `cargo xtask
//! bench series` shows it.
#![allow(clippy::print_stdout)]

#[path = "../../tests/common/mod.rs"]
mod common;
mod pods;
#[path = "../../tests/memory/sys.rs"]
mod sys;

use flow_model::Ts;
use golden_metrics::{Exposition, FlowCache, Format, Histograms, Recent, Snapshot};
use pods::{EDGES_PER_POD, Pods};
use prometheus_client::encoding::prometheus_protobuf::prometheus_data_model::MetricFamily;
use prost::Message;
use serde_json::{Value, json};
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: sys::Counting = sys::Counting;

/// As the agent keeps them for `pilotfish edges` (agentd's serve/traffic.rs).
const STEP: Duration = Duration::from_secs(10);
const VIEWS: usize = 3;

fn main() {
    let of_edges = |edges: usize| Pods::new(edges.div_ceil(EDGES_PER_POD));
    let memory = [Pods::new(300), of_edges(1_000), of_edges(10_000)].map(memory);
    let mut thousand = of_edges(1_000);
    thousand.traffic();
    let snapshot = thousand.reader.snapshot();
    let mut scrapes = Vec::new();
    for (name, histograms) in
        [("both", Histograms::Both), ("native", Histograms::Native), ("classic", Histograms::Classic)]
    {
        for (format_name, format) in
            [("protobuf", Format::Protobuf), ("openmetrics", Format::OpenMetrics), ("text", Format::Text)]
        {
            let (series, bytes) = scrape(&snapshot, format, histograms);
            scrapes.push(json!({"histograms": name, "format": format_name, "series": series, "bytes": bytes}));
        }
    }
    println!("{}", json!({"memory": memory, "flow_bytes": size_of::<FlowCache>(), "scrapes": scrapes}));
}

/// Bytes that the allocator was asked for, once all flows are over.
fn memory(mut pods: Pods) -> Value {
    let before = sys::bytes();
    pods.traffic();
    let all_series = sys::bytes() - before;
    let snapshot = pods.reader.snapshot();
    let mut recent: Recent = Recent::new(STEP, VIEWS);
    let before = sys::bytes();
    for i in 0..VIEWS as u64 {
        recent.tick(Ts(i * STEP.as_nanos() as u64), &snapshot);
    }
    let views = sys::bytes() - before;
    let counters = snapshot.memory() as isize;
    json!({
        "pods": pods.count(),
        "edges": pods.count() * EDGES_PER_POD,
        "series": snapshot.series(),
        "bytes": all_series + views,
        "counters": counters,
        "labels_and_tables": all_series - counters,
        "views": views,
    })
}

/// Time series and bytes. A native histogram is one time series, a classic one a series for each
/// bucket and two.
fn scrape(snapshot: &Snapshot, format: Format, histograms: Histograms) -> (usize, usize) {
    let page = Exposition::render_with(snapshot, &[], format, histograms);
    let series = match format {
        Format::Protobuf => time_series(&page),
        Format::OpenMetrics | Format::Text => {
            page.split(|byte| *byte == b'\n').filter(|line| line.first().is_some_and(|byte| *byte != b'#')).count()
        }
    };
    (series, page.len())
}

fn time_series(mut page: &[u8]) -> usize {
    let mut series = 0;
    while !page.is_empty() {
        let Ok(family) = MetricFamily::decode_length_delimited(&mut page) else { break };
        for metric in family.metric {
            series += match metric.histogram {
                None => 1,
                Some(histogram) => {
                    // The bucket of everything is not written, and Prometheus adds it.
                    let classic = if histogram.bucket.is_empty() { 0 } else { histogram.bucket.len() + 3 };
                    classic + usize::from(histogram.schema != 0)
                }
            };
        }
    }
    series
}
