//! The agent's series as a versioned map: what changed since a generation, for each replica of the
//! companion its own, out of one state.

use crate::findings::Outbox;
use crate::limits::{GONE, KEY, PART_FULL, SERIES, VALUE};
use crate::message::{Entry, Part, Sees};
use crate::pack::Parts;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};

type Map<K, V> = hashbrown::HashMap<K, V, foldhash::fast::RandomState>;

/// What an agent has counted, by series. Its generation grows with each refresh.
#[derive(Debug)]
pub struct Source {
    generation: u64,
    /// By number, which is the order of their making.
    series: BTreeMap<u64, Held>,
    ids: Map<Bytes, u64>,
    /// Series that ended, with the generation in which they did.
    gone: VecDeque<(u64, u64)>,
    /// Who has a generation before this one missed ends that nobody remembers.
    remembers: u64,
    next_id: u64,
    /// Of the latest refresh.
    sees: Sees,
    findings: Outbox,
    /// Bytes of a part.
    part: usize,
    counted: SourceCounted,
}

impl Default for Source {
    fn default() -> Source {
        Source::with_parts(PART_FULL)
    }
}

/// What did not find room in a `Source`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceCounted {
    /// Series of the latest refresh that were left out: too many, or too large.
    pub left_out: u64,
    /// Values that were left out because of it, over all refreshes.
    pub lost: u64,
}

#[derive(Debug)]
struct Held {
    key: Bytes,
    value: Bytes,
    began: u64,
    changed: u64,
    /// The generation in which it was last there.
    seen: u64,
}

impl Source {
    /// One whose pushes are cut after so many bytes, where that is less than a message takes.
    #[must_use]
    pub fn with_parts(part: usize) -> Source {
        Source {
            generation: 0,
            series: BTreeMap::new(),
            ids: Map::default(),
            gone: VecDeque::new(),
            remembers: 0,
            next_id: 0,
            sees: Sees::default(),
            findings: Outbox::default(),
            part,
            counted: SourceCounted::default(),
        }
    }

    /// Of the latest refresh.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Series that are pushed.
    #[must_use]
    pub fn series(&self) -> usize {
        self.series.len()
    }

    /// What did not find room.
    #[must_use]
    pub fn counted(&self) -> SourceCounted {
        self.counted
    }

    /// What the agent sees of its node. To be said before a refresh, as it was before the series were read.
    pub fn sees(&mut self, sees: Sees) {
        self.sees = sees;
    }

    /// What the agent holds for wrong, for all streams.
    #[must_use]
    pub fn findings(&self) -> &Outbox {
        &self.findings
    }

    /// To be told before a push.
    pub fn findings_mut(&mut self) -> &mut Outbox {
        &mut self.findings
    }

    /// Takes over the state of all series: `walk` names each once, with its key and its value. A
    /// series that is not named has ended.
    pub fn refresh(&mut self, walk: impl FnOnce(&mut dyn FnMut(&[u8], &[u8]))) {
        self.generation += 1;
        self.counted.left_out = 0;
        walk(&mut |key, value| self.put(key, value));
        let Source { generation, series, ids, gone, remembers, .. } = self;
        series.retain(|id, held| {
            let is_there = held.seen == *generation;
            if !is_there {
                ids.remove(&held.key);
                gone.push_back((*generation, *id));
            }
            is_there
        });
        while gone.len() > GONE {
            // Whoever has what was before this generation must hear of it.
            *remembers = gone.pop_front().map_or(*remembers, |(generation, _)| generation);
        }
    }

    fn put(&mut self, key: &[u8], value: &[u8]) {
        let generation = self.generation;
        if let Some(held) = self.ids.get(key).and_then(|id| self.series.get_mut(id)) {
            held.seen = generation;
            if held.value != value && value.len() <= VALUE {
                held.value = Bytes::copy_from_slice(value);
                held.changed = generation;
            }
            return;
        }
        // An empty key on the wire says that the receiver has it.
        if self.series.len() >= SERIES || key.is_empty() || key.len() > KEY || value.len() > VALUE {
            self.counted.left_out += 1;
            self.counted.lost += 1;
            return;
        }
        self.next_id += 1;
        let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        self.ids.insert(key.clone(), self.next_id);
        self.series.insert(self.next_id, Held { key, value, began: generation, changed: generation, seen: generation });
    }

    /// What who has generation `since` needs for the latest one; everything where that cannot be
    /// told from here.
    #[must_use]
    pub(crate) fn push(&self, since: u64) -> VecDeque<Part> {
        let known = (self.remembers..=self.generation).contains(&since);
        let since = if known { since } else { 0 };
        let mut parts = Parts::new(self.generation, since, self.part).seeing(self.sees);
        // Ends come first: the name may be in use again.
        for (_, id) in self.gone.iter().filter(|(generation, _)| since > 0 && *generation > since) {
            parts.push(&Entry { id: *id, gone: true, ..Entry::default() });
        }
        for (id, held) in self.series.iter().filter(|(_, held)| held.changed > since) {
            let key = if held.began > since { held.key.clone() } else { Bytes::new() };
            parts.push(&Entry { id: *id, key, value: held.value.clone(), gone: false });
        }
        parts.finish()
    }

    /// Every series by its name, as a receiver should have it.
    pub fn all(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.series.values().map(|held| (&*held.key, &*held.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::Entries;

    /// The entries of a push, short: `+a=1` with its name, `=1` without, `-1` an end.
    fn push(source: &Source, since: u64) -> Vec<String> {
        let entries = source.push(since);
        let entries = entries.iter().flat_map(|part| Entries::of(part).unwrap().map(Result::unwrap));
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let shown = entries.map(|Entry { id, key, value, gone }| match (gone, key.is_empty()) {
            (true, _) => format!("-{id}"),
            (false, true) => format!("{id}={}", text(&value)),
            (false, false) => format!("{id}:{}={}", text(&key), text(&value)),
        });
        shown.collect()
    }

    fn refresh(source: &mut Source, series: &[(&str, &str)]) {
        source.refresh(|put| series.iter().for_each(|(key, value)| put(key.as_bytes(), value.as_bytes())));
    }

    #[test]
    fn each_receiver_gets_what_it_lacks() {
        let mut source = Source::default();
        refresh(&mut source, &[("a", "1"), ("b", "1")]);
        refresh(&mut source, &[("a", "2"), ("b", "1")]);
        refresh(&mut source, &[("a", "2"), ("c", "1")]);
        assert_eq!(push(&source, 0), ["1:a=2", "3:c=1"]);
        assert_eq!(push(&source, 1), ["-2", "1=2", "3:c=1"]);
        assert_eq!(push(&source, 2), ["-2", "3:c=1"]);
        assert_eq!(push(&source, 3), [""; 0]);
        // Of another process.
        assert_eq!(push(&source, 9), ["1:a=2", "3:c=1"]);
    }

    #[test]
    fn a_series_that_comes_back_is_another_one() {
        let mut source = Source::default();
        for series in [&[("a", "7")][..], &[], &[("a", "1")]] {
            refresh(&mut source, series);
        }
        assert_eq!(push(&source, 1), ["-1", "2:a=1"]);
    }

    #[test]
    fn who_missed_more_ends_than_are_remembered_gets_everything() {
        let mut source = Source::default();
        let names: Vec<String> = (0..=GONE).map(|i| i.to_string()).collect();
        let series: Vec<(&str, &str)> = names.iter().map(|name| (&**name, "1")).collect();
        refresh(&mut source, &series);
        refresh(&mut source, &[("0", "1")]);
        assert_eq!(push(&source, 1).len(), GONE);
        refresh(&mut source, &[]);
        assert_eq!(source.push(1)[0].since, 0);
        assert_eq!(push(&source, 2), ["-1"]);
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_counted() {
        let mut source = Source::default();
        let large = "x".repeat(KEY + 1);
        let wide = "x".repeat(VALUE + 1);
        refresh(&mut source, &[(&large, "1"), ("", "1"), ("a", &wide), ("b", "1")]);
        assert_eq!((source.series(), source.counted()), (1, SourceCounted { left_out: 3, lost: 3 }));
        let names: Vec<String> = (0..SERIES + 5).map(|i| i.to_string()).collect();
        let series: Vec<(&str, &str)> = names.iter().map(|name| (&**name, "1")).collect();
        refresh(&mut source, &series);
        // "b" made room only when all were named.
        assert_eq!(source.counted(), SourceCounted { left_out: 6, lost: 9 });
        refresh(&mut source, &series[..3]);
        assert_eq!((source.series(), source.counted().left_out), (3, 0));
    }
}
