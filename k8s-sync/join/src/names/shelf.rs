//! The companion's side: what it knows, the log of what changed, and where each stream stands.
//!
//! What is sent is encoded and compressed once and shared by all streams: a shard as long as nothing
//! in it changes, a change as long as the log keeps it.

use super::entry::{NAME_KEY, NAME_VALUE, Named, SHARDS, digest_of, packed, shard};
use crate::message::{Again, Answers, Delta, FromCompanion, ShardPart, Wants};
use bytes::Bytes;
use hashbrown::HashMap;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// Compressed changes that are kept for streams that are behind. Who is further behind says its
/// digests again.
const LOG: usize = 8 << 20;
/// Changes of one commit that are worth a message of their own; a whole list is not.
const COMMIT: usize = 4 << 20;

/// What was kept and what was not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShelfCounts {
    /// Entries that are too large or too many.
    pub left_out: u64,
    /// Times that shards were encoded.
    pub encoded: u64,
    /// Times that a stream was too far behind and was asked for its digests.
    pub again: u64,
}

#[derive(Debug, Default)]
struct Shard {
    entries: Map<Bytes, Bytes>,
    digest: u64,
    /// Encoded, until something in it changes.
    frames: Option<Vec<FromCompanion>>,
}

/// See the module.
#[derive(Debug)]
pub struct Shelf {
    shards: Vec<Shard>,
    /// Not yet part of a generation.
    pending: BTreeMap<Bytes, Option<Bytes>>,
    generation: u64,
    log: VecDeque<(Vec<FromCompanion>, usize)>,
    logged: usize,
    /// Everything is there: before that an agent's names are not compared with it.
    complete: bool,
    age_s: u32,
    most: usize,
    len: usize,
    counts: ShelfCounts,
}

/// Where one stream stands.
#[derive(Debug)]
pub struct Cursor {
    /// Digests that were not compared yet.
    wants: Option<Vec<u64>>,
    shards: VecDeque<usize>,
    frames: VecDeque<FromCompanion>,
    at: u64,
    is_live: bool,
}

/// What a stream is to send.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// This.
    Send(FromCompanion),
    /// This, and nothing until the agent says its digests anew.
    Ask(FromCompanion),
    /// Nothing before the next commit.
    Nothing,
}

impl Shelf {
    /// Empty, with room for `most` entries.
    #[must_use]
    pub fn new(most: usize) -> Shelf {
        Shelf {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            pending: BTreeMap::new(),
            generation: 0,
            log: VecDeque::new(),
            logged: 0,
            complete: false,
            age_s: 0,
            most,
            len: 0,
            counts: ShelfCounts::default(),
        }
    }

    /// Sets the value of a key, with the next commit.
    pub fn put(&mut self, key: Bytes, value: Bytes) {
        if key.len() > NAME_KEY || value.len() > NAME_VALUE {
            self.counts.left_out += 1;
            self.pending.insert(key, None);
            return;
        }
        self.pending.insert(key, Some(value));
    }

    /// Removes a key, with the next commit.
    pub fn remove(&mut self, key: Bytes) {
        self.pending.insert(key, None);
    }

    /// From now on what is missing here is gone.
    pub fn set_complete(&mut self) {
        self.complete = true;
    }

    /// Seconds since what is here was known to be true.
    pub fn set_age(&mut self, age_s: u32) {
        self.age_s = age_s;
    }

    /// Makes the pending changes a generation. Whether there was any.
    pub fn commit(&mut self) -> bool {
        let (mut changed, mut touched, mut bytes) = (Vec::new(), BTreeSet::new(), 0);
        for (key, value) in std::mem::take(&mut self.pending) {
            let place = shard(&key);
            let Some(shard) = self.shards.get_mut(place) else { continue };
            let had = shard.entries.get(&key);
            if had == value.as_ref() {
                continue;
            }
            if let Some(had) = had {
                shard.digest = shard.digest.wrapping_sub(digest_of(&key, had));
            } else if self.len >= self.most {
                self.counts.left_out += 1;
                continue;
            }
            self.len -= usize::from(had.is_some());
            match &value {
                Some(value) => {
                    shard.digest = shard.digest.wrapping_add(digest_of(&key, value));
                    shard.entries.insert(key.clone(), value.clone());
                    self.len += 1;
                }
                None => drop(shard.entries.remove(&key)),
            }
            shard.frames = None;
            touched.insert(place);
            bytes += key.len() + value.as_ref().map_or(0, Bytes::len);
            let gone = value.is_none();
            changed.push(Named { key, value: value.unwrap_or_default(), gone });
        }
        if changed.is_empty() {
            return false;
        }
        self.generation += 1;
        if bytes > COMMIT {
            self.log.clear();
            self.logged = 0;
        } else {
            self.note(changed, &touched);
        }
        true
    }

    fn note(&mut self, changed: Vec<Named>, touched: &BTreeSet<usize>) {
        let mut deltas: Vec<Delta> = packed(changed.into_iter())
            .into_iter()
            .map(|entries| Delta { generation: self.generation, entries, age_s: self.age_s, ..Delta::default() })
            .collect();
        if let Some(last) = deltas.last_mut() {
            last.shards = touched.iter().filter_map(|place| u32::try_from(*place).ok()).collect();
            last.digests = touched.iter().filter_map(|place| Some(self.shards.get(*place)?.digest)).collect();
        }
        let size = deltas.iter().map(|delta| delta.entries.len() + 12 * delta.shards.len() + 64).sum();
        self.log.push_back((deltas.into_iter().map(|delta| Answers::Delta(delta).into()).collect(), size));
        self.logged += size;
        while self.logged > LOG
            && let Some((_, size)) = self.log.pop_front()
        {
            self.logged -= size;
        }
    }

    /// For a stream whose agent has said its digests.
    #[must_use]
    pub fn cursor(&self, wants: Wants) -> Cursor {
        let Wants { digests } = wants;
        Cursor { wants: Some(digests), shards: VecDeque::new(), frames: VecDeque::new(), at: 0, is_live: false }
    }

    /// What the stream is to send next.
    pub fn next(&mut self, cursor: &mut Cursor) -> Next {
        if !self.complete {
            return Next::Nothing;
        }
        if let Some(digests) = cursor.wants.take() {
            let differs =
                |place: &usize| digests.get(*place).copied().unwrap_or_default() != self.shards[*place].digest;
            cursor.shards = (0..SHARDS).filter(differs).collect();
            cursor.at = self.generation;
        }
        loop {
            if let Some(frame) = cursor.frames.pop_front() {
                return Next::Send(frame);
            }
            if let Some(place) = cursor.shards.pop_front() {
                cursor.frames.extend(self.frames(place));
                continue;
            }
            if !cursor.is_live {
                cursor.is_live = true;
                let delta = Delta { generation: cursor.at, complete: true, age_s: self.age_s, ..Delta::default() };
                return Next::Send(Answers::Delta(delta).into());
            }
            let behind = self.generation - cursor.at;
            let Some(behind) = usize::try_from(behind).ok().filter(|behind| *behind > 0) else { return Next::Nothing };
            let Some((frames, _)) = self.log.len().checked_sub(behind).and_then(|place| self.log.get(place)) else {
                self.counts.again += 1;
                return Next::Ask(Answers::Again(Again {}).into());
            };
            cursor.at += 1;
            cursor.frames.extend(frames.iter().cloned());
        }
    }

    fn frames(&mut self, place: usize) -> Vec<FromCompanion> {
        let Some(Shard { entries, digest, frames }) = self.shards.get_mut(place) else { return Vec::new() };
        if let Some(frames) = frames {
            return frames.clone();
        }
        self.counts.encoded += 1;
        let names = entries.iter().map(|(key, value)| Named { key: key.clone(), value: value.clone(), gone: false });
        let parts = packed(names);
        let last = parts.len() - 1;
        let made: Vec<FromCompanion> = parts
            .into_iter()
            .enumerate()
            .map(|(number, entries)| {
                Answers::Shard(ShardPart {
                    generation: self.generation,
                    shard: u32::try_from(place).unwrap_or(u32::MAX),
                    number: u32::try_from(number).unwrap_or(u32::MAX),
                    last: number == last,
                    digest: *digest,
                    entries,
                })
                .into()
            })
            .collect();
        *frames = Some(made.clone());
        made
    }

    /// That nothing changed, for a stream that has everything.
    #[must_use]
    pub fn beat(&self, cursor: &Cursor) -> Option<FromCompanion> {
        cursor.is_live.then(|| {
            let delta = Delta { generation: cursor.at, age_s: self.age_s, ..Delta::default() };
            Answers::Delta(delta).into()
        })
    }

    /// Entries of the latest generation.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether agents are answered.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// What was kept and what was not.
    #[must_use]
    pub fn counts(&self) -> ShelfCounts {
        self.counts
    }
}
