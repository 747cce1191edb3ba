//! The series of several agents as one table.

mod common;

use common::*;
use flow_model::{FlowDelta, LossReason, Protocol, Role, Sink, Transport};
use golden_metrics::{Cluster, FlowCache, Golden, Losses, Nodes, RowKey, RowValue};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::Duration;

fn node() -> Node {
    let losses = Losses::default();
    losses.place("kernel", "ring_full", "message heads").add(5);
    let (golden, reader) = Golden::new(two_pods(), CONFIG, &losses);
    Node { golden, reader, losses }
}

/// Connections stay open for as long as their caches live.
#[derive(Default)]
struct Open(Vec<FlowCache>);

impl Node {
    fn see(&mut self, seen: Seen, open: &mut Open) {
        let Seen { at_client, what, ns } = seen;
        let role = if at_client { Role::Client } else { Role::Server };
        let (flow, mut cache) = (flow(role), FlowCache::default());
        match what {
            0 => self.golden.exchange(&flow, &mut cache, &http("GET", Some(200), ns)),
            1 => self.golden.exchange(&flow, &mut cache, &http("GET", Some(503), ns)),
            2 => self.golden.exchange(&flow, &mut cache, &http("POST", None, ns)),
            3 => self.golden.exchange(&flow, &mut cache, &dns(1, Some(0), ns)),
            4 => self.golden.exchanges_lost(&flow, &mut cache, LossReason::Gap, ns),
            5 => {
                let delta = FlowDelta {
                    bytes: [ns % 900, 7],
                    opened: true,
                    handshake_rtt_ns: Some(ns),
                    ..FlowDelta::default()
                };
                self.golden.flow(&flow, &mut cache, &delta);
                open.0.push(cache);
            }
            _ => {
                let mut datagrams = flow.clone();
                datagrams.tuple.transport = Transport::Udp;
                let delta = FlowDelta { bytes: [ns % 900, 9], ..FlowDelta::default() };
                self.golden.flow(&datagrams, &mut cache, &delta);
            }
        }
    }

    fn bytes(&mut self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.golden.publish();
        let mut rows = Vec::new();
        self.reader.snapshot().rows(&mut |key, value| rows.push((key.to_vec(), value.to_vec())));
        rows
    }

    fn rows(&mut self) -> Rows {
        let read = |(key, value): &(Vec<u8>, Vec<u8>)| (RowKey::read(key).unwrap(), RowValue::read(value).unwrap());
        Rows(self.bytes().iter().map(read).collect())
    }
}

#[derive(Clone)]
struct Rows(Vec<(RowKey, RowValue)>);

impl Rows {
    fn live(&self, live: bool) -> (bool, impl Iterator<Item = (&RowKey, RowValue)>) {
        (live, self.0.iter().map(|(key, value)| (key, value.clone())))
    }

    /// What was counted since `earlier`.
    fn count(&self, now: u64, earlier: &Rows, cluster: &mut Cluster) {
        for (key, value) in &self.0 {
            let was = earlier.0.iter().find(|(known, _)| known == key).map(|(_, was)| was);
            cluster.count(Duration::from_secs(now), key, was, value);
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    at_client: bool,
    what: u8,
    ns: u64,
}

fn any_seen() -> impl Strategy<Value = Seen> {
    let ns = (0u32..45).prop_flat_map(|bits| 0..=(u64::MAX >> (63 - bits)));
    (any::<bool>(), 0u8..7, ns).prop_map(|(at_client, what, ns)| Seen { at_client, what, ns })
}

proptest! {
    #[test]
    fn sums_and_quantiles_over_nodes_are_those_of_one_that_saw_it_all(
        seen in proptest::collection::vec((0usize..4, any_seen()), 1..150),
    ) {
        let (mut whole, mut nodes) = (node(), [node(), node(), node(), node()]);
        let mut open = Open::default();
        for (at, seen) in seen {
            whole.see(seen, &mut open);
            nodes[at].see(seen, &mut open);
        }
        whole.golden.publish();
        let rows = nodes.each_mut().map(Node::rows);
        let table = Cluster::totals(rows.iter().map(|rows| rows.live(true)));
        let edges: Vec<_> = table.edges().into_iter().map(|edge| edge.row).collect();
        prop_assert_eq!(edges, whole.reader.snapshot().edges());
        let workloads: Vec<_> = table.workloads().into_iter().map(|workload| workload.row).collect();
        prop_assert_eq!(workloads, whole.reader.snapshot().workloads());
    }

    #[test]
    fn bytes_that_nobody_wrote_are_no_row_or_one_that_adds_up(
        key in proptest::collection::vec(any::<u8>(), 0..60),
        values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 2),
        fields in proptest::collection::vec((1u64..20, any::<u64>()), 0..12),
    ) {
        let _ = RowKey::read(&key);
        let mut numbers = Vec::new();
        for (field, value) in fields {
            numbers.extend([field as u8 * 8, 0xff, 0xff, value as u8 & 0x7f]);
        }
        let mut seen = node();
        (0..7).for_each(|what| seen.see(Seen { at_client: true, what, ns: 9 }, &mut Open::default()));
        let rows = seen.rows();
        let mut cluster = Cluster::new(Duration::from_secs(10), 2);
        let values: Vec<RowValue> = values.iter().chain([&numbers]).filter_map(|bytes| RowValue::read(bytes)).collect();
        for (key, _) in &rows.0 {
            for (i, value) in values.iter().enumerate() {
                cluster.count(Duration::from_secs(i as u64), key, values.first(), value);
                let agents = [(true, [(key, value.clone()), (key, value.clone())].into_iter())];
                prop_assert!(cluster.table(Duration::from_secs(60), agents.into_iter()).edges().len() < 9);
            }
        }
    }
}

#[test]
fn every_series_and_every_total_has_a_key_of_its_own() {
    let (mut node, mut open) = (node(), Open::default());
    for at_client in [true, false] {
        (0..7).for_each(|what| node.see(Seen { at_client, what, ns: 5_000 }, &mut open));
    }
    let bytes = node.bytes();
    let keys: BTreeSet<&Vec<u8>> = bytes.iter().map(|(key, _)| key).collect();
    // Totals: two reporters by each protocol and each of five reasons, and the places.
    let totals = 2 * (Protocol::ALL.len() + 5) + node.losses.rows().len();
    assert_eq!((keys.len(), bytes.len()), (bytes.len(), node.reader.snapshot().series() + totals));
    assert!(keys.iter().all(|key| RowKey::read(key).is_some()));
    // Nothing that was counted is missing from the values.
    let text = format!("{:?}", node.rows().0);
    for figure in ["sum_ns: 5000", "total: 5000", "open: 1", "opened: 1", "100", "1000"] {
        assert!(text.contains(figure), "{figure}: {text}");
    }
}

#[test]
fn a_key_has_the_bytes_that_it_always_had() {
    let mut node = node();
    node.see(Seen { at_client: true, what: 1, ns: 5_000 }, &mut Open::default());
    let bytes = node.bytes();
    let shown = |bytes: &[u8]| bytes.escape_ascii().to_string();
    assert_eq!(
        shown(&bytes[0].0),
        r#"\n\x04http\x12\x17\n\x03web\x12\x04shop\x1a\nDeployment\x1a\x17\n\x03api\x12\x04shop\x1a\nDeployment*\x06client"#
            .to_owned()
            + r#"2\x1a\n\x13http_request_method\x12\x03GET2 \n\x19http_response_status_code\x12\x035032\x11\n\nerror_type\x12\x03503"#
    );
    // 5,000 ns, one value in native bucket -563 and in the first classic one; 100 and 1,000 bytes.
    assert_eq!(
        shown(&bytes[0].1),
        r#"\n\x1f\x08\x88\'\x10\x00\x1a\x03\xe5\x08\x01\"\x13\x01"#.to_owned()
            + &r"\x00".repeat(18)
            + r"\x10d\x18\xe8\x07"
    );
}

#[test]
fn a_key_of_another_version_is_not_taken_for_one_of_ours() {
    let mut node = node();
    node.see(Seen { at_client: true, what: 0, ns: 5_000 }, &mut Open::default());
    let (key, _) = &node.bytes()[0];
    let changed = |from: &[u8], to: &[u8]| {
        let at = key.windows(from.len()).position(|window| window == from).unwrap();
        [&key[..at], to, &key[at + from.len()..]].concat()
    };
    let more = |field: &[u8]| [key, field].concat();
    let odd = [
        changed(b"http", b"smtp"),
        changed(b"Deployment", b"Deploymint"),
        changed(b"client", b"clamor"),
        changed(b"http_request_method", b"http_request_merhod"),
        // A field more, one twice, another kind of field.
        more(b"\x42\x01x"),
        more(b"\x2a\x06client"),
        more(b"\x08\x01"),
        more(b"\xff"),
        Vec::new(),
    ];
    for key in odd {
        assert_eq!(RowKey::read(&key), None, "{}", key.escape_ascii());
    }
    // A value may say more than we know.
    let more = RowValue::read(b"\x10\x05\xa2\x06\x01x\xa8\x06\x07").unwrap();
    assert_eq!(more, RowValue::read(b"\x10\x05").unwrap());
}

/// Two agents: what each counted between its pushes.
#[test]
fn rates_are_what_was_counted_between_pushes() {
    let (mut nodes, mut open) = ([node(), node()], Open::default());
    let get = Seen { at_client: false, what: 0, ns: 2 * MS };
    let mut cluster = Cluster::new(Duration::from_secs(10), 6);
    // Whatever they had before is no rate.
    (0..1_000).for_each(|_| nodes[0].see(get, &mut open));
    let mut before = nodes.each_mut().map(Node::rows);
    cluster.table(Duration::ZERO, before.iter().map(|rows| rows.live(true)));
    for second in (10..=60).step_by(10) {
        (0..20).for_each(|_| nodes[0].see(get, &mut open));
        (0..10).for_each(|_| nodes[1].see(get, &mut open));
        let after = nodes.each_mut().map(Node::rows);
        (0..2).for_each(|i| after[i].count(second, &before[i], &mut cluster));
        before = after;
    }
    let shown = |cluster: &mut Cluster, second, agents: [(bool, &Rows); 2]| {
        let agents = agents.map(|(live, rows)| rows.live(live));
        let table = cluster.table(Duration::from_secs(second), agents.into_iter());
        let workloads = table.workloads();
        // What was idle has no row.
        let Some(workload) = workloads.first() else { return (0, 0, None, Nodes::default()) };
        let golden = &workload.row.golden;
        (golden.requests, golden.rps.round() as u64, golden.success, workload.nodes)
    };
    let [a, b] = &before;
    let both = shown(&mut cluster, 60, [(true, a), (true, b)]);
    assert_eq!(both, (180, 3, Some(1.0), Nodes { live: 2, all: 2 }));
    // The second one is silent: the row says so.
    let one = shown(&mut cluster, 60, [(true, a), (false, b)]);
    assert_eq!(one.3, Nodes { live: 1, all: 2 });
    // One that began anew: what it has is new, and nothing is below zero.
    let mut fresh = node();
    fresh.see(get, &mut open);
    let fresh = fresh.rows();
    fresh.count(61, a, &mut cluster);
    assert_eq!(shown(&mut cluster, 61, [(true, &fresh), (true, b)]).0, 181);
    // A minute later nothing of it is left, and after an hour neither.
    for second in [140, 3_600, 90_000] {
        assert_eq!(shown(&mut cluster, second, [(true, &fresh), (true, b)]).0, 0);
    }
}

#[test]
fn connections_of_an_agent_that_is_silent_are_not_open() {
    let (mut nodes, mut open) = ([node(), node()], Open::default());
    let connects = Seen { at_client: true, what: 5, ns: 5_000 };
    nodes.iter_mut().for_each(|node| node.see(connects, &mut open));
    let rows = nodes.each_mut().map(Node::rows);
    let mut cluster = Cluster::new(Duration::from_secs(10), 6);
    for (live, expected) in [(true, 2), (false, 1)] {
        let agents = [rows[0].live(true), rows[1].live(live)];
        let edges = cluster.table(Duration::from_secs(1), agents.into_iter()).edges();
        assert_eq!((edges[0].row.golden.tcp_connections, &*edges[0].row.protocol), (expected, "tcp"));
    }
}

/// What both ends of an edge told counts once, and every exchange has a status.
#[test]
fn an_edge_in_detail_adds_up_to_its_row() {
    let (mut nodes, mut open) = ([node(), node()], Open::default());
    let mut cluster = Cluster::new(Duration::from_secs(10), 6);
    cluster.begin(Duration::ZERO);
    let before = nodes.each_mut().map(Node::rows);
    for (i, at_client) in [(0, true), (1, false)] {
        let mut sees = |what, times| {
            (0..times).for_each(|_| nodes[i].see(Seen { at_client, what, ns: 2 * MS }, &mut open));
        };
        [(0, 6), (1, 3), (2, 1), (3, 4), (5, 2)].into_iter().for_each(|(what, times)| sees(what, times));
        nodes[i].see(Seen { at_client, what: 4, ns: 9 }, &mut open);
        nodes[i].losses.place("kernel", "ring_full", "message heads").add(7);
    }
    let after = nodes.each_mut().map(Node::rows);
    (0..2).for_each(|i| after[i].count(5, &before[i], &mut cluster));
    let now = Duration::from_secs(10);
    let table = cluster.table(now, [after[0].live(true), after[1].live(false)].into_iter());
    let pairs = table.pairs();
    assert_eq!(pairs.len(), 1);
    let pair = &pairs[0];
    let names: Vec<&str> = pair.protocols.iter().map(|(name, _)| *name).collect();
    assert_eq!((names, pair.golden.requests, pair.nodes), (vec!["dns", "http"], 14, Nodes { live: 1, all: 1 }));
    assert_eq!((pair.lost, pair.golden.tcp_connections), (9, 2));
    let lost = table.losses().iter().find(|loss| loss.reason == "ring_full").unwrap();
    assert_eq!((&*lost.stage, lost.total), ("kernel", 14));

    let detail = cluster.detail(now, &pair.client, &pair.server);
    let of = |name| detail.protocols.iter().find(|protocol| protocol.protocol == name).unwrap();
    let http = of("http");
    assert_eq!((http.reporter, http.golden.requests, http.golden.failures), ("client", 10, 4));
    let codes: Vec<_> = http.codes.iter().map(|code| (&*code.status, code.requests, code.is_failure)).collect();
    assert_eq!(codes, [("200", 6, false), ("503", 3, true), ("unanswered", 1, true)]);
    // What got no answer has no latency.
    assert_eq!(http.buckets.iter().map(|(_, count)| count).sum::<u64>(), 9);
    assert_eq!(of("dns").codes.iter().map(|code| code.requests).sum::<u64>(), 4);
    let tcp = detail.transports.iter().find(|transport| transport.transport == "tcp").unwrap();
    assert_eq!((tcp.reporter, tcp.opened, tcp.handshakes, tcp.lost), ("client", 2, 2, 9));
    // Of others, or of nobody, there is nothing.
    let nobody = golden_metrics::Party { name: "nobody".to_owned(), ..pair.client.clone() };
    assert!(cluster.detail(now, &nobody, &pair.server).protocols.is_empty());
    assert!(cluster.detail(now, &pair.server, &pair.client).transports.is_empty());
    // A minute later nothing was counted of late, and the edge is still there.
    let table = cluster.table(Duration::from_secs(200), [after[0].live(true)].into_iter());
    assert_eq!((table.pairs().len(), table.pairs()[0].golden.requests, table.pairs()[0].lost), (1, 0, 0));
    assert!(table.losses().is_empty());
}
