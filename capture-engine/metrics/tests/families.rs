//! What each family makes of a record. The records are made by hand: what matters here is their
//! detail, not their protocol.

mod common;

use common::*;
use flow_model::{
    ChannelTraffic, DbOperation, Detail, L7Record, MessagingOperation, Notes, Outcome, Protocol, Role, RpcCall, Sink,
    TlsHandshake,
};
use golden_metrics::{Config, Exposition, FlowCache, Format, Golden, Losses};

fn node(config: Config) -> Node {
    let losses = Losses::default();
    let (golden, reader) = Golden::new(two_pods(), config, &losses);
    Node { golden, reader, losses }
}

impl Node {
    fn see(&mut self, record: &L7Record) {
        self.golden.exchange(&flow(Role::Client), &mut FlowCache::default(), record);
    }

    fn text(&mut self) -> String {
        self.golden.publish();
        String::from_utf8(Exposition::render(&self.reader.snapshot(), &[], Format::Text)).unwrap()
    }

    /// `name{labels} value` of the client's samples whose name begins so, without the labels of the
    /// edge; no buckets and sums.
    fn samples(&mut self, name: &str) -> Vec<String> {
        let edge = r#"client_workload="web",client_namespace="shop",client_kind="Deployment",server_workload="api",server_namespace="shop",server_kind="Deployment",reporter="client""#;
        let text = self.text();
        let samples = text.lines().filter(|l| l.starts_with(name) && !l.contains("_bucket{") && !l.contains("_sum{"));
        samples.map(|l| l.replace(&format!("{edge},"), "")).collect()
    }

    fn lost(&self, reason: &str) -> Option<u64> {
        self.losses.rows().iter().find(|row| row.reason == reason).map(|row| row.total)
    }
}

fn record(outcome: Outcome, detail: Detail) -> L7Record {
    L7Record { outcome, detail, ..http("", Some(200), 3 * MS) }
}

fn rpc(service: &str, status: &'static str) -> Detail {
    let (service, method) = (service.into(), "AddItem".into());
    Detail::Rpc(RpcCall { system: "grpc", service, method, status: status.into(), http_status: None })
}

fn db(collection: &str, code: &str) -> Detail {
    Detail::Db(DbOperation {
        system: "postgresql",
        operation: "SELECT".into(),
        collection: collection.into(),
        namespace: "shop".into(),
        code: code.into(),
    })
}

fn messaging(operation: &'static str, messages: [u32; 2], code: &str) -> Detail {
    Detail::Messaging(MessagingOperation {
        system: "kafka",
        operation,
        destination: "orders".into(),
        group: "".into(),
        code: code.into(),
        messages,
    })
}

#[test]
fn a_call_fails_where_its_server_does() {
    let mut node = node(CONFIG);
    for status in ["OK", "NOT_FOUND", "UNAVAILABLE"] {
        node.see(&record(Outcome::Answered, rpc("shop.Cart", status)));
    }
    node.see(&record(Outcome::Unanswered, rpc("shop.Cart", "")));
    let labels = r#"rpc_system_name="grpc",rpc_service="shop.Cart",rpc_method="AddItem""#;
    assert_eq!(
        node.samples("rpc_client_call_duration_seconds_count"),
        [
            format!(r#"rpc_client_call_duration_seconds_count{{{labels},rpc_response_status_code="OK"}} 1"#),
            format!(r#"rpc_client_call_duration_seconds_count{{{labels},rpc_response_status_code="NOT_FOUND"}} 1"#),
            format!(
                r#"rpc_client_call_duration_seconds_count{{{labels},rpc_response_status_code="UNAVAILABLE",error_type="UNAVAILABLE"}} 1"#
            ),
            format!(r#"rpc_client_call_duration_seconds_count{{{labels},error_type="unanswered"}} 1"#),
        ]
    );
    let row = &node.reader.snapshot().edges()[0];
    assert_eq!((row.protocol.as_str(), row.golden.requests, row.golden.failures), ("rpc", 4, 2));
}

#[test]
fn a_command_has_its_table_and_an_error_its_code() {
    let mut node = node(CONFIG);
    node.see(&record(Outcome::Answered, db("carts", "")));
    node.see(&record(Outcome::Answered, db("carts", "23505")));
    let labels =
        r#"db_system_name="postgresql",db_operation_name="SELECT",db_collection_name="carts",db_namespace="shop""#;
    assert_eq!(
        node.samples("db_client_operation_duration_seconds_count"),
        [
            format!("db_client_operation_duration_seconds_count{{{labels}}} 1"),
            format!(
                r#"db_client_operation_duration_seconds_count{{{labels},db_response_status_code="23505",error_type="23505"}} 1"#
            ),
        ]
    );
    assert_eq!(
        node.samples("pilotfish_db_")[..2],
        [
            format!("pilotfish_db_request_bytes_total{{{labels}}} 100"),
            format!(
                r#"pilotfish_db_request_bytes_total{{{labels},db_response_status_code="23505",error_type="23505"}} 100"#
            ),
        ]
    );
}

#[test]
fn what_asks_for_no_answer_is_counted_without_a_duration_and_is_no_failure() {
    let mut node = node(CONFIG);
    node.see(&record(Outcome::OneWay, messaging("produce", [5, 0], "")));
    node.see(&record(Outcome::Answered, messaging("fetch", [0, 7], "")));
    node.see(&record(Outcome::Answered, messaging("produce", [1, 0], "NOT_LEADER")));
    let labels = |operation: &str| {
        format!(
            r#"messaging_system="kafka",messaging_operation_name="{operation}",messaging_destination_name="orders""#
        )
    };
    let (produce, fetch) = (labels("produce"), labels("fetch"));
    assert_eq!(
        node.samples("messaging_client_"),
        [
            format!("messaging_client_operation_duration_seconds_count{{{fetch}}} 1"),
            format!(r#"messaging_client_operation_duration_seconds_count{{{produce},error_type="NOT_LEADER"}} 1"#),
            format!("messaging_client_sent_messages_total{{{produce}}} 5"),
            format!(r#"messaging_client_sent_messages_total{{{produce},error_type="NOT_LEADER"}} 1"#),
            format!("messaging_client_consumed_messages_total{{{fetch}}} 7"),
        ]
    );
    assert_eq!(
        node.samples("pilotfish_messaging_one_way_total"),
        [format!("pilotfish_messaging_one_way_total{{{produce}}} 1")]
    );
    let row = &node.reader.snapshot().edges()[0];
    assert_eq!((row.golden.requests, row.golden.failures), (3, 1));
    assert!((row.golden.p50.unwrap() / 0.003 - 1.0).abs() < 0.011, "the one that has no duration is in no quantile");
}

#[test]
fn a_handshake_that_an_alert_ended_has_its_name() {
    let mut node = node(CONFIG);
    let tls = |version, alert| {
        let (sni, alpn) = ("api.shop".into(), "h2".into());
        Detail::Tls(TlsHandshake { sni, alpn, version, alert, ..TlsHandshake::default() })
    };
    node.see(&record(Outcome::Answered, tls("1.3", None)));
    node.see(&record(Outcome::Answered, tls("", Some(40))));
    let labels = r#"tls_client_server_name="api.shop",tls_next_protocol="h2""#;
    assert_eq!(
        node.samples("pilotfish_tls_"),
        [
            format!(r#"pilotfish_tls_handshake_duration_seconds_count{{{labels},tls_protocol_version="1.3"}} 1"#),
            format!(r#"pilotfish_tls_handshake_duration_seconds_count{{{labels},error_type="handshake_failure"}} 1"#),
        ]
    );
}

/// What a program closes with is its own business: a class, and no label for each.
#[test]
fn messages_of_a_websocket_are_shown_by_kind_and_closes_by_code() {
    let mut node = node(CONFIG);
    let closes = [1000, 1015, 3000, 4001, 4999, 65_535].map(|code| ("close", Some(code)));
    for (opcode, close_code) in [("text", None), ("ping", None)].into_iter().chain(closes) {
        let traffic = ChannelTraffic { opcode, close_code, messages: [1, 0], bytes: [2, 0] };
        node.see(&L7Record { protocol: Protocol::Websocket, ..record(Outcome::OneWay, Detail::Channel(traffic)) });
    }
    let mut shown = node.samples("pilotfish_channel_client_messages_total");
    shown.sort();
    let sample = |labels: &str, count| {
        format!(r#"pilotfish_channel_client_messages_total{{network_protocol_name="websocket",{labels}}} {count}"#)
    };
    assert_eq!(
        shown,
        [
            sample(r#"websocket_opcode="close",websocket_close_code="1000""#, 1),
            sample(r#"websocket_opcode="close",websocket_close_code="3xxx""#, 1),
            sample(r#"websocket_opcode="close",websocket_close_code="4xxx""#, 2),
            sample(r#"websocket_opcode="close",websocket_close_code="_OTHER""#, 2),
            sample(r#"websocket_opcode="ping""#, 1),
            sample(r#"websocket_opcode="text""#, 1),
        ]
    );
    assert!(node.samples("duration").is_empty(), "a channel has no duration");
}

#[test]
fn a_channel_counts_messages_each_way() {
    let mut node = node(CONFIG);
    let traffic = Detail::Channel(ChannelTraffic { messages: [2, 9], bytes: [20, 900], ..Default::default() });
    node.see(&record(Outcome::OneWay, traffic.clone()));
    node.see(&record(Outcome::OneWay, traffic));
    let labels = r#"network_protocol_name="http1""#;
    assert_eq!(
        node.samples("pilotfish_channel_"),
        [
            format!("pilotfish_channel_client_messages_total{{{labels}}} 4"),
            format!("pilotfish_channel_server_messages_total{{{labels}}} 18"),
            format!("pilotfish_channel_client_bytes_total{{{labels}}} 200"),
            format!("pilotfish_channel_server_bytes_total{{{labels}}} 2000"),
        ]
    );
}

#[test]
fn families_that_nothing_was_seen_of_are_not_named() {
    let mut node = node(CONFIG);
    let text = node.text();
    for family in ["rpc", "db", "messaging", "tls", "channel", "names_cap"] {
        // But in the totals, where every protocol is, at zero too.
        let mut lines = text.lines().filter(|line| !line.starts_with("pilotfish_exchanges_total{"));
        assert!(!lines.any(|line| line.contains(family)), "{family} in\n{text}");
    }
    assert!(text.contains("# TYPE http_client_request_duration_seconds histogram"));
    assert!(text.contains(r#"pilotfish_metrics_series{family="dns"} 0"#));
    node.see(&record(Outcome::Answered, db("carts", "")));
    assert!(node.text().contains(r#"pilotfish_metrics_series{family="db"} 1"#));
}

// A client that makes up names fills its own edge's share and no more; its counts stay.
#[test]
fn names_beyond_the_cap_of_their_edge_are_one_and_counted() {
    let mut node = node(Config { max_series: 10_000, ..CONFIG });
    let mut cache = FlowCache::default();
    for i in 0..150 {
        node.golden.exchange(&flow(Role::Client), &mut cache, &record(Outcome::Answered, db(&format!("t{i}"), "")));
    }
    assert_eq!(node.lost("names_cap"), Some(106));
    let text = node.text();
    assert!(text.contains(r#"db_collection_name="_OTHER",db_namespace="shop"} 106"#), "{text}");
    node.see(&record(Outcome::Answered, db("t3", "")));
    assert_eq!(node.lost("names_cap"), Some(106), "a name that is known stays");
    let row = &node.reader.snapshot().edges()[0];
    assert_eq!(row.golden.requests, 151);
}

#[test]
fn names_beyond_the_cap_of_the_node_are_one_and_room_is_made_by_expiry() {
    let mut names = two_pods();
    for i in 0..=50 {
        names.remote.insert([10, 1, 0, i].into(), deployment(&format!("db-{i}")));
    }
    let losses = Losses::default();
    let (golden, reader) = Golden::new(names, Config { max_series: 10_000, ..CONFIG }, &losses);
    let mut node = Node { golden, reader, losses };
    let to = |server: u8| {
        let mut flow = flow(Role::Client);
        flow.tuple.remote.ip = [10, 1, 0, server].into();
        flow
    };
    for server in 0..=50 {
        for i in 0..40 {
            let table = db(&format!("t{server}-{i}"), "");
            node.golden.exchange(&to(server), &mut FlowCache::default(), &record(Outcome::Answered, table));
        }
    }
    assert_eq!(node.lost("names_cap"), Some(40), "2,000 names for 2,040 tables");
    node.golden.publish_if_due(flow_model::Ts(2_000_000 * MS));
    node.golden.exchange(&to(50), &mut FlowCache::default(), &record(Outcome::Answered, db("new", "")));
    assert_eq!(node.lost("names_cap"), Some(40));
}

#[test]
fn over_the_cap_of_series_no_name_from_traffic_is_left() {
    let mut node = node(Config { max_series: 1, ..CONFIG });
    for table in ["a", "b", "c"] {
        node.see(&record(Outcome::Answered, db(table, "23505")));
    }
    let text = node.text();
    let other = r#"db_system_name="postgresql",db_operation_name="_OTHER",db_collection_name="_OTHER",db_namespace="_OTHER",db_response_status_code="_OTHER",error_type="_OTHER"} 2"#;
    assert!(text.contains(other), "{text}");
    assert_eq!(node.lost("series_cap"), Some(2));
}

#[test]
fn a_redirect_is_no_failure_and_waiting_on_purpose_is_no_latency() {
    let mut node = node(Config::default());
    let redis = |operation: &'static str, code: &str| {
        let (namespace, operation, code) = ("0".into(), operation.into(), code.into());
        Detail::Db(DbOperation { system: "redis", operation, namespace, code, ..DbOperation::default() })
    };
    for (operation, code) in [("GET", "MOVED"), ("GET", "ASK"), ("GET", "WRONGTYPE")] {
        node.see(&record(Outcome::Answered, redis(operation, code)));
    }
    for outcome in [Outcome::Answered, Outcome::Unanswered] {
        node.see(&L7Record { notes: Notes::WAITED, ..record(outcome, redis("BLPOP", "")) });
    }
    let durations = node.samples("db_client_operation_duration_seconds");
    let of = |code: &str, error: &str| {
        let found = durations.iter().find(|line| line.contains(&format!("db_response_status_code=\"{code}\"")));
        let shown = format!("error_type=\"{error}\"");
        found.is_some_and(|line| line.ends_with(" 1") && (error.is_empty() || line.contains(&shown)))
    };
    assert!(of("MOVED", "") && of("ASK", "") && of("WRONGTYPE", "WRONGTYPE"), "{durations:#?}");
    for never in ["BLPOP", "error_type=\"MOVED\"", "error_type=\"ASK\""] {
        assert!(!durations.iter().any(|line| line.contains(never)), "{durations:#?}");
    }
    let waited = node.samples("pilotfish_db_one_way_total");
    let counted: Vec<&str> = waited.iter().filter_map(|line| line.rsplit(' ').next()).collect();
    assert_eq!((counted.len(), waited.iter().all(|line| line.contains("BLPOP"))), (2, true), "{waited:#?}");
}
