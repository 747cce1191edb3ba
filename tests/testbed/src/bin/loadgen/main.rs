//! Numbered requests over keep-alive connections: what was sent is known to the last one. One
//! thread, sleeping on events.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, bail};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::timerfd::{ClockId as TimerClock, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::{Duration, Instant};

mod client;
mod dns;
mod totals;

use client::{Connection, Profile};
use dns::Resolver;
use totals::Totals;

#[derive(Clone, Debug)]
struct Options {
    target: Option<SocketAddr>,
    connections: usize,
    /// Requests under way at once on each connection.
    depth: usize,
    count: u64,
    duration: Option<Duration>,
    /// Requests a second over all connections, sent when due; `None`: each connection sends when its last answer came.
    rate: Option<f64>,
    client: u32,
    profile: Profile,
    dns: Option<SocketAddr>,
    dns_rate: f64,
    dns_names: Vec<String>,
    per_connection: bool,
    /// Nothing is sent before this file exists.
    gate: Option<PathBuf>,
}

fn options() -> Result<Options> {
    let mut options = Options {
        target: None,
        connections: 1,
        depth: 1,
        count: u64::MAX,
        duration: None,
        rate: None,
        client: 1,
        profile: Profile::Get,
        dns: None,
        dns_rate: 10.0,
        dns_names: vec!["api.demo.test".into()],
        per_connection: false,
        gate: None,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        if arg == "--per-connection" {
            options.per_connection = true;
            continue;
        }
        let value = args.next().with_context(|| format!("{arg} wants a value"))?;
        match arg.as_str() {
            "--target" => options.target = value.to_socket_addrs().context("--target HOST:PORT")?.next(),
            "--connections" => options.connections = value.parse()?,
            "--count" => options.count = value.parse()?,
            "--for" => options.duration = Some(Duration::from_secs_f64(value.parse()?)),
            "--rate" => options.rate = Some(value.parse()?),
            "--client" => options.client = value.parse()?,
            "--profile" => options.profile = Profile::of(&value)?,
            "--depth" => options.depth = value.parse::<usize>()?.max(1),
            "--dns" => options.dns = Some(value.parse().context("--dns ADDRESS:PORT")?),
            "--dns-rate" => options.dns_rate = value.parse()?,
            "--dns-names" => options.dns_names = value.split(',').map(str::to_owned).collect(),
            "--gate" => options.gate = Some(value.into()),
            other => bail!("unknown option {other}"),
        }
    }
    Ok(options)
}

const TIMER: u64 = u64::MAX;
const DNS: u64 = u64::MAX - 1;

fn main() -> Result<()> {
    let options = options()?;
    testbed::signals::catch()?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let timer = TimerFd::new(TimerClock::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
    epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
    if let Some(gate) = &options.gate {
        testbed::until("the gate opens", Duration::MAX, || gate.exists()).ok();
    }
    let mut connections = Vec::new();
    if let Some(target) = options.target {
        for index in 0..options.connections {
            let connection = Connection::open(target, options.client, index, options.profile, options.depth)?;
            epoll.add(connection.socket(), EpollEvent::new(EpollFlags::EPOLLIN, index as u64))?;
            connections.push(connection);
        }
    }
    let mut resolver = match options.dns {
        Some(server) => {
            let resolver = Resolver::open(server, options.dns_names.clone())?;
            epoll.add(resolver.socket(), EpollEvent::new(EpollFlags::EPOLLIN, DNS))?;
            Some(resolver)
        }
        None => None,
    };
    let mut totals = Totals::default();
    let started = Instant::now();
    run(&options, &epoll, &timer, &mut connections, resolver.as_mut(), &mut totals)?;
    print(&options, &connections, resolver.as_ref(), totals, started.elapsed());
    Ok(())
}

fn run(
    options: &Options,
    epoll: &Epoll,
    timer: &TimerFd,
    connections: &mut [Connection],
    mut resolver: Option<&mut Resolver>,
    totals: &mut Totals,
) -> Result<()> {
    let started = Instant::now();
    let all = connections.len() * options.depth;
    // Each connection as often as it may send.
    let mut idle: Vec<usize> = (0..all).map(|slot| slot % connections.len()).rev().collect();
    let mut dns_sent = 0_u64;
    let mut events = [EpollEvent::empty(); 256];
    let mut stopping_since = None;
    loop {
        let elapsed = started.elapsed();
        let over = testbed::signals::interrupted() || options.duration.is_some_and(|limit| elapsed >= limit);
        let http_over = connections.is_empty() || totals.sent >= options.count;
        if over || (http_over && (options.count != u64::MAX || options.dns.is_none())) {
            let since = *stopping_since.get_or_insert_with(Instant::now);
            let dns_open = resolver.as_ref().map_or(0, |resolver| resolver.open_questions());
            if (idle.len() == all && dns_open == 0) || since.elapsed() > Duration::from_secs(5) {
                return Ok(());
            }
        }
        let sending = stopping_since.is_none();
        let mut due = Duration::from_millis(100);
        while sending && totals.sent < options.count {
            if let Some(rate) = options.rate {
                let at = Duration::from_secs_f64(totals.sent as f64 / rate);
                if at > elapsed {
                    due = due.min(at - elapsed);
                    break;
                }
            }
            let Some(index) = idle.pop() else { break };
            connections[index].send(totals.sent)?;
            totals.sent += 1;
        }
        connections.iter_mut().for_each(Connection::flush);
        if let Some(resolver) = resolver.as_deref_mut().filter(|_| sending) {
            let at = Duration::from_secs_f64(dns_sent as f64 / options.dns_rate);
            if at <= elapsed {
                resolver.ask();
                dns_sent += 1;
            } else {
                due = due.min(at - elapsed);
            }
        }
        timer.set(Expiration::OneShot(due.max(Duration::from_micros(1)).into()), TimerSetTimeFlags::empty())?;
        let ready = match epoll.wait(&mut events, EpollTimeout::NONE) {
            Ok(ready) => ready,
            Err(nix::errno::Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        };
        for event in &events[..ready] {
            match event.data() {
                TIMER => drop(timer.wait()),
                DNS => {
                    if let Some(resolver) = resolver.as_deref_mut() {
                        resolver.receive();
                    }
                }
                index => {
                    let index = usize::try_from(index)?;
                    idle.extend(std::iter::repeat_n(index, connections[index].receive(totals)?));
                    if connections[index].was_reopened() {
                        epoll.add(connections[index].socket(), EpollEvent::new(EpollFlags::EPOLLIN, index as u64))?;
                    }
                }
            }
        }
    }
}

#[allow(clippy::print_stdout, reason = "the result is this program's output")]
fn print(options: &Options, connections: &[Connection], resolver: Option<&Resolver>, totals: Totals, took: Duration) {
    let Totals { sent, answered, failed, reconnects, by_status, mut latencies_ns } = totals;
    latencies_ns.sort_unstable();
    let quantile = |q: f64| -> Option<f64> {
        let last = latencies_ns.len().checked_sub(1)?;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let rank = (last as f64 * q).round() as usize;
        Some(latencies_ns[rank] as f64 / 1e9)
    };
    let mut line = serde_json::json!({
        "client": options.client,
        "sent": sent,
        "answered": answered,
        "failed": failed,
        "reconnects": reconnects,
        "by_status": by_status,
        "seconds": took.as_secs_f64(),
        "measured": latencies_ns.len(),
        "p50_s": quantile(0.50),
        "p95_s": quantile(0.95),
        "p99_s": quantile(0.99),
        "dns_sent": resolver.map_or(0, Resolver::sent),
        "dns_answered": resolver.map_or(0, Resolver::answered),
    });
    if options.per_connection {
        line["connections"] = connections.iter().map(Connection::answers).collect();
    }
    println!("{line}");
}
