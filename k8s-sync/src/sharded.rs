//! A map that one thread writes and others read without a lock: shards are swapped in as wholes,
//! and a write copies one shard.

use arc_swap::ArcSwap;
use hashbrown::HashMap;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

type Hasher = foldhash::fast::RandomState;
pub(crate) type Shard<K, V> = HashMap<K, V, Hasher>;

/// `V` should be cheap to clone: an `Arc` or a few words.
#[derive(Debug)]
pub(crate) struct Sharded<K, V> {
    shards: Box<[ArcSwap<Shard<K, V>>]>,
    hasher: Hasher,
}

impl<K: Eq + Hash + Clone, V: Clone> Sharded<K, V> {
    /// `shards` is a power of two.
    pub(crate) fn new(shards: usize) -> Sharded<K, V> {
        debug_assert!(shards.is_power_of_two());
        Sharded {
            shards: (0..shards).map(|_| ArcSwap::from_pointee(Shard::default())).collect(),
            hasher: Hasher::default(),
        }
    }

    fn shard(&self, key: &K) -> &ArcSwap<Shard<K, V>> {
        &self.shards[self.hasher.hash_one(key) as usize & (self.shards.len() - 1)]
    }

    /// Changes the shard that `key` is in. There must be one writer at a time, or changes get lost.
    pub(crate) fn write<R>(&self, key: &K, change: impl FnOnce(&mut Shard<K, V>) -> R) -> R {
        let shard = self.shard(key);
        let mut copy = Shard::clone(&shard.load());
        let result = change(&mut copy);
        shard.store(Arc::new(copy));
        result
    }

    pub(crate) fn get<R>(&self, key: &K, read: impl FnOnce(&V) -> R) -> Option<R> {
        self.shard(key).load().get(key).map(read)
    }

    /// Lets `change` see and keep or drop every entry, in those shards that have one for which
    /// `is_due`. One writer at a time.
    pub(crate) fn retain(&self, is_due: impl Fn(&V) -> bool, mut change: impl FnMut(&mut V) -> bool) {
        for shard in &self.shards {
            let current = shard.load();
            if current.values().any(&is_due) {
                let mut copy = Shard::clone(&current);
                copy.retain(|_, value| change(value));
                shard.store(Arc::new(copy));
            }
        }
    }
}
