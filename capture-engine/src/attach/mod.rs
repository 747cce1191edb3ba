//! Brings the kernel programs onto the interfaces of network namespaces, keeps them there, and
//! takes them away again. Knows nothing of containers, and nothing of the programs but that
//! [`crate::kernel::Programs`] hands one out for each slot and direction.
//!
//! Invariants: packets pass unchanged (the programs return "next"); no qdisc, filter or link of
//! others is ever changed or removed; one program of ours per interface and direction; one bad
//! namespace delays no other by more than its own entry.
//!
//! # What stays behind when the process is killed
//! TCX links end with it. Clsact filters stay, and the kernel half makes them do nothing. Each
//! carries in its handle whether the qdisc was made by us, so that the next attach (or [`sweep`])
//! in that namespace removes what an earlier process left, and nothing more. A qdisc and its two
//! filters are made within one system call: a kill leaves all three or none.
//!
//! # What others do afterwards
//! What was attached is looked at again: at once where the kernel tells of a filter that went, and
//! every `AttachConfig::look_every` where it does not. Programs that were taken off, replaced, or
//! shadowed by a program of others are put back, or the namespace is failed and says why; what may
//! have passed meanwhile is counted by the interface's own counters. The same where interfaces count
//! packets and the programs none, whatever the reason.
//!
//! # Ends
//! What a container's processes left in their sockets passes after them. [`Attacher::leave`] waits for
//! that, within bounds; [`Attacher::detach`] does not.
//!
//! # Descriptors
//! Two per attached namespace: the namespace itself, needed to enter it again (detach, interfaces
//! that appear later), and the subscription to its links. Both keep the namespace alive, so
//! one of the two must be called when the container goes; it closes both. With TCX, two more
//! for each interface.

mod asker;
mod attacher;
mod bells;
mod cgroup;
mod ending;
mod gap;
mod inside;
mod linger;
mod plan;
mod queue;
mod retry;
mod rival;
mod sight;
mod state;
mod sweeping;
mod sys;
mod table;
mod tc;
mod watcher;
mod words;
mod worker;

pub use attacher::{AttachError, Attacher, Taker};
pub use cgroup::{CgroupError, CgroupLinks};
pub use queue::Priority;
pub use retry::Retries;
pub use state::AttachState;
pub use sys::before_all_others;
pub use tc::NAME_PREFIX;
pub use words::{AttachConfig, AttachCounters, AttachEvent, AttachStatus, CutLists, Interface, Mechanism, Mode};

use netns::Netns;

/// Removes everything that this or an earlier process has in `netns`. Returns the number of filters removed.
///
/// # Errors
/// The namespace could not be entered or listed, or the kernel refused.
pub fn sweep(netns: &Netns) -> Result<u64, Box<dyn std::error::Error + Send + Sync>> {
    Ok(netns.run(sweeping::sweep)??)
}
