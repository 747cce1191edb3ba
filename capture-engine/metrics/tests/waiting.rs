//! Edges that wait for a name: nothing of them is shown before, everything is shown once, and what
//! was shown never moves.

mod common;

use common::*;
use flow_model::{Close, Endpoint, FlowDelta, FlowInfo, Protocol, Role, Sink, Ts, WorkloadKind};
use golden_metrics::{Config, FlowCache, Golden, Losses, Reader, Reporter};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::net::IpAddr;

const SECOND: u64 = 1_000 * MS;

struct Node {
    golden: Golden<Table>,
    reader: Reader,
    losses: Losses,
}

/// The API is fresh, and knows web alone.
fn node() -> Node {
    let losses = Losses::default();
    let mut names = two_pods();
    names.remote.clear();
    names.awaits = true;
    let (golden, reader) = Golden::new(names, Config::default(), &losses);
    Node { golden, reader, losses }
}

fn to(last: u8, opened: u64) -> FlowInfo {
    let mut flow = flow(Role::Client);
    (flow.tuple.remote, flow.opened) = (end(last, 8080), Ts(opened));
    flow
}

impl Node {
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

    /// The pod is known, and the Service of it, so that nothing better can come.
    fn knows(&mut self, last: u8, name: &'static str) {
        self.learn(|names| {
            names.remote.insert(end(last, 0).ip, deployment(name));
            names.services.insert(end(last, 8080), name);
        });
    }

    /// "server: exchanges" of what is shown at `at`.
    fn shown(&mut self, at: u64) -> Vec<String> {
        self.golden.publish_if_due(Ts(at));
        self.rows()
    }

    fn rows(&mut self) -> Vec<String> {
        let rows = self.reader.snapshot().edges();
        let mut rows: Vec<String> =
            rows.into_iter().map(|row| format!("{}: {}", row.dst.name, row.golden.requests)).collect();
        rows.sort();
        rows
    }

    fn counted(&self) -> u64 {
        self.reader.snapshot().exchanges(Reporter::Client, Protocol::Http1)
    }

    fn full(&self) -> u64 {
        self.losses.rows().iter().filter(|row| row.stage == "names").map(|row| row.total).sum()
    }
}

#[test]
fn what_was_seen_before_its_name_is_shown_under_it_once_it_comes() {
    let mut node = node();
    let (flow, mut cache) = (to(2, SECOND), FlowCache::default());
    for at in 0..3 {
        node.exchange(&flow, &mut cache, SECOND + at * MS);
    }
    assert!(node.shown(SECOND + 300 * MS).is_empty());
    assert_eq!(node.counted(), 3, "it is counted at once");
    node.knows(2, "api");
    assert_eq!(node.shown(SECOND + 500 * MS), ["api: 3"]);
    node.exchange(&flow, &mut cache, SECOND + 600 * MS);
    assert_eq!(node.shown(SECOND + 800 * MS), ["api: 4"]);
}

#[test]
fn nobody_waits_for_longer_than_two_seconds_nor_twice_for_what_nobody_knows() {
    let mut node = node();
    let (flow, mut cache) = (to(2, SECOND), FlowCache::default());
    node.exchange(&flow, &mut cache, SECOND);
    // News of others.
    node.learn(|_| {});
    assert!(node.shown(3 * SECOND - 1).is_empty());
    assert_eq!(node.shown(3 * SECOND + 100 * MS), ["private: 1"]);
    node.exchange(&flow, &mut cache, 4 * SECOND);
    let (next, mut of_next) = (to(2, 5 * SECOND), FlowCache::default());
    node.exchange(&next, &mut of_next, 5 * SECOND);
    assert_eq!(node.shown(5 * SECOND + 100 * MS), ["private: 3"]);
    // What was shown stays where it is.
    node.knows(2, "api");
    node.exchange(&next, &mut of_next, 8 * SECOND);
    assert_eq!(node.shown(9 * SECOND), ["api: 1", "private: 3"]);
    assert_eq!((node.counted(), node.full()), (4, 0));
}

#[test]
fn who_will_hear_nothing_better_does_not_wait() {
    let mut node = node();
    node.knows(3, "db");
    let mut cache = FlowCache::default();
    node.exchange(&to(3, SECOND), &mut cache, SECOND);
    assert_eq!(node.shown(SECOND + 100 * MS), ["db: 1"], "both ends are final");
    // The API goes away.
    node.exchange(&to(2, SECOND), &mut FlowCache::default(), SECOND);
    assert_eq!(node.shown(SECOND + 300 * MS), ["db: 1"]);
    node.learn(|names| names.awaits = false);
    assert_eq!(node.shown(SECOND + 500 * MS), ["db: 1", "private: 1"]);
    node.exchange(&to(4, 2 * SECOND), &mut FlowCache::default(), 2 * SECOND);
    assert_eq!(node.shown(2 * SECOND + 100 * MS), ["db: 1", "private: 2"]);
}

#[test]
fn a_drain_shows_all_under_what_is_known() {
    let mut node = node();
    for last in 2..6 {
        node.exchange(&to(last, SECOND), &mut FlowCache::default(), SECOND);
    }
    node.golden.names_mut().remote.insert(end(3, 0).ip, named("db-0", "shop", WorkloadKind::Pod));
    node.golden.publish();
    assert_eq!(node.rows(), ["db-0: 1", "private: 3"]);
}

#[test]
fn an_address_that_passed_on_meanwhile_gives_neither_name() {
    let mut node = node();
    let mut caches = [FlowCache::default(), FlowCache::default()];
    node.exchange(&to(2, SECOND), &mut caches[0], SECOND);
    node.exchange(&to(2, 2 * SECOND), &mut caches[1], 2 * SECOND);
    // The second one's opening is the first time of the new holder.
    node.learn(|names| names.since = Ts(2 * SECOND));
    node.knows(2, "api");
    assert_eq!(node.shown(2 * SECOND + 100 * MS), ["private: 2"]);
}

#[test]
fn more_than_may_wait_are_counted_as_they_are_called_and_none_is_lost() {
    let mut node = node();
    let flows = 600_u32;
    for n in 0..flows {
        let mut flow = to(2, SECOND);
        flow.tuple.remote = Endpoint { ip: IpAddr::from((0x0a01_0000 + n).to_be_bytes()), port: 8080 };
        node.exchange(&flow, &mut FlowCache::default(), SECOND);
    }
    let waiting = 512;
    assert_eq!(node.shown(SECOND + 100 * MS), [format!("private: {}", flows - waiting)]);
    assert_eq!((node.full(), node.counted()), (u64::from(flows - waiting), u64::from(flows)));
    assert_eq!(node.shown(3 * SECOND + 100 * MS), [format!("private: {flows}")]);
}

#[test]
fn connections_and_bytes_wait_with_the_exchanges() {
    let mut node = node();
    let (flow, mut cache) = (to(2, SECOND), FlowCache::default());
    let delta = FlowDelta { bytes: [10, 20], opened: true, handshake_rtt_ns: Some(7), ..FlowDelta::default() };
    node.golden.flow(&flow, &mut cache, &delta);
    assert!(node.shown(SECOND + 100 * MS).is_empty());
    node.knows(2, "api");
    node.golden.publish_if_due(Ts(SECOND + 300 * MS));
    let open = |node: &Node| -> Vec<(String, u64)> {
        let rows = node.reader.snapshot().edges();
        let mut rows: Vec<_> = rows.into_iter().map(|row| (row.dst.name, row.golden.tcp_connections)).collect();
        rows.sort();
        rows
    };
    assert_eq!(open(&node), [("api".to_owned(), 1)], "nothing more was seen of it");
    node.golden.flow(&flow, &mut cache, &FlowDelta { closed: Some(Close::Fin), ..FlowDelta::default() });
    node.golden.publish_if_due(Ts(SECOND + 500 * MS));
    assert_eq!(open(&node), [("api".to_owned(), 0)]);
    // One that is forgotten without a close.
    let mut cache = FlowCache::default();
    node.golden.flow(&to(5, SECOND), &mut cache, &delta);
    node.golden.publish_if_due(Ts(4 * SECOND));
    assert_eq!(open(&node), [("api".to_owned(), 0), ("private".to_owned(), 1)]);
    drop(cache);
    assert_eq!(open(&node), [("api".to_owned(), 0), ("private".to_owned(), 0)]);
}

#[derive(Clone, Debug)]
enum Act {
    Open { flow: usize, last: u8 },
    Exchange { flow: usize },
    Know { last: u8 },
    Forget { last: u8 },
    Api(bool),
    Show,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (0usize..6, 2u8..6).prop_map(|(flow, last)| Act::Open { flow, last }),
        10 => (0usize..6).prop_map(|flow| Act::Exchange { flow }),
        2 => (2u8..6).prop_map(|last| Act::Know { last }),
        1 => (2u8..6).prop_map(|last| Act::Forget { last }),
        1 => any::<bool>().prop_map(Act::Api),
        4 => Just(Act::Show),
    ]
}

proptest! {
    // Whatever names come and go: no row that was shown ever falls, what is not shown is at most
    // two seconds old, and at the end all is shown.
    #[test]
    fn what_is_shown_never_falls_and_all_is_shown_in_the_end(acts in prop::collection::vec((act(), 0u64..900), 1..120)) {
        let mut node = node();
        let mut flows: Vec<(FlowInfo, FlowCache)> = (0..6).map(|_| (to(2, 0), FlowCache::default())).collect();
        let (mut now, mut seen) = (SECOND, Vec::new());
        let mut shown: BTreeMap<(String, String, String), u64> = BTreeMap::new();
        for (act, pause) in acts {
            now += pause * MS;
            match act {
                Act::Open { flow, last } => flows[flow] = (to(last, now), FlowCache::default()),
                Act::Exchange { flow } => {
                    let (info, cache) = &mut flows[flow];
                    node.exchange(info, cache, now);
                    seen.push(now);
                }
                Act::Know { last } => node.knows(last, ["api", "db", "log", "pay"][usize::from(last - 2)]),
                Act::Forget { last } => node.learn(|names| drop(names.remote.remove(&end(last, 0).ip))),
                Act::Api(is_fresh) => node.learn(|names| names.awaits = is_fresh),
                Act::Show => {
                    now += 100 * MS;
                    node.golden.publish_if_due(Ts(now));
                }
            }
            let rows = node.reader.snapshot().edges();
            let mut total = 0;
            for row in rows {
                let was = shown.entry((row.dst.name, row.dst.kind, row.service)).or_default();
                prop_assert!(row.golden.requests >= *was);
                *was = row.golden.requests;
                total += row.golden.requests;
            }
            prop_assert_eq!(total, shown.values().sum::<u64>(), "a row is gone");
            prop_assert_eq!(node.counted(), seen.len() as u64);
            if matches!(act, Act::Show) {
                let old = seen.iter().filter(|at| now - **at >= 2 * SECOND).count() as u64;
                prop_assert!(total >= old, "{} of {} that are older than two seconds", total, old);
            }
        }
        node.golden.publish();
        let rows = node.reader.snapshot().edges();
        prop_assert_eq!(rows.iter().map(|row| row.golden.requests).sum::<u64>(), seen.len() as u64);
    }
}
