//! Sorted rows that one thread writes and others read without a lock: shards are swapped in as
//! wholes, a write copies one. Rows lie side by side, keys apart from what they lead to: there are
//! none of the gaps of a hash table, and a search touches little memory.

use crate::cluster::record::Key;
use arc_swap::ArcSwap;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

type Hasher = foldhash::fast::RandomState;

#[derive(Debug)]
struct Shard<K, T> {
    /// In order; several may be equal.
    keys: Vec<K>,
    /// Of the key at the same place.
    items: Vec<T>,
}

impl<K: Ord, T> Shard<K, T> {
    fn range(&self, key: &K) -> std::ops::Range<usize> {
        let from = self.keys.partition_point(|other| other < key);
        // Most have one.
        let len = self.keys[from..].iter().take_while(|other| *other == key).count();
        from..from + len
    }
}

#[derive(Debug)]
pub(super) struct Rows<K, T> {
    shards: Box<[ArcSwap<Shard<K, T>>]>,
    hasher: Hasher,
}

impl<K: Ord + Hash + Copy, T: Clone> Rows<K, T> {
    /// `shards` is a power of two.
    pub(super) fn new(shards: usize) -> Rows<K, T> {
        debug_assert!(shards.is_power_of_two());
        let empty = || ArcSwap::from_pointee(Shard { keys: Vec::new(), items: Vec::new() });
        Rows { shards: (0..shards).map(|_| empty()).collect(), hasher: Hasher::default() }
    }

    fn shard(&self, key: &K) -> &ArcSwap<Shard<K, T>> {
        &self.shards[self.hasher.hash_one(key) as usize & (self.shards.len() - 1)]
    }

    /// What `key` has, in the order in which it was given.
    pub(super) fn read<R>(&self, key: &K, read: impl FnOnce(&[T]) -> R) -> R {
        let shard = self.shard(key).load();
        read(&shard.items[shard.range(key)])
    }

    /// Puts `items` in the place of those that `key` has. One writer at a time, or changes get lost.
    pub(super) fn replace(&self, key: &K, items: Vec<T>) {
        let shard = self.shard(key);
        let old = shard.load();
        let range = old.range(key);
        let len = old.keys.len() - range.len() + items.len();
        let mut new = Shard { keys: Vec::with_capacity(len), items: Vec::with_capacity(len) };
        new.keys.extend_from_slice(&old.keys[..range.start]);
        new.keys.extend(std::iter::repeat_n(*key, items.len()));
        new.keys.extend_from_slice(&old.keys[range.end..]);
        new.items.extend_from_slice(&old.items[..range.start]);
        new.items.extend(items);
        new.items.extend_from_slice(&old.items[range.end..]);
        drop(old);
        shard.store(Arc::new(new));
    }

    /// Drops what is over. Returns how many. One writer at a time.
    pub(super) fn drop_items(&self, is_over: impl Fn(&T) -> bool) -> usize {
        let mut dropped = 0;
        for shard in &self.shards {
            let old = shard.load();
            let over = old.items.iter().filter(|item| is_over(item)).count();
            if over > 0 {
                let len = old.keys.len() - over;
                let mut new = Shard { keys: Vec::with_capacity(len), items: Vec::with_capacity(len) };
                for (key, item) in old.keys.iter().zip(&old.items).filter(|(_, item)| !is_over(item)) {
                    new.keys.push(*key);
                    new.items.push(item.clone());
                }
                drop(old);
                shard.store(Arc::new(new));
                dropped += over;
            }
        }
        dropped
    }

    /// Everything, shard by shard.
    pub(super) fn each(&self, mut see: impl FnMut(&T)) {
        for shard in &self.shards {
            shard.load().items.iter().for_each(&mut see);
        }
    }
}

/// Rows by address. Most clusters have four bytes for each.
#[derive(Debug)]
pub(super) struct ByAddress<T> {
    v4: Rows<u32, T>,
    v6: Rows<[u8; 16], T>,
}

impl<T: Clone> ByAddress<T> {
    pub(super) fn new(shards: usize) -> ByAddress<T> {
        ByAddress { v4: Rows::new(shards), v6: Rows::new((shards / 4).max(1)) }
    }

    pub(super) fn read<R>(&self, key: &Key, read: impl FnOnce(&[T]) -> R) -> R {
        match key {
            Key::V4(ip) => self.v4.read(ip, read),
            Key::V6(ip) => self.v6.read(ip, read),
        }
    }

    pub(super) fn replace(&self, key: &Key, items: Vec<T>) {
        match key {
            Key::V4(ip) => self.v4.replace(ip, items),
            Key::V6(ip) => self.v6.replace(ip, items),
        }
    }

    pub(super) fn drop_items(&self, is_over: impl Fn(&T) -> bool) -> usize {
        self.v4.drop_items(&is_over) + self.v6.drop_items(is_over)
    }
}
