//! What the agent answers on its unix socket: the words of its JSON, the routes, and a client that
//! asks.
//!
//! Does not count, name or serve anything. The agent, its command line and whoever reads the JSON
//! use these types, so that they agree by construction.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod client;
mod error;
mod lines;
pub mod routes;
mod tap;
mod timeline;
mod words;

pub use client::Client;
pub use error::AskError;
pub use lines::{Heard, Lines};
pub use tap::{TapEnd, TapExchange, TapLine, TapLoss};
pub use timeline::{
    ApiRow, CutRow, LookupRow, ProbeRow, ProbedRow, RetryRow, StormRow, Throttled, Timeline, TimelineEvent,
};
pub use words::{
    By, Cgroup, Companion, Containerd, ContainerdLink, EdgeRow, Exchanges, Fact, Forwarded, Golden, Identity,
    Kubernetes, LossRow, Namespace, Node, PartRow, Parts, Party, Process, Program, Readiness, Reason, Scan, Status,
    Version, Watch, WorkloadRow,
};
