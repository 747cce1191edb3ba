//! What repeats itself allocates nothing: the pipeline counts an exchange for each that the node
//! makes.
#![deny(unsafe_code)]

#[path = "../common/mod.rs"]
mod common;
#[allow(unsafe_code)]
mod sys;

use common::*;
use flow_model::{DbOperation, Detail, L7Record, Outcome, Role, Sink};
use golden_metrics::{Config, FlowCache, Golden, Losses};

#[global_allocator]
static COUNTING: sys::Counting = sys::Counting;

fn db(table: &str) -> L7Record {
    let operation =
        DbOperation { system: "redis", operation: "GET".into(), collection: table.into(), ..Default::default() };
    L7Record { detail: Detail::Db(operation), outcome: Outcome::Answered, ..http("", Some(200), MS) }
}

/// Counts `records` in turn on one flow, after each has been seen once.
fn repeated(config: Config, records: &[L7Record]) -> u64 {
    let (mut golden, _reader) = Golden::new(two_pods(), config, &Losses::default());
    let (flow, mut cache) = (flow(Role::Server), FlowCache::default());
    let mut see = |times: usize| {
        for record in records.iter().cycle().take(times * records.len()) {
            golden.exchange(&flow, &mut cache, record);
        }
    };
    see(1);
    sys::allocations(|| see(100))
}

#[test]
fn an_exchange_that_repeats_itself_allocates_nothing() {
    assert_eq!(repeated(CONFIG, &[http("GET", Some(200), MS)]), 0);
    assert_eq!(repeated(CONFIG, &[db("carts")]), 0);
    assert!(sys::allocations(|| drop(Box::new(MS))) > 0, "the allocator counts");
}

#[test]
fn exchanges_that_take_turns_allocate_nothing() {
    assert_eq!(
        repeated(CONFIG, &[http("GET", Some(200), MS), http("POST", Some(201), MS), db("carts"), db("users")]),
        0
    );
}

#[test]
fn exchanges_over_the_cap_allocate_nothing() {
    let full = Config { max_series: 1, ..CONFIG };
    assert_eq!(repeated(full, &[http("GET", Some(200), MS), http("POST", Some(200), MS), db("carts"), db("users")]), 0);
}

#[test]
fn exchanges_of_an_edge_that_has_its_share_allocate_nothing() {
    let statuses = (100..600).map(|status| http("GET", Some(status), MS));
    let tables = (0..200).map(|table| db(&format!("table{table}")));
    let all: Vec<L7Record> = statuses.chain(tables).collect();
    assert_eq!(repeated(Config { max_series: 10_000, ..CONFIG }, &all), 0);
}
