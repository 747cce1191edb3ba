//! Names of the cluster, down the stream: a map of bytes that the companion keeps and each agent
//! copies. What a key names and what its value says are bytes here.
//!
//! The keys are spread over shards, each with a digest of what is in it. An agent says its digests
//! and gets the shards that differ, then what changes. So after a restart of either side only what
//! changed meanwhile is sent, and a deletion that nobody heard of shows as a key that is missing.

mod budget;
mod copy;
mod entry;
mod handoff;
mod key;
mod shelf;

pub use budget::Budget;
pub use copy::{CopyCounts, NamesCopy, Told};
pub use entry::{NAME_KEY, NAME_VALUE, SHARDS};
pub use handoff::Names;
pub use shelf::{Cursor, Next, Shelf, ShelfCounts};
