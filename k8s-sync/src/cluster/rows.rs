//! Sorted rows that one thread writes and others read without a lock: shards are swapped in as wholes, a write copies one. Rows lie side by
//! side, without the gaps of a hash table; tables of this size are made of little else.

use arc_swap::ArcSwap;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

type Hasher = foldhash::fast::RandomState;

/// A row is found by its key; several may have the same.
pub(super) trait Row: Clone {
    type Key: Ord + Hash;

    fn key(&self) -> Self::Key;
}

#[derive(Debug)]
pub(super) struct Rows<R> {
    shards: Box<[ArcSwap<Vec<R>>]>,
    hasher: Hasher,
}

impl<R: Row> Rows<R> {
    /// `shards` is a power of two.
    pub(super) fn new(shards: usize) -> Rows<R> {
        debug_assert!(shards.is_power_of_two());
        Rows { shards: (0..shards).map(|_| ArcSwap::from_pointee(Vec::new())).collect(), hasher: Hasher::default() }
    }

    fn shard(&self, key: &R::Key) -> &ArcSwap<Vec<R>> {
        &self.shards[self.hasher.hash_one(key) as usize & (self.shards.len() - 1)]
    }

    /// The rows of `key`, in the order in which they were added.
    pub(super) fn read<T>(&self, key: &R::Key, read: impl FnOnce(&[R]) -> T) -> T {
        let shard = self.shard(key).load();
        let from = shard.partition_point(|row| row.key() < *key);
        let len = shard[from..].partition_point(|row| row.key() == *key);
        read(&shard[from..from + len])
    }

    /// Puts `rows` in the place of those that `key` has. One writer at a time, or changes get lost.
    pub(super) fn replace(&self, key: &R::Key, rows: Vec<R>) {
        let shard = self.shard(key);
        let old = shard.load();
        let from = old.partition_point(|row| row.key() < *key);
        let len = old[from..].partition_point(|row| row.key() == *key);
        let mut new = Vec::with_capacity(old.len() - len + rows.len());
        new.extend_from_slice(&old[..from]);
        new.extend(rows);
        new.extend_from_slice(&old[from + len..]);
        drop(old);
        shard.store(Arc::new(new));
    }

    /// Drops the rows that are over. Returns how many. One writer at a time.
    pub(super) fn drop_rows(&self, is_over: impl Fn(&R) -> bool) -> usize {
        let mut dropped = 0;
        for shard in &self.shards {
            let old = shard.load();
            let over = old.iter().filter(|row| is_over(row)).count();
            if over > 0 {
                let mut new = Vec::with_capacity(old.len() - over);
                new.extend(old.iter().filter(|row| !is_over(row)).cloned());
                drop(old);
                shard.store(Arc::new(new));
                dropped += over;
            }
        }
        dropped
    }

    /// Every row, shard by shard.
    pub(super) fn each(&self, mut see: impl FnMut(&R)) {
        for shard in &self.shards {
            shard.load().iter().for_each(&mut see);
        }
    }
}
