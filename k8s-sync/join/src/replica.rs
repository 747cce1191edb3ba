//! The companion's copy of one agent's series.
//!
//! A part is taken over as it comes. Since an entry says what a series has counted so far, a push
//! that is cut in the middle leaves no series wrong, only some older than others, and what comes
//! again counts once.

use crate::limits;
use crate::message::{Ack, Entry, Part, Sees};
use crate::pack::Entries;
use crate::refusal::{Reason, Refusal};
use bytes::Bytes;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

type Map<K, V> = hashbrown::HashMap<K, V, foldhash::fast::RandomState>;

/// Who keeps several copies: gives names, which copies share, and adds up what is counted.
pub trait Changes {
    /// What a series is kept under. Equal for equal keys.
    type Name: Clone + Eq + Hash;

    /// The name for a key. `None`: not taken; the replica counts it.
    fn named(&mut self, key: &[u8]) -> Option<Self::Name>;

    /// A series has a value that is new.
    fn changed(&mut self, name: &Self::Name, was: Was<'_>, value: &[u8]);

    /// A series ended.
    fn gone(&mut self, name: &Self::Name, value: &[u8]);
}

/// What a series had counted before, as far as the difference was counted while this copy watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Was<'a> {
    /// As the push before said. Where the value is below it, the series has begun anew.
    Value(&'a [u8]),
    /// It began since the push before.
    New,
    /// Nobody knows how much of it is of late: the first push of an agent, or after a long silence.
    Unknown,
}

#[derive(Debug)]
struct Kept {
    id: u64,
    /// Shared with whoever shows it, so that nobody waits for a page.
    value: Arc<[u8]>,
    /// The full push that named it last.
    sweep: u32,
}

/// A push of which parts are missing.
#[derive(Clone, Copy, Debug)]
struct Push {
    generation: u64,
    since: u64,
    next: u32,
    watched: bool,
    sees: Sees,
}

/// What came of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Others follow.
    More,
    /// The push is complete. To be answered.
    Complete(Ack),
    /// It does not fit the copy: everything is to be sent anew.
    Resync,
}

/// What a replica has kept out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Values of series for which there was no room, or which were not taken.
    pub refused: u64,
    /// Values of series that were never named.
    pub unnamed: u64,
    /// Pushes that did not fit the copy.
    pub resyncs: u64,
}

/// The series of one agent as last heard, through restarts and cuts.
#[derive(Debug)]
pub struct Replica<N> {
    instance: u64,
    /// Of the latest complete push of this instance.
    generation: u64,
    completed: Option<Duration>,
    push: Option<Push>,
    series: Map<N, Kept>,
    ids: Map<u64, N>,
    sweep: u32,
    /// A series was refused since the last full push: later values of it come without its name.
    lacks: bool,
    /// What the latest complete push added was counted.
    watched: bool,
    /// As the latest complete push said.
    sees: Sees,
    bytes: usize,
    silence: Duration,
    most: (usize, usize),
    counted: Counted,
}

impl<N: Clone + Eq + Hash> Replica<N> {
    /// What a series takes besides its value: two places in maps that are half full at worst, and the
    /// counts of those who share it.
    pub const BESIDES: usize = 2 * (size_of::<(N, Kept)>() + size_of::<(u64, N)>() + 2) + 16;

    /// An empty one. After `silence` without a push nobody knows any more when something was counted.
    #[must_use]
    pub fn new(silence: Duration) -> Replica<N> {
        Replica {
            instance: 0,
            generation: 0,
            completed: None,
            push: None,
            series: Map::default(),
            ids: Map::default(),
            sweep: 0,
            lacks: false,
            watched: false,
            sees: Sees::default(),
            bytes: 0,
            silence,
            most: (limits::SERIES, limits::BYTES),
            counted: Counted::default(),
        }
    }

    /// With other bounds on series and on their bytes, as `memory` has them.
    #[must_use]
    pub fn bounded(mut self, series: usize, bytes: usize) -> Replica<N> {
        self.most = (series, bytes);
        self
    }

    /// From now on it takes no more bytes than this, as far as it does not have them already.
    pub fn bound(&mut self, bytes: usize) {
        self.most.1 = bytes.min(limits::BYTES);
    }

    /// A stream of this process of the agent begins. Returns the generation that the copy has of it.
    pub fn begin(&mut self, instance: u64) -> u64 {
        self.push = None;
        if self.instance != instance {
            self.instance = instance;
            self.generation = 0;
            // Numbers are the process's own. What it does not name is gone after its first push.
            self.ids.clear();
        }
        self.generation
    }

    /// Takes over a part.
    ///
    /// # Errors
    /// When it is damaged, or out of turn: the stream is to end. The copy stays as it is.
    pub fn part<C: Changes<Name = N>>(
        &mut self,
        now: Duration,
        part: &Part,
        changes: &mut C,
    ) -> Result<Applied, Refusal> {
        let Some(push) = self.turn(now, part)? else {
            self.counted.resyncs += 1;
            return Ok(Applied::Resync);
        };
        let unnamed = self.counted.unnamed;
        let entries = Entries::of(part).map_err(|error| protocol(error.to_string()))?;
        for entry in entries {
            self.entry(entry.map_err(|error| protocol(error.to_string()))?, push, changes);
        }
        if self.counted.unnamed > unnamed && !self.lacks {
            // It is of a series that was never refused here: the copy is not what the agent takes it
            // for.
            self.push = None;
            self.counted.resyncs += 1;
            return Ok(Applied::Resync);
        }
        if !part.last {
            self.push = Some(Push { next: part.number.saturating_add(1), ..push });
            return Ok(Applied::More);
        }
        if push.since == 0 {
            self.sweep(changes);
        }
        self.push = None;
        self.generation = push.generation;
        (self.watched, self.sees) = (push.watched, push.sees);
        self.completed = Some(now);
        Ok(Applied::Complete(Ack { generation: push.generation, refused: self.counted.refused, replicas: Vec::new() }))
    }

    /// The push that a part belongs to. `None` where it builds on what the copy does not have.
    fn turn(&mut self, now: Duration, part: &Part) -> Result<Option<Push>, Refusal> {
        let Part { generation, since, number, .. } = part;
        if *number > 0 {
            let open =
                self.push.filter(|push| push.generation == *generation && push.since == *since && push.next == *number);
            return open.map(Some).ok_or_else(|| protocol("a part came out of turn"));
        }
        if *generation < self.generation.max(1) {
            return Err(protocol("a push is older than the one before"));
        }
        self.push = None;
        if *since > 0 && *since != self.generation {
            return Ok(None);
        }
        if *since == 0 {
            self.sweep = self.sweep.wrapping_add(1);
            self.lacks = false;
        }
        let is_fresh = self.completed.is_some_and(|at| now.saturating_sub(at) <= self.silence);
        let watched = self.generation > 0 && is_fresh;
        // What a later version says is less than what this one knows as all.
        let sees = Sees::try_from(part.sees).unwrap_or(Sees::Part);
        Ok(Some(Push { generation: *generation, since: *since, next: 0, watched, sees }))
    }

    fn entry<C: Changes<Name = N>>(&mut self, entry: Entry, push: Push, changes: &mut C) {
        let Entry { id, key, value, gone } = entry;
        if gone {
            return self.end(id, changes);
        }
        if key.is_empty() {
            let Some(name) = self.ids.get(&id).cloned() else {
                self.counted.unnamed += 1;
                return;
            };
            return self.set(id, name, value, push, changes);
        }
        let Some(name) = changes.named(&key) else {
            self.refuse();
            return;
        };
        // A number names one series, and a series has one number, whatever the agent says.
        if self.ids.get(&id).is_some_and(|known| *known != name) {
            self.end(id, changes);
        }
        self.set(id, name, value, push, changes);
    }

    fn set<C: Changes<Name = N>>(&mut self, id: u64, name: N, value: Bytes, push: Push, changes: &mut C) {
        let value: Arc<[u8]> = (*value).into();
        let (series, most) = self.most;
        if let Some(kept) = self.series.get_mut(&name) {
            let bytes = self.bytes - kept.value.len() + value.len();
            if bytes > most && value.len() > kept.value.len() {
                // It stays as it was.
                kept.sweep = self.sweep;
                self.refuse();
                return;
            }
            let was = match (push.watched, kept.id == id || push.since == 0) {
                (true, true) => Was::Value(&kept.value),
                // The one of this name ended, and its end was not heard.
                (true, false) => Was::New,
                (false, _) => Was::Unknown,
            };
            changes.changed(&name, was, &value);
            if kept.id != id && self.ids.get(&kept.id) == Some(&name) {
                self.ids.remove(&kept.id);
            }
            self.bytes = bytes;
            *kept = Kept { id, value, sweep: self.sweep };
            self.ids.insert(id, name);
            return;
        }
        let bytes = self.bytes + value.len() + Self::BESIDES;
        if self.series.len() >= series || bytes > most {
            self.refuse();
            return;
        }
        // In a full push a name may be new only because there was no room for it before.
        let was = if push.watched && push.since > 0 { Was::New } else { Was::Unknown };
        changes.changed(&name, was, &value);
        self.bytes = bytes;
        self.series.insert(name.clone(), Kept { id, value, sweep: self.sweep });
        self.ids.insert(id, name);
    }

    fn refuse(&mut self) {
        self.counted.refused += 1;
        self.lacks = true;
    }

    fn end<C: Changes<Name = N>>(&mut self, id: u64, changes: &mut C) {
        let Some(name) = self.ids.remove(&id) else { return };
        if self.series.get(&name).is_some_and(|kept| kept.id == id)
            && let Some(kept) = self.series.remove(&name)
        {
            self.bytes -= kept.value.len() + Self::BESIDES;
            changes.gone(&name, &kept.value);
        }
    }

    /// Takes out what the full push has not named.
    fn sweep<C: Changes<Name = N>>(&mut self, changes: &mut C) {
        let Replica { series, ids, sweep, bytes, .. } = self;
        series.retain(|name, kept| {
            let stays = kept.sweep == *sweep;
            if !stays {
                *bytes -= kept.value.len() + Self::BESIDES;
                changes.gone(name, &kept.value);
                if ids.get(&kept.id) == Some(name) {
                    ids.remove(&kept.id);
                }
            }
            stays
        });
        series.shrink_to_fit();
        ids.shrink_to_fit();
    }

    /// The series ended with their agent or their node.
    pub fn clear<C: Changes<Name = N>>(&mut self, changes: &mut C) {
        std::mem::take(&mut self.series).iter().for_each(|(name, kept)| changes.gone(name, &kept.value));
        self.ids = Map::default();
        (self.generation, self.push, self.bytes, self.watched) = (0, None, 0, false);
    }

    /// Of the latest complete push.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether what was counted between the two latest pushes is known: not after the first push of a
    /// process, nor after a long silence.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.watched && self.generation > 0
    }

    /// What the agent saw of its node when it made the latest push.
    #[must_use]
    pub fn sees(&self) -> Sees {
        self.sees
    }

    /// When the latest push was complete.
    #[must_use]
    pub fn completed(&self) -> Option<Duration> {
        self.completed
    }

    /// Every series with what it has counted.
    pub fn series(&self) -> impl Iterator<Item = (&N, &Arc<[u8]>)> {
        self.series.iter().map(|(name, kept)| (name, &kept.value))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// Bytes that it takes, without what the names refer to.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.bytes
    }

    /// What was kept out.
    #[must_use]
    pub fn counted(&self) -> Counted {
        self.counted
    }
}

fn protocol(text: impl Into<String>) -> Refusal {
    Refusal::new(Reason::Protocol, text)
}
