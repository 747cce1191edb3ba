//! DNS over UDP and TCP (RFC 1035, 6891, 1996, 2136, 7766): recognises messages, pairs queries with
//! responses, and says which addresses a name was answered with.
//!
//! Counting is exact per flow: every query seen becomes one record (answered or unanswered) or one
//! counted loss. A query that was sent again is a query of its own, noted
//! [`DUPLICATE`](flow_model::Notes::DUPLICATE); a response takes the oldest open query that it
//! fits, so that its latency is what the asker waited. Responses that fit no open query are records
//! with [`NO_REQUEST`](flow_model::Notes::NO_REQUEST), outside of that equation.
//!
//! Multicast DNS, LLMNR and NetBIOS name service share the message's form but not the exchange's
//! (one question, any number of answers, none expected): no claim is made on them.

mod exchanges;
mod message;
mod name;
mod stream;
mod udp;

pub use exchanges::{ANSWER_TIMEOUT, Exchanges};
pub use message::{Message, looks_like_message, parse};
pub(crate) use stream::Stream;
pub use udp::{Datagram, Udp};
