//! Labels of a family's series, each set of them kept once. As many as there are series: a set is
//! made with the first series that has it, and goes when none has it any more.

use crate::families::{Described, ERROR, Family, MOST_LABELS, Value};
use hashbrown::HashTable;
use std::hash::BuildHasher;
use std::sync::Arc;

/// Number of a set of labels in its family. Never reused: part of the keys of its series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LabelsId(u64);

/// Shared by the series of all edges that have them.
#[derive(Debug)]
pub(crate) struct LabelSet {
    pub(crate) id: LabelsId,
    hash: u64,
    codes: [u32; MOST_LABELS + 1],
    /// Place and text of what is free text.
    texts: Box<[(usize, Box<str>)]>,
    /// Whether these are of exchanges that failed; of those that got no answer.
    pub(crate) failed: bool,
    pub(crate) unanswered: bool,
    /// As they are exposed and kept for the next process: name and value of the labels that are
    /// there.
    pub(crate) shown: Box<[(&'static str, Box<str>)]>,
}

impl LabelSet {
    /// Compares small numbers and what there is of free text: nothing is hashed, as this is asked for
    /// each exchange.
    #[inline]
    pub(crate) fn is(&self, described: &Described<'_>) -> bool {
        self.codes == *described.codes()
            && (self.texts.is_empty() || described.texts().eq(self.texts.iter().map(|(place, text)| (*place, &**text))))
    }

    /// Labels whose values come from traffic.
    pub(crate) fn free_text(&self, family: &'static Family) -> impl Iterator<Item = (&'static str, &str)> {
        let name = |at: usize| family.places().find(|(place, ..)| *place == at).map(|(_, name, _)| name);
        self.texts.iter().filter_map(move |(place, text)| Some((name(*place)?, &**text)))
    }
}

#[derive(Debug, Default)]
pub(crate) struct LabelSets {
    table: HashTable<Arc<LabelSet>>,
    hasher: foldhash::fast::RandomState,
    next_id: u64,
}

impl LabelSets {
    fn hash(&self, described: &Described<'_>) -> u64 {
        self.hasher.hash_one(described)
    }

    pub(crate) fn find(&self, described: &Described<'_>) -> Option<&Arc<LabelSet>> {
        self.table.find(self.hash(described), |set| set.is(described))
    }

    pub(crate) fn get(&mut self, family: &'static Family, described: &Described<'_>) -> Arc<LabelSet> {
        if let Some(set) = self.find(described) {
            return set.clone();
        }
        let hash = self.hash(described);
        let set = Arc::new(LabelSet {
            id: LabelsId(self.next_id),
            hash,
            codes: *described.codes(),
            texts: described.texts().map(|(place, text)| (place, text.into())).collect(),
            failed: described.value(ERROR) != Value::None,
            unanswered: described.value(ERROR) == Value::Unanswered,
            shown: family
                .places()
                .filter_map(|(place, name, set)| Some((name, set.show(described.value(place))?)))
                .collect(),
        });
        self.next_id += 1;
        self.table.insert_unique(hash, set.clone(), |set| set.hash);
        set
    }

    /// Forgets the sets that no series has.
    pub(crate) fn sweep(&mut self) {
        self.table.retain(|set| Arc::strong_count(set) > 1);
    }
}
