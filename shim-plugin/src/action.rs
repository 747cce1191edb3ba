//! What the registry asks for, and what it is told of it.

use crate::container::{ContainerRef, TaskId};
use crate::name::LocalName;
use crate::news::TaskNews;
use crate::observe::Observe;
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
    OpenNetns {
        /// The run whose namespace it is; the key of what is kept.
        task: TaskId,
        /// What it is a run of.
        container: ContainerRef,
        /// Of its init process, as the node counts pids. Never 0.
        pid: u32,
        /// How urgent it is.
        origin: Origin,
    },
    /// Take the namespace that is open under `task`, attach to it, and keep trying until `Detach`.
    /// Answer: [`Report::Answered`] after the first try, well or not, or [`Report::NotTaken`].
    Attach {
        /// New, and below [`Slot::FIRST_OF_NODE`].
        slot: Slot,
        /// As reported by [`Report::Opened`].
        netns: NetnsId,
        /// The run under which it was opened.
        task: TaskId,
        /// How urgent it is.
        origin: Origin,
        /// It ran before this agent asked its containerd: nothing that it said was to be seen.
        is_old: bool,
        /// None while the labels are not read: it follows by `Identify`.
        name: Option<Arc<LocalName>>,
    },
    /// Attach to the cgroup of `pid`, which lives in the node's namespace, and keep trying until
    /// `Detach`. No answer.
    AttachCgroup {
        /// New, from [`Slot::FIRST_OF_NODE`] to [`LAST_SLOT`](crate::LAST_SLOT).
        slot: Slot,
        /// The run whose cgroup it is.
        task: TaskId,
        /// The container of that run.
        container: ContainerRef,
        /// Of its init process, as the node counts pids; `/proc/<pid>/cgroup` has the path.
        pid: u32,
        /// None while the labels are not read: it follows by `Identify`.
        name: Option<Arc<LocalName>>,
    },
    /// Close what is open under `task`: its namespace is attached already, or is the node's, or the task is gone.
    Close {
        /// The run under which it was opened. There may be nothing open any more.
        task: TaskId,
    },
    /// The name of an attached namespace or cgroup became known, or better.
    Identify {
        /// Given out before, as for `Detach`.
        slot: Slot,
        /// Replaces what was said before.
        name: Arc<LocalName>,
    },
    /// How the slot is to be observed from now on, where that is not [`Observe::All`] or was not
    /// until now. May come before `Attach`; ends with `Detach`. No answer.
    Observe {
        /// Of an attached namespace or cgroup, or one that is about to be.
        slot: Slot,
        /// Never [`Observe::Nothing`]: then it is detached.
        word: Observe,
    },
    /// The last task of the namespace ended, or that of the cgroup (then `netns` is the node's), or
    /// none came to one that was attached early. No answer; the slot number never comes back.
    Detach {
        /// Given out before by `Attach`, `AttachCgroup` or [`Early::attach`](crate::Early::attach).
        slot: Slot,
        /// The namespace of that slot.
        netns: NetnsId,
        /// Nobody lives there any more: what its processes left in their sockets may be on its way
        /// yet. False where it is not to be observed any more, or is about to be attached anew.
        ended: bool,
    },
    /// Look whether the process that `pid` was when the task was opened is still there: nobody else
    /// tells of its end. Answer: [`Report::Gone`] where it is not, else none.
    LookAtProcess {
        /// The run whose init process it was.
        task: TaskId,
        /// As the node counts pids.
        pid: u32,
        /// As reported by [`Report::Opened`].
        began: Option<u64>,
    },
    /// For whoever keeps a history of runs. Nothing is to be done. No answer.
    Tell(TaskNews),
    /// Read this container's labels and feed them back. Performed by
    /// [`Containerd`](crate::Containerd), never handed out.
    FetchLabels {
        /// Whose labels; by `GetContainer` in its namespace.
        container: ContainerRef,
    },
}

/// What became of an action.
#[derive(Clone, Debug)]
pub enum Report {
    /// To `OpenNetns`: the namespace is open and kept.
    Opened {
        /// As in the action.
        task: TaskId,
        /// Device and inode of what was opened.
        netns: NetnsId,
        /// `SO_NETNS_COOKIE` (Linux >= 5.14), never reused. Without it a namespace that took the
        /// inode of one whose end is not known yet is mistaken for that one until the end is known,
        /// and those who share a namespace are attached to again when the first of them ends.
        cookie: Option<u64>,
        /// Start time of the process in clock ticks since boot (`/proc/<pid>/stat`): with the pid
        /// it names a process. Without it a process that took the pid is mistaken for the task's.
        began: Option<u64>,
    },
    /// To `LookAtProcess`: that process has ended.
    Gone {
        /// As in the action.
        task: TaskId,
    },
    /// To `OpenNetns`: nothing is open. It is tried again after 1 s, then twice as long each time
    /// up to 60 s.
    OpenFailed {
        /// As in the action.
        task: TaskId,
        /// For people; cut to 200 bytes.
        reason: String,
    },
    /// The first try to attach has ended, well or not: its turn is free.
    Answered {
        /// As in `Attach`.
        slot: Slot,
    },
    /// The namespace was not taken, and is closed. It is opened again later, under another slot.
    NotTaken {
        /// As in `Attach`; it never comes back.
        slot: Slot,
        /// For people; cut to 200 bytes.
        reason: String,
    },
}
