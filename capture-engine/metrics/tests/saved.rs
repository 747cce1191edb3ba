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
