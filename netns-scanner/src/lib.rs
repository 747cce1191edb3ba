//! Finds the connections that existed before the agent attached, in the background, and says who is
//! client and who is server.
//!
//! Knows nothing of attaching, workloads or metrics: namespaces to look at go in ([`Target`]),
//! [`flow_model::FlowSeed`]s come out. Who holds a socket is told as the kernel tells it
//! ([`read_owners`]): by cgroup or by process. Three sources give the same answer at different
//! prices; [`Scanner`] takes the cheapest that the kernel has.
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod clock;
mod config;
pub mod deadline;
mod diag;
pub mod helper;
mod iterator;
mod limiter;
mod owners;
mod procfs_source;
mod program;
mod queue;
mod scanner;
mod schedule;
mod seeds;
mod socket;
mod sys;
mod target;
mod worker;

pub use config::ScannerConfig;
pub use diag::dump as dump_by_sock_diag;
pub use iterator::{IteratorError, SocketIterator};
pub use limiter::WorkLimiter;
pub use owners::{Owned, Owner, name_of_service, read as read_owners};
pub use procfs_source::dump as dump_by_procfs;
pub use program::ProgramError;
pub use queue::Progress;
pub use scanner::Scanner;
pub use seeds::{leaving, seeds};
pub use socket::{Socket, SocketState};
pub use target::{Looked, Seeded, Silent, Source, Target, Want};
