//! One pod that makes up statuses, methods, names or servers spoils its own figures, and leaves room
//! and exact figures to everybody else.
#![forbid(unsafe_code)]

mod common;

use common::*;
use flow_model::{DbOperation, Detail, FlowDelta, FlowInfo, L7Record, Outcome, Protocol, Role, Sink, WorkloadKind};
use golden_metrics::{Config, Exposition, FlowCache, Format, Golden, Losses, OVERFLOW, Reporter};

const METHODS: [&str; 10] = ["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "CONNECT", "TRACE", "QUERY"];

impl Node {
    fn lost(&self, reason: &str) -> u64 {
        self.losses.rows().iter().find(|row| row.reason == reason).map_or(0, |row| row.total)
    }

    fn text(&self) -> String {
        String::from_utf8(Exposition::render(&self.reader.snapshot(), &[], Format::Text)).expect("UTF-8")
    }

    /// Series of HTTP at clients that have this in their labels.
    fn series(&self, with: &str) -> usize {
        let name = "http_client_request_duration_seconds_count";
        self.text().lines().filter(|line| line.starts_with(name) && line.contains(with)).count()
    }

    fn requests(&self, with: impl Fn(&golden_metrics::EdgeRow) -> bool) -> u64 {
        self.reader.snapshot().edges().iter().filter(|row| with(row)).map(|row| row.golden.requests).sum()
    }
}

/// A node with `servers` in the namespaces that are named.
fn node_with(servers: &[(&str, u8)], config: Config) -> Node {
    let mut names = two_pods();
    for (namespace, server) in servers {
        let name = format!("{namespace}-{server}");
        names.remote.insert([10, 1, 0, *server].into(), named(&name, namespace, WorkloadKind::Deployment));
    }
    let losses = Losses::default();
    let (golden, reader) = Golden::new(names, config, &losses);
    Node { golden, reader, losses }
}

fn to(server: u8) -> FlowInfo {
    let mut flow = flow(Role::Client);
    flow.tuple.remote.ip = [10, 1, 0, server].into();
    flow
}

/// Everything that a hostile pair of pods can say.
fn everything() -> impl Iterator<Item = L7Record> {
    METHODS
        .into_iter()
        .chain(["BREW"])
        .flat_map(|method| (100..600).map(Some).chain([None, Some(999)]).map(move |status| http(method, status, MS)))
}

#[test]
fn an_edge_that_says_everything_has_64_series_and_the_others_keep_theirs() {
    let mut node = node_with(&[("shop", 1), ("shop", 2)], Config { max_series: 200, ..CONFIG });
    let (mut hostile, mut honest) = (FlowCache::default(), FlowCache::default());
    let mut sent = 0;
    for record in everything() {
        node.golden.exchange(&to(1), &mut hostile, &record);
        sent += 1;
    }
    for status in [200, 201, 404, 503] {
        node.golden.exchange(&to(2), &mut honest, &http("GET", Some(status), MS));
    }
    node.golden.publish();
    assert!((48..=64).contains(&node.series("shop-1")), "{} series", node.series("shop-1"));
    assert_eq!(node.series("shop-2"), 4, "exactly as they were");
    assert_eq!(node.requests(|row| row.dst.name == "shop-1"), sent, "nothing of it is lost, and none is elsewhere");
    assert_eq!(node.lost("series_cap"), 0);
    assert!(node.lost("status_cap") > 500 && node.lost("method_cap") > 500);
    let text = node.text();
    for kept in [
        r#"http_request_method="_OTHER",http_response_status_code="5xx",error_type="5xx""#,
        r#"http_request_method="_OTHER",error_type="unanswered""#,
    ] {
        assert!(text.contains(kept), "{kept} in\n{text}");
    }
    // Failures are failures whatever their series had to give up: 5xx and no answer, of each method.
    let failures: u64 = node
        .reader
        .snapshot()
        .edges()
        .iter()
        .filter(|row| row.dst.name == "shop-1")
        .map(|row| row.golden.failures)
        .sum();
    assert_eq!(failures, 11 * 101);
}

#[test]
fn a_namespace_leaves_room_to_others_however_many_workloads_it_asks() {
    let hostile: Vec<(&str, u8)> = (0..200).map(|server| ("shop", server)).collect();
    let mut node = node_with(&hostile, Config { max_series: 400, ..CONFIG });
    node.golden.names_mut().local.insert(SERVER, named("calm", "other", WorkloadKind::Deployment));
    let mut sent = 0;
    for server in 0..200 {
        let mut cache = FlowCache::default();
        for record in everything().step_by(97) {
            node.golden.exchange(&to(server), &mut cache, &record);
            sent += 1;
        }
    }
    // Ten edges of another namespace, three statuses each.
    for server in 0..10 {
        let (mut flow, mut cache) = (to(server), FlowCache::default());
        flow.slot = SERVER;
        for status in [200, 404, 500] {
            node.golden.exchange(&flow, &mut cache, &http("GET", Some(status), MS));
        }
    }
    node.golden.publish();
    assert_eq!(node.series(r#"client_workload="calm""#), 30, "{}", node.text());
    let snapshot = node.reader.snapshot();
    assert_eq!(snapshot.exchanges(Reporter::Client, Protocol::Http1), sent + 30);
    assert_eq!(node.requests(|_| true), sent + 30);
    assert!(node.series(r#"client_workload="web""#) <= 350, "seven eighths at most");
    assert!(node.lost("series_cap") > 0 && node.requests(|row| row.src.name == OVERFLOW) > 0);
}

#[test]
fn a_namespace_leaves_edges_to_others() {
    let mut names = two_pods();
    names.local.insert(SERVER, named("calm", "other", WorkloadKind::Deployment));
    for i in 0..2_000_u32 {
        let [_, _, high, low] = i.to_be_bytes();
        names
            .remote
            .insert([10, 2, high, low].into(), named(&format!("made-up-{i}.example"), "", WorkloadKind::External));
    }
    let (mut golden, reader) = Golden::new(names, Config { max_series: 400, ..CONFIG }, &Losses::default());
    let mut see = |slot, i: u32| {
        let [_, _, high, low] = i.to_be_bytes();
        let mut flow = flow(Role::Client);
        (flow.slot, flow.tuple.remote.ip) = (slot, [10, 2, high, low].into());
        golden.flow(&flow, &mut FlowCache::default(), &FlowDelta { opened: true, ..FlowDelta::default() });
    };
    (0..2_000).for_each(|i| see(CLIENT, i));
    (0..40).for_each(|i| see(SERVER, i));
    golden.publish();
    let rows = reader.snapshot().edges();
    assert_eq!(rows.iter().filter(|row| row.src.name == "calm").count(), 40);
}

#[test]
fn names_go_first_and_those_that_are_known_stay() {
    let mut node = node_with(&[("shop", 1)], Config { max_series: 10_000, ..CONFIG });
    let mut cache = FlowCache::default();
    let db = |table: String, operation: &str| {
        let (system, code) = ("postgresql", "".into());
        let operation = DbOperation {
            system,
            operation: operation.to_owned().into(),
            collection: table.into(),
            namespace: "".into(),
            code,
        };
        L7Record { detail: Detail::Db(operation), outcome: Outcome::Answered, ..http("", Some(200), MS) }
    };
    for i in 0..1_000 {
        let operation = ["SELECT", "INSERT", "DELETE"][i % 3];
        node.golden.exchange(&to(1), &mut cache, &db(format!("t{i}"), operation));
    }
    node.golden.publish();
    let text = node.text();
    let series = text.lines().filter(|line| line.starts_with("db_client_operation_duration_seconds_count")).count();
    assert!(series <= 64, "{series}");
    assert!(text.contains(r#"db_operation_name="_OTHER",db_collection_name="_OTHER""#), "{text}");
    assert!(text.contains(r#"db_operation_name="SELECT",db_collection_name="t0""#), "{text}");
    assert!(node.lost("names_cap") >= 950 && node.lost("method_cap") == 0);
    assert_eq!(node.requests(|_| true), 1_000);
}

#[test]
fn room_that_expiry_makes_gives_an_edge_its_share_again() {
    let mut node = node_with(&[("shop", 1)], CONFIG);
    let mut cache = FlowCache::default();
    everything().for_each(|record| node.golden.exchange(&to(1), &mut cache, &record));
    node.golden.publish_if_due(flow_model::Ts(2_000_000 * MS));
    node.golden.publish();
    assert_eq!(node.series("shop-1"), 0, "all idle");
    let before = node.lost("status_cap");
    node.golden.exchange(&to(1), &mut cache, &http("GET", Some(418), MS));
    node.golden.publish();
    assert_eq!((node.series(r#"status_code="418""#), node.lost("status_cap")), (1, before));
}

#[test]
fn nothing_of_a_capture_is_shared_out_by_namespace() {
    let mut node =
        node_with(&(0..40).map(|server| ("shop", server)).collect::<Vec<_>>(), Config { max_series: 40, ..CONFIG });
    for server in 0..40 {
        let mut flow = to(server);
        flow.slot = flow_model::Slot(0);
        node.golden.exchange(&flow, &mut FlowCache::default(), &http("GET", Some(200), MS));
    }
    assert_eq!(node.lost("series_cap"), 0);
}
