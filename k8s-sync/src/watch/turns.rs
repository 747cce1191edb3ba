//! When an agent may list, so that all agents of a cluster together list slowly, and an agent alone at once.
//!
//! Agents do not talk to each other (a peer reached through a virtual address may be oneself). But
//! each knows all nodes, so each can tell how many agents there may be and which place in their
//! order is its own. Time is divided into rounds of one slot for each list of each agent:
//!
//! ```text
//! slot   = 0.3 s, shorter where a round would take more than 5 min
//! round  = slots of (lists of an agent) x (agents); none for one agent
//! place  = list x agents + rank of the agent in the order of hashed node names
//! start  = place x slot + jitter within half a slot, counted in wall time modulo the round
//! ```
//!
//! As all agents' clocks show about the same time, lists are spread evenly whenever their need came
//! up, together or not: 50 agents have a round of 75 s with 3 or 4 lists in each second. Clocks
//! that differ turn the even spread into a random one, no more.
//!
//! Pure: time and jitter are passed in.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cluster::object::Uid;

/// No second has more than 4 lists over all agents. The aim is 5: agents are late by some of a slot
/// when their machines are busy. With slots of 1/4 s and jitter within the whole of them, 50 agents
/// on a machine of 2 busy processors had 6 lists in one second of some 60.
const SLOT: Duration = Duration::from_millis(300);
/// Share of a slot that jitter decides.
const CHANCE: f64 = 0.5;
/// Nobody waits longer than this, however many agents there are: 1,000 agents then make 17 lists a second.
const LONGEST_ROUND: Duration = Duration::from_secs(300);

/// The nodes of the cluster, as far as they are known: a hash of each name. 40 bytes for each.
#[derive(Debug, Default)]
pub struct Census {
    own: Option<u64>,
    nodes: BTreeMap<u128, u64>,
    listed: Option<BTreeMap<u128, u64>>,
    /// They were listed since the start; an agent without any node is alone.
    is_known: bool,
    /// There are at least so many agents, whatever the nodes say.
    at_least: u32,
}

impl Census {
    #[must_use]
    pub fn new(own_node: Option<&str>, at_least: u32, nodes: BTreeMap<u128, u64>) -> Census {
        Census { own: own_node.map(hash), nodes, listed: None, is_known: false, at_least }
    }

    /// By uid, to be kept until the next start.
    #[must_use]
    pub fn nodes(&self) -> &BTreeMap<u128, u64> {
        &self.nodes
    }

    pub fn list_begun(&mut self) {
        self.listed = Some(BTreeMap::new());
    }

    pub fn list_ended(&mut self) {
        if let Some(listed) = self.listed.take() {
            self.nodes = listed;
            self.is_known = true;
        }
    }

    pub fn seen(&mut self, uid: Uid, name: &str) {
        self.listed.as_mut().unwrap_or(&mut self.nodes).insert(uid.bits(), hash(name));
    }

    pub fn gone(&mut self, uid: Uid) {
        self.nodes.remove(&uid.bits());
    }

    /// None before nodes were ever listed, unless it was said how many there are.
    #[must_use]
    pub fn agents(&self) -> Option<Agents> {
        let nodes = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        let count = nodes.max(self.at_least);
        let rank = self.own.filter(|own| self.nodes.values().any(|node| node == own)).map(|own| {
            let before = self.nodes.values().filter(|node| **node < own).count();
            u32::try_from(before).unwrap_or(u32::MAX)
        });
        (count > 0 || self.is_known).then_some(Agents { count: count.max(1), rank })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agents {
    pub count: u32,
    /// None where this agent's node is not among them: its place is drawn.
    pub rank: Option<u32>,
}

/// FNV-1a, 64 bits: all agents must come to the same order, whatever their versions.
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// How long to wait before list number `list` of `lists`, at `wall` since the epoch. `jitter` in [0, 1).
#[must_use]
pub fn wait(agents: Agents, list: u32, lists: u32, wall: Duration, jitter: f64) -> Duration {
    let jitter = jitter.clamp(0.0, 0.999_999);
    if agents.count <= 1 {
        return Duration::ZERO;
    }
    let places = u64::from(agents.count) * u64::from(lists.max(1));
    let round = SLOT.mul_f64(places as f64).min(LONGEST_ROUND).as_secs_f64();
    let place = match agents.rank {
        Some(rank) => (f64::from(list) * f64::from(agents.count) + f64::from(rank) + CHANCE * jitter) / places as f64,
        None => jitter,
    };
    let now = wall.as_secs_f64() % round;
    Duration::from_secs_f64((place * round - now).rem_euclid(round).clamp(0.0, round))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uid(n: u32) -> Uid {
        Uid::parse(&format!("{n:032x}")).expect("32 digits")
    }

    fn census(own: &str, nodes: u32) -> Census {
        let mut census = Census::new(Some(own), 0, BTreeMap::new());
        census.list_begun();
        for n in 0..nodes {
            census.seen(uid(n), &format!("node-{n}"));
        }
        census.list_ended();
        census
    }

    /// Lists in each whole second when all agents need all their lists at `need(agent)`.
    fn per_second(nodes: u32, need: impl Fn(u32) -> f64) -> Vec<u32> {
        let mut seconds = vec![0; 700];
        for n in 0..nodes {
            let agents = census(&format!("node-{n}"), nodes).agents().expect("listed");
            for list in 0..5 {
                let at = Duration::from_secs_f64(1_000_000.0 + need(n));
                let jitter = f64::from((n * 7 + list * 3) % 10) / 10.0;
                let start = (at + wait(agents, list, 5, at, jitter)).as_secs() - 1_000_000;
                seconds[start as usize] += 1;
            }
        }
        seconds
    }

    #[test]
    fn fifty_agents_make_at_most_four_lists_a_second() {
        for (what, need) in [
            ("together", (|_| 0.0) as fn(u32) -> f64),
            ("within the back-off", |n| f64::from(n * 37 % 60) / 10.0),
            ("one after the other", |n| f64::from(n)),
        ] {
            let seconds = per_second(50, need);
            assert_eq!(seconds.iter().sum::<u32>(), 250);
            assert!(seconds.iter().all(|lists| *lists <= 4), "{what}: {seconds:?}");
        }
    }

    #[test]
    fn an_agent_alone_does_not_wait() {
        let agents = census("node-0", 1).agents().expect("listed");
        assert_eq!(agents, Agents { count: 1, rank: Some(0) });
        assert!((0..5).all(|list| wait(agents, list, 5, Duration::from_millis(77), 0.9).is_zero()));
    }

    #[test]
    fn a_small_cluster_waits_seconds_and_a_large_one_minutes_at_most() {
        let longest = |count| {
            let agents = Agents { count, rank: Some(count - 1) };
            (0..1_000).map(|ms| wait(agents, 4, 5, Duration::from_millis(ms * 997), 0.5)).max().unwrap_or_default()
        };
        assert!(longest(3) <= Duration::from_millis(4_500));
        assert!(longest(50) <= Duration::from_millis(75_000));
        assert!(longest(100_000) <= Duration::from_secs(300));
    }

    #[test]
    fn ranks_are_one_for_each_node_whoever_counts() {
        let mut ranks: Vec<u32> = (0..20).filter_map(|n| census(&format!("node-{n}"), 20).agents()?.rank).collect();
        ranks.sort_unstable();
        assert_eq!(ranks, (0..20).collect::<Vec<u32>>());
    }

    #[test]
    fn a_node_that_is_not_listed_draws_its_place() {
        let agents = census("elsewhere", 20).agents().expect("listed");
        assert_eq!(agents, Agents { count: 20, rank: None });
        let waits: Vec<Duration> = (0..10).map(|n| wait(agents, 0, 5, Duration::ZERO, f64::from(n) / 10.0)).collect();
        assert!(waits.is_sorted() && waits[9] > Duration::from_secs(20), "{waits:?}");
    }

    #[test]
    fn nodes_come_and_go_and_a_list_replaces_them() {
        let mut census = Census::new(None, 0, BTreeMap::new());
        assert_eq!(census.agents(), None, "nothing is known yet");
        census.seen(uid(1), "a");
        census.seen(uid(2), "b");
        census.gone(uid(1));
        assert_eq!(census.agents(), Some(Agents { count: 1, rank: None }));
        census.list_begun();
        census.seen(uid(3), "c");
        assert_eq!(census.agents().map(|agents| agents.count), Some(1), "a list counts when it has ended");
        census.seen(uid(4), "d");
        census.list_ended();
        assert_eq!(census.agents().map(|agents| agents.count), Some(2));
        assert_eq!(self::census("a", 0).agents(), Some(Agents { count: 1, rank: None }), "no node at all");
        assert_eq!(Census::new(None, 50, BTreeMap::new()).agents(), Some(Agents { count: 50, rank: None }));
    }
}
