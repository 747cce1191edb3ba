//! Names of the whole cluster, from what the Kubernetes API tells: a compact table with times, written by one and read by many.

mod names;
pub mod object;
mod writer;

pub use names::{ClusterNames, Holding};
pub use writer::{Cluster, Limits, Moment, SnapshotError};
