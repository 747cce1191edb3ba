//! Enters network namespaces, and speaks rtnetlink inside them: links, addresses, and news of both.
//!
//! The only place of the workspace that calls `setns`. Knows nothing of containers, BPF or traffic
//! control; those who do build their messages with [`wire`] and send them through a
//! [`RouteSocket`].
//!
//! A socket belongs for ever to the namespace in which it was opened, so a [`RouteSocket`] or a
//! [`LinkWatch`] keeps working from any thread after the entry is over. For the same reason each of
//! them, like an open [`Netns`], keeps a dead container's namespace alive: drop them when the
//! container goes.
#![deny(unsafe_code)]
#![warn(missing_docs)]

mod cgroups;
mod create;
mod edge;
mod enter;
mod link;
mod local;
mod own;
mod route;
mod sockstat;
mod sys;
mod watch;
pub mod wire;

pub use cgroups::see_cgroups_as;
pub use edge::{Edges, edges};
pub use enter::{EnterError, InNetns, Netns, OpenError};
pub use flow_model::NetnsId;
pub use link::{IfAddress, Link};
pub use own::{MOST as MOST_OWN, Network, Own};
pub use route::{MOST_ASKED, NetlinkError, Part, Refusal, RouteSocket};
pub use watch::{Change, LinkWatch};
