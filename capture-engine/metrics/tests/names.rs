//! Names that come late, change, or get better: which of them an edge has, and how often they are asked for.

mod common;

use common::*;
use flow_model::{FlowDelta, FlowInfo, Identity, Role, Sink, Slot, Ts, Unknown, WorkloadKind};
use golden_metrics::{Config, EdgeRow, Exposition, FlowCache, Format, Golden, Losses, Reader, UNKNOWN};
use std::net::IpAddr;

const SECOND: u64 = 1_000 * MS;

struct Node {
    golden: Golden<Table>,
    reader: Reader,
}

fn node(names: Table) -> Node {
    let (golden, reader) = Golden::new(names, Config::default(), &Losses::default());
    Node { golden, reader }
}

impl Node {
    /// One exchange that ends at `at` nanoseconds.
    fn exchange(&mut self, flow: &FlowInfo, cache: &mut FlowCache, at: u64) {
        let mut record = http("GET", Some(200), 0);
        (record.start, record.end) = (Ts(at), Ts(at));
        self.golden.exchange(flow, cache, &record);
    }

    fn learn(&mut self, change: impl FnOnce(&mut Table)) {
        let names = self.golden.names_mut();
        change(names);
        names.version += 1;
    }

    fn rows(&mut self) -> Vec<EdgeRow> {
        self.golden.publish();
        self.reader.snapshot().edges()
    }

    /// "client>server (service): requests"
    fn edges(&mut self) -> Vec<String> {
        let row = |r: EdgeRow| format!("{}>{} ({}): {}", r.src.name, r.dst.name, r.service, r.golden.requests);
        self.rows().into_iter().map(row).collect()
    }
}

const API: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

fn to_api(name: &'static str, kind: WorkloadKind) -> impl FnOnce(&mut Table) {
    move |names| drop(names.remote.insert(API, named(name, "shop", kind)))
}

#[test]
fn a_name_that_arrives_late_is_used_from_then_on_and_a_known_one_stays() {
    let mut names = two_pods();
    names.local.remove(&CLIENT);
    let mut node = node(names);
    let (flow, mut cache) = (flow(Role::Client), FlowCache::default());
    node.exchange(&flow, &mut cache, SECOND);
    node.golden.names_mut().local.insert(CLIENT, deployment("web"));
    node.exchange(&flow, &mut cache, 3 * SECOND);
    node.learn(|_| {});
    node.exchange(&flow, &mut cache, 5 * SECOND);
    node.learn(|names| drop(names.local.insert(CLIENT, deployment("other"))));
    node.exchange(&flow, &mut cache, 7 * SECOND);
    let clients: Vec<(String, String, u64)> =
        node.rows().into_iter().map(|r| (r.src.name, r.src.kind, r.golden.requests)).collect();
    assert_eq!(
        clients,
        [(UNKNOWN.to_owned(), "Pending".to_owned(), 2), ("web".to_owned(), "Deployment".to_owned(), 2)]
    );
}

#[test]
fn a_name_by_dns_and_a_pod_become_the_workload_when_the_api_tells() {
    let mut node = node(two_pods());
    let (flow, mut cache) = (flow(Role::Client), FlowCache::default());
    node.learn(to_api("api.example.org", WorkloadKind::External));
    node.exchange(&flow, &mut cache, SECOND);
    node.learn(to_api("api-x7kfp", WorkloadKind::Pod));
    node.exchange(&flow, &mut cache, 2 * SECOND);
    node.learn(to_api("api", WorkloadKind::CronJob));
    node.exchange(&flow, &mut cache, 3 * SECOND);
    assert_eq!(node.edges(), ["web>api (): 1", "web>api-x7kfp (): 1", "web>api.example.org (): 1"]);
}

#[test]
fn a_pod_whose_owner_becomes_known_an_hour_later_is_named_by_it() {
    let mut node = node(two_pods());
    node.learn(to_api("api-x7kfp", WorkloadKind::Pod));
    let (flow, mut cache) = (flow(Role::Client), FlowCache::default());
    for second in 1..4_000 {
        node.learn(|_| {});
        node.exchange(&flow, &mut cache, second * SECOND);
    }
    node.learn(to_api("api", WorkloadKind::Deployment));
    (4_000..4_040).for_each(|second| node.exchange(&flow, &mut cache, second * SECOND));
    let named = node.rows().into_iter().find(|row| row.dst.name == "api").map_or(0, |row| row.golden.requests);
    assert!((1..=40).contains(&named), "{named} of the last 40 under the new name");
}

/// As after a start: a connection that had just asked does not wait for its turn.
#[test]
fn all_names_at_once_are_asked_for_at_once() {
    let check = |whole: u64| {
        let mut node = node(two_pods());
        node.learn(|names| drop(names.local.insert(SERVER, named("api-x7kfp", "shop", WorkloadKind::Pod))));
        let (flow, mut cache) = (flow(Role::Server), FlowCache::default());
        // It asks after 1, 3, 7 ms and so on, the last time at 8.19 s.
        for ms in 1_000..1_000 + 8_300 {
            node.learn(|_| {});
            node.exchange(&flow, &mut cache, ms * MS);
        }
        node.learn(|names| {
            names.local.insert(SERVER, deployment("api"));
            names.services.insert(end(2, 8080), "api");
            names.whole += whole;
        });
        (0..1_000).for_each(|ms| node.exchange(&flow, &mut cache, (1_000 + 8_300 + ms) * MS));
        let named = node.rows().into_iter().find(|row| row.dst.name == "api" && row.service == "api");
        named.map_or(0, |row| row.golden.requests)
    };
    assert_eq!([check(0), check(1)], [0, 1_000]);
}

#[test]
fn a_worse_answer_never_replaces_a_name() {
    let mut node = node(two_pods());
    let (flow, mut cache) = (flow(Role::Client), FlowCache::default());
    node.exchange(&flow, &mut cache, SECOND);
    for (second, worse) in [WorkloadKind::Pod, WorkloadKind::External, WorkloadKind::Address].into_iter().enumerate() {
        node.learn(to_api("worse", worse));
        node.exchange(&flow, &mut cache, (2 + second as u64) * SECOND);
    }
    node.learn(|names| names.remote.clear());
    node.exchange(&flow, &mut cache, 9 * SECOND);
    assert_eq!(node.edges(), ["web>api (): 5"]);
}

// The API tells of the new holder a moment after the first connection to it.
#[test]
fn who_took_over_an_address_is_believed_in_the_first_minute_and_nobody_later() {
    let mut node = node(two_pods());
    let (flow, mut cache) = (flow(Role::Client), FlowCache::default());
    node.learn(to_api("old", WorkloadKind::Deployment));
    node.exchange(&flow, &mut cache, SECOND);
    node.learn(to_api("new", WorkloadKind::Deployment));
    for second in 2..200 {
        node.learn(|_| {});
        node.exchange(&flow, &mut cache, second * SECOND);
    }
    node.learn(to_api("later", WorkloadKind::Deployment));
    node.exchange(&flow, &mut cache, 200 * SECOND);
    assert_eq!(node.edges(), ["web>new (): 199", "web>old (): 1"]);
}

#[test]
fn that_an_address_had_two_holders_ends_a_guess() {
    let mut node = node(two_pods());
    let (flow, mut cache) = (flow(Role::Client), FlowCache::default());
    node.exchange(&flow, &mut cache, SECOND);
    node.learn(|names| drop(names.remote.insert(API, Identity::Unknown(Unknown::Ambiguous))));
    node.exchange(&flow, &mut cache, 2 * SECOND);
    assert_eq!(node.edges(), ["web>_unknown (): 1", "web>api (): 1"]);
}

// In a large cluster the names move a hundred times a second.
#[test]
fn a_busy_flow_in_a_busy_cluster_asks_a_bounded_number_of_times() {
    let check = |kind: WorkloadKind, at_most: usize| {
        let mut names = two_pods();
        to_api("api", kind)(&mut names);
        names.services.insert(end(2, 8080), "api");
        let mut node = node(names);
        let (flow, mut cache) = (flow(Role::Client), FlowCache::default());
        for i in 0..200_000 {
            node.learn(|_| {});
            node.exchange(&flow, &mut cache, SECOND + i * MS);
        }
        let asked = node.golden.names_mut().asked.get();
        assert!(asked <= at_most, "{kind:?}: asked {asked} times in 200 s");
    };
    check(WorkloadKind::Deployment, 17);
    check(WorkloadKind::Pod, 17 + 200 / 32);
    // Each time about the connection's opening, then about the exchange.
    check(WorkloadKind::Address, 2 * (10 + 200));
}

#[test]
fn the_service_is_a_label_at_both_ends() {
    let mut names = two_pods();
    names.services.insert(end(2, 8080), "front-door");
    let mut node = node(names);
    for role in [Role::Client, Role::Server] {
        node.exchange(&flow(role), &mut FlowCache::default(), SECOND);
    }
    node.golden.publish();
    let text = String::from_utf8(Exposition::render(&node.reader.snapshot(), &[], Format::Text)).unwrap();
    for reporter in ["client", "server"] {
        let labels = format!(r#"server_kind="Deployment",server_service="front-door",reporter="{reporter}""#);
        assert!(text.contains(&labels), "no {labels} in\n{text}");
    }
    assert_eq!(node.edges(), ["web>api (front-door): 1", "web>api (front-door): 1"]);
    assert_eq!(node.reader.snapshot().view().edges_once().len(), 1);
}

#[test]
fn a_service_without_known_endpoints_is_its_own_and_one_that_is_heard_of_late_counts_from_then() {
    let mut node = node(two_pods());
    let (flow, mut cache) = (flow(Role::Client), FlowCache::default());
    node.learn(to_api("front-door", WorkloadKind::Service));
    node.exchange(&flow, &mut cache, SECOND);
    node.learn(to_api("api", WorkloadKind::Deployment));
    node.exchange(&flow, &mut cache, 2 * SECOND);
    node.learn(|names| names.services.extend([(end(2, 8080), "entrance")]));
    node.exchange(&flow, &mut cache, 4 * SECOND);
    node.learn(|names| names.services.clear());
    node.exchange(&flow, &mut cache, 9 * SECOND);
    assert_eq!(node.edges(), ["web>api (entrance): 2", "web>api (front-door): 1", "web>front-door (front-door): 1"]);
}

#[test]
fn two_services_of_one_workload_are_two_edges_at_the_client_and_one_in_the_short_list() {
    let mut names = two_pods();
    names.remote.insert([10, 96, 0, 1].into(), deployment("api"));
    names.remote.insert([10, 96, 0, 2].into(), deployment("api"));
    let mut node = node(names);
    for (last, service) in [(1, "read"), (2, "write")] {
        let mut flow = flow(Role::Client);
        flow.tuple.remote.ip = [10, 96, 0, last].into();
        node.learn(|names| names.services.extend([(flow.tuple.remote, service)]));
        node.exchange(&flow, &mut FlowCache::default(), SECOND);
    }
    node.exchange(&flow(Role::Server), &mut FlowCache::default(), SECOND);
    assert_eq!(node.edges(), ["web>api (): 1", "web>api (read): 1", "web>api (write): 1"]);
    assert_eq!(node.reader.snapshot().view().edges_once().len(), 2);
}

#[test]
fn a_connection_older_than_what_is_known_keeps_the_holder_of_its_first_exchange() {
    let mut node = node(Table { since: Ts(500 * MS), ..two_pods() });
    let (flow, mut cache) = (flow(Role::Client), FlowCache::default());
    node.golden.flow(&flow, &mut cache, &FlowDelta::default());
    node.exchange(&flow, &mut cache, SECOND);
    // Who holds the address after 10 s is another, whom this connection cannot be with.
    node.learn(|names| names.since = Ts(10 * SECOND));
    node.learn(to_api("other", WorkloadKind::Deployment));
    node.exchange(&flow, &mut cache, 20 * SECOND);
    assert_eq!(node.edges(), ["web>private (): 0", "web>api (): 2"]);
}

#[test]
fn a_pod_that_is_seen_only_from_outside_is_asked_for_by_its_address() {
    let mut node = node(two_pods());
    let capture = FlowInfo { slot: Slot(0), ..flow(Role::Client) };
    node.exchange(&capture, &mut FlowCache::default(), SECOND);
    assert_eq!(node.edges(), ["web>api (): 1"]);
}
