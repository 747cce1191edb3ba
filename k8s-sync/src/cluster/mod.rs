//! Names of the whole cluster, from what the Kubernetes API tells: a compact table with times,
//! written by one and read by many.

mod answer;
mod claim;
mod clock;
mod entry;
mod explain;
mod hold;
mod intern;
mod leaving;
mod metrics;
mod names;
pub mod object;
mod others;
mod pods;
mod probes;
mod record;
mod rows;
mod seconds;
mod services;
mod shared;
mod slices;
mod snapshot;
mod standing;
pub mod wire;
mod workload;
mod writer;

pub use clock::Moment;
pub use explain::ClusterHolder;
pub use names::ClusterNames;
pub use probes::PodProbes;
pub use snapshot::SnapshotError;
pub use standing::Standing;
pub use writer::{Cluster, Limits};
