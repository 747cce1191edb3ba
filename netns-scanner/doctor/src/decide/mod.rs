//! Samples to findings. Pure: what is read, when, and from where the thresholds come is others'.

mod closed;
mod cut;
mod dead;
mod listen;
mod oom;
mod ports;
mod probe;
mod search;
mod selfcall;
mod udp;

pub use closed::closed_watch;
pub use cut::{cut_by_exit, term_ignored};
pub use dead::dead_peer;
pub use listen::listen_overflow;
pub use oom::oom_inside;
pub use ports::{PortRange, ports_gone};
pub use probe::{probe_kill, probe_slow, recent, with_throttling};
pub use search::{Searches, dns_search};
pub use selfcall::{asks_itself, self_call};
pub use udp::udp_drop;
