//! Names of series, each kept once however many nodes have it.

use golden_metrics::RowKey;
use hashbrown::HashSet;
use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The name of a series. Equal names are the same one, so they are compared by their place.
#[derive(Clone, Debug)]
pub struct Name(Arc<Named>);

#[derive(Debug)]
struct Named {
    key: Box<[u8]>,
    row: Option<RowKey>,
}

impl Name {
    /// Its bytes, as the agent wrote them.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.0.key
    }

    /// What they say. `None`: a series of another version, which is kept and not shown.
    #[must_use]
    pub fn row(&self) -> Option<&RowKey> {
        self.0.row.as_ref()
    }

    fn cost(&self) -> usize {
        cost(self.key(), self.row())
    }
}

/// Bytes of a name with what it says, two counts, and its place in a set that is half full.
fn cost(key: &[u8], row: Option<&RowKey>) -> usize {
    size_of::<Named>() + 32 + key.len() + row.map_or(0, |row| row.memory() - size_of::<RowKey>())
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

/// As it is found by its bytes.
#[derive(Debug)]
struct Kept(Name);

impl Borrow<[u8]> for Kept {
    fn borrow(&self) -> &[u8] {
        self.0.key()
    }
}

impl PartialEq for Kept {
    fn eq(&self, other: &Kept) -> bool {
        self.0.key() == other.0.key()
    }
}

impl Eq for Kept {}

impl Hash for Kept {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key().hash(state);
    }
}

/// All names of all nodes, up to so many bytes.
#[derive(Debug)]
pub struct Names {
    kept: HashSet<Kept, foldhash::fast::RandomState>,
    bytes: usize,
    most: usize,
    unknown: usize,
}

impl Names {
    /// With room for `most` bytes.
    #[must_use]
    pub fn new(most: usize) -> Names {
        Names { kept: HashSet::default(), bytes: 0, most, unknown: 0 }
    }

    /// The name for these bytes; `None` where there is no room for a new one.
    pub fn get(&mut self, key: &[u8]) -> Option<Name> {
        if let Some(Kept(name)) = self.kept.get(key) {
            return Some(name.clone());
        }
        let row = RowKey::read(key);
        let bytes = self.bytes + cost(key, row.as_ref());
        if bytes > self.most {
            return None;
        }
        self.bytes = bytes;
        self.unknown += usize::from(row.is_none());
        let name = Name(Arc::new(Named { key: key.into(), row }));
        self.kept.insert(Kept(name.clone()));
        Some(name)
    }

    /// Forgets the names that nobody has any more.
    pub fn sweep(&mut self) {
        let Names { kept, bytes, unknown, .. } = self;
        kept.retain(|Kept(name)| {
            let is_used = Arc::strong_count(&name.0) > 1;
            if !is_used {
                *bytes -= name.cost();
                *unknown -= usize::from(name.row().is_none());
            }
            is_used
        });
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Those of another version.
    #[must_use]
    pub fn unknown(&self) -> usize {
        self.unknown
    }

    /// Bytes that they take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_once_and_goes_when_nobody_has_it() {
        let mut names = Names::new(1_000);
        let (a, again, b) = (names.get(b"a").unwrap(), names.get(b"a").unwrap(), names.get(b"b").unwrap());
        assert!(a == again && a != b);
        assert_eq!((names.len(), names.unknown(), names.bytes()), (2, 2, 2 * cost(b"a", None)));
        drop((a, b));
        names.sweep();
        assert_eq!((names.len(), again.key()), (1, &b"a"[..]));
        drop(again);
        names.sweep();
        assert_eq!((names.is_empty(), names.unknown(), names.bytes()), (true, 0, 0));
    }

    #[test]
    fn names_beyond_the_bound_are_refused_and_the_others_are_found() {
        let mut names = Names::new(2 * cost(b"a", None));
        let kept = [names.get(b"a"), names.get(b"b")];
        assert!(kept.iter().all(Option::is_some));
        assert_eq!(names.get(b"c"), None);
        assert_eq!(names.get(b"a"), kept[0]);
    }
}
