//! The agent's side: which names it has, by their digests alone, and what a message changes in them.
//! Who uses the names keeps them.

use super::entry::{SHARDS, digest_of, shard, unpacked};
use super::key::Key;
use crate::message::{Answers, Delta, FromCompanion, ShardPart, Wants};
use bytes::Bytes;
use hashbrown::HashMap;
use std::time::Duration;

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// Entries that an agent takes: the largest cluster that Kubernetes supports has some 300,000.
const MOST: usize = 1_000_000;
/// A companion with which nothing fits is asked no more often than this.
const PAUSE: Duration = Duration::from_secs(10);
/// A companion that has told all names says so every ten seconds. Of one that says nothing for so long
/// nobody knows whether it was asked.
const SILENCE: Duration = Duration::from_secs(60);

/// What a message changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Everything is told from the beginning; what was known stays until `Complete`.
    Begun,
    /// The key has this value.
    Put(Bytes, Bytes),
    /// The key is no more.
    Gone(Bytes),
    /// All names were told. What was not since `Begun` is no more.
    Complete,
    /// The names were true so many seconds ago.
    Age(u32),
}

/// What became of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyCounts {
    /// Names that were put or removed.
    pub changes: u64,
    /// Bytes of entries, compressed.
    pub bytes: u64,
    /// Messages that could not be read.
    pub damaged: u64,
    /// Shards whose digest was another one than the companion's.
    pub differing: u64,
    /// Names for which there was no room.
    pub left_out: u64,
}

#[derive(Debug, Default)]
struct Shard {
    known: Map<Key, u64>,
    digest: u64,
    /// Of the companion, as of when the shard was sent on this stream.
    generation: u64,
}

/// A shard that comes in parts.
#[derive(Debug)]
struct Coming {
    place: usize,
    number: u32,
    seen: Map<Bytes, u64>,
}

/// See the module.
#[derive(Debug)]
pub struct NamesCopy {
    shards: Vec<Shard>,
    coming: Option<Coming>,
    begun: bool,
    complete: bool,
    asked: bool,
    not_before: Duration,
    /// Something came since it was looked last.
    heard: bool,
    /// Until then an answer may be on its way.
    silent_until: Duration,
    len: usize,
    counts: CopyCounts,
}

impl Default for NamesCopy {
    fn default() -> NamesCopy {
        NamesCopy {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            coming: None,
            begun: false,
            complete: false,
            asked: false,
            not_before: Duration::ZERO,
            heard: false,
            silent_until: Duration::ZERO,
            len: 0,
            counts: CopyCounts::default(),
        }
    }
}

impl NamesCopy {
    /// On another stream: what is known is compared with what its companion knows.
    pub fn reconnected(&mut self) {
        self.asked = false;
        self.coming = None;
        self.not_before = Duration::ZERO;
        self.shards.iter_mut().for_each(|shard| shard.generation = 0);
    }

    /// Whoever keeps the names takes them from somewhere else meanwhile: everything begins anew.
    pub fn forget(&mut self) {
        *self = NamesCopy { counts: self.counts, ..NamesCopy::default() };
    }

    /// What to ask the companion, if it is time: it answers within `SILENCE`, or with all names much
    /// later, once it has them. So whoever hears nothing asks again.
    pub fn ask(&mut self, now: Duration) -> Option<Wants> {
        if std::mem::take(&mut self.heard) {
            self.silent_until = now + SILENCE;
        }
        if self.asked && now < self.silent_until || now < self.not_before {
            return None;
        }
        self.asked = true;
        self.silent_until = now + SILENCE;
        self.not_before = now + PAUSE;
        Some(Wants { digests: self.shards.iter().map(|shard| shard.digest).collect() })
    }

    /// What was asked last did not go out: it is asked again.
    pub fn unasked(&mut self) {
        self.asked = false;
    }

    /// What the companion says. A message of another kind changes nothing.
    pub fn received(&mut self, message: &FromCompanion) -> Vec<Told> {
        let mut told = Vec::new();
        self.heard |= matches!(message.answers, Some(Answers::Shard(_) | Answers::Delta(_) | Answers::Again(_)));
        match &message.answers {
            Some(Answers::Shard(part)) => self.part(part, &mut told),
            Some(Answers::Delta(delta)) => self.delta(delta, &mut told),
            Some(Answers::Again(_)) => self.again(),
            _ => {}
        }
        told
    }

    fn again(&mut self) {
        self.asked = false;
        self.coming = None;
    }

    fn begin(&mut self, told: &mut Vec<Told>) {
        if !std::mem::replace(&mut self.begun, true) {
            told.push(Told::Begun);
        }
    }

    fn part(&mut self, part: &ShardPart, told: &mut Vec<Told>) {
        let place = part.shard as usize;
        let coming = match self.coming.take() {
            Some(coming) if (coming.place, coming.number) == (place, part.number) => Some(coming),
            _ if part.number == 0 => Some(Coming { place, number: 0, seen: Map::default() }),
            _ => None,
        };
        let names = unpacked(&part.entries).filter(|names| names.iter().all(|name| shard(&name.key) == place));
        let (Some(mut coming), Some(names), Some(kept)) = (coming, names, self.shards.get_mut(place)) else {
            self.counts.damaged += 1;
            return self.again();
        };
        self.counts.bytes += part.entries.len() as u64;
        if !std::mem::replace(&mut self.begun, true) {
            told.push(Told::Begun);
        }
        for name in names {
            let digest = digest_of(&name.key, &name.value);
            let had = kept.known.get(&*name.key).copied();
            if had.is_none() && self.len >= MOST {
                self.counts.left_out += 1;
                continue;
            }
            if had != Some(digest) {
                self.len += usize::from(had.is_none());
                kept.digest = kept.digest.wrapping_sub(had.unwrap_or_default()).wrapping_add(digest);
                kept.known.insert(Key::from(&*name.key), digest);
                told.push(Told::Put(name.key.clone(), name.value));
            }
            coming.seen.insert(name.key, digest);
        }
        if !part.last {
            coming.number += 1;
            self.coming = Some(coming);
            self.counts.changes += told.len() as u64;
            return;
        }
        let Shard { known, digest, generation } = kept;
        *generation = part.generation;
        known.retain(|key, had| {
            let stays = coming.seen.contains_key(key.bytes());
            if !stays {
                *digest = digest.wrapping_sub(*had);
                told.push(Told::Gone(Bytes::copy_from_slice(key.bytes())));
            }
            stays
        });
        self.len = self.shards.iter().map(|shard| shard.known.len()).sum();
        self.counts.changes += told.len() as u64;
        self.compare(place, part.digest);
    }

    fn delta(&mut self, delta: &Delta, told: &mut Vec<Told>) {
        self.begin(told);
        let Some(names) = unpacked(&delta.entries) else {
            self.counts.damaged += 1;
            return self.again();
        };
        self.counts.bytes += delta.entries.len() as u64;
        for name in names {
            let Some(kept) = self.shards.get_mut(shard(&name.key)) else { continue };
            // The shard was sent after this change was made.
            if delta.generation <= kept.generation {
                continue;
            }
            let had = kept.known.get(&*name.key).copied();
            kept.digest = kept.digest.wrapping_sub(had.unwrap_or_default());
            self.len -= usize::from(had.is_some());
            if name.gone {
                kept.known.remove(&*name.key);
                told.push(Told::Gone(name.key));
            } else if self.len >= MOST {
                self.counts.left_out += 1;
                kept.known.remove(&*name.key);
            } else {
                let digest = digest_of(&name.key, &name.value);
                kept.digest = kept.digest.wrapping_add(digest);
                kept.known.insert(Key::from(&*name.key), digest);
                self.len += 1;
                told.push(Told::Put(name.key, name.value));
            }
            self.counts.changes += 1;
        }
        for (place, digest) in delta.shards.iter().zip(&delta.digests) {
            if self.shards.get(*place as usize).is_some_and(|kept| delta.generation > kept.generation) {
                self.compare(*place as usize, *digest);
            }
        }
        if delta.complete && !std::mem::replace(&mut self.complete, true) {
            told.push(Told::Complete);
        }
        if self.complete {
            told.push(Told::Age(delta.age_s));
        }
    }

    fn compare(&mut self, place: usize, digest: u64) {
        if self.shards.get(place).is_some_and(|kept| kept.digest != digest) {
            self.counts.differing += 1;
            self.again();
        }
    }

    /// Names that are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What became of messages.
    #[must_use]
    pub fn counts(&self) -> CopyCounts {
        self.counts
    }
}
