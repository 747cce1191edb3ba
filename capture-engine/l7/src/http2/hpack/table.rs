//! The dynamic table of one direction (RFC 7541 section 2.3.2), as far as its entries were seen to come.
//!
//! An index counts from the newest entry, so what came before anybody listened changes the place of
//! nothing that came since. Entries that are not here are unknown, whether they were evicted, lost
//! or never seen. What is evicted early is only forgotten.

use super::name::Name;
use super::value::Value;
use std::collections::VecDeque;

/// Size of a table that nobody has changed (RFC 9113 section 6.5.2).
const DEFAULT_SIZE: u32 = 4096;

/// As much as is kept of a table, by the protocol's count of it: browsers and gRPC allow 64 KiB.
const MOST_SIZE: u32 = 64 << 10;

/// What an entry costs beside its strings (RFC 7541 section 4.1).
const OVERHEAD: u32 = 32;

#[derive(Debug)]
pub(super) struct Table {
    /// The newest is first.
    entries: VecDeque<Entry>,
    size: u32,
    max: u32,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub name: Name,
    /// Larger ones than `MOST_SIZE` are never kept.
    name_length: u16,
    value_length: u16,
    pub value: Value,
}

impl Entry {
    pub(super) fn name_length(&self) -> u32 {
        self.name_length.into()
    }

    fn size(&self) -> u32 {
        u32::from(self.name_length) + u32::from(self.value_length) + OVERHEAD
    }
}

impl Table {
    pub(super) fn new() -> Table {
        Table { entries: VecDeque::new(), size: 0, max: DEFAULT_SIZE }
    }

    /// Entry `place`, from 0 for the newest.
    pub(super) fn get(&self, place: usize) -> Option<&Entry> {
        self.entries.get(place)
    }

    pub(super) fn insert(&mut self, name: Name, name_length: u32, value_length: u32, value: Value) {
        let size = name_length.saturating_add(value_length).saturating_add(OVERHEAD);
        let (Ok(name_length), Ok(value_length), true) =
            (u16::try_from(name_length), u16::try_from(value_length), size <= self.max)
        else {
            // It empties the table (RFC 7541 section 4.4).
            return self.forget();
        };
        self.evict(self.max - size);
        self.size += size;
        self.entries.push_front(Entry { name, name_length, value_length, value });
    }

    /// The encoder says what it keeps to from here on.
    pub(super) fn resize(&mut self, max: u32) {
        self.max = max.min(MOST_SIZE);
        self.evict(self.max);
    }

    /// Nothing is known of the entries any more.
    pub(super) fn forget(&mut self) {
        self.entries = VecDeque::new();
        self.size = 0;
    }

    pub(super) fn held(&self) -> usize {
        let texts: usize = self.entries.iter().map(|entry| entry.value.held()).sum();
        self.entries.capacity() * size_of::<Entry>() + texts
    }

    fn evict(&mut self, to: u32) {
        while self.size > to {
            let Some(oldest) = self.entries.pop_back() else { return };
            self.size = self.size.saturating_sub(oldest.size());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(table: &mut Table, value_length: u32) {
        table.insert(Name::Other, 10, value_length, Value::Unread);
    }

    fn lengths(table: &Table) -> Vec<u16> {
        table.entries.iter().map(|entry| entry.value_length).collect()
    }

    #[test]
    fn the_oldest_entries_make_room() {
        let mut table = Table::new();
        table.resize(100);
        insert(&mut table, 1);
        insert(&mut table, 2);
        assert_eq!(lengths(&table), [2, 1]);
        insert(&mut table, 20);
        assert_eq!(lengths(&table), [20], "42 + 44 + 62 are more than 100");
        insert(&mut table, 59);
        assert!(lengths(&table).is_empty(), "101 empties it");
        insert(&mut table, 3);
        table.resize(0);
        assert_eq!((lengths(&table).len(), table.size), (0, 0));
    }

    #[test]
    fn what_is_kept_is_bounded_whatever_the_peers_agree_on() {
        let mut table = Table::new();
        table.resize(u32::MAX);
        for _ in 0..100_000 {
            insert(&mut table, 0);
        }
        assert!(table.entries.len() <= (MOST_SIZE / OVERHEAD) as usize);
        assert!(table.held() < 128 << 10, "{}", table.held());
    }

    #[test]
    fn an_entry_is_small() {
        assert!(size_of::<Entry>() <= 32, "{}", size_of::<Entry>());
    }
}
