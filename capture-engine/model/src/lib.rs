//! The words that every other crate shares: flows, endpoints, identities, records. Std only, no I/O, no clock.
//! Knows nothing of kernels, containers or metrics; it leaves parsing to `l7`, counting to `golden-metrics`.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod causes;
mod detail;
mod flow;
mod identity;
mod loss;
mod moment;
mod pace;
mod record;
mod shown;
mod sink;
mod time;

pub use causes::in_full;
pub use detail::{
    ChannelTraffic, DbOperation, Detail, DnsExchange, HttpExchange, MessagingOperation, RpcCall, TlsHandshake, TlsOffer,
};
pub use flow::{Close, Direction, Endpoint, FiveTuple, FlowDelta, FlowInfo, FlowSeed, NetnsId, Role, Slot, Transport};
pub use identity::{Identity, Names, Unknown, Workload, WorkloadKind};
pub use loss::LossReason;
pub use moment::rfc3339;
pub use pace::Pace;
pub use record::{L7Record, Notes, Outcome, Protocol};
pub use shown::{is_plain, shown};
pub use sink::Sink;
pub use time::Ts;
