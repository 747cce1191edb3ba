//! What is wrong on this node: looks on demand at counters, sockets and cgroups, twice, and decides.
//!
//! Readers bring samples, pure decisions ([`decide`]) make findings of them by one table of
//! [`Thresholds`]. Writes nothing, sends nothing but questions to the kernel, walks neither `/proc`
//! nor a cgroup tree: the namespaces and processes that it looks at are those that hold sockets.
//! Knows nothing of containerd, Kubernetes or an agent: whoever does says what a namespace is called.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod cgroup;
mod checks;
pub mod decide;
pub mod drops;
mod examine;
mod finding;
pub mod history;
mod holding;
pub mod node;
mod read;
mod report;
pub mod sample;
mod server;
mod sockets;
mod thresholds;
mod words;

pub use checks::{By, Check, CheckId, UnknownCheck};
pub use examine::{Asked, Bounds, examine};
pub use finding::{Certainty, Figure, Finding, Hurt, Severity, Subject};
pub use holding::Holding;
pub use report::{Looked, NotMade, Report};
pub use server::KnowsApiServer;
pub use thresholds::Thresholds;
