//! `IdentityIndex`: who holds which address at which time, and who lives in which namespace. Fed by the daemon with what containerd
//! tells of this node; the watch cache of the Kubernetes API will feed the same table.
//!
//! A question is always about a moment: an address that was reused is answered with its holder then, or with none, never with the one
//! before. Outsiders have the name by which the asking pod looked them up, or the class of their address (`private`, `public`,
//! `cloud-metadata`, ...), so that labels stay a bounded set.
//!
//! The tables leave the finding of names to their writers and never read the clock. `watch` finds those of the whole cluster: it feeds
//! `cluster` with what the Kubernetes API tells, on a thread of its own; `access` says where that API is.
#![forbid(unsafe_code)]

pub mod access;
mod class;
pub mod cluster;
mod dns;
mod explain;
mod figures;
mod history;
mod index;
mod reader;
mod sharded;
pub mod watch;

pub use explain::{Heard, Held, Holders};
pub use figures::Figure;
pub use index::{Address, Binding, IdentityIndex, Limits};
pub use reader::{Addresses, NamesReader};
