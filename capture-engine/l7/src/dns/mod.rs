//! DNS over UDP and TCP (RFC 1035, 6891, 1996, 2136, 7766): recognises messages, pairs queries with
//! responses, and says which addresses a name was answered with.
//!
//! Counting is exact per flow: every query seen is a lookup, which becomes one record (answered or
//! unanswered) or one counted loss, or a repetition of one that is open, which its record counts as
//! a retry. A lookup lasts from its first query to its first answer, so that its latency is what
//! the asker waited; the answers to its repetitions are nothing new. Responses that fit no open query are records
//! with [`NO_REQUEST`](flow_model::Notes::NO_REQUEST), outside of that equation.
//!
//! Multicast DNS, LLMNR and NetBIOS name service share the message's form but not the exchange's
//! (one question, any number of answers, none expected): no claim is made on them.

mod exchanges;
mod message;
mod name;
mod question;
mod sign;
mod stream;
mod udp;
mod waiting;

pub use exchanges::{ANSWER_TIMEOUT, Exchanges, RETRY_AFTER, RETRY_WINDOW};
pub use message::{Message, looks_like_message, parse};
pub(crate) use stream::Stream;
pub use udp::{Datagram, Udp};
