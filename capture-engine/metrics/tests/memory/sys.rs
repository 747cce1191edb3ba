//! An allocator that counts for each thread what it asked for and has not given back.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static BYTES: Cell<isize> = const { Cell::new(0) };
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

#[derive(Debug)]
pub struct Counting;

/// Bytes that this thread asked for and has not given back. Below zero where it gave back what
/// another one had asked for.
pub fn bytes() -> isize {
    BYTES.get()
}

/// How often this thread asked for memory.
#[allow(dead_code, reason = "a benchmark shares this file and looks at the bytes only")]
pub fn calls() -> usize {
    CALLS.get()
}

fn more(bytes: usize) {
    BYTES.set(BYTES.get().wrapping_add_unsigned(bytes));
    CALLS.set(CALLS.get() + 1);
}

fn less(bytes: usize) {
    BYTES.set(BYTES.get().wrapping_sub_unsigned(bytes));
}

// SAFETY: every request is passed on to the system's allocator as it came; counting touches nothing
// but two cells of the thread, which need neither memory nor a destructor.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: the caller keeps what `GlobalAlloc::alloc` asks for.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        more(layout.size());
        // SAFETY: the layout is the caller's.
        unsafe { System.alloc(layout) }
    }

    // SAFETY: the caller keeps what `GlobalAlloc::dealloc` asks for.
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        less(layout.size());
        // SAFETY: `at` came from `System`, as all memory of this allocator does, with this layout.
        unsafe { System.dealloc(at, layout) }
    }

    // SAFETY: the caller keeps what `GlobalAlloc::realloc` asks for.
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        more(size);
        less(layout.size());
        // SAFETY: `at` came from `System`, as all memory of this allocator does, with this layout.
        unsafe { System.realloc(at, layout, size) }
    }
}
