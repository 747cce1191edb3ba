//! Counters by cell, of which most are never used: in blocks that are there once something was
//! counted in them.
//!
//! One thread adds, any number read. A block never moves and never leaves, so a reader needs no
//! lock and sees each counter grow only.

use super::cells::CELLS;
use std::array::from_fn;
use std::fmt::Debug;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};

/// Cells of a block: half an octave.
const BLOCK: usize = 16;
pub(super) const BLOCKS: usize = CELLS.div_ceil(BLOCK);

/// A counter of some width.
pub(super) trait Counter: Debug + Default {
    const MAX: u64;
    fn get(&self) -> u64;
    fn set(&self, value: u64);
}

macro_rules! counter {
    ($($atomic:ty: $value:ty),+) => {$(
        impl Counter for $atomic {
            const MAX: u64 = <$value>::MAX as u64;
            fn get(&self) -> u64 {
                self.load(Relaxed).into()
            }
            fn set(&self, value: u64) {
                self.store(value as $value, Relaxed);
            }
        }
    )+};
}
counter!(AtomicU16: u16, AtomicU32: u32, AtomicU64: u64);

type Block<C> = [C; BLOCK];
type Chunk<C, const N: usize> = [Block<C>; N];

fn chunk<C: Counter, const N: usize>() -> Box<Chunk<C, N>> {
    Box::new(from_fn(|_| from_fn(|_| C::default())))
}

/// Blocks in the order of their first use: four in place, then in chunks that grow as the store
/// does.
#[derive(Debug)]
pub(super) struct Store<C> {
    /// For each 16 cells the number of their block, from 1 on. 0: nothing was counted there.
    directory: [AtomicU8; BLOCKS],
    in_place: Chunk<C, 4>,
    to_8: OnceLock<Box<Chunk<C, 4>>>,
    to_16: OnceLock<Box<Chunk<C, 8>>>,
    to_32: OnceLock<Box<Chunk<C, 16>>>,
    to_all: OnceLock<Box<Chunk<C, { BLOCKS - 32 }>>>,
}

impl<C: Counter> Default for Store<C> {
    fn default() -> Store<C> {
        Store {
            directory: [const { AtomicU8::new(0) }; BLOCKS],
            in_place: from_fn(|_| from_fn(|_| C::default())),
            to_8: OnceLock::new(),
            to_16: OnceLock::new(),
            to_32: OnceLock::new(),
            to_all: OnceLock::new(),
        }
    }
}

impl<C: Counter> Store<C> {
    /// Adds as much of `count` as the counter holds, and returns the rest. A full counter stays as
    /// it is.
    pub(super) fn add(&self, cell: usize, count: u64) -> u64 {
        let block = self.block(cell / BLOCK).or_else(|| self.make(cell / BLOCK));
        let Some(counter) = block.and_then(|block| block.get(cell % BLOCK)) else { return count };
        // Only this thread writes: what it read is still so.
        let value = counter.get();
        let fits = count.min(C::MAX - value);
        if fits > 0 {
            counter.set(value + fits);
        }
        count - fits
    }

    /// The counters of the cells from `place * BLOCK` on.
    pub(super) fn block(&self, place: usize) -> Option<&Block<C>> {
        self.numbered(self.directory.get(place)?.load(Acquire))
    }

    fn numbered(&self, number: u8) -> Option<&Block<C>> {
        let number = usize::from(number);
        match number {
            0 => None,
            1..=4 => self.in_place.get(number - 1),
            5..=8 => self.to_8.get()?.get(number - 5),
            9..=16 => self.to_16.get()?.get(number - 9),
            17..=32 => self.to_32.get()?.get(number - 17),
            _ => self.to_all.get()?.get(number - 33),
        }
    }

    #[cold]
    fn make(&self, place: usize) -> Option<&Block<C>> {
        let used = self.directory.iter().filter(|number| number.load(Relaxed) > 0).count();
        match used {
            0..4 => {}
            4..8 => _ = self.to_8.get_or_init(chunk),
            8..16 => _ = self.to_16.get_or_init(chunk),
            16..32 => _ = self.to_32.get_or_init(chunk),
            _ => _ = self.to_all.get_or_init(chunk),
        }
        let number = u8::try_from(used + 1).ok()?;
        self.directory.get(place)?.store(number, Release);
        self.numbered(number)
    }

    /// Bytes on the heap.
    pub(super) fn heap(&self) -> usize {
        let Store { directory: _, in_place: _, to_8, to_16, to_32, to_all } = self;
        fn bytes<T>(chunk: &OnceLock<Box<T>>) -> usize {
            if chunk.get().is_some() { size_of::<T>() } else { 0 }
        }
        bytes(to_8) + bytes(to_16) + bytes(to_32) + bytes(to_all)
    }
}
