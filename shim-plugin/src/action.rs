//! What the registry asks for, and what it is told of it.

use crate::container::{ContainerRef, TaskId};
use crate::name::LocalName;
use flow_model::{NetnsId, Slot};
use std::sync::Arc;

/// How a task became known, and so how urgent it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// By its event: its first process may not run yet. Do it now.
    Live,
    /// By a list: it was there before. The registry lets only a few of these out at a time.
    Found,
}

/// What is to be done. Actions about one task or one slot are to be performed in the order given; others may overtake.
#[derive(Clone, Debug)]
pub enum Action {
    /// Open the network namespace of `pid` now (pids are reused) and keep it under `task`.
    /// Answer: [`Report::Opened`] or [`Report::OpenFailed`].
    OpenNetns { task: TaskId, container: ContainerRef, pid: u32, origin: Origin },
    /// Take the namespace that is open under `task`, attach to it, and keep trying until `Detach`.
    /// Answer: [`Report::Answered`] after the first try, well or not, or [`Report::NotTaken`].
    Attach { slot: Slot, netns: NetnsId, task: TaskId, origin: Origin, name: Option<Arc<LocalName>> },
    /// Attach to the cgroup of `pid`, which lives in the node's namespace, and keep trying until
    /// `Detach`. No answer.
    AttachCgroup { slot: Slot, task: TaskId, container: ContainerRef, pid: u32, name: Option<Arc<LocalName>> },
    /// Close what is open under `task`: its namespace is attached already, or is the node's, or the task is gone.
    Close { task: TaskId },
    /// The name of an attached namespace or cgroup became known, or better.
    Identify { slot: Slot, name: Arc<LocalName> },
    /// The last task of the namespace ended, or that of the cgroup (then `netns` is the node's). No
    /// answer; the slot number never comes back.
    Detach { slot: Slot, netns: NetnsId },
    /// Read this container's labels and feed them back. Performed by
    /// [`Containerd`](crate::Containerd), never handed out.
    FetchLabels { container: ContainerRef },
}

/// What became of an action.
#[derive(Clone, Debug)]
pub enum Report {
    Opened {
        task: TaskId,
        netns: NetnsId,
        /// `SO_NETNS_COOKIE` (Linux >= 5.14), never reused. Without it a namespace that took the
        /// inode of one whose end is not known yet is mistaken for that one until the end is known,
        /// and those who share a namespace are attached to again when the first of them ends.
        cookie: Option<u64>,
    },
    OpenFailed {
        task: TaskId,
        reason: String,
    },
    /// The first try to attach has ended, well or not: its turn is free.
    Answered {
        slot: Slot,
    },
    /// The namespace was not taken, and is closed. It is opened again later, under another slot.
    NotTaken {
        slot: Slot,
        reason: String,
    },
}
