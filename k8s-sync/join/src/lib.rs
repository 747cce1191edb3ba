//! What agents and their companion say to each other: series pushed as a versioned map, and who may
//! push.
//!
//! An agent keeps its series in a [`Source`] and has a [`Link`] for each replica of the companion; a
//! replica keeps a [`Replica`] for each agent. All three are told the time and handed the messages.
//! What a series is called and what it has counted are bytes here: whoever counts knows what they
//! mean, and a series of another version passes through as it is.
//!
//! Does not open a connection, name a pod or serve anything.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod hello;
mod jitter;
pub mod limits;
mod link;
pub mod message;
mod pack;
mod refusal;
mod replica;
mod source;

pub use hello::{Me, welcome};
pub use link::{Action, Cut, Link};
pub use pack::{PackError, Parts};
pub use refusal::{Reason, Refusal};
pub use replica::{Applied, Changes, Counted, Replica, Was};
pub use source::{Source, SourceCounted};
