//! What may have passed an interface while our programs were away from it, by the interface's own
//! counters: an upper bound, from the last look that found them in place to the one that finds them
//! there again.

#![forbid(unsafe_code)]

use netns::wire::{self, Batch, Message, Payload};
use netns::{MOST_ASKED, RouteSocket};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// `RTM_GETSTATS` and its answer, since Linux 4.7.
const RTM_NEWSTATS: u16 = 92;
const RTM_GETSTATS: u16 = 94;
/// `struct if_stats_msg`: family, pad, ifindex, filter mask.
const IF_STATS_MSG: usize = 12;
const INDEX: usize = 4;
/// `IFLA_STATS_LINK_64`, a `struct rtnl_link_stats64` that begins with packets received and sent.
const LINK_64: u16 = 1;

/// Packets of these interfaces in both directions, since they exist. Nothing where the kernel does
/// not tell: then a gap is seen, and has no size. They are asked for one by one: the namespace may
/// have any number of others.
pub fn packets(route: &mut RouteSocket, of: impl IntoIterator<Item = u32>) -> HashMap<u32, u64> {
    let of: BTreeSet<u32> = of.into_iter().collect();
    let of: Vec<u32> = of.into_iter().collect();
    let mut all = HashMap::new();
    for some in of.chunks(MOST_ASKED) {
        let mut batch = Batch::new();
        some.iter().for_each(|index| batch.message(RTM_GETSTATS, 0, |message| request(message, *index)));
        let asked = route.ask(batch, parse).unwrap_or_default();
        all.extend(asked.into_iter().flatten());
    }
    all
}

fn request(message: &mut Payload<'_>, index: u32) {
    let mut bytes = [0; IF_STATS_MSG];
    bytes[INDEX..INDEX + 4].copy_from_slice(&index.to_ne_bytes());
    bytes[8..].copy_from_slice(&(1u32 << (LINK_64 - 1)).to_ne_bytes());
    message.raw(&bytes);
}

fn parse(message: &Message<'_>) -> Option<(u32, u64)> {
    if message.kind != RTM_NEWSTATS {
        return None;
    }
    let (_, stats) = wire::attrs_after(message.payload, IF_STATS_MSG).find(|(kind, _)| *kind == LINK_64)?;
    let counter = |at: usize| Some(u64::from_ne_bytes(stats.get(at..at + 8)?.try_into().ok()?));
    Some((wire::read_u32(message.payload, INDEX)?, counter(0)?.saturating_add(counter(8)?)))
}

/// Interfaces that our programs are away from, each with its count of packets as of the last look.
#[derive(Debug, Default)]
pub struct Gaps(BTreeMap<u32, u64>);

impl Gaps {
    /// Found away; they were in place when the interface had counted `packets`. The end of an
    /// earlier gap counts as that.
    pub fn begin(&mut self, index: u32, packets: u64) {
        self.0.entry(index).or_insert(packets);
    }

    /// What passed since the last look. A gap ends where `is_attached`, or with its interface.
    pub fn settle(&mut self, now: &HashMap<u32, u64>, is_attached: impl Fn(u32) -> bool) -> u64 {
        let mut unseen = 0u64;
        self.0.retain(|index, last| {
            let Some(count) = now.get(index) else { return false };
            // Less than before: another interface has the number.
            unseen = unseen.saturating_add(count.saturating_sub(*last));
            *last = *count;
            !is_attached(*index)
        });
        unseen
    }

    /// Our programs are away from this interface.
    #[must_use]
    pub fn is_open(&self, index: u32) -> bool {
        self.0.contains_key(&index)
    }

    /// Those interfaces.
    pub fn indexes(&self) -> impl Iterator<Item = u32> {
        self.0.keys().copied()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_of_an_interface_are_added_up() {
        let mut batch = Batch::new();
        batch.message(RTM_NEWSTATS, 0, |message| {
            let mut fixed = [0; IF_STATS_MSG];
            fixed[4..8].copy_from_slice(&9u32.to_ne_bytes());
            message.raw(&fixed);
            let counters: Vec<u8> = [70u64, 7, 1, 1].iter().flat_map(|count| count.to_ne_bytes()).collect();
            message.attr(LINK_64, &counters);
        });
        let read: Vec<_> = wire::messages(batch.bytes()).filter_map(|message| parse(&message)).collect();
        assert_eq!(read, [(9, 77)]);
        for length in 0..40 {
            let payload = vec![1; length];
            let _ = parse(&Message { kind: RTM_NEWSTATS, flags: 0, seq: 0, payload: &payload });
        }
    }

    #[test]
    fn a_gap_lasts_until_the_programs_are_back_and_each_packet_counts_once() {
        let mut gaps = Gaps::default();
        let at = |count: u64| HashMap::from([(2, count), (3, 5)]);
        gaps.begin(2, 100);
        assert_eq!(gaps.settle(&at(130), |_| false), 30);
        gaps.begin(2, 100);
        assert_eq!(gaps.settle(&at(131), |_| false), 1, "it is the same gap");
        assert_eq!(gaps.settle(&at(141), |index| index == 2), 10);
        assert!(gaps.is_empty());
        gaps.begin(2, 141);
        assert_eq!(gaps.settle(&at(7), |_| true), 0, "another interface has its number");
        gaps.begin(4, 1);
        assert_eq!(gaps.settle(&at(7), |_| false), 0);
        assert!(gaps.is_empty(), "it went with its interface");
    }
}
