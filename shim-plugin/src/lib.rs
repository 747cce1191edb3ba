//! Turns containerd task events into actions. Knows nothing of namespaces, BPF or Kubernetes.
//!
//! [`Registry`] is the pure part: task events, lists and reports go in, [`Action`]s come out. [`Containerd`] is the thin
//! task around it: it holds the connection, and hands the actions to whoever opens and attaches. Opening a network
//! namespace, attaching to it and asking an API server for more names are left to others.
#![forbid(unsafe_code)]

mod action;
mod attachment;
mod backoff;
mod client;
mod containerd;
mod decode;
mod event;
mod link;
mod name;
mod placing;
mod registry;
mod retry;
mod status;

pub use action::{Action, Origin, Report};
pub use containerd::{Config, Containerd, Handle};
pub use event::{ContainerRef, ListedTask, TaskEvent, TaskId};
pub use name::{Labels, LocalName, NameSource};
pub use registry::{Corrections, Counts, Limits, Registry, TaskState, TaskView};
pub use status::{Connection, EventCounts, LinkStatus, Status, StatusReader, TaskGauges};
