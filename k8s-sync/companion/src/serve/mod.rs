//! The thin tasks: connections in, messages to the pure parts, answers out.

mod accept;
mod api;
mod http;
mod listener;
mod page;
mod push;
mod self_metrics;

pub use api::Api;
pub use http::{Http, HttpConfig};
pub use listener::{Listener, ListenerConfig, ListenerError};
pub use push::Push;
pub use self_metrics::self_metrics;
