//! Names of the whole cluster, from what the Kubernetes API tells.

pub mod object;
