//! Keeps the holds of one holder what its object says.

use crate::cluster::clock::Began;
use crate::cluster::hold::{Certainty, Hold, OPEN, Role, Who};
use crate::cluster::record::{At, Key};
use crate::cluster::shared::Shared;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Ended holds of one address: some pods one after the other within the minutes that the past is
/// kept, or the ports of a node's pods.
const PAST_PER_ADDRESS: usize = 32;
/// Holds of one address at a time: a node runs some hundred pods at most, few of them on its own network.
const OPEN_PER_ADDRESS: usize = 2_048;
/// A client can be quicker than the news of what it talks to.
const GRACE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HoldTarget {
    pub(super) key: Key,
    /// 0: all.
    pub(super) port: u16,
    pub(super) role: Role,
}

#[derive(Debug)]
pub(super) struct Claim {
    pub(super) who: Who,
    pub(super) rank: u32,
    /// None: the API does not tell.
    pub(super) began: Option<Began>,
    /// Heard of in the first list of all: nothing is known of the time before.
    pub(super) first: bool,
    /// Holds that were there before begin then, too.
    pub(super) redate: bool,
}

impl Claim {
    fn certainty(&self) -> Certainty {
        match self.began {
            Some(Began { doubt, .. }) => Certainty::doubt(doubt),
            None => Certainty::doubt(Duration::ZERO).guessed(),
        }
    }

    fn hold(&self, target: HoldTarget, others: &[Hold], now: At) -> Hold {
        let HoldTarget { key: _, port, role } = target;
        let others = || others.iter().filter(|hold| hold.port == port && hold.role != Role::Floor);
        let alone = others().next().is_none();
        let from = match self.began {
            Some(Began { from, .. }) => from,
            None if others().any(Hold::is_open) => now,
            None => {
                let free = others().map(|hold| hold.until).max().unwrap_or(now);
                now.saturating_sub(GRACE.as_nanos() as i64).max(free)
            }
        };
        let is_ever = self.first || (alone && self.began.is_none());
        let certainty = if is_ever { self.certainty().ever() } else { self.certainty() };
        Hold { port, role, certainty, rank: self.rank, from, until: OPEN, who: self.who.clone() }
    }

    /// Brings one address in line; without `room` nothing begins. Returns whether anything changed,
    /// and how many holds found no room.
    fn settle(&self, rows: &mut Vec<Hold>, targets: &[HoldTarget], room: bool, now: At) -> (bool, u64) {
        let mut changed = false;
        for hold in rows.iter_mut().filter(|hold| hold.is_open() && hold.who.is(&self.who)) {
            let stays = targets.iter().any(|target| (target.port, target.role) == (hold.port, hold.role));
            changed = true;
            if !stays {
                hold.until = now.max(hold.from);
                continue;
            }
            hold.who = self.who.clone();
            if self.redate {
                hold.rank = self.rank;
                let was_ever = hold.certainty.is_ever();
                hold.certainty = if was_ever { self.certainty().ever() } else { self.certainty() };
                hold.from = self.began.map_or(hold.from, |began| began.from);
            }
        }
        // Nothing can be asked of no time; but what was there since ever has a past.
        rows.retain(|hold| hold.is_open() || hold.from < hold.until || hold.certainty.is_ever());
        let mut refused = 0;
        for target in targets {
            if is_held(rows, self, target) {
                continue;
            }
            if !room || rows.len() >= OPEN_PER_ADDRESS {
                refused += 1;
                continue;
            }
            rows.push(self.hold(*target, rows, now));
            changed = true;
        }
        (changed, refused)
    }
}

/// Drops the ends of long ago where there are too many. Returns how many.
fn trim(rows: &mut Vec<Hold>) -> u64 {
    let past = rows.iter().filter(|hold| !hold.is_open() && hold.role != Role::Floor).count();
    let over = past.saturating_sub(PAST_PER_ADDRESS);
    for _ in 0..over {
        let ended = rows.iter().enumerate().filter(|(_, hold)| !hold.is_open() && hold.role != Role::Floor);
        let Some((oldest, _)) = ended.min_by_key(|(_, hold)| hold.until) else { break };
        let dropped = rows.remove(oldest);
        match rows.iter_mut().find(|hold| hold.role == Role::Floor) {
            Some(floor) => floor.until = floor.until.max(dropped.until),
            None => rows.push(Hold { role: Role::Floor, port: 0, who: Who::Nobody, from: At::MIN, ..dropped }),
        }
    }
    over as u64
}

/// Makes the open holds of `claim.who` on `keys` those of `targets`, and ends its others there.
/// Returns whether anything changed.
pub(super) fn settle(
    shared: &Shared,
    most: usize,
    keys: &[Key],
    targets: &[HoldTarget],
    claim: &Claim,
    now: At,
) -> bool {
    let mut any = false;
    for (i, key) in keys.iter().enumerate() {
        if keys[..i].contains(key) {
            continue;
        }
        let here: Vec<HoldTarget> = targets.iter().filter(|target| target.key == *key).copied().collect();
        let mut rows = shared.holds.read(key, <[Hold]>::to_vec);
        let had = rows.len();
        let stats = &shared.stats;
        let room = stats.holds.load(Ordering::Relaxed) < most as u64;
        let (changed, refused) = claim.settle(&mut rows, &here, room, now);
        stats.holds_refused.fetch_add(refused, Ordering::Relaxed);
        if changed {
            stats.holds_evicted.fetch_add(trim(&mut rows), Ordering::Relaxed);
            let has = rows.len();
            shared.holds.replace(key, rows);
            stats.holds.fetch_add(has as u64, Ordering::Relaxed);
            stats.holds.fetch_sub(had as u64, Ordering::Relaxed);
            any = true;
        }
    }
    any
}

fn is_held(rows: &[Hold], claim: &Claim, target: &HoldTarget) -> bool {
    let is_it = |hold: &Hold| (hold.port, hold.role) == (target.port, target.role) && hold.who.is(&claim.who);
    rows.iter().any(|hold| hold.is_open() && is_it(hold))
}
