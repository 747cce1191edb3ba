//! Stream reassembly and protocol dissectors: captured pieces of payload in, [`flow_model::L7Record`]s out.
//!
//! Pure state machines. They never read the clock (times come with the bytes), never fail or panic
//! on any input, and hold bounded memory per connection. They know nothing of kernels, namespaces,
//! names or metrics.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod aside;
mod asked;
mod before;
mod candidates;
mod conversation;
mod dissector;
pub mod dns;
mod framing;
mod head;
mod http1;
mod http2;
mod input;
mod kafka;
mod mysql;
mod order;
mod ordered;
mod pairing;
mod postgres;
mod protocols;
mod recognise;
mod redis;
mod route;
mod sql;
mod stream;
mod tcp;
mod tls;
mod walk;
mod websocket;
mod wires;

pub use asked::Asked;
pub use input::{Interest, Limits, MessageEnd, Out, Piece};
pub use ordered::Ordered;
pub use protocols::Wire;
pub use tcp::{Counters, Tcp};
pub use walk::{Length, Walk, Walked};
pub use wires::Wires;
