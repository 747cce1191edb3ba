//! A proxy in front of the real API server, for the faults that a real one cannot be made to have
//! at a wish: a 410 as the answer to a watch's start, half a JSON object, a body that stops, a
//! connection that leads nowhere.
//!
//! It ends TLS with a certificate of the cluster's own authority and speaks HTTP/1.1 to both sides.
//! Bearer tokens pass; client certificates do not. Give the agent `plane.kubeconfig_at(User::Agent,
//! fault.server())`.

mod proxy;
mod relay;
mod script;
mod tls;

use super::certs;
use super::client::Client;
use super::control::ControlPlane;
use super::kubeconfig::User;
use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use proxy::{LOOK, Proxy, lock};
use script::Script;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

pub use proxy::{Door, Seen};
pub use script::{Act, On};

/// The proxy; its threads end with the drop.
#[derive(Debug)]
pub struct Fault {
    shared: Arc<Proxy>,
    acceptor: Option<JoinHandle<()>>,
}

impl Fault {
    /// On a free port of the loopback.
    pub fn start(plane: &ControlPlane) -> Result<Fault> {
        Fault::start_on(plane, Ipv4Addr::LOCALHOST.into())
    }

    pub fn start_on(plane: &ControlPlane, address: IpAddr) -> Result<Fault> {
        let listener = TcpListener::bind((address, 0)).with_context(|| format!("listen on {address}"))?;
        let pair = plane.server_certificate(address)?;
        let shared = Arc::new(Proxy {
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

    /// The next `times` requests that `on` describes get `act`; `None`: all of them, until
    /// [`Fault::forget_script`]. Earlier lines come first.
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

impl ControlPlane {
    /// A client that asks the real API server through `fault`.
    pub fn client_through(&self, fault: &Fault, user: User) -> Result<Client> {
        self.client_at(fault.server(), self.token_of(user))
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

fn accept(shared: &Arc<Proxy>, listener: TcpListener) {
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

fn serve(shared: &Proxy, generation: u64, socket: TcpStream) {
    // The client sees how a connection ends; nobody else wants to know why.
    relay::run(shared, generation, socket).ok();
}

fn is_readable(socket: &impl AsFd) -> bool {
    let mut waited = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    poll(&mut waited, PollTimeout::from(LOOK)).is_ok_and(|ready| ready > 0)
}
