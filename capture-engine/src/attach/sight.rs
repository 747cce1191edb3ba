//! Whether our programs see what passes the interfaces that they sit on: interfaces that count
//! packets while the programs count none have something before us, or beside us, that no list of
//! programs shows. Pure.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap};

/// So many packets unseen are no chance: some are on their way between the two counts, and a burst
/// may have come while the programs were being attached.
const CHANCE: u64 = 64;

/// What one look says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sees {
    /// They do, or nobody counts.
    Well,
    /// They have seen nothing lately, and little passed.
    Unknown,
    /// So many packets were not seen, for the first time: attach anew.
    NotNow(u64),
    /// So many were not seen since they were attached anew, or none has been seen since.
    Never(u64),
}

impl Sees {
    /// What there is to say of it.
    pub fn failure(self) -> Option<String> {
        match self {
            Sees::Well | Sees::Unknown => None,
            Sees::NotNow(packets) => Some(format!(
                "{packets} packets passed its interfaces and our programs saw none of them; they were attached anew"
            )),
            Sees::Never(packets) => Some(format!(
                "{packets} packets passed its interfaces and our programs saw none of them, though they are in place: \
                 is there an XDP program, or one of others before ours?"
            )),
        }
    }
}

/// One namespace, from look to look.
#[derive(Debug, Default)]
pub struct Sight {
    /// Ours when it moved last, and what each of our interfaces had counted then.
    good: Option<(u64, BTreeMap<u32, u64>)>,
    /// Looks that found it blind, since it moved.
    blind: u32,
    unseen: u64,
}

impl Sight {
    /// `ours` as read before and after the interfaces' `counts`, both since some time; `None` where
    /// nobody counts.
    pub fn look(&mut self, ours: [Option<u64>; 2], counts: &HashMap<u32, u64>) -> Sees {
        let [Some(before), Some(after)] = ours else { return Sees::Well };
        let Some((good, of)) = self.good.as_mut().filter(|(good, _)| *good == after) else {
            let mut of = self.good.take().map(|(_, of)| of).unwrap_or_default();
            renew(&mut of, counts);
            *self = Sight { good: Some((before, of)), ..Sight::default() };
            return Sees::Well;
        };
        *good = after;
        let passed = of.iter().map(|(index, last)| passed(counts, *index, *last)).sum();
        if passed > CHANCE {
            self.blind = self.blind.saturating_add(1);
            self.unseen = passed;
            renew(of, counts);
        }
        match self.blind {
            0 => Sees::Unknown,
            1 if passed > CHANCE => Sees::NotNow(passed),
            // It may see by now.
            1 => Sees::Unknown,
            _ => Sees::Never(self.unseen),
        }
    }

    /// Our programs are on this interface, which has counted so many packets.
    pub fn attached(&mut self, index: u32, packets: u64) {
        if let Some((_, of)) = &mut self.good {
            of.entry(index).or_insert(packets);
        }
    }

    /// Interfaces that do not carry our programs any more are forgotten.
    pub fn retain(&mut self, carries: impl Fn(u32) -> bool) {
        if let Some((_, of)) = &mut self.good {
            of.retain(|index, _| carries(*index));
        }
    }
}

fn passed(counts: &HashMap<u32, u64>, index: u32, last: u64) -> u64 {
    // Less than before: another interface has the number.
    counts.get(&index).map_or(0, |count| count.saturating_sub(last))
}

fn renew(of: &mut BTreeMap<u32, u64>, counts: &HashMap<u32, u64>) {
    of.iter_mut().for_each(|(index, last)| *last = counts.get(index).copied().unwrap_or(*last));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(eth0: u64, eth1: u64) -> HashMap<u32, u64> {
        HashMap::from([(2, eth0), (3, eth1), (9, 1_000_000)])
    }

    fn sight() -> Sight {
        let mut sight = Sight::default();
        assert_eq!(sight.look([Some(5), Some(5)], &counts(0, 0)), Sees::Well);
        sight.attached(2, 100);
        sight.attached(3, 10);
        sight
    }

    #[test]
    fn packets_that_pass_while_none_is_seen_are_a_sign() {
        let mut sight = sight();
        assert_eq!(sight.look([Some(5); 2], &counts(150, 20)), Sees::Unknown, "chance");
        assert_eq!(sight.look([Some(5); 2], &counts(154, 20)), Sees::Unknown, "all since one was seen last");
        assert_eq!(sight.look([Some(5); 2], &counts(155, 20)), Sees::NotNow(65));
        assert_eq!(sight.look([Some(5); 2], &counts(160, 20)), Sees::Unknown, "attached anew: it may see by now");
        assert_eq!(sight.look([Some(5); 2], &counts(300, 20)), Sees::Never(145));
        assert_eq!(sight.look([Some(5); 2], &counts(300, 20)), Sees::Never(145), "until one is seen");
        assert_eq!(sight.look([Some(6); 2], &counts(900, 20)), Sees::Well);
        assert_eq!(sight.look([Some(6); 2], &counts(1000, 20)), Sees::NotNow(100), "and all over again");
    }

    #[test]
    fn as_long_as_one_is_seen_or_nobody_counts_it_is_no_sign() {
        let mut sight = sight();
        for round in 0..100 {
            assert_eq!(sight.look([Some(round); 2], &counts(round * 1000, 0)), Sees::Well);
            assert_eq!(sight.look([None, None], &counts(round * 1000 + 900, 0)), Sees::Well);
        }
        // Seen between the two counts of a look: the next one begins with what was counted before.
        assert_eq!(sight.look([Some(200), Some(300)], &counts(100_000, 0)), Sees::Well);
        assert_eq!(sight.look([Some(300); 2], &counts(200_000, 0)), Sees::Well);
        assert_eq!(sight.look([Some(300); 2], &counts(300_000, 0)), Sees::NotNow(100_000));
    }

    #[test]
    fn only_what_carries_our_programs_counts() {
        let mut sight = sight();
        sight.retain(|index| index == 2);
        assert_eq!(sight.look([Some(5); 2], &counts(100, 9000)), Sees::Unknown);
        assert_eq!(sight.look([Some(5); 2], &HashMap::new()), Sees::Unknown, "the kernel does not tell");
        assert_eq!(sight.look([Some(5); 2], &counts(50, 0)), Sees::Unknown, "another interface has its number");
    }
}
