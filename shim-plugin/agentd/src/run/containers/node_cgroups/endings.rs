//! Cgroups whose container or service is over, while a socket of theirs may have something to say. A
//! socket keeps the programs of its cgroup though that is removed, and with the last of them the
//! kernel takes ours off, which shows at their links (`docs/decisions/0057-last-words.md`). Pure.

use super::jobs::{Attached, LinksOf, Rest};
use flow_model::Slot;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// As namespaces are waited for.
const LONGEST: Duration = Duration::from_secs(10);
/// A look takes the kernel's lock of all cgroups for each of them.
const MOST: usize = 64;

#[derive(Debug, Default)]
pub struct Endings {
    waiting: Vec<Ending>,
    is_looked_at: bool,
    late: u64,
    full: u64,
}

#[derive(Debug)]
struct Ending {
    slot: Slot,
    attached: Attached,
    until: Instant,
}

impl Endings {
    /// It is over now. Gives it back where there is no room to wait.
    #[must_use]
    pub fn add(&mut self, slot: Slot, attached: Attached, now: Instant) -> Option<Attached> {
        if self.waiting.len() >= MOST {
            self.full += 1;
            return Some(attached);
        }
        self.waiting.push(Ending { slot, attached, until: now + LONGEST });
        None
    }

    /// Those to be looked at, to be called a few times a second. `looked` wants to know.
    pub fn due(&mut self) -> Vec<LinksOf> {
        if self.is_looked_at || self.waiting.is_empty() {
            return Vec::new();
        }
        self.is_looked_at = true;
        self.waiting.iter().map(|ending| (ending.slot, Arc::clone(&ending.attached.links))).collect()
    }

    /// What is left of each of them, as far as that could be told; gives back those that are let go of.
    #[must_use]
    pub fn looked(&mut self, rests: &[(Slot, Rest)], now: Instant) -> Vec<(Slot, Attached)> {
        self.is_looked_at = false;
        let rest = |slot| rests.iter().find(|(of, _)| *of == slot).map(|(_, rest)| *rest);
        let late = &mut self.late;
        let over = self.waiting.extract_if(.., |ending| match rest(ending.slot) {
            Some(Rest::Nothing) => true,
            rest if now >= ending.until => {
                *late += u64::from(rest == Some(Rest::Sockets));
                true
            }
            _ => false,
        });
        over.map(|ending| (ending.slot, ending.attached)).collect()
    }

    /// Somebody else has the cgroup of this number now: who waited there leaves it.
    #[must_use]
    pub fn pass_on(&mut self, cgroup: u64) -> Vec<(Slot, Attached)> {
        let of = self.waiting.extract_if(.., |ending| ending.attached.links.id() == cgroup);
        of.map(|ending| (ending.slot, ending.attached)).collect()
    }

    /// Whose sockets were not done in time, and those that found no room to wait.
    pub fn counts(&self) -> [u64; 2] {
        [self.late, self.full]
    }
}

#[cfg(test)]
mod tests {
    use super::super::jobs::Links;
    use super::*;
    use flow_model::Ts;

    #[derive(Debug)]
    struct Of(u64);

    impl Links for Of {
        fn id(&self) -> u64 {
            self.0
        }

        fn in_place(&self) -> bool {
            true
        }

        fn rest(&self) -> Rest {
            Rest::Sockets
        }
    }

    fn attached(cgroup: u64) -> Attached {
        Attached { links: Arc::new(Of(cgroup)), path: "/a/cgroup".into(), name: String::new(), at: Ts(1) }
    }

    fn slots(over: Vec<(Slot, Attached)>) -> Vec<u32> {
        over.into_iter().map(|(slot, _)| slot.0).collect()
    }

    #[test]
    fn who_is_over_waits_until_nothing_is_left_or_its_time_is_over() {
        let start = Instant::now();
        let mut endings = Endings::default();
        for slot in 1..=4 {
            assert!(endings.add(Slot(slot), attached(slot.into()), start).is_none());
        }
        assert_eq!((endings.due().len(), endings.due().len()), (4, 0), "one look at a time");
        let rests = [(Slot(1), Rest::Nothing), (Slot(2), Rest::Sockets), (Slot(3), Rest::Directory)];
        assert_eq!(slots(endings.looked(&rests, start)), [1]);
        assert_eq!(endings.due().len(), 3);
        assert_eq!(slots(endings.looked(&[], start + LONGEST / 2)), [0; 0], "nothing could be told");
        assert_eq!(slots(endings.pass_on(3)), [3]);
        assert_eq!(slots(endings.looked(&rests, start + LONGEST)), [2, 4]);
        assert_eq!(endings.counts(), [1, 0], "of the fourth it is not known");
        assert_eq!(endings.due().len(), 0);
    }

    #[test]
    fn so_many_wait_at_once_and_more_are_counted() {
        let now = Instant::now();
        let mut endings = Endings::default();
        let refused = (0..100).filter(|slot| endings.add(Slot(*slot), attached(1), now).is_some()).count();
        assert_eq!((refused, endings.counts()), (100 - MOST, [0, 36]));
        assert_eq!(endings.pass_on(1).len(), MOST);
    }
}
