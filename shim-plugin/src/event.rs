//! What containerd says.

use crate::container::ContainerRef;
use crate::name::Labels;
use std::sync::Arc;
use std::time::Instant;

/// What containerd said. Events are hints: at most once, no replay, duplicates, any order across containers; only
/// `Listed` is the truth.
#[derive(Clone, Debug)]
pub enum TaskEvent {
    /// The namespaces exist; the container's own process does not run yet.
    Created {
        container: ContainerRef,
        pid: u32,
    },
    Started {
        container: ContainerRef,
        pid: u32,
    },
    /// `process` is the container's id for its init process, anything else is an exec.
    Exited {
        container: ContainerRef,
        process: String,
        pid: u32,
    },
    /// As `Exited`; `process` is empty for the init process before containerd 1.7.
    Deleted {
        container: ContainerRef,
        process: String,
        pid: u32,
    },
    /// The container's labels were read, or changed.
    Labels {
        container: ContainerRef,
        labels: Labels,
    },
    /// Reading the labels failed; they are asked for again at the next list.
    LabelsUnread {
        container: ContainerRef,
    },
    /// Every task that was alive at some moment after `began`. Namespaces in `unread` could not be listed: nothing is
    /// concluded from their absence.
    Listed {
        began: Instant,
        tasks: Vec<ListedTask>,
        unread: Vec<Arc<str>>,
    },
}

/// A task of a list that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedTask {
    pub container: ContainerRef,
    /// `None`: its shim did not say in time. It is kept if known and not believed otherwise.
    pub pid: Option<u32>,
}
