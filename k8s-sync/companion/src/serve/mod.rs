//! The thin tasks: connections in, messages to the pure parts, answers out.

mod accept;
mod api;
mod certificate;
pub mod desk;
mod http;
mod known;
mod listener;
mod map;
mod page;
mod push;
mod reviews;
mod self_metrics;
mod store;
mod telling;

pub use api::Api;
pub use certificate::{Certificate, CertificateError};
pub use http::{Http, HttpConfig};
pub use known::known_metrics;
pub use listener::{Listener, ListenerConfig};
pub use map::Map;
pub use push::Push;
pub use reviews::{Reviewed, Reviewer, Reviews};
pub use self_metrics::{followed, joined, process_metrics, ran, self_metrics, told};
pub use telling::{Telling, TellingCounts};
