//! The thin tasks: connections in, messages to the pure parts, answers out.

mod listener;
mod push;
mod self_metrics;

pub use listener::{Listener, ListenerConfig};
pub use push::Push;
pub use self_metrics::self_metrics;
