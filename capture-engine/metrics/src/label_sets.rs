//! Labels of a family's series, each set of them kept once. As many as there are series: a set is
//! made with the first series that has it, and goes when none has it any more.

use crate::families::{Described, Family, Value};
use hashbrown::HashTable;
use std::hash::BuildHasher;
use std::sync::Arc;

/// Number of a set of labels in its family. Never reused: part of the keys of its series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LabelsId(u64);

/// Shared by the series of all edges that have them.
#[derive(Debug)]
pub(crate) struct LabelSet {
    pub(crate) id: LabelsId,
    hash: u64,
    values: Box<[Kept]>,
    error: Kept,
    /// As they are exposed and kept for the next process: name and value of the labels that are
    /// there.
    pub(crate) shown: Box<[(&'static str, Box<str>)]>,
}

#[derive(Debug)]
enum Kept {
    None,
    Number(u16),
    Word(&'static str),
    Free(Box<str>),
}

impl Kept {
    fn of(value: Value<'_>) -> Kept {
        match value {
            Value::None => Kept::None,
            Value::Number(number) => Kept::Number(number),
            Value::Word(word) => Kept::Word(word),
            Value::Free(text) => Kept::Free(text.into()),
        }
    }

    #[inline]
    fn value(&self) -> Value<'_> {
        match self {
            Kept::None => Value::None,
            Kept::Number(number) => Value::Number(*number),
            Kept::Word(word) => Value::Word(word),
            Kept::Free(text) => Value::Free(text),
        }
    }
}

impl LabelSet {
    /// Compares a few short texts: nothing is hashed, as this is asked for each exchange.
    #[inline]
    pub(crate) fn is(&self, described: &Described<'_>) -> bool {
        self.error.value() == described.error
            && self.values.iter().zip(&described.values).all(|(kept, value)| kept.value() == *value)
    }

    /// Whether these are of exchanges that failed.
    pub(crate) fn failed(&self) -> bool {
        self.error.value() != Value::None
    }

    pub(crate) fn unanswered(&self) -> bool {
        self.error.value() == Value::Word(crate::labels::UNANSWERED)
    }

    /// Labels whose values come from traffic.
    pub(crate) fn free_text(&self, family: &'static Family) -> impl Iterator<Item = (&'static str, &str)> {
        let values = self.values.iter().chain([&self.error]);
        family.labels().zip(values).filter_map(|((name, _), kept)| match kept {
            Kept::Free(text) => Some((name, &**text)),
            _ => None,
        })
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
        self.hasher.hash_one((&described.values, &described.error))
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
            values: described.values.iter().take(family.labels.len()).map(|value| Kept::of(*value)).collect(),
            error: Kept::of(described.error),
            shown: shown(family, described),
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

fn shown(family: &'static Family, described: &Described<'_>) -> Box<[(&'static str, Box<str>)]> {
    let named = family.labels.iter().map(|label| label.name).zip(described.values);
    let named = named.chain([(crate::labels::ERROR_TYPE, described.error)]);
    let text = |(name, value): (&'static str, Value<'_>)| match value {
        Value::None => None,
        Value::Number(number) => Some((name, number.to_string().into())),
        Value::Word(text) | Value::Free(text) => Some((name, text.into())),
    };
    named.filter_map(text).collect()
}
