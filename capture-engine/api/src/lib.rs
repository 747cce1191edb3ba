//! What the agent answers on its unix socket: the words of its JSON, the routes, and a client that
//! asks.
//!
//! Does not count, name or serve anything. The agent, its command line and whoever reads the JSON
//! use these types, so that they agree by construction.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod client;
pub mod routes;
mod timeline;
mod words;

pub use client::{AskError, Client};
pub use timeline::{CutRow, LookupRow, Timeline, TimelineEvent};
pub use words::{
    Cgroup, Companion, Containerd, ContainerdLink, EdgeRow, Exchanges, Fact, Forwarded, Golden, Identity, Kubernetes,
    LossRow, Namespace, Node, Party, Process, Program, Readiness, Reason, Scan, Status, Version, Watch, WorkloadRow,
};
