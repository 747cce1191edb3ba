//! What each of many agents has counted: rows of a real table, counted round after round, in which
//! each agent puts the names of its own workloads.
//!
//! The pods are those of `testbed::cluster::bulk`: pod `n` is on node `n` of so many, and ten of them
//! are Deployment `work-<n / 10>`. So ten nodes tell of the same edges, and an agent tells of
//! workloads that have a pod on its node.

use crate::people::People;
use flow_model::{
    Detail, Endpoint, FiveTuple, FlowInfo, HttpExchange, L7Record, Notes, Outcome, Protocol, Role, Sink, Slot,
    Transport, Ts, WorkloadKind,
};
use golden_metrics::{Config, FlowCache, Golden, Losses};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// Workloads of a node that are seen, at most.
const LOCALS: u32 = 30;
/// In the table of the template, from here on names are of the others.
const REMOTE: u32 = 500_000;
const PREFIX: &[u8] = b"work-";
const DIGITS: usize = 6;

/// Of one cluster.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub nodes: u32,
    pub pods: u32,
    /// Of each agent, at least.
    pub series: usize,
    /// Pushes in which something was counted; from then on nothing is.
    pub rounds: usize,
}

/// A key with the places where a name stands.
#[derive(Debug)]
struct Key {
    bytes: Vec<u8>,
    /// Where the digits are, and whose.
    holes: Vec<(usize, u32)>,
}

/// See the module.
#[derive(Debug)]
pub struct Template {
    size: Size,
    locals: u32,
    keys: Vec<Key>,
    /// For each round the value of each key.
    rounds: Vec<Vec<Vec<u8>>>,
}

impl Template {
    pub fn new(size: Size) -> Template {
        let locals = (size.pods / size.nodes.max(1)).clamp(1, LOCALS);
        let name = |number: u32| format!("work-{number:06}");
        // As many edges as one could need: an edge has some series.
        let most = u32::try_from(size.series).unwrap_or(u32::MAX).min(20_000);
        let all = (0..locals).chain(REMOTE..REMOTE + most);
        let people = People::new(all.map(|n| ("bulk".to_owned(), name(n), WorkloadKind::Deployment)));
        let (mut golden, reader) = Golden::new(people, Config::default(), &Losses::default());
        let rows = |golden: &mut Golden<People>| {
            golden.publish();
            let mut rows = BTreeMap::new();
            reader.snapshot().rows(&mut |key, value| drop(rows.insert(key.to_vec(), value.to_vec())));
            rows
        };
        let mut edges: Vec<(FlowInfo, FlowCache)> = Vec::new();
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let mut first = BTreeMap::new();
        while first.len() < size.series && (edges.len() as u32) < most {
            let edge = u32::try_from(edges.len()).unwrap_or(u32::MAX);
            edges.push((flow(edge % locals, locals + edge), FlowCache::default()));
            edges.iter_mut().skip(edge as usize).for_each(|edge| exchange(&mut golden, edge, &mut random, true));
            first = rows(&mut golden);
        }
        let mut rounds = vec![first];
        for _ in 1..size.rounds.max(1) {
            for edge in &mut edges {
                (0..5 + random.below(10)).for_each(|_| exchange(&mut golden, edge, &mut random, false));
            }
            rounds.push(rows(&mut golden));
        }
        let keys: Vec<Key> = rounds[0].keys().map(|bytes| Key::of(bytes)).collect();
        let values = |round: BTreeMap<Vec<u8>, Vec<u8>>| rounds_of(&keys, round);
        let rounds = rounds.into_iter().map(values).collect();
        Template { size, locals, keys, rounds }
    }

    pub fn series(&self) -> usize {
        self.keys.len()
    }

    /// Of one of the ten nodes at most that have its pods.
    fn local(&self, node: u32, index: u32) -> u32 {
        (node + index * self.size.nodes) / 10
    }

    fn name(&self, node: u32, number: u32) -> u32 {
        let workloads = (self.size.pods / 10).max(1);
        match number.checked_sub(REMOTE) {
            None => self.local(node, number),
            // Whom a workload asks is the same on each node.
            Some(edge) => (self.local(node, edge % self.locals) * 31 + edge * 17 + 1) % workloads,
        }
    }

    /// Each series of the agent of this node, after so many pushes.
    pub fn rows(&self, node: u32, round: usize, put: &mut dyn FnMut(&[u8], &[u8])) {
        let values = &self.rounds[round.min(self.rounds.len() - 1)];
        let mut key = Vec::new();
        for (Key { bytes, holes }, value) in self.keys.iter().zip(values) {
            key.clear();
            key.extend_from_slice(bytes);
            for (at, number) in holes {
                let digits = format!("{:0DIGITS$}", self.name(node, *number));
                key[*at..at + DIGITS].copy_from_slice(digits.as_bytes());
            }
            put(&key, value);
        }
    }
}

fn rounds_of(keys: &[Key], mut round: BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<Vec<u8>> {
    keys.iter().map(|key| round.remove(&key.bytes).unwrap_or_default()).collect()
}

impl Key {
    fn of(bytes: &[u8]) -> Key {
        let mut holes = Vec::new();
        for at in 0..bytes.len().saturating_sub(PREFIX.len() + DIGITS - 1) {
            let digits = &bytes[at + PREFIX.len()..at + PREFIX.len() + DIGITS];
            let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
            if let Some(number) = number.filter(|_| bytes[at..].starts_with(PREFIX)) {
                holes.push((at + PREFIX.len(), number));
            }
        }
        Key { bytes: bytes.to_vec(), holes }
    }
}

/// The local end is the client of each second edge.
fn flow(local: u32, remote: u32) -> FlowInfo {
    let end = |of: u32, port| Endpoint { ip: IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + of)), port };
    let is_client = remote.is_multiple_of(2);
    let (role, ports) = if is_client { (Role::Client, [40_000, 80]) } else { (Role::Server, [80, 40_000]) };
    let tuple = FiveTuple { transport: Transport::Tcp, local: end(local, ports[0]), remote: end(remote, ports[1]) };
    FlowInfo { slot: Slot(local + 1), tuple, role, opened: Ts(1), joined_midway: false, peer: None }
}

/// Answered with 200 as a rule, after 100 us to 100 ms.
fn exchange(
    golden: &mut Golden<People>,
    (flow, cache): &mut (FlowInfo, FlowCache),
    random: &mut Random,
    is_first: bool,
) {
    let took_us = 100 << random.below(10);
    let took_us = took_us + random.below(took_us);
    let (start, end) = (Ts(1_000_000_000), Ts(1_000_000_000 + took_us * 1_000));
    let status = if is_first || random.below(50) > 0 { 200 } else { 503 };
    let method = "GET".to_owned().into();
    let detail = HttpExchange { method, status: Some(status), ..HttpExchange::default() };
    let record = L7Record {
        protocol: Protocol::Http1,
        start,
        response_start: Some(end),
        end,
        request_bytes: 100 + random.below(400),
        response_bytes: 1_000 + random.below(9_000),
        outcome: Outcome::Answered,
        notes: Notes::default(),
        detail: Detail::Http(detail),
    };
    golden.exchange(flow, cache, &record);
}

/// xorshift64* (Vigna 2016): the same series each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound.max(1)
    }
}
