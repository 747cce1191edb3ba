//! What a containerd says.

use crate::container::{ContainerRef, LinkId};
use crate::name::Labels;
use crate::news::ExitStatus;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// What a containerd said. Events are hints: at most once, no replay, duplicates, any order across containers; only
/// `Listed` is the truth.
#[derive(Clone, Debug)]
pub enum TaskEvent {
    /// The namespaces exist; the container's own process does not run yet.
    Created {
        /// `container_id` of `/tasks/create`, in the envelope's namespace.
        container: ContainerRef,
        /// Of the init process, as the node counts pids. An event with 0 is passed over.
        pid: u32,
    },
    /// The container's own process runs.
    Started {
        /// `container_id` of `/tasks/start`.
        container: ContainerRef,
        /// As for `Created`.
        pid: u32,
    },
    /// `process` is the container's id for its init process, anything else is an exec.
    Exited {
        /// `container_id` of `/tasks/exit`.
        container: ContainerRef,
        /// The event's `id`.
        process: String,
        /// Of the process that ended. 0: whichever run is known.
        pid: u32,
        /// How it ended, where the event tells.
        exit: Option<ExitStatus>,
    },
    /// As `Exited`; `process` is empty for the init process before containerd 1.7.
    Deleted {
        /// `container_id` of `/tasks/delete`.
        container: ContainerRef,
        /// The event's `id`.
        process: String,
        /// As for `Exited`.
        pid: u32,
        /// As for `Exited`.
        exit: Option<ExitStatus>,
    },
    /// The kernel killed a process of the container because its memory ran out. The container may
    /// live on.
    OutOfMemory {
        /// `container_id` of `/tasks/oom`.
        container: ContainerRef,
        /// The envelope's time.
        at: Option<SystemTime>,
    },
    /// The container itself was deleted, which is done once its task is over. containerd publishes
    /// it, and not the task's shim: it comes where `Exited` and `Deleted` got lost.
    Removed {
        /// `id` of `/containers/delete`, in the envelope's namespace. It may have no task.
        container: ContainerRef,
    },
    /// The container's labels were read, or changed.
    Labels {
        /// Whose labels. It may have no task.
        container: ContainerRef,
        /// All that count; those not in it are no more.
        labels: Labels,
    },
    /// Reading the labels failed; they are asked for again at the next list.
    LabelsUnread {
        /// Whose labels were asked for.
        container: ContainerRef,
    },
    /// This containerd does not answer any more. Nothing is concluded of its tasks: they end when
    /// their processes do, until its next list.
    Away {
        /// Which one.
        link: LinkId,
    },
    /// Every task of this containerd that was alive at some moment after `began`. Namespaces in
    /// `unread` could not be listed: nothing is concluded from their absence.
    Listed {
        /// Whose tasks. The list says nothing of those of others.
        link: LinkId,
        /// Before the first namespace was asked for.
        began: Instant,
        /// Of all namespaces that are looked at.
        tasks: Vec<ListedTask>,
        /// containerd's namespaces that gave no list.
        unread: Vec<Arc<str>>,
    },
}

/// A task of a list that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedTask {
    /// Whose task it is.
    pub container: ContainerRef,
    /// `None`: its shim did not say in time. It is kept if known and not believed otherwise.
    pub pid: Option<u32>,
}
