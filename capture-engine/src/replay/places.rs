//! One packet that a capture of several interfaces saw more than once: `tcpdump -i any`, or a pcapng
//! file of several. It is counted where it was seen first.
//!
//! A packet is one that was counted when an identical one of its flow was counted at another
//! interface lately, or when all its bytes were counted at the interface that brings the new ones
//! of that direction (the same bytes may be cut differently there). Whatever an interface alone has
//! seen is counted: a flow may change its way, and its directions may take different ones.

use super::decode::Decoded;
use super::flow::{FIN, SYN};
use flow_model::Ts;
use hashbrown::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::time::Duration;

/// Packets of a direction that are remembered: interfaces hand on bursts of 8 (`gro_normal_batch`).
const REMEMBERED: usize = 16;

/// For so long. From one interface to the next it takes microseconds; whoever sends the same again waits.
const LATELY: Duration = Duration::from_secs(1);

/// Flows remembered of each of two generations: the one before is forgotten when this one is full.
const FLOWS: usize = 1 << 14;

type Ends = ((u128, u16), (u128, u16), bool);

/// Where a packet was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub interface: u32,
    pub side: u64,
    /// Inside a tunnel.
    pub tunnel: bool,
}

#[derive(Debug, Default)]
pub(super) struct Places {
    flows: HashMap<Ends, [Way; 2], foldhash::fast::RandomState>,
    before: HashMap<Ends, [Way; 2], foldhash::fast::RandomState>,
    hasher: foldhash::fast::RandomState,
    /// Packets that had been counted.
    pub again: u64,
}

/// One direction of a flow.
#[derive(Clone, Debug, Default)]
struct Way {
    /// (what, where) of the packets that were counted last.
    counted: [(u32, u32); REMEMBERED],
    hand: u8,
    last: Ts,
    /// Where the newest bytes came from, and what follows them.
    newest: Option<(u32, u32)>,
}

impl Places {
    /// Whether this packet was counted at another place.
    pub fn again(&mut self, packet: &Decoded<'_>, place: Place, at: Ts) -> bool {
        let here = self.hash(place);
        let what = self.hash(Content(packet));
        let way = self.way(packet);
        if at.since(way.last) > LATELY {
            way.counted = [(0, 0); REMEMBERED];
        }
        way.last = way.last.max(at);
        let seen = |at: fn(u32, u32) -> bool| {
            way.counted.iter().any(|&(counted, there)| counted == what && there != 0 && at(there, here))
        };
        let elsewhere = seen(|there, here| there != here) && !seen(|there, here| there == here);
        let ends = |flag: u8| u32::from(packet.tcp_flags & flag != 0);
        let next = packet.seq.wrapping_add(packet.payload).wrapping_add(ends(SYN)).wrapping_add(ends(FIN));
        let fresh = way.newest.is_none_or(|(_, newest)| next.wrapping_sub(newest).cast_signed() > 0) || ends(SYN) > 0;
        let old = packet.tcp && packet.payload > 0 && !fresh && way.newest.is_some_and(|(there, _)| there != here);
        if elsewhere || old {
            self.again += 1;
            return true;
        }
        if packet.tcp && fresh {
            way.newest = Some((here, next));
        }
        if let Some(oldest) = way.counted.get_mut(usize::from(way.hand)) {
            *oldest = (what, here);
        }
        way.hand = (way.hand + 1) % REMEMBERED as u8;
        false
    }

    fn way(&mut self, packet: &Decoded<'_>) -> &mut Way {
        let (one, other) = (packet.source, packet.destination);
        let ends = (one.min(other), one.max(other), packet.tcp);
        if self.flows.len() >= FLOWS && !self.flows.contains_key(&ends) {
            self.before = std::mem::take(&mut self.flows);
        }
        let before = &mut self.before;
        let ways = self.flows.entry(ends).or_insert_with(|| before.remove(&ends).unwrap_or_default());
        let [forth, back] = ways;
        if one <= other { forth } else { back }
    }

    /// Never 0.
    fn hash(&self, what: impl Hash) -> u32 {
        (self.hasher.hash_one(what) as u32).max(1)
    }
}

/// What makes a packet that one and no other: its place in the stream, or all of its bytes.
struct Content<'a>(&'a Decoded<'a>);

impl Hash for Content<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Decoded { tcp, source: _, destination: _, ip_bytes, seq, ack, tcp_flags, window, payload, held } = *self.0;
        (ip_bytes, seq, ack, tcp_flags, window, payload).hash(state);
        if !tcp {
            held.hash(state);
        }
    }
}
