//! The state of the proxy: what is asked of it, and what it saw.

use super::script::Script;
use rustls::{ClientConfig, ServerConfig};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// How long a thread waits at most until it looks at the door and the generation again.
pub(super) const LOOK: u16 = 20;

/// What becomes of connections as such, before any request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    Open,
    /// The kernel accepts, and the connection is closed before a byte of TLS.
    AcceptAndClose,
    /// Nothing listens: connecting is refused. Connections that are open stay.
    Refuse,
    /// New connections are accepted and never answered; open ones carry nothing in either
    /// direction, and nothing is closed.
    BlackHole,
}

/// One request as the proxy saw it, in the audit log's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// list, watch, get, create, update, patch, delete.
    pub verb: String,
    /// Plural; the first part of the path where it is no resource.
    pub resource: String,
    pub target: String,
    pub at: Instant,
}

/// What all its threads share.
#[derive(Debug)]
pub(super) struct Proxy {
    pub server: SocketAddr,
    pub upstream: SocketAddr,
    pub towards_clients: Arc<ServerConfig>,
    pub towards_server: Arc<ClientConfig>,
    pub door: Mutex<Door>,
    pub script: Mutex<Script>,
    pub connections: Mutex<Vec<Instant>>,
    pub requests: Mutex<Vec<Seen>>,
    /// Connections of an earlier generation are closed.
    pub generation: AtomicU64,
    pub over: AtomicBool,
}

impl Proxy {
    pub fn door(&self) -> Door {
        *lock(&self.door)
    }

    /// The connection is to be closed: it belongs to an earlier generation, or the proxy ends.
    pub fn is_over(&self, generation: u64) -> bool {
        self.over.load(Ordering::SeqCst) || self.generation.load(Ordering::SeqCst) != generation
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
