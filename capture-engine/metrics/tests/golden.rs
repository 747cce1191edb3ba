//! What ends up in which series, and that nothing gets lost on the way.

mod common;

use common::*;
use flow_model::{Close, FlowDelta, FlowInfo, LossReason, Protocol, Role, Sink, Slot, Transport, Ts};
use golden_metrics::{Config, EdgeRow, Exposition, FlowCache, Format, Golden, Losses, OVERFLOW, Recent, Reporter};
use proptest::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn node(names: Table, config: Config) -> Node {
    let losses = Losses::default();
    let (golden, reader) = Golden::new(names, config, &losses);
    Node { golden, reader, losses }
}

impl Node {
    fn rows(&mut self) -> Vec<EdgeRow> {
        self.golden.publish();
        self.reader.snapshot().edges()
    }

    fn text(&mut self) -> String {
        self.golden.publish();
        String::from_utf8(Exposition::render(&self.reader.snapshot(), &[], Format::Text)).unwrap()
    }
}

#[track_caller]
fn has(text: &str, line: &str) {
    assert!(text.lines().any(|l| l == line), "no line {line:?} in\n{text}");
}

const EDGE: &str = r#"client_workload="web",client_namespace="shop",client_kind="Deployment",server_workload="api",server_namespace="shop",server_kind="Deployment""#;

#[test]
fn an_exchange_seen_at_both_ends_is_two_observations_of_one_edge() {
    let mut node = node(two_pods(), CONFIG);
    for role in [Role::Client, Role::Server] {
        node.golden.exchange(&flow(role), &mut FlowCache::default(), &http("GET", Some(200), 3 * MS));
    }
    let text = node.text();
    has(
        &text,
        &format!(
            r#"http_client_request_duration_seconds_count{{{EDGE},reporter="client",http_request_method="GET",http_response_status_code="200"}} 1"#
        ),
    );
    has(
        &text,
        &format!(
            r#"http_server_request_duration_seconds_count{{{EDGE},reporter="server",http_request_method="GET",http_response_status_code="200"}} 1"#
        ),
    );
    has(
        &text,
        &format!(
            r#"http_server_request_duration_seconds_sum{{{EDGE},reporter="server",http_request_method="GET",http_response_status_code="200"}} 0.003"#
        ),
    );
    has(&text, r#"pilotfish_exchanges_total{reporter="client",protocol="http1"} 1"#);
    let view = node.reader.snapshot().view();
    assert_eq!((view.edges().len(), view.edges_once().len()), (2, 1));
    assert_eq!(view.edges_once()[0].reporter, "client");
}

#[test]
fn failures_are_5xx_and_silence() {
    let mut node = node(two_pods(), CONFIG);
    let mut cache = FlowCache::default();
    for status in [Some(200), Some(404), Some(503), None] {
        node.golden.exchange(&flow(Role::Server), &mut cache, &http("GET", status, MS));
    }
    let row = node.rows()[0].golden;
    assert_eq!((row.requests, row.success, row.failures), (4, Some(0.5), 2));
    let text = node.text();
    has(
        &text,
        &format!(
            r#"http_server_request_duration_seconds_count{{{EDGE},reporter="server",http_request_method="GET",error_type="unanswered"}} 1"#
        ),
    );
    has(
        &text,
        &format!(
            r#"http_server_request_duration_seconds_count{{{EDGE},reporter="server",http_request_method="GET",http_response_status_code="503",error_type="503"}} 1"#
        ),
    );
}

#[test]
fn dns_lookups_name_their_answer_and_teach_the_names_of_the_asking_pod() {
    let mut node = node(two_pods(), CONFIG);
    let mut udp = flow(Role::Client);
    udp.tuple.transport = Transport::Udp;
    let mut cache = FlowCache::default();
    for (qtype, rcode) in [(1, Some(0)), (28, Some(2)), (9_999, None)] {
        node.golden.exchange(&udp, &mut cache, &dns(qtype, rcode, MS));
    }
    let text = node.text();
    has(
        &text,
        &format!(
            r#"dns_lookup_duration_seconds_count{{{EDGE},reporter="client",dns_question_type="A",dns_response_code="NOERROR"}} 1"#
        ),
    );
    has(
        &text,
        &format!(
            r#"dns_lookup_duration_seconds_count{{{EDGE},reporter="client",dns_question_type="AAAA",dns_response_code="SERVFAIL",error_type="SERVFAIL"}} 1"#
        ),
    );
    has(
        &text,
        &format!(
            r#"dns_lookup_duration_seconds_count{{{EDGE},reporter="client",dns_question_type="_OTHER",error_type="unanswered"}} 1"#
        ),
    );
    assert_eq!(node.golden.names().answers[0], (CLIENT, "api.shop".to_owned()));
    let learnt = node.golden.names().answers.len();
    node.golden.exchange(&flow(Role::Server), &mut FlowCache::default(), &dns(1, Some(0), MS));
    assert_eq!(node.golden.names().answers.len(), learnt, "a resolver's own answers teach its pod nothing");
}

#[test]
fn tcp_health_is_told_from_the_reporters_side() {
    let mut node = node(two_pods(), CONFIG);
    let mut cache = FlowCache::default();
    let opening = FlowDelta {
        bytes: [10, 20],
        retransmits: [1, 2],
        zero_windows: [0, 3],
        handshake_rtt_ns: Some(MS),
        opened: true,
        ..FlowDelta::default()
    };
    node.golden.flow(&flow(Role::Client), &mut cache, &opening);
    assert_eq!(node.rows()[0].golden.tcp_connections, 1);
    let text = node.text();
    has(&text, &format!(r#"pilotfish_tcp_sent_bytes_total{{{EDGE},reporter="client"}} 20"#));
    has(&text, &format!(r#"pilotfish_tcp_received_bytes_total{{{EDGE},reporter="client"}} 10"#));
    has(&text, &format!(r#"pilotfish_tcp_retransmits_total{{{EDGE},reporter="client",direction="sent"}} 2"#));
    has(&text, &format!(r#"pilotfish_tcp_zero_windows_total{{{EDGE},reporter="client",direction="sent"}} 3"#));
    has(&text, &format!(r#"pilotfish_tcp_handshake_rtt_seconds_sum{{{EDGE},reporter="client"}} 0.001"#));
    node.golden.flow(
        &flow(Role::Client),
        &mut cache,
        &FlowDelta { closed: Some(Close::Reset), ..FlowDelta::default() },
    );
    let text = node.text();
    has(&text, &format!(r#"pilotfish_tcp_open_connections{{{EDGE},reporter="client"}} 0"#));
    has(&text, &format!(r#"pilotfish_tcp_connections_closed_total{{{EDGE},reporter="client",reason="reset"}} 1"#));
    has(&text, &format!(r#"pilotfish_tcp_resets_total{{{EDGE},reporter="client"}} 1"#));
}

#[test]
fn a_flow_that_is_dropped_without_its_close_is_no_longer_open() {
    let mut node = node(two_pods(), CONFIG);
    let mut cache = FlowCache::default();
    node.golden.flow(&flow(Role::Client), &mut cache, &FlowDelta::default());
    assert_eq!(node.rows()[0].golden.tcp_connections, 1);
    drop(cache);
    assert_eq!(node.rows()[0].golden.tcp_connections, 0);
}

#[test]
fn a_role_that_becomes_known_moves_the_open_connection_to_its_edge() {
    let mut node = node(two_pods(), CONFIG);
    let mut cache = FlowCache::default();
    let mut joined = flow(Role::Unknown);
    joined.tuple.local.port = 1;
    node.golden.flow(&joined, &mut cache, &FlowDelta::default());
    joined.role = Role::Client;
    node.golden.flow(&joined, &mut cache, &FlowDelta::default());
    let open: Vec<(String, u64)> =
        node.rows().into_iter().map(|r| (format!("{}>{}", r.src.name, r.dst.name), r.golden.tcp_connections)).collect();
    assert_eq!(open, [("api>web".to_owned(), 0), ("web>api".to_owned(), 1)]);
}

#[test]
fn a_connection_older_than_what_is_known_of_its_peer_is_named_by_its_exchanges() {
    let mut node = node(Table { since: Ts(500 * MS), ..two_pods() }, CONFIG);
    let (flow, mut cache) = (flow(Role::Client), FlowCache::default());
    node.golden.flow(&flow, &mut cache, &FlowDelta::default());
    node.golden.exchange(&flow, &mut cache, &http("GET", Some(200), MS));
    let servers: Vec<(String, u64)> = node.rows().into_iter().map(|r| (r.dst.name, r.golden.requests)).collect();
    assert_eq!(servers, [("private".to_owned(), 0), ("api".to_owned(), 1)]);
}

// What a scrape says must agree with itself although the pipeline goes on, and counters never go back.
#[test]
fn a_scrape_during_traffic_is_consistent_and_never_goes_back() {
    let mut node = node(two_pods(), CONFIG);
    let (flow, mut cache) = (flow(Role::Client), FlowCache::default());
    node.golden.exchange(&flow, &mut cache, &http("GET", Some(200), MS));
    node.golden.publish();
    let (reader, done) = (node.reader.clone(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let scraping = scope.spawn(|| {
            let mut last = 0;
            while !done.load(Ordering::Acquire) {
                let row = reader.snapshot().edges()[0].golden;
                assert!(row.requests >= last && row.failures == 0 && row.p50.is_some());
                last = row.requests;
            }
        });
        for i in 0..20_000 {
            node.golden.exchange(&flow, &mut cache, &http("GET", Some(200 + i as u16 % 3), i * 1_000));
        }
        done.store(true, Ordering::Release);
        scraping.join().unwrap();
    });
}

#[test]
fn a_capture_has_a_reporter_of_its_own() {
    let mut node = node(two_pods(), CONFIG);
    let seen = FlowInfo { slot: Slot(0), ..flow(Role::Server) };
    node.golden.exchange(&seen, &mut FlowCache::default(), &http("GET", Some(200), MS));
    let row = &node.rows()[0];
    assert_eq!((row.src.name.as_str(), row.dst.name.as_str(), row.reporter.as_str()), ("web", "api", "capture"));
}

#[test]
fn what_exceeds_the_cap_keeps_its_counts_under_overflow_labels() {
    let mut node = node(two_pods(), Config { max_series: 2, ..CONFIG });
    let mut cache = FlowCache::default();
    for (i, status) in [200, 201, 202, 202, 500].into_iter().enumerate() {
        node.golden.exchange(&flow(Role::Client), &mut cache, &http("GET", Some(status), i as u64 * MS));
    }
    let rows: Vec<_> = node.rows().into_iter().map(|r| (r.src.name, r.golden.requests, r.golden.failures)).collect();
    assert_eq!(rows, [(OVERFLOW.to_owned(), 3, 1), ("web".to_owned(), 2, 0)]);
    assert_eq!(node.losses.rows()[0].total, 3);
    assert_eq!(node.reader.snapshot().exchanges(Reporter::Client, Protocol::Http1), 5);
}

#[test]
fn an_idle_series_leaves_unless_a_connection_is_open_and_returns_when_used() {
    let mut node = node(two_pods(), CONFIG);
    let (client, server) = (flow(Role::Client), flow(Role::Server));
    let (mut open, mut quiet) = (FlowCache::default(), FlowCache::default());
    let get = http("GET", Some(200), MS);
    node.golden.flow(&client, &mut open, &FlowDelta::default());
    node.golden.exchange(&client, &mut open, &get);
    node.golden.exchange(&server, &mut quiet, &get);
    node.golden.publish_if_due(Ts(2_000_000 * MS));
    node.golden.publish_if_due(Ts(2_000_001 * MS));
    let reporters: Vec<String> = node.rows().into_iter().map(|r| r.reporter).collect();
    assert_eq!(reporters, ["client"]);
    // The flow still holds the series that left; what it counts now must be seen.
    node.golden.exchange(&server, &mut quiet, &get);
    let rows: Vec<(String, u64)> = node.rows().into_iter().map(|r| (r.reporter, r.golden.requests)).collect();
    assert_eq!(rows, [("client".to_owned(), 1), ("server".to_owned(), 1)]);
    assert_eq!(node.reader.snapshot().exchanges(Reporter::Server, Protocol::Http1), 2);
}

#[test]
fn room_that_expiry_makes_is_used_by_flows_that_had_overflowed() {
    let mut node = node(two_pods(), Config { max_series: 1, ..CONFIG });
    let (mut first, mut second) = (FlowCache::default(), FlowCache::default());
    node.golden.exchange(&flow(Role::Client), &mut first, &http("GET", Some(200), MS));
    let post = http("POST", Some(200), MS);
    node.golden.exchange(&flow(Role::Client), &mut second, &post);
    assert_eq!(node.losses.rows()[0].total, 1);
    node.golden.publish_if_due(Ts(2_000_000 * MS));
    node.golden.exchange(&flow(Role::Client), &mut second, &post);
    assert_eq!(node.losses.rows()[0].total, 1);
    assert_eq!(node.rows()[0].src.name, "web");
}

#[test]
fn new_series_are_shown_when_they_are_due() {
    let mut node = node(two_pods(), CONFIG);
    node.golden.publish_if_due(Ts(1_000 * MS));
    node.golden.exchange(&flow(Role::Client), &mut FlowCache::default(), &http("GET", Some(200), MS));
    node.golden.publish_if_due(Ts(1_099 * MS));
    assert_eq!(node.reader.snapshot().series(), 0);
    node.golden.publish_if_due(Ts(1_100 * MS));
    assert_eq!(node.reader.snapshot().series(), 1);
}

#[test]
fn a_workload_is_shown_by_its_own_report_and_rates_are_of_the_span() {
    let mut node = node(two_pods(), CONFIG);
    let mut recent: Recent = Recent::new(Duration::from_secs(10), 6);
    recent.tick(Ts(0), &node.reader.snapshot());
    for role in [Role::Client, Role::Server] {
        let mut cache = FlowCache::default();
        for _ in 0..40 {
            node.golden.exchange(&flow(role), &mut cache, &http("GET", Some(200), 2 * MS));
        }
    }
    node.golden.publish();
    let rows = recent.view(Ts(20_000 * MS), &node.reader.snapshot()).workloads();
    assert_eq!(rows.len(), 1);
    assert_eq!(
        (rows[0].workload.name.as_str(), rows[0].golden.requests, rows[0].golden.success, rows[0].golden.rps),
        ("api", 40, Some(1.0), 2.0)
    );
    assert!((rows[0].golden.p99.unwrap() / 0.002 - 1.0).abs() < 0.011);
    for seconds in (10..=100).step_by(10) {
        recent.tick(Ts(seconds * 1_000 * MS), &node.reader.snapshot());
    }
    assert_eq!(recent.view(Ts(100_000 * MS), &node.reader.snapshot()).workloads(), []);
}

#[test]
fn lost_exchanges_are_told_by_reporter_and_reason() {
    let mut node = node(two_pods(), CONFIG);
    node.golden.exchanges_lost(&flow(Role::Server), &mut FlowCache::default(), LossReason::RingFull, 7);
    assert_eq!(node.reader.snapshot().exchanges_lost(Reporter::Server, LossReason::RingFull), 7);
    has(&node.text(), r#"pilotfish_exchanges_lost_total{reporter="server",reason="ring_full"} 7"#);
    has(&node.text(), r#"pilotfish_exchanges_lost_total{reporter="client",reason="gap"} 0"#);
}

#[test]
fn lost_exchanges_are_told_of_their_edge_and_those_of_nobody_are_not() {
    let mut node = node(two_pods(), CONFIG);
    let (tcp, mut udp) = (flow(Role::Client), flow(Role::Client));
    udp.tuple.transport = Transport::Udp;
    let mut cache = FlowCache::default();
    node.golden.exchange(&tcp, &mut cache, &http("GET", Some(200), MS));
    node.golden.exchanges_lost(&tcp, &mut cache, LossReason::RingFull, 7);
    node.golden.exchanges_lost(&tcp, &mut cache, LossReason::Gap, 2);
    node.golden.exchanges_lost(&udp, &mut FlowCache::default(), LossReason::Gap, 3);
    let mut nobodys = flow(Role::Server);
    (nobodys.tuple.local.ip, nobodys.tuple.remote.ip) = ([0, 0, 0, 0].into(), [0, 0, 0, 0].into());
    node.golden.exchanges_lost(&nobodys, &mut FlowCache::default(), LossReason::Limit, 5);
    let text = node.text();
    let of = |name: &str| -> Vec<&str> { text.lines().filter(|line| line.starts_with(name)).collect() };
    let [of_tcp, of_udp] = ["tcp", "udp"].map(|transport| of(&format!("pilotfish_{transport}_exchanges_lost_total{{")));
    let [counted] = of("http_client_request_duration_seconds_count{")[..] else { panic!("{text}") };
    let edge =
        |line: &str| line.split_once("server_kind").map(|(before, _)| before.split_once('{').unwrap().1.to_owned());
    assert!(matches!(of_tcp[..], [line] if line.ends_with(" 9") && edge(line) == edge(counted)), "{of_tcp:?}");
    assert!(matches!(of_udp[..], [line] if line.ends_with(" 3") && edge(line) == edge(counted)), "{of_udp:?}");
    has(&text, r#"pilotfish_exchanges_lost_total{reporter="server",reason="limit"} 5"#);
}

proptest! {
    #[test]
    fn every_exchange_is_in_one_series_whatever_the_cap(cap in 0usize..6, seen in prop::collection::vec((0usize..3, 0u16..4, any::<bool>(), 0u8..3), 0..200)) {
        let mut node = node(two_pods(), Config { max_series: cap, ..CONFIG });
        let mut flows: Vec<(FlowInfo, FlowCache)> = [Role::Client, Role::Server, Role::Unknown].map(|r| (flow(r), FlowCache::default())).into();
        for (flow, status, answered, version) in &seen {
            let (info, cache) = &mut flows[*flow];
            node.golden.names_mut().version += u64::from(*version == 0);
            node.golden.exchange(info, cache, &http("GET", answered.then_some(199 + 100 * status), MS));
        }
        let total: u64 = node.rows().iter().map(|r| r.golden.requests).sum();
        let counted: u64 = Reporter::ALL.map(|r| node.reader.snapshot().exchanges(r, Protocol::Http1)).iter().sum();
        prop_assert_eq!((total, counted), (seen.len() as u64, seen.len() as u64));
    }
}
