//! Samples to findings. Pure: what is read, when, and from where the thresholds come is others'.

mod closed;
mod dead;
mod listen;
mod oom;
mod ports;
mod selfcall;
mod udp;

pub use closed::closed_watch;
pub use dead::dead_peer;
pub use listen::listen_overflow;
pub use oom::oom_inside;
pub use ports::{PortRange, ports_gone};
pub use selfcall::{asks_itself, self_call};
pub use udp::udp_drop;
