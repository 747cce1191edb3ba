//! Who holds which address at which time, and who lives in which namespace. Two tables with times:
//! `IdentityIndex`, which the daemon feeds with what containerd tells of this node, and `cluster`,
//! which `watch` feeds with what the Kubernetes API tells of all nodes. [`NamesReader`] asks both.
//!
//! A question is always about a moment: an address that was reused is answered with its holder
//! then, or with none, never with the one before. Outsiders have the name by which the asking pod
//! looked them up, or the class of their address (`private`, `public`, `cloud-metadata`, ...), so
//! that labels stay a bounded set.
//!
//! The tables find no names themselves and never read the clock. `watch` runs on a thread of its
//! own; `access` says where the API is.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod access;
mod class;
pub mod cluster;
mod coming;
mod dns;
mod explain;
mod history;
mod index;
mod metrics;
mod reader;
mod sharded;
pub mod watch;

pub use coming::{Coming, Expectation};
pub use explain::{AddressHolder, HolderReader, LearntName};
pub use history::Origin;
pub use index::{Address, Binding, Claim, IdentityIndex, Limits};
pub use metrics::TableMetric;
pub use reader::{Addresses, NamesReader};
