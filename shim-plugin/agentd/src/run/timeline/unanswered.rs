//! A request that got no whole answer, on its way from the pipeline to the exit that explains it.

use flow_model::{Slot, Ts};
use golden_metrics::End;
use std::sync::Arc;

/// Of requests of which nothing is known but that there were some.
pub const UNSEEN: &str = "unseen";

/// A request that got no whole answer, as the server's interface saw it.
#[derive(Clone, Debug)]
pub struct Unanswered {
    /// Where the server lives.
    pub slot: Slot,
    pub began: Ts,
    /// When its connection was opened, or met.
    pub opened: Ts,
    /// When it was given up: the connection closed, or its time was over.
    pub at: Ts,
    pub client: End,
    pub server: End,
    pub service: Arc<str>,
    /// HTTP's method, or the protocol: of a closed set.
    pub what: &'static str,
    /// The answer had begun.
    pub broken_off: bool,
    /// It is no request but a channel.
    pub is_stream: bool,
    /// Over UDP nothing closes: it is given up long after it was cut.
    pub over_udp: bool,
    /// More than one where nothing else is known of them.
    pub count: u64,
}
