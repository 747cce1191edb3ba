//! What agents and their companion say to each other: series pushed as a versioned map, and who may
//! push.
//!
//! An agent keeps its series in a [`Source`] and has a [`Link`] for each replica of the companion; a
//! replica keeps a [`Replica`] for each agent. All three are told the time and handed the messages.
//! What a series is called and what it has counted are bytes here: whoever counts knows what they
//! mean, and a series of another version passes through as it is.
//!
//! What an agent holds for wrong goes up the same stream, whole and only when it changed
//! ([`findings`]).
//!
//! [`Client`] is the thin task that does with a connection what a link says: TLS to the companion of a
//! [`Ticket`], one gRPC stream. A [`Group`] has one for each replica that is ready.
//!
//! Does not name a pod, and does not serve: the companion does.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod client;
mod counts;
mod feed;
pub mod findings;
mod group;
pub mod grpc;
mod hello;
mod jitter;
pub mod limits;
mod link;
pub mod message;
pub mod names;
mod pack;
mod refusal;
mod replica;
mod replicas;
mod source;
mod ticket;
mod token;
mod wallet;

pub use client::{Client, reach};
pub use counts::PushCounts;
pub use feed::{Feed, Purse};
pub use group::Group;
pub use hello::{Me, is_node_name, welcome};
pub use link::{Action, Cut, Link};
pub use pack::{PackError, Parts};
pub use refusal::{Reason, Refusal};
pub use replica::{Applied, Changes, Counted, Replica, Was};
pub use replicas::Replicas;
pub use source::{Source, SourceCounted};
pub use ticket::{SERVER_NAME, Ticket, TicketError};
pub use token::{Token, TokenHash};
pub use wallet::{Kept, Shows, Wallet};
