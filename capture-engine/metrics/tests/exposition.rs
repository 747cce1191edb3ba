//! Other people's parsers read what we write.

mod common;

use common::*;
use flow_model::{FlowDelta, Role, Sink, WorkloadKind};
use golden_metrics::{Config, Exposition, FlowCache, Format, Golden, Histograms, Losses, SelfMetric, Snapshot};
use prometheus_client::encoding::prometheus_protobuf::prometheus_data_model::{Histogram, MetricFamily, MetricType};
use prost::Message;
use std::io::Write;
use std::process::{Command, Stdio};

/// A node that has seen a bit of everything, with a name that needs escaping.
fn snapshot() -> Snapshot {
    let mut names = two_pods();
    names.local.insert(CLIENT, named("we\"b\\\n", "shop", WorkloadKind::Container));
    let losses = Losses::default();
    losses.place("kernel", "ring_full", "message heads").add(3);
    let (mut golden, reader) = Golden::new(names, Config::default(), &losses);
    for role in [Role::Client, Role::Server] {
        let mut cache = FlowCache::default();
        golden.flow(
            &flow(role),
            &mut cache,
            &FlowDelta { handshake_rtt_ns: Some(50_000), opened: true, bytes: [5, 7], ..FlowDelta::default() },
        );
        for us in [0, 1, 90, 100, 101, 3_000, 3_050, 400_000, 20_000_000] {
            golden.exchange(&flow(role), &mut cache, &http("GET", Some(200), us * 1_000));
        }
        golden.exchange(&flow(role), &mut cache, &http("BREW", None, MS));
        golden.exchange(&flow(role), &mut cache, &dns(28, Some(3), MS));
    }
    golden.publish();
    reader.snapshot()
}

fn others() -> [SelfMetric; 3] {
    let state =
        |state: &'static str, n| SelfMetric::gauge("pilotfish_netns", "Namespaces, by state.", n).with("state", state);
    [state("attached", 2.0), SelfMetric::counter("pilotfish_scans_total", "Scans.", 4), state("failed", 0.5)]
}

fn families() -> Vec<MetricFamily> {
    families_with(Histograms::Both)
}

fn families_with(histograms: Histograms) -> Vec<MetricFamily> {
    let bytes = Exposition::render_with(&snapshot(), &others(), Format::Protobuf, histograms);
    let mut rest = bytes.as_slice();
    let mut families = Vec::new();
    while !rest.is_empty() {
        families.push(MetricFamily::decode_length_delimited(&mut rest).unwrap());
    }
    families
}

#[test]
fn protobuf_is_decoded_by_the_schema_of_prometheus() {
    let families = families();
    let by_name = |name: &str| families.iter().find(|f| f.name == name).unwrap_or_else(|| panic!("no family {name}"));
    let server = by_name("http_server_request_duration_seconds");
    assert_eq!(server.r#type, MetricType::Histogram as i32);
    let get = server.metric.iter().find(|m| m.label.iter().any(|l| l.value == "GET")).unwrap();
    let histogram = get.histogram.as_ref().unwrap();
    assert_eq!((histogram.sample_count, histogram.schema, histogram.zero_count), (9, 5, 1));
    let length: u32 = histogram.positive_span.iter().map(|s| s.length).sum();
    assert_eq!(length as usize, histogram.positive_delta.len());
    assert_eq!(histogram.bucket.first().map(|b| (b.upper_bound, b.cumulative_count)), Some((0.0001, 4)));
    assert_eq!(histogram.bucket.last().map(|b| (b.upper_bound, b.cumulative_count)), Some((10.0, 8)));
    assert_eq!(by_name("pilotfish_scans_total").metric[0].counter.as_ref().unwrap().value, 4.0);
    assert_eq!(by_name("pilotfish_netns").metric.len(), 2);
}

// Prometheus refuses a native histogram whose buckets do not add up to its count.
#[test]
fn native_buckets_add_up_to_the_count() {
    let families = families();
    let histograms: Vec<_> = families.iter().flat_map(|f| &f.metric).filter_map(|m| m.histogram.as_ref()).collect();
    assert!(histograms.len() > 4);
    for histogram in histograms {
        let mut value = 0;
        let counts = histogram.positive_delta.iter().map(|delta| {
            value += delta;
            value as u64
        });
        assert_eq!(counts.sum::<u64>() + histogram.zero_count, histogram.sample_count);
    }
}

#[test]
fn all_formats_have_the_same_families() {
    let names: Vec<String> = families().into_iter().map(|f| f.name).collect();
    let of_text = |format, suffix: &str| -> Vec<String> {
        let text = String::from_utf8(Exposition::render(&snapshot(), &others(), format)).unwrap();
        let types = text.lines().filter_map(|l| l.strip_prefix("# TYPE ")).filter_map(|l| l.split_once(' '));
        types.map(|(name, kind)| if kind == "counter" { format!("{name}{suffix}") } else { name.to_owned() }).collect()
    };
    assert_eq!(of_text(Format::Text, ""), names);
    assert_eq!(of_text(Format::OpenMetrics, "_total"), names);
}

/// Reads a scrape with Python's reference parsers and prints `name{labels} value` of the samples
/// that the test asks for.
const PARSE: &str = r#"
import sys
if sys.argv[1] == "openmetrics":
    from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
else:
    from prometheus_client.parser import text_string_to_metric_families as parse
families = list(parse(sys.stdin.read()))
samples = {(s.name, s.labels.get("reporter"), s.labels.get("le"), s.labels.get("http_request_method"), s.labels.get("state")): s for f in families for s in f.samples}
def value(name, reporter=None, le=None, method=None, state=None): return samples[(name, reporter, le, method, state)].value
assert value("http_server_request_duration_seconds_bucket", "server", "0.0001", "GET") == 4
assert value("http_server_request_duration_seconds_bucket", "server", "+Inf", "GET") == 9
assert value("http_server_request_duration_seconds_count", "server", None, "GET") == 9
assert abs(value("http_server_request_duration_seconds_sum", "server", None, "GET") - 20.406342) < 1e-9
assert value("pilotfish_scans_total") == 4
assert value("pilotfish_netns", state="failed") == 0.5
assert samples[("pilotfish_tcp_open_connections", "client", None, None, None)].labels["client_workload"] == 'we"b\\\n'
print(len(families))
"#;

/// What the reference parser prints.
fn parse(check: &str, kind: &str, scrape: &[u8]) -> String {
    let python = |interpreter: &str, args: &[&str]| {
        let mut command = Command::new(interpreter);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    // The distribution's Python has the distribution's module; another one may come first in PATH.
    let interpreter = ["python3", "/usr/bin/python3"]
        .into_iter()
        .find(|interpreter| {
            python(interpreter, &["-c", "import prometheus_client"]).status().is_ok_and(|status| status.success())
        })
        .expect("no Python with prometheus_client: scripts/setup.sh --test installs python3-prometheus-client");
    let mut child = python(interpreter, &["-c", check, kind]).spawn().unwrap();
    child.stdin.take().unwrap().write_all(scrape).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(scrape)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn pythons_reference_parsers_read_both_texts() {
    for (kind, format) in [("openmetrics", Format::OpenMetrics), ("text", Format::Text)] {
        let families = families().len().to_string();
        let read = parse(PARSE, kind, &Exposition::render(&snapshot(), &others(), format));
        assert_eq!(read.trim(), families, "{kind}");
    }
}

#[test]
fn protobuf_has_the_buckets_that_were_asked_for() {
    for (asked, classic, native) in
        [(Histograms::Both, true, true), (Histograms::Native, false, true), (Histograms::Classic, true, false)]
    {
        let families = families_with(asked);
        let histograms = families.iter().flat_map(|f| &f.metric).filter_map(|m| m.histogram.as_ref());
        let mut seen = 0;
        for histogram in histograms {
            assert_eq!(histogram.bucket.len(), if classic { 19 } else { 0 }, "{asked:?}");
            // By these four Prometheus tells a native histogram from a classic one.
            let positive = histogram.positive_span.len() + histogram.positive_delta.len();
            let is_native = histogram.schema != 0 && histogram.zero_threshold > 0.0 && positive > 0;
            let is_classic_only = histogram.schema == 0 && histogram.zero_threshold == 0.0 && positive == 0;
            assert_eq!((is_native, is_classic_only), (native, !native), "{asked:?}");
            assert!(native || histogram.zero_count == 0);
            assert!(histogram.sample_count > 0 && histogram.sample_sum > 0.0);
            seen += 1;
        }
        assert!(seen > 4);
        assert_eq!(without_buckets(families), without_buckets(families_with(Histograms::Both)), "{asked:?}");
    }
}

fn without_buckets(mut families: Vec<MetricFamily>) -> Vec<MetricFamily> {
    for histogram in families.iter_mut().flat_map(|f| &mut f.metric).filter_map(|m| m.histogram.as_mut()) {
        let (sample_count, sample_sum) = (histogram.sample_count, histogram.sample_sum);
        *histogram = Histogram { sample_count, sample_sum, ..Histogram::default() };
    }
    families
}

// A text has no native buckets; what is left of them there is what Prometheus' own libraries leave.
#[test]
fn a_text_of_native_histograms_keeps_the_bucket_of_everything_the_count_and_the_sum() {
    for format in [Format::Text, Format::OpenMetrics] {
        let text = |histograms| {
            String::from_utf8(Exposition::render_with(&snapshot(), &others(), format, histograms)).unwrap()
        };
        let both = text(Histograms::Both);
        assert_eq!(both, String::from_utf8(Exposition::render(&snapshot(), &others(), format)).unwrap());
        assert_eq!(text(Histograms::Classic), both, "a text has classic ones only");
        let is_left = |line: &&str| !line.contains("_bucket{") || line.contains("le=\"+Inf\"");
        let left: Vec<&str> = both.lines().filter(is_left).collect();
        let native = text(Histograms::Native);
        assert_eq!(native.lines().collect::<Vec<_>>(), left);
        assert!(native.matches("le=\"+Inf\"").count() > 4 && native.len() * 2 < both.len());
    }
}

#[test]
fn pythons_reference_parsers_read_texts_of_native_histograms() {
    for (kind, format) in [("openmetrics", Format::OpenMetrics), ("text", Format::Text)] {
        let families = families().len().to_string();
        let scrape = Exposition::render_with(&snapshot(), &others(), format, Histograms::Native);
        let check = PARSE.lines().filter(|line| !line.contains("\"0.0001\"")).collect::<Vec<_>>().join("\n");
        assert_eq!(parse(&check, kind, &scrape).trim(), families, "{kind}");
    }
}

#[test]
fn promtool_finds_nothing_to_mend() {
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = promtool.spawn() else {
        eprintln!("skipped: promtool is not installed");
        return;
    };
    child.stdin.take().unwrap().write_all(&Exposition::render(&snapshot(), &others(), Format::Text)).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}
