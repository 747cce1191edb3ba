//! A proxy in front of the real API server, for the faults that a real one cannot be made to have at a wish: a 410 as the answer to a
//! watch's start, half a JSON object, a body that stops, a connection that leads nowhere.
//!
//! It ends TLS with a certificate of the cluster's own authority and speaks HTTP/1.1 to both sides. Bearer tokens pass; client certificates
//! do not. Give the agent `plane.kubeconfig_at(User::Agent, fault.server())`.

mod relay;
mod script;
mod tls;

use super::certs;
use super::control::ControlPlane;
use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustls::{ClientConfig, ServerConfig};
use script::Script;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

pub use script::{Act, On};

/// What becomes of connections as such, before any request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    Open,
    /// The kernel accepts, and the connection is closed before a byte of TLS.
    AcceptAndClose,
    /// Nothing listens: connecting is refused. Connections that are open stay.
    Refuse,
    /// New connections are accepted and never answered; open ones carry nothing in either direction, and nothing is closed.
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

/// The proxy; its threads end with the drop.
#[derive(Debug)]
pub struct Fault {
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    upstream: SocketAddr,
    towards_clients: Arc<ServerConfig>,
    towards_server: Arc<ClientConfig>,
    door: Mutex<Door>,
    script: Mutex<Script>,
    connections: Mutex<Vec<Instant>>,
    requests: Mutex<Vec<Seen>>,
    /// Connections of an earlier generation are closed.
    generation: AtomicU64,
    over: AtomicBool,
}

impl Shared {
    fn door(&self) -> Door {
        *lock(&self.door)
    }

    /// The connection is to be closed: it belongs to an earlier generation, or the proxy ends.
    fn is_over(&self, generation: u64) -> bool {
        self.over.load(Ordering::SeqCst) || self.generation.load(Ordering::SeqCst) != generation
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fault {
    /// On a free port of the loopback.
    pub fn start(plane: &ControlPlane) -> Result<Fault> {
        Fault::start_on(plane, Ipv4Addr::LOCALHOST.into())
    }

    pub fn start_on(plane: &ControlPlane, address: IpAddr) -> Result<Fault> {
        let listener = TcpListener::bind((address, 0)).with_context(|| format!("listen on {address}"))?;
        let pair = plane.server_certificate(address)?;
        let shared = Arc::new(Shared {
            server: listener.local_addr()?,
            upstream: plane.server(),
            towards_clients: certs::server_config(&pair)?,
            towards_server: certs::client_config(&std::fs::read_to_string(plane.authority_file())?)?,
            door: Mutex::new(Door::Open),
            script: Mutex::default(),
            connections: Mutex::default(),
            requests: Mutex::default(),
            generation: AtomicU64::new(0),
            over: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        let acceptor = std::thread::Builder::new().name("fault".into()).spawn(move || accept(&accepting, listener))?;
        Ok(Fault { shared, acceptor: Some(acceptor) })
    }

    #[must_use]
    pub fn server(&self) -> SocketAddr {
        self.shared.server
    }

    pub fn set_door(&self, door: Door) {
        *lock(&self.shared.door) = door;
    }

    /// The next `times` requests that `on` describes get `act`; `None`: all of them, until [`Fault::forget_script`]. Earlier lines come first.
    pub fn script(&self, on: On, act: Act, times: Option<u32>) {
        lock(&self.shared.script).add(on, act, times);
    }

    pub fn forget_script(&self) {
        *lock(&self.shared.script) = Script::default();
    }

    /// How many requests a line of the script has met so far, all lines together.
    #[must_use]
    pub fn acted(&self) -> u64 {
        lock(&self.shared.script).acted
    }

    /// Closes every connection that is open now.
    pub fn cut(&self) {
        self.shared.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// When connections were accepted, those that were closed at once included.
    #[must_use]
    pub fn connections(&self) -> Vec<Instant> {
        lock(&self.shared.connections).clone()
    }

    #[must_use]
    pub fn requests(&self) -> Vec<Seen> {
        lock(&self.shared.requests).clone()
    }

    /// How often each `verb resource` was asked for.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for seen in lock(&self.shared.requests).iter() {
            *counts.entry(format!("{} {}", seen.verb, seen.resource)).or_default() += 1;
        }
        counts
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.join().ok();
        }
    }
}

/// How long a thread waits at most until it looks at the door and the generation again.
const LOOK: u16 = 20;

fn accept(shared: &Arc<Shared>, listener: TcpListener) {
    let mut listener = Some(listener);
    let mut threads = Vec::new();
    while !shared.over.load(Ordering::SeqCst) {
        if shared.door() == Door::Refuse {
            listener = None;
            std::thread::sleep(std::time::Duration::from_millis(LOOK.into()));
            continue;
        }
        // std sets SO_REUSEADDR, so connections that linger do not hold the port.
        let Some(open) = listener.take().or_else(|| TcpListener::bind(shared.server).ok()) else { continue };
        if is_readable(&open)
            && let Ok((socket, _)) = open.accept()
        {
            lock(&shared.connections).push(Instant::now());
            if shared.door() != Door::AcceptAndClose {
                let (shared, generation) = (Arc::clone(shared), shared.generation.load(Ordering::SeqCst));
                threads.push(std::thread::spawn(move || serve(&shared, generation, socket)));
            }
        }
        listener = Some(open);
        threads.retain(|thread: &JoinHandle<()>| !thread.is_finished());
    }
    threads.into_iter().for_each(|thread| drop(thread.join()));
}

fn serve(shared: &Shared, generation: u64, socket: TcpStream) {
    // The client sees how a connection ends; nobody else wants to know why.
    relay::run(shared, generation, socket).ok();
}

fn is_readable(socket: &impl AsFd) -> bool {
    let mut waited = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    poll(&mut waited, PollTimeout::from(LOOK)).is_ok_and(|ready| ready > 0)
}
