//! Who else is told of exchanges.

mod common;

use common::*;
use flow_model::{FlowInfo, L7Record, Role, Sink};
use golden_metrics::{Edge, Feed, FlowCache, Golden, Losses, Observer};
use std::sync::mpsc::{Receiver, TryRecvError};

/// Sends who asked whom to another thread.
#[derive(Debug)]
struct Exporter(Feed<String>);

impl Observer for Exporter {
    fn exchange(&mut self, edge: &Edge, _: &FlowInfo, record: &L7Record) {
        self.0.push(format!("{} > {} {}", edge.client.workload, edge.server.workload, record.protocol.as_str()));
    }

    fn is_over(&self) -> bool {
        self.0.is_over()
    }
}

fn exporting(cap: usize) -> (Golden<Table>, Receiver<String>, Losses) {
    let losses = Losses::default();
    let (mut golden, _) = Golden::new(two_pods(), CONFIG, &losses);
    let (feed, receiver) = Feed::new("export", "records", cap, &losses);
    golden.observe(Box::new(Exporter(feed)));
    (golden, receiver, losses)
}

fn see(golden: &mut Golden<Table>, times: usize) {
    let mut cache = FlowCache::default();
    for _ in 0..times {
        golden.exchange(&flow(Role::Client), &mut cache, &http("GET", Some(200), MS));
    }
}

fn lost(losses: &Losses) -> Vec<(String, String, u64)> {
    let rows = losses.rows().into_iter().filter(|row| row.stage != "metrics");
    rows.map(|row| (row.stage.into_owned(), row.reason.into_owned(), row.total)).collect()
}

#[test]
fn an_observer_hears_of_each_exchange_with_the_names_of_its_ends() {
    let (mut golden, receiver, losses) = exporting(8);
    see(&mut golden, 2);
    assert_eq!(receiver.try_iter().collect::<Vec<_>>(), ["web > api http1", "web > api http1"]);
    assert_eq!(lost(&losses), [("export".to_owned(), "queue_full".to_owned(), 0)]);
}

#[test]
fn what_a_slow_consumer_has_no_room_for_is_counted_at_its_stage() {
    let (mut golden, receiver, losses) = exporting(2);
    see(&mut golden, 5);
    assert_eq!(lost(&losses), [("export".to_owned(), "queue_full".to_owned(), 3)]);
    assert_eq!(receiver.try_iter().count(), 2);
    see(&mut golden, 1);
    assert_eq!(receiver.try_iter().count(), 1);
}

#[test]
fn an_observer_whose_consumer_is_gone_is_dropped() {
    let (mut golden, receiver, losses) = exporting(2);
    drop(receiver);
    let (other, others) = Feed::new("tap", "records", 1, &losses);
    golden.observe(Box::new(Exporter(other)));
    see(&mut golden, 1);
    golden.publish();
    see(&mut golden, 1);
    assert_eq!(
        lost(&losses),
        [("export".to_owned(), "queue_full".to_owned(), 0), ("tap".to_owned(), "queue_full".to_owned(), 1)]
    );
    assert_eq!(others.try_recv().as_deref(), Ok("web > api http1"));
    drop(golden);
    assert_eq!(others.try_recv(), Err(TryRecvError::Disconnected));
}
