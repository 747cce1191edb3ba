//! Counters that go on in the next process.

mod common;

use common::*;
use flow_model::{Close, FlowDelta, LossReason, Role, Sink, Transport, Ts};
use golden_metrics::{Config, Exposition, FlowCache, Format, Golden, Losses, Saved};

fn node(config: Config) -> Node {
    let losses = Losses::default();
    losses.place("kernel", "ring_full", "message heads");
    let (golden, reader) = Golden::new(two_pods(), config, &losses);
    Node { golden, reader, losses }
}

impl Node {
    /// One of everything.
    fn traffic(&mut self) {
        for role in [Role::Client, Role::Server] {
            let cache = &mut FlowCache::default();
            for took in [0, 300, 2 * MS, 20_000 * MS, 9_000_000 * MS] {
                self.golden.exchange(&flow(role), cache, &http("GET", Some(200), took));
            }
            self.golden.exchange(&flow(role), cache, &http("BREW", Some(999), MS));
            self.golden.exchange(&flow(role), cache, &http("PUT", None, MS));
            self.golden.exchange(&flow(role), cache, &dns(28, Some(3), MS));
            self.golden.exchange(&flow(role), cache, &dns(9999, Some(4000), MS));
            self.golden.exchanges_lost(&flow(role), cache, LossReason::Gap, 3);
            let delta = FlowDelta {
                bytes: [10, 20],
                retransmits: [1, 2],
                zero_windows: [0, 4],
                handshake_rtt_ns: Some(70_000),
                opened: true,
                closed: Some(Close::Reset),
                ..FlowDelta::default()
            };
            self.golden.flow(&flow(role), cache, &delta);
            let mut datagrams = flow(role);
            datagrams.tuple.transport = Transport::Udp;
            self.golden.flow(&datagrams, &mut FlowCache::default(), &delta);
            self.golden.exchanges_lost(&datagrams, &mut FlowCache::default(), LossReason::Gap, 2);
        }
        self.losses.place("kernel", "ring_full", "message heads").add(5);
    }

    fn saved(&mut self) -> Saved {
        self.golden.publish();
        let text = serde_json::to_string(&self.reader.snapshot().save()).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    fn lines(&mut self) -> Vec<String> {
        self.golden.publish();
        let text = String::from_utf8(Exposition::render(&self.reader.snapshot(), &[], Format::Text)).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }
}

#[test]
fn a_successor_shows_what_its_predecessor_showed() {
    let mut first = node(CONFIG);
    first.traffic();
    let mut second = node(CONFIG);
    second.golden.restore(&first.saved(), &second.losses, Ts(2_000 * MS));
    assert_eq!(second.lines(), first.lines());
    assert_eq!(second.saved(), first.saved());
}

#[test]
fn what_comes_later_is_added() {
    let mut both = node(CONFIG);
    both.traffic();
    both.traffic();
    let mut first = node(CONFIG);
    first.traffic();
    let mut second = node(CONFIG);
    second.golden.restore(&first.saved(), &second.losses, Ts(2_000 * MS));
    second.traffic();
    assert_eq!(second.lines(), both.lines());
}

#[test]
fn losses_that_a_kernel_counts_from_zero_again_go_on() {
    let mut first = node(CONFIG);
    first.losses.place("kernel", "ring_full", "message heads").set_total(7);
    let second = node(CONFIG);
    second.losses.restore([("kernel", "ring_full", 7)].into_iter());
    second.losses.place("kernel", "ring_full", "message heads").set_total(2);
    assert_eq!(second.losses.rows().iter().find(|row| row.reason == "ring_full").map(|row| row.total), Some(9));
    assert_eq!(first.saved().series(), 0);
}

#[test]
fn under_a_smaller_cap_labels_go_and_counts_stay() {
    let mut first = node(CONFIG);
    first.traffic();
    let sum = |node: &mut Node| -> u64 {
        let count = |line: &String| line.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok());
        node.lines()
            .iter()
            .filter(|l| l.starts_with("http_") && l.contains("_duration_seconds_count{"))
            .filter_map(count)
            .sum()
    };
    let mut second = node(Config { max_series: 1, ..CONFIG });
    second.golden.restore(&first.saved(), &second.losses, Ts(2_000 * MS));
    assert_eq!(sum(&mut second), sum(&mut first));
}

#[test]
fn a_kind_that_no_version_knows_is_left_out() {
    let mut first = node(CONFIG);
    first.traffic();
    let text = serde_json::to_string(&first.saved()).unwrap().replace("\"Deployment\"", "\"Starship\"");
    let mut second = node(CONFIG);
    second.golden.restore(&serde_json::from_str(&text).unwrap(), &second.losses, Ts(2_000 * MS));
    assert_eq!(second.reader.snapshot().series(), 0);
}

/// What 0.1.0 left behind (format 2).
fn of_0_1_0() -> Saved {
    let file: serde_json::Value = serde_json::from_str(include_str!("fixtures/counters-0.1.0.json")).unwrap();
    serde_json::from_str(&file["counted"].to_string()).unwrap()
}

#[track_caller]
fn has(lines: &[String], line: &str) {
    assert!(lines.iter().any(|l| l == line), "no line {line:?} in\n{}", lines.join("\n"));
}

#[test]
fn what_0_1_0_kept_goes_on_exactly() {
    let saved = of_0_1_0();
    assert_eq!(saved.series(), 11);
    let mut node = node(CONFIG);
    node.golden.restore(&saved, &node.losses, Ts(2_000 * MS));
    let lines = node.lines();
    let edge = r#"client_workload="web",client_namespace="shop",client_kind="Deployment",server_workload="api",server_namespace="shop",server_kind="Deployment",server_service="api""#;
    let get = r#"http_request_method="GET",http_response_status_code="200""#;
    for line in [
        format!(r#"http_server_request_duration_seconds_count{{{edge},reporter="server",{get}}} 5"#),
        format!(r#"http_server_request_duration_seconds_sum{{{edge},reporter="server",{get}}} 20.0031003"#),
        format!(r#"http_server_request_duration_seconds_bucket{{{edge},reporter="server",{get},le="10.0"}} 4"#),
        format!(r#"pilotfish_http_request_bytes_total{{{edge},reporter="server",{get}}} 500"#),
        format!(
            r#"http_server_request_duration_seconds_count{{{edge},reporter="server",http_request_method="POST",http_response_status_code="503",error_type="503"}} 1"#
        ),
        format!(
            r#"http_client_request_duration_seconds_count{{{edge},reporter="client",http_request_method="_OTHER",http_response_status_code="_OTHER"}} 1"#
        ),
        r#"http_client_request_duration_seconds_count{client_workload="_overflow",server_workload="_overflow",reporter="client",http_request_method="_OTHER",error_type="unanswered"} 1"#.to_owned(),
        format!(r#"pilotfish_tcp_sent_bytes_total{{{edge},reporter="client"}} 10"#),
        format!(r#"pilotfish_tcp_connections_closed_total{{{edge},reporter="client",reason="gone"}} 1"#),
        r#"pilotfish_exchanges_total{reporter="client",protocol="http1"} 2"#.to_owned(),
        r#"pilotfish_exchanges_total{reporter="client",protocol="dns"} 5"#.to_owned(),
        r#"pilotfish_exchanges_lost_total{reporter="server",reason="limit"} 10"#.to_owned(),
        r#"pilotfish_lost_total{stage="kernel",reason="ring_full"} 12"#.to_owned(),
        "pilotfish_metrics_series_expired_total 11".to_owned(),
    ] {
        has(&lines, &line);
    }
    let dns = r#"dns_lookup_duration_seconds_count{client_workload="web",client_namespace="shop",client_kind="Deployment",server_workload="dns",server_namespace="kube-system",server_kind="Service",server_service="dns",reporter="client","#;
    has(&lines, &format!(r#"{dns}dns_question_type="AAAA",dns_response_code="NXDOMAIN"}} 2"#));
    has(&lines, &format!(r#"{dns}dns_question_type="A",error_type="unanswered"}} 1"#));
    has(&lines, &format!(r#"{dns}dns_question_type="A",dns_response_code="SERVFAIL",error_type="SERVFAIL"}} 1"#));
    // Exact beyond what a float can hold.
    let kept = serde_json::to_string(&node.saved()).unwrap();
    for exact in ["9007199254740993", "18446744073709551615"] {
        assert!(kept.contains(exact), "{exact}");
    }
}

#[test]
fn what_an_older_format_kept_is_kept_by_name_from_then_on() {
    let mut first = node(CONFIG);
    first.golden.restore(&of_0_1_0(), &first.losses, Ts(2_000 * MS));
    let mut second = node(CONFIG);
    second.golden.restore(&first.saved(), &second.losses, Ts(2_000 * MS));
    assert_eq!(second.lines(), first.lines());
    assert_eq!(second.saved(), first.saved());
}

// A new protocol or reason is no reason to begin at zero, neither on the way up nor on the way back.
#[test]
fn what_a_later_version_counted_is_handed_on_and_the_rest_goes_on() {
    let mut first = node(CONFIG);
    first.traffic();
    let mut later: serde_json::Value = serde_json::to_value(first.saved()).unwrap();
    let edge = later["series"]["http"][0]["edge"].clone();
    let foreign = [
        (
            "graphql",
            serde_json::json!({"edge": edge, "labels": {"operation": "q"}, "calls": 3, "share": [1, {"of": -2}]}),
        ),
        (
            "http",
            serde_json::json!({"edge": edge, "labels": {"http_request_method": "GET", "http_route": "/a"}, "duration": 5}),
        ),
        ("http", serde_json::json!({"edge": edge, "labels": {"http_request_method": "BREW"}, "duration": 5})),
    ];
    for (family, row) in &foreign {
        let rows = &mut later["series"][family];
        if rows.is_null() {
            *rows = serde_json::json!([]);
        }
        rows.as_array_mut().unwrap().push(row.clone());
    }
    later["exchanges"]["client"]["carrier_pigeon"] = 17.into();
    later["exchanges"]["mirror"] = serde_json::json!({"http1": 4});
    later["lost"]["server"]["encrypted"] = u64::MAX.into();
    later["losses"].as_array_mut().unwrap().push(serde_json::json!(["tap", "queue_full", 6]));
    later["exemplars"] = serde_json::json!({"kept": [true, null, "word"]});

    let mut second = node(CONFIG);
    let read: Saved = serde_json::from_str(&later.to_string()).unwrap();
    second.golden.restore(&read, &second.losses, Ts(2_000 * MS));
    assert_eq!(second.lines(), first.lines(), "all that this version knows goes on");
    let handed_on = serde_json::to_value(second.saved()).unwrap();
    for (family, row) in &foreign {
        assert!(handed_on["series"][family].as_array().unwrap().contains(row), "{row}");
    }
    for part in ["exchanges", "lost", "exemplars"] {
        assert_eq!(handed_on[part], later[part], "{part}");
    }
    assert!(handed_on["losses"].as_array().unwrap().contains(&serde_json::json!(["tap", "queue_full", 6])));
    let again: Saved = serde_json::from_str(&handed_on.to_string()).unwrap();
    let mut third = node(CONFIG);
    third.golden.restore(&again, &third.losses, Ts(2_000 * MS));
    assert_eq!(third.saved(), again);
    // A place that is asked for at last goes on where its predecessor was.
    third.losses.place("tap", "queue_full", "records").add(1);
    assert_eq!(third.losses.rows().iter().find(|row| row.stage == "tap").map(|row| row.total), Some(7));
}

#[test]
fn a_count_more_in_a_series_is_handed_on_beside_what_is_known_of_it() {
    let mut first = node(CONFIG);
    first.traffic();
    let mut later: serde_json::Value = serde_json::to_value(first.saved()).unwrap();
    later["series"]["http"][0]["retries"] = 8.into();
    let row = later["series"]["http"][0].clone();
    let mut second = node(CONFIG);
    second.golden.restore(&serde_json::from_str(&later.to_string()).unwrap(), &second.losses, Ts(2_000 * MS));
    assert_eq!(second.lines(), first.lines());
    let left = serde_json::json!({"edge": row["edge"], "labels": row["labels"], "retries": 8});
    let handed_on = serde_json::to_value(second.saved()).unwrap();
    assert!(handed_on["series"]["http"].as_array().unwrap().contains(&left), "{handed_on}");
    let mut third = node(CONFIG);
    third.golden.restore(&serde_json::from_str(&handed_on.to_string()).unwrap(), &third.losses, Ts(2_000 * MS));
    assert_eq!(third.lines(), first.lines());
    assert_eq!(serde_json::to_value(third.saved()).unwrap(), handed_on);
}

#[test]
fn more_of_another_version_than_is_kept_is_counted() {
    let row = format!(r#"{{"text":"{}"}}"#, "x".repeat(1 << 20));
    let rows = vec![row; 20].join(",");
    let text = format!(r#"{{"series":{{"graphql":[{rows}]}},"exchanges":{{}},"lost":{{}},"expired":0,"losses":[]}}"#);
    let mut node = node(CONFIG);
    node.golden.restore(&serde_json::from_str(&text).unwrap(), &node.losses, Ts(0));
    assert_eq!(node.losses.rows().iter().find(|row| row.reason == "foreign_full").map(|row| row.total), Some(5));
    let kept = serde_json::to_value(node.saved()).unwrap()["series"]["graphql"].as_array().map(Vec::len);
    assert_eq!(kept, Some(15));
}

#[test]
fn what_is_damaged_is_not_read() {
    let mut first = node(CONFIG);
    first.traffic();
    let text = serde_json::to_string(&first.saved()).unwrap();
    for damaged in [
        "{}",
        r#"{"exchanges":{},"lost":[]}"#,
        r#"{"exchanges":{"client":{"http1":-1}},"lost":{}}"#,
        r#"{"http":[{}],"exchanges":{},"lost":{}}"#,
        &text[..text.len() / 2],
    ] {
        assert!(serde_json::from_str::<Saved>(damaged).is_err(), "{}", &damaged[..damaged.len().min(80)]);
    }
}

#[test]
fn series_of_all_families_go_on() {
    use flow_model::{DbOperation, Detail, L7Record, MessagingOperation, Outcome};
    let mut first = node(CONFIG);
    let details = [
        Detail::Db(DbOperation {
            system: "redis",
            operation: "GET".into(),
            code: "WRONGTYPE".into(),
            ..Default::default()
        }),
        Detail::Messaging(MessagingOperation {
            system: "nats",
            destination: "a.b".into(),
            messages: [1, 0],
            ..Default::default()
        }),
        Detail::Rpc(Default::default()),
        Detail::Tls(Default::default()),
        Detail::Channel(Default::default()),
    ];
    for (detail, outcome) in details.into_iter().zip([Outcome::Answered, Outcome::OneWay].into_iter().cycle()) {
        let record = L7Record { detail, outcome, ..http("", Some(200), MS) };
        first.golden.exchange(&flow(Role::Client), &mut FlowCache::default(), &record);
    }
    let mut second = node(CONFIG);
    second.golden.restore(&first.saved(), &second.losses, Ts(2_000 * MS));
    assert_eq!(second.lines(), first.lines());
    assert_eq!(second.saved(), first.saved());
}
