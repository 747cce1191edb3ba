//! A door between an agent and the API server that knows nothing of TLS or HTTP: what passes is the
//! agent's own HTTP/2 connection. It counts who knocks, and can be shut in the ways in which
//! networks fail.

use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    Open,
    /// Accepted, and closed before a byte.
    AcceptAndClose,
    /// Accepted, and never answered.
    Hole,
}

#[derive(Debug)]
pub(super) struct Gate {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    server: SocketAddr,
    door: Mutex<Door>,
    accepted: Mutex<Vec<Instant>>,
    passing: Mutex<Vec<Arc<Pair>>>,
    is_over: AtomicBool,
}

#[derive(Debug)]
struct Pair {
    client: TcpStream,
    /// None: nobody is behind it.
    server: Option<TcpStream>,
    /// Nothing is passed on, and the end of one side is not told to the other.
    is_dead: AtomicBool,
}

impl Pair {
    fn close(&self) {
        self.client.shutdown(Shutdown::Both).ok();
        self.leave_server();
    }

    fn leave_server(&self) {
        if let Some(server) = &self.server {
            server.shutdown(Shutdown::Both).ok();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gate {
    /// On a free port of the loopback, open.
    pub fn start(server: SocketAddr) -> Result<Gate> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen")?;
        let shared = Arc::new(Shared {
            address: listener.local_addr()?,
            server,
            door: Mutex::new(Door::Open),
            accepted: Mutex::default(),
            passing: Mutex::default(),
            is_over: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        thread::Builder::new().name("gate".into()).spawn(move || accepting.accept(&listener))?;
        Ok(Gate { shared })
    }

    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    pub fn set(&self, door: Door) {
        *lock(&self.shared.door) = door;
    }

    /// Connections that are open now carry nothing any more; the server's side of them is closed,
    /// the agent's stays open and silent.
    pub fn deaden(&self) {
        for pair in lock(&self.shared.passing).iter() {
            pair.is_dead.store(true, Ordering::SeqCst);
            pair.leave_server();
        }
    }

    /// Closes every connection, both ends.
    pub fn cut(&self) {
        lock(&self.shared.passing).drain(..).for_each(|pair| pair.close());
    }

    /// Connections accepted since `moment`.
    pub fn accepted_since(&self, moment: Instant) -> usize {
        lock(&self.shared.accepted).iter().filter(|at| **at >= moment).count()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        self.cut();
        // Wakes the thread that accepts.
        TcpStream::connect(self.shared.address).ok();
    }
}

impl Shared {
    fn accept(self: &Arc<Shared>, listener: &TcpListener) {
        for client in listener.incoming().flatten() {
            if self.is_over.load(Ordering::SeqCst) {
                return;
            }
            lock(&self.accepted).push(Instant::now());
            let door = *lock(&self.door);
            if door != Door::AcceptAndClose {
                self.pass(client, door);
            }
        }
    }

    /// A connection that cannot be passed on is closed.
    fn pass(&self, client: TcpStream, door: Door) {
        let server = if door == Door::Open { TcpStream::connect(self.server).ok() } else { None };
        if door == Door::Open && server.is_none() {
            return;
        }
        let pair = Arc::new(Pair { client, server, is_dead: AtomicBool::new(door == Door::Hole) });
        lock(&self.passing).push(Arc::clone(&pair));
        for towards_server in [true, false] {
            let pair = Arc::clone(&pair);
            thread::spawn(move || relay(&pair, towards_server));
        }
    }
}

/// One direction, until one end is closed. A dead pair's client is still read from, so that what it
/// sends is taken and lost, as on a real network.
fn relay(pair: &Pair, towards_server: bool) {
    let (mut from, mut to) = match (&pair.server, towards_server) {
        (Some(server), true) => (&pair.client, Some(server)),
        (Some(server), false) => (server, Some(&pair.client)),
        (None, true) => (&pair.client, None),
        (None, false) => return,
    };
    let mut buffer = vec![0; 64 << 10];
    loop {
        let is_dead = || pair.is_dead.load(Ordering::SeqCst);
        match from.read(&mut buffer) {
            Ok(count) if count > 0 => {
                let Some(to) = to.as_mut().filter(|_| !is_dead()) else { continue };
                if to.write_all(&buffer[..count]).is_err() && !is_dead() {
                    return pair.close();
                }
            }
            _ if is_dead() && !towards_server => return,
            _ => return pair.close(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Answers each byte with the next one.
    fn server() -> Result<SocketAddr> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                thread::spawn(move || {
                    let mut byte = [0];
                    while client.read_exact(&mut byte).is_ok() && client.write_all(&[byte[0] + 1]).is_ok() {}
                });
            }
        });
        Ok(address)
    }

    fn connect(gate: &Gate) -> Result<TcpStream> {
        let client = TcpStream::connect(gate.address())?;
        client.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(client)
    }

    fn ask(client: &mut TcpStream, byte: u8) -> Option<u8> {
        let mut answer = [byte];
        client.write_all(&answer).ok()?;
        client.read_exact(&mut answer).ok()?;
        Some(answer[0])
    }

    #[test]
    fn who_passes_is_answered_until_the_door_is_shut_and_all_are_cut() -> Result<()> {
        let gate = Gate::start(server()?)?;
        let begun = Instant::now();
        let mut client = connect(&gate)?;
        assert_eq!([ask(&mut client, 1), ask(&mut client, 7)], [Some(2), Some(8)]);
        gate.set(Door::AcceptAndClose);
        assert_eq!(ask(&mut client, 3), Some(4), "who is in stays in");
        assert_eq!(ask(&mut connect(&gate)?, 1), None);
        gate.cut();
        assert_eq!(ask(&mut client, 1), None);
        assert_eq!(gate.accepted_since(begun), 2);
        Ok(())
    }

    #[test]
    fn a_dead_connection_is_silent_and_stays_open_until_it_is_cut() -> Result<()> {
        let gate = Gate::start(server()?)?;
        let mut old = connect(&gate)?;
        assert_eq!(ask(&mut old, 1), Some(2));
        gate.set(Door::Hole);
        gate.deaden();
        let mut new = connect(&gate)?;
        for client in [&mut old, &mut new] {
            client.set_read_timeout(Some(Duration::from_millis(50)))?;
            client.write_all(&[1])?;
            let error = client.read(&mut [0]).expect_err("neither an answer nor an end");
            assert!([std::io::ErrorKind::WouldBlock, std::io::ErrorKind::TimedOut].contains(&error.kind()), "{error}");
        }
        gate.set(Door::Open);
        assert_eq!(ask(&mut connect(&gate)?, 1), Some(2));
        gate.cut();
        assert_eq!((old.read(&mut [0])?, new.read(&mut [0])?), (0, 0));
        Ok(())
    }
}
