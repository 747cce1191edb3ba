//! What happened to runs of containers, for whoever keeps a history: nothing is to be done about it.

use crate::container::{ContainerRef, TaskId};
use crate::name::LocalName;
use flow_model::Slot;
use std::sync::Arc;
use std::time::SystemTime;

/// How a run ended, as its runtime tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitStatus {
    /// 128 and the signal's number, where a signal ended it.
    pub code: u32,
    /// None where the event has no time.
    pub at: Option<SystemTime>,
}

/// A run, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The run.
    pub task: TaskId,
    /// What it is a run of.
    pub container: ContainerRef,
    /// Of its init process, as the node counts pids.
    pub pid: u32,
    /// None while its labels are not read.
    pub name: Option<Arc<LocalName>>,
    /// What its traffic is seen under; None before it is placed, and where it is not observed.
    pub slot: Option<Slot>,
    /// Runs that share the slot, pods' sandboxes aside: what is seen there may be any of theirs.
    pub sharing: usize,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskNews {
    /// Its own process runs.
    Began(Run),
    /// Its name became known, or better.
    Named {
        /// The run.
        task: TaskId,
        /// Replaces what was said before.
        name: Arc<LocalName>,
    },
    /// The kernel killed one of its processes for memory: not the first one, perhaps.
    OutOfMemory {
        /// The container that the event names.
        container: ContainerRef,
        /// None where that is over, or was never heard of.
        run: Option<Run>,
        /// None where the event has no time.
        at: Option<SystemTime>,
    },
    /// It is over.
    Ended {
        /// As it was.
        run: Run,
        /// None where no event told of the end.
        exit: Option<ExitStatus>,
    },
}
