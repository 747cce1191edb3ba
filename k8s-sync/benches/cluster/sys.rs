//! An allocator that counts: what a table takes is what it asked for, not what the kernel happens
//! to hold for the process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The system's allocator, with the bytes that are asked for and not yet given back.
#[derive(Debug)]
pub struct Counting {
    live: AtomicUsize,
    peak: AtomicUsize,
}

impl Counting {
    pub const fn new() -> Counting {
        Counting { live: AtomicUsize::new(0), peak: AtomicUsize::new(0) }
    }

    /// Bytes now.
    pub fn live(&self) -> usize {
        self.live.load(Relaxed)
    }

    /// Most bytes at a time since `forget_peak`.
    pub fn peak(&self) -> usize {
        self.peak.load(Relaxed)
    }

    pub fn forget_peak(&self) {
        self.peak.store(self.live(), Relaxed);
    }

    fn more(&self, bytes: usize) {
        let live = self.live.fetch_add(bytes, Relaxed) + bytes;
        self.peak.fetch_max(live, Relaxed);
    }
}

// SAFETY: every request is passed on to the system's allocator as it came; counting touches nothing but two atomics.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: the caller keeps what `GlobalAlloc::alloc` asks for.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.more(layout.size());
        // SAFETY: the layout is the caller's.
        unsafe { System.alloc(layout) }
    }

    // SAFETY: the caller keeps what `GlobalAlloc::dealloc` asks for.
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        self.live.fetch_sub(layout.size(), Relaxed);
        // SAFETY: `at` came from `System`, as all memory of this allocator does, with this layout.
        unsafe { System.dealloc(at, layout) }
    }

    // SAFETY: the caller keeps what `GlobalAlloc::realloc` asks for.
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.more(size);
        self.live.fetch_sub(layout.size(), Relaxed);
        // SAFETY: `at` came from `System`, as all memory of this allocator does, with this layout.
        unsafe { System.realloc(at, layout, size) }
    }
}
