//! What an exchange, a TCP report, a series and a scrape cost. `cargo bench -p golden-metrics`
#![allow(clippy::print_stdout)]

#[path = "../tests/common/mod.rs"]
mod common;

use common::*;
use flow_model::{Close, Detail, FlowDelta, FlowInfo, L7Record, Role, Sink, WorkloadKind};
use golden_metrics::{Config, Exposition, FlowCache, Format, Golden, Losses, TapQuery, Taps};
use std::hint::black_box;
use std::time::Instant;

const ROUNDS: usize = 2_000_000;

fn each(what: &str, rounds: usize, mut run: impl FnMut(usize)) {
    (0..rounds / 10).for_each(&mut run);
    let start = Instant::now();
    (0..rounds).for_each(&mut run);
    println!("{what}: {:.1} ns", start.elapsed().as_nanos() as f64 / rounds as f64);
}

/// Latencies as they come: log-uniform over 100 us to 100 ms, from a fixed sequence.
fn records() -> Vec<L7Record> {
    (0..1024)
        .map(|i| http("GET", Some(200), 100_000 * 1_000f64.powf((i * 577 % 1024) as f64 / 1024.0) as u64))
        .collect()
}

/// What somebody who listens costs; he reads now and then.
fn tapped(what: &str, records: &[L7Record], parameters: &[(&str, &str)]) {
    let (mut golden, _) = Golden::new(two_pods(), Config::default(), &Losses::default());
    let taps = Taps::new(&Losses::default());
    let query = TapQuery::read(parameters.iter().copied()).expect("good parameters");
    let reader = taps.open(query).expect("room");
    taps.take_opened().into_iter().for_each(|tap| golden.observe(Box::new(tap)));
    let (mut cache, one) = (FlowCache::default(), flow(Role::Server));
    each(what, ROUNDS, |i| {
        golden.exchange(&one, &mut cache, black_box(&records[i % 1024]));
        if i % 1024 == 0 {
            drop(reader.take(usize::MAX));
        }
    });
}

fn main() {
    let (mut golden, _) = Golden::new(two_pods(), Config::default(), &Losses::default());
    let records = records();
    let mut cache = FlowCache::default();
    let one = flow(Role::Server);
    each("exchange, one flow", ROUNDS, |i| golden.exchange(&one, &mut cache, black_box(&records[i % 1024])));

    let routed = |route: &str| {
        let mut routed = records.clone();
        for record in &mut routed {
            if let Detail::Http(http) = &mut record.detail {
                http.route = route.into();
            }
        }
        routed
    };
    let routes = ["/items/{id}", "/carts", "/users/{id}/orders"].map(routed);
    each("exchange with a route, one flow", ROUNDS, |i| {
        golden.exchange(&one, &mut cache, black_box(&routes[0][i % 1024]));
    });
    each("exchange, the route changes each time", ROUNDS, |i| {
        golden.exchange(&one, &mut cache, black_box(&routes[i % 3][i % 1024]));
    });

    let mut with_paths = records.clone();
    for record in &mut with_paths {
        if let Detail::Http(http) = &mut record.detail {
            http.target = "/items/7?size=120".into();
        }
    }
    tapped("exchange, a tap of another workload", &with_paths, &[("workload", "nobody")]);
    tapped("exchange, a tap of failures", &with_paths, &[("status", "failed")]);
    tapped("exchange, a tap that is told of it", &with_paths, &[]);

    let delta = FlowDelta { bytes: [500, 900], packets: [3, 4], ..FlowDelta::default() };
    each("tcp report, one flow", ROUNDS, |_| golden.flow(&one, &mut cache, black_box(&delta)));

    let mixed = [http("GET", Some(200), MS), http("POST", Some(201), MS), http("GET", Some(404), MS)];
    each("exchange, status and method change each time", ROUNDS, |i| {
        golden.exchange(&one, &mut cache, black_box(&mixed[i % 3]))
    });

    each("new flow: opened, one exchange with a route, closed", ROUNDS / 4, |i| {
        let mut cache = FlowCache::default();
        golden.flow(&one, &mut cache, &FlowDelta { opened: true, handshake_rtt_ns: Some(50_000), ..delta });
        golden.exchange(&one, &mut cache, black_box(&routes[0][i % 1024]));
        golden.flow(&one, &mut cache, &FlowDelta { closed: Some(Close::Fin), ..delta });
    });
    each("new flow: opened, one exchange, closed", ROUNDS / 4, |i| {
        let mut cache = FlowCache::default();
        golden.flow(&one, &mut cache, &FlowDelta { opened: true, handshake_rtt_ns: Some(50_000), ..delta });
        golden.exchange(&one, &mut cache, black_box(&records[i % 1024]));
        golden.flow(&one, &mut cache, &FlowDelta { closed: Some(Close::Fin), ..delta });
    });

    // A pod that makes up statuses and methods: what one exchange costs, and what all of them leave.
    let methods = ["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "CONNECT", "TRACE", "QUERY"];
    let all: Vec<L7Record> =
        methods.iter().flat_map(|method| (100..600).map(|status| http(method, Some(status), MS))).collect();
    let (mut golden, reader) = Golden::new(two_pods(), Config::default(), &Losses::default());
    let mut cache = FlowCache::default();
    each("exchange, 500 statuses and 10 methods on one edge", ROUNDS, |i| {
        golden.exchange(&one, &mut cache, black_box(&all[i % all.len()]))
    });
    golden.publish();
    let snapshot = reader.snapshot();
    for format in [Format::Text, Format::Protobuf] {
        let len = Exposition::render(&snapshot, &[], format).len();
        println!("its {} series, {format:?}: {len} bytes", snapshot.series());
    }

    // Each with its own edge: what a cache of the processor cannot hold.
    let mut names = two_pods();
    for i in 0..5_000u32 {
        names.remote.insert(
            [10, 1, (i >> 8) as u8, i as u8].into(),
            named(&format!("client-{i}"), "shop", WorkloadKind::Deployment),
        );
    }
    let (mut golden, reader) =
        Golden::new(names, Config { max_series: 20_000, ..Config::default() }, &Losses::default());
    let mut flows: Vec<(FlowInfo, FlowCache)> = (0..5_000u32)
        .map(|i| {
            let mut flow = flow(Role::Server);
            flow.tuple.remote.ip = [10, 1, (i >> 8) as u8, i as u8].into();
            (flow, FlowCache::default())
        })
        .collect();
    each("exchange, 5000 flows of 5000 edges in turn", ROUNDS, |i| {
        let (flow, cache) = &mut flows[i % 5_000];
        golden.exchange(flow, cache, black_box(&records[i * 7 % 1024]));
    });

    for (flow, cache) in &mut flows {
        golden.exchange(flow, cache, &mixed[1]);
    }
    let start = Instant::now();
    golden.publish();
    println!("publish of {} series: {:?}", reader.snapshot().series(), start.elapsed());
    let snapshot = reader.snapshot();
    println!("memory per series: {} bytes", snapshot.memory() / snapshot.series());
    for format in [Format::OpenMetrics, Format::Text, Format::Protobuf] {
        let start = Instant::now();
        let len = Exposition::render(&snapshot, &[], format).len();
        println!("render of {} series, {format:?}: {:?}, {len} bytes", snapshot.series(), start.elapsed());
    }
    let start = Instant::now();
    let rows = snapshot.workloads().len() + snapshot.edges().len();
    println!("view of {} series, {rows} rows: {:?}", snapshot.series(), start.elapsed());
}
