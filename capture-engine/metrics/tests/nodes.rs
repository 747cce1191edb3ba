//! The series of many agents on one page.

mod common;

use common::*;
use flow_model::{FlowDelta, LossReason, Role, Sink, Transport};
use golden_metrics::{Exposition, FlowCache, Format, Golden, Histograms, Losses, NodePage, RowKey, SelfMetric};
use std::collections::BTreeSet;

fn node() -> (Node, [FlowCache; 2]) {
    let losses = Losses::default();
    losses.place("kernel", "ring_full", "message heads").add(5);
    let (golden, reader) = Golden::new(two_pods(), CONFIG, &losses);
    let mut node = Node { golden, reader, losses };
    let mut open = [FlowCache::default(), FlowCache::default()];
    for (role, open) in [Role::Client, Role::Server].into_iter().zip(&mut open) {
        let flow = flow(role);
        for record in
            [http("GET", Some(200), 3 * MS), http("GET", Some(503), MS), http("PUT", None, MS), dns(1, Some(0), 900)]
        {
            node.golden.exchange(&flow, &mut FlowCache::default(), &record);
        }
        node.golden.exchanges_lost(&flow, &mut FlowCache::default(), LossReason::Gap, 3);
        let delta = FlowDelta {
            bytes: [10, 20],
            retransmits: [1, 2],
            handshake_rtt_ns: Some(70_000),
            opened: true,
            ..FlowDelta::default()
        };
        node.golden.flow(&flow, open, &delta);
        let mut datagrams = flow;
        datagrams.tuple.transport = Transport::Udp;
        node.golden.flow(&datagrams, &mut FlowCache::default(), &FlowDelta { bytes: [7, 8], ..FlowDelta::default() });
    }
    node.golden.publish();
    (node, open)
}

type Rows = Vec<(RowKey, Vec<u8>)>;

fn rows(node: &Node) -> Rows {
    let mut rows = Vec::new();
    node.reader.snapshot().rows(&mut |key, value| rows.push((RowKey::read(key).unwrap(), value.to_vec())));
    rows
}

fn page(nodes: &[(&str, &Rows)], format: Format, histograms: Histograms) -> Vec<u8> {
    let mut page = NodePage::default();
    for (node, rows) in nodes {
        rows.iter().for_each(|(key, value)| page.add(node, key, value));
    }
    let mut bytes = Vec::new();
    Exposition::render_nodes(&page, &[], format, histograms, &mut |piece| bytes.extend_from_slice(piece));
    bytes
}

/// A line, with its labels in order and one more of them.
fn sorted(line: &str, more: Option<&str>) -> String {
    let Some((name, rest)) = line.split_once('{').filter(|_| !line.starts_with('#')) else { return line.to_owned() };
    let (labels, value) = rest.rsplit_once('}').unwrap();
    // None of these has a comma in it.
    let labels: BTreeSet<&str> = labels.split(',').chain(more).collect();
    format!("{name}{labels:?}{value}")
}

#[test]
fn the_page_of_one_node_is_its_agents_own_with_a_label_more() {
    let (node, _open) = node();
    let rows = rows(&node);
    for format in [Format::Text, Format::OpenMetrics] {
        for histograms in [Histograms::Both, Histograms::Native, Histograms::Classic] {
            let own = Exposition::render_with(&node.reader.snapshot(), &[], format, histograms);
            let own = String::from_utf8(own).unwrap();
            let of_series = own.lines().filter(|line| !line.contains("pilotfish_metrics_"));
            let expected: Vec<String> = of_series.map(|line| sorted(line, Some("node=\"n1\""))).collect();
            let shown = String::from_utf8(page(&[("n1", &rows)], format, histograms)).unwrap();
            for (shown, expected) in shown.lines().zip(&expected) {
                assert_eq!(&sorted(shown, None), expected);
            }
            assert_eq!(shown.lines().count(), expected.len());
        }
    }
}

#[test]
fn each_series_of_each_node_is_there_once() {
    let (first, _open) = node();
    let (mut second, _also_open) = node();
    second.golden.exchange(&flow(Role::Server), &mut FlowCache::default(), &http("DELETE", Some(404), MS));
    second.golden.publish();
    let (a, b) = (rows(&first), rows(&second));
    let shown = String::from_utf8(page(&[("n1", &a), ("n2", &b)], Format::Text, Histograms::Both)).unwrap();
    let samples = shown.lines().filter(|line| !line.starts_with('#'));
    let names: BTreeSet<&str> =
        samples.clone().filter_map(|line| line.rsplit_once(' ')).map(|(name, _)| name).collect();
    assert_eq!(names.len(), samples.count());
    let families: Vec<&str> = shown.lines().filter(|line| line.starts_with("# TYPE")).collect();
    assert_eq!(families.len(), families.iter().collect::<BTreeSet<_>>().len(), "a family is in one piece");
    assert!(names.iter().any(|name| name.contains("DELETE") && name.contains("node=\"n2\"")));
    assert!(!names.iter().any(|name| name.contains("DELETE") && name.contains("node=\"n1\"")));
}

#[test]
fn a_page_without_nodes_names_what_an_agents_page_names() {
    let mut shown = Vec::new();
    let others = [SelfMetric::gauge("pilotfish_companion_agents", "Agents.", 0.0)];
    let take = &mut |piece: &[u8]| shown.extend_from_slice(piece);
    Exposition::render_nodes(&NodePage::default(), &others, Format::OpenMetrics, Histograms::Native, take);
    let shown = String::from_utf8(shown).unwrap();
    assert!(shown.contains("# TYPE http_server_request_duration_seconds histogram\n"));
    assert!(
        shown.ends_with("# TYPE pilotfish_companion_agents gauge\npilotfish_companion_agents 0\n# EOF\n"),
        "{shown}"
    );
}

#[test]
fn a_value_that_nobody_wrote_is_left_out() {
    let (node, _open) = node();
    let mut rows = rows(&node);
    let all = page(&[("n1", &rows)], Format::Protobuf, Histograms::Native).len();
    rows.iter_mut().for_each(|(_, value)| *value = vec![0xff, 0xff]);
    let none = page(&[("n1", &rows)], Format::Protobuf, Histograms::Native).len();
    assert!(none < all / 2, "{none} of {all}");
}
