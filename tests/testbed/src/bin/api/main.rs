//! A small HTTP/1 API that keeps its items in Redis: microseconds per request, answers of the size
//! that the request asks for, chunked, slow or failing where told. One thread, sleeping on events.
//! Prints what it served when it is asked to end.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::collections::{BTreeMap, HashMap};
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::time::{Duration, Instant};

mod answer;
mod peer;
mod redis;

use answer::Plan;
use peer::Peer;
use redis::Redis;

#[derive(Debug)]
struct Options {
    listen: SocketAddr,
    /// Ports from `listen`'s on.
    ports: u16,
    redis: Option<SocketAddr>,
    /// Every so many requests fails with 500; 0: none.
    fail_every: u64,
}

fn options() -> Result<Options> {
    let mut options = Options { listen: SocketAddr::from(([0, 0, 0, 0], 8080)), ports: 1, redis: None, fail_every: 0 };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let value = args.next().with_context(|| format!("{arg} wants a value"))?;
        match arg.as_str() {
            "--listen" => options.listen = value.parse()?,
            "--ports" => options.ports = value.parse()?,
            "--redis" => options.redis = value.to_socket_addrs().context("--redis HOST:PORT")?.next(),
            "--fail-every" => options.fail_every = value.parse()?,
            other => bail!("unknown option {other}"),
        }
    }
    Ok(options)
}

const REDIS: u64 = u64::MAX;
/// The first listener; the others stand below it.
const LISTENER: u64 = u64::MAX - 1;

struct Server {
    options: Options,
    epoll: Epoll,
    listeners: Vec<TcpListener>,
    peers: HashMap<u64, Peer>,
    next_peer: u64,
    redis: Option<Redis>,
    /// Answers that wait for their time: (due, peer, plan).
    delayed: Vec<(Instant, u64, Plan)>,
    served: u64,
    by_status: BTreeMap<u16, u64>,
    scratch: Vec<u8>,
}

#[allow(clippy::print_stdout, reason = "the result is this program's output")]
fn main() -> Result<()> {
    let options = options()?;
    testbed::signals::catch()?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let mut listeners = Vec::new();
    for offset in 0..options.ports {
        let at = SocketAddr::new(options.listen.ip(), options.listen.port() + offset);
        let listener = TcpListener::bind(at).with_context(|| format!("listen on {at}"))?;
        listener.set_nonblocking(true)?;
        epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER - u64::from(offset)))?;
        listeners.push(listener);
    }
    let redis = options.redis.map(Redis::connect).transpose()?;
    if let Some(redis) = &redis {
        epoll.add(redis.socket(), EpollEvent::new(EpollFlags::EPOLLIN, REDIS))?;
    }
    let mut server = Server {
        options,
        epoll,
        listeners,
        peers: HashMap::new(),
        next_peer: 0,
        redis,
        delayed: Vec::new(),
        served: 0,
        by_status: BTreeMap::new(),
        scratch: vec![0; 64 << 10],
    };
    while !testbed::signals::interrupted() {
        server.turn()?;
    }
    println!("{}", serde_json::json!({"served": server.served, "by_status": server.by_status}));
    Ok(())
}

impl Server {
    fn turn(&mut self) -> Result<()> {
        let mut events = [EpollEvent::empty(); 256];
        let ready = match self.epoll.wait(&mut events, self.timeout()) {
            Ok(ready) => ready,
            Err(Errno::EINTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for event in &events[..ready] {
            match event.data() {
                REDIS => self.read_redis()?,
                listener if listener > LISTENER - u64::from(self.options.ports) => {
                    self.accept(usize::try_from(LISTENER - listener)?)?;
                }
                peer => self.read_peer(peer)?,
            }
        }
        let now = Instant::now();
        while let Some(at) = self.delayed.iter().position(|(due, ..)| *due <= now) {
            let (_, peer, plan) = self.delayed.swap_remove(at);
            self.answer(peer, &plan)?;
        }
        Ok(())
    }

    fn timeout(&self) -> EpollTimeout {
        let Some(next) = self.delayed.iter().map(|(due, ..)| *due).min() else { return EpollTimeout::NONE };
        let left = next.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        EpollTimeout::try_from(left).unwrap_or(EpollTimeout::MAX)
    }

    fn accept(&mut self, listener: usize) -> Result<()> {
        loop {
            let stream = match self.listeners[listener].accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(_) => continue,
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let id = self.next_peer;
            self.next_peer += 1;
            self.epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, id))?;
            self.peers.insert(id, Peer::new(stream));
        }
    }

    fn read_peer(&mut self, id: u64) -> Result<()> {
        loop {
            let Some(peer) = self.peers.get_mut(&id) else { return Ok(()) };
            if !peer.flush() {
                self.peers.remove(&id);
                return Ok(());
            }
            let length = match peer.stream().read(&mut self.scratch) {
                Ok(0) => {
                    self.peers.remove(&id);
                    return Ok(());
                }
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => {
                    self.peers.remove(&id);
                    return Ok(());
                }
            };
            peer.received(&self.scratch[..length]);
            self.next_request(id)?;
        }
        self.watch(id)
    }

    /// Takes the next request of a peer that waits for no answer.
    fn next_request(&mut self, id: u64) -> Result<()> {
        let Some(peer) = self.peers.get_mut(&id) else { return Ok(()) };
        let Some(request) = peer.take_request() else { return Ok(()) };
        self.served += 1;
        let fails = self.options.fail_every > 0 && self.served.is_multiple_of(self.options.fail_every);
        let plan = Plan::of(&request, fails);
        if let Some(redis) = self.redis.as_mut().filter(|_| plan.status == 200) {
            redis.ask(&plan.method, &plan.key, id, plan.clone());
            return Ok(());
        }
        self.after_lookup(id, plan)
    }

    fn read_redis(&mut self) -> Result<()> {
        let Some(redis) = self.redis.as_mut() else { return Ok(()) };
        for (id, plan) in redis.answers()? {
            self.after_lookup(id, plan)?;
        }
        Ok(())
    }

    fn after_lookup(&mut self, id: u64, plan: Plan) -> Result<()> {
        if plan.delay.is_zero() {
            return self.answer(id, &plan);
        }
        self.delayed.push((Instant::now() + plan.delay, id, plan));
        Ok(())
    }

    fn answer(&mut self, id: u64, plan: &Plan) -> Result<()> {
        *self.by_status.entry(plan.status).or_default() += 1;
        let Some(peer) = self.peers.get_mut(&id) else { return Ok(()) };
        plan.write(peer.out());
        peer.answered(plan.ending);
        if !peer.flush() {
            self.peers.remove(&id);
            return Ok(());
        }
        self.watch(id)?;
        self.next_request(id)
    }

    /// Asks for the writable event exactly while something waits to be written.
    fn watch(&mut self, id: u64) -> Result<()> {
        let Some(peer) = self.peers.get_mut(&id) else { return Ok(()) };
        if let Some(wants_out) = peer.interest_changed() {
            let out = if wants_out { EpollFlags::EPOLLOUT } else { EpollFlags::empty() };
            self.epoll.modify(peer.stream(), &mut EpollEvent::new(EpollFlags::EPOLLIN | out, id))?;
        }
        Ok(())
    }
}
