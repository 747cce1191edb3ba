//! Routes in the figures: both ends of an edge show the same, they are the first thing that is given
//! up, and no exchange is counted less for them.
#![forbid(unsafe_code)]

mod common;

use common::*;
use flow_model::{Detail, FlowInfo, L7Record, Role, Sink};
use golden_metrics::{Config, Exposition, FlowCache, Format, Golden, Losses};
use std::collections::BTreeMap;

fn asked(route: &str, status: u16) -> L7Record {
    let mut record = http("GET", Some(status), MS);
    if let Detail::Http(http) = &mut record.detail {
        http.route = route.into();
    }
    record
}

fn node() -> Node {
    let losses = Losses::default();
    let (golden, reader) = Golden::new(two_pods(), Config { max_series: 1_000, ..CONFIG }, &losses);
    Node { golden, reader, losses }
}

impl Node {
    fn see(&mut self, flow: &FlowInfo, cache: &mut FlowCache, record: &L7Record) {
        self.golden.exchange(flow, cache, record);
    }

    /// Requests by route, as one end shows them.
    fn shown(&mut self, end: &str) -> BTreeMap<String, u64> {
        self.golden.publish();
        let text = String::from_utf8(Exposition::render(&self.reader.snapshot(), &[], Format::Text)).expect("UTF-8");
        let name = format!("http_{end}_request_duration_seconds_count{{");
        let mut shown = BTreeMap::new();
        for line in text.lines().filter(|line| line.starts_with(&name)) {
            let route = line.split_once("http_route=\"").map_or("", |(_, rest)| rest.split('"').next().unwrap_or(""));
            let count: u64 = line.rsplit(' ').next().and_then(|count| count.parse().ok()).expect("a count");
            *shown.entry(route.to_owned()).or_default() += count;
        }
        shown
    }
}

fn counts(of: &[(&str, u64)]) -> BTreeMap<String, u64> {
    of.iter().map(|(route, count)| ((*route).to_owned(), *count)).collect()
}

#[test]
fn both_ends_show_the_same_routes() {
    let mut node = node();
    let ends = [flow(Role::Client), flow(Role::Server)];
    let mut caches = [FlowCache::default(), FlowCache::default()];
    for round in 0..10 {
        for (flow, cache) in ends.iter().zip(&mut caches) {
            node.see(flow, cache, &asked("/orders/{id}", 200));
            node.see(flow, cache, &asked(if round % 2 == 0 { "/carts" } else { "/" }, 200));
            node.see(flow, cache, &asked("/nowhere", 404));
            node.see(flow, cache, &http("GET", Some(200), MS));
        }
    }
    let expected = counts(&[("", 10), ("/", 5), ("/*", 10), ("/carts", 5), ("/orders/{id}", 10)]);
    assert_eq!(node.shown("client"), expected);
    assert_eq!(node.shown("server"), expected);
}

/// Words that turn out to be values: those that were shown stay as they were, and the sum is exact.
#[test]
fn a_set_that_grows_becomes_one_route_at_both_ends() {
    let mut node = node();
    for n in 0..200 {
        for role in [Role::Client, Role::Server] {
            node.see(&flow(role), &mut FlowCache::default(), &asked(&format!("/users/user-{n}"), 200));
        }
    }
    let (client, server) = (node.shown("client"), node.shown("server"));
    assert_eq!(client.values().sum::<u64>(), 200);
    assert_eq!(client, server);
    assert!(client.len() <= 26, "{client:?}");
    assert!(client["/users/{id}"] >= 175, "{client:?}");
}

/// The share of an edge: the route goes first, and then nothing else needs to.
#[test]
fn routes_are_given_up_before_statuses() {
    let mut node = node();
    let mut cache = FlowCache::default();
    for n in 0..60 {
        let record = asked(&format!("/place-{}/thing-{}", n / 10, n % 10), if n % 2 == 0 { 200 } else { 503 });
        node.see(&flow(Role::Client), &mut cache, &record);
    }
    let shown = node.shown("client");
    assert_eq!(shown.values().sum::<u64>(), 60);
    assert!(shown["_OTHER"] >= 14, "{shown:?}");
    let lost = |reason: &str| node.losses.rows().iter().find(|row| row.reason == reason).map_or(0, |row| row.total);
    assert_eq!(lost("names_cap"), shown["_OTHER"]);
    assert_eq!((lost("status_cap"), lost("series_cap")), (0, 0));
}
