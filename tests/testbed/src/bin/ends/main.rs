//! A connection for each script, ended in every way that a client or a server ends one. Each thread
//! has one connection at a time; what was asked is known to the last request.
#![forbid(unsafe_code)]

mod script;

use anyhow::{Context, Result, bail};
use script::{Ending, Script};
use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

struct Options {
    target: SocketAddr,
    /// Ports from the target's on, in turn.
    ports: u16,
    threads: u64,
    /// Requests, at least: a script that has begun is played to its end.
    count: u64,
    /// Requests a second over all threads, at most.
    rate: Option<f64>,
    /// `close` or `reset`.
    profile: String,
    /// Nothing is sent before this file exists.
    gate: Option<PathBuf>,
}

fn options() -> Result<Options> {
    let target = SocketAddr::from(([127, 0, 0, 1], 8080));
    let mut options =
        Options { target, ports: 1, threads: 16, count: 1000, rate: None, profile: "close".into(), gate: None };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let value = args.next().with_context(|| format!("{arg} wants a value"))?;
        match arg.as_str() {
            "--target" => options.target = value.to_socket_addrs()?.next().context("--target HOST:PORT")?,
            "--ports" => options.ports = value.parse::<u16>()?.max(1),
            "--threads" => options.threads = value.parse()?,
            "--count" => options.count = value.parse()?,
            "--rate" => options.rate = Some(value.parse()?),
            "--profile" => options.profile = value,
            "--gate" => options.gate = Some(value.into()),
            other => bail!("unknown option {other}"),
        }
    }
    Ok(options)
}

/// What the client knows. A request was sent when its head was handed to the kernel whole.
#[derive(Debug, Default)]
struct Totals {
    sent: u64,
    /// Read to its last byte.
    answered: u64,
    connections: u64,
    /// Connections that could not be made, and were tried again.
    refused: u64,
    by_ending: BTreeMap<&'static str, u64>,
}

impl Totals {
    fn add(&mut self, other: Totals) {
        let Totals { sent, answered, connections, refused, by_ending } = other;
        self.sent += sent;
        self.answered += answered;
        self.connections += connections;
        self.refused += refused;
        by_ending.into_iter().for_each(|(ending, count)| *self.by_ending.entry(ending).or_default() += count);
    }
}

fn main() -> Result<()> {
    let options = Arc::new(options()?);
    testbed::signals::catch()?;
    let endings = Ending::of_profile(&options.profile)?;
    if let Some(gate) = &options.gate {
        testbed::until("the gate opens", Duration::MAX, || gate.exists()).ok();
    }
    let (asked, totals) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Totals::default())));
    let threads: Vec<_> = (0..options.threads)
        .map(|thread| {
            let (options, asked, totals) = (Arc::clone(&options), Arc::clone(&asked), Arc::clone(&totals));
            std::thread::spawn(move || {
                let own = work(&options, endings, thread, &asked);
                totals.lock().unwrap_or_else(PoisonError::into_inner).add(own);
            })
        })
        .collect();
    for thread in threads {
        thread.join().ok().context("a thread panicked")?;
    }
    print(&totals.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(())
}

fn work(options: &Options, endings: &[Ending], thread: u64, asked: &AtomicU64) -> Totals {
    let mut totals = Totals::default();
    let began = Instant::now();
    for turn in 0.. {
        if asked.load(Ordering::Relaxed) >= options.count || testbed::signals::interrupted() {
            break;
        }
        if let Some(rate) = options.rate {
            let due = Duration::from_secs_f64(asked.load(Ordering::Relaxed) as f64 / rate);
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
        let number = turn * options.threads + thread;
        let mut target = options.target;
        target.set_port(target.port() + u16::try_from(number % u64::from(options.ports)).unwrap_or(0));
        // Over all threads and ports, each ending follows each.
        let ending = endings[usize::try_from(turn + thread).unwrap_or(0) % endings.len()];
        let mut script = Script { number, ending, sent: 0, answered: 0 };
        match script.play(target) {
            Ok(()) => {
                totals.connections += 1;
                *totals.by_ending.entry(ending.name()).or_default() += 1;
            }
            // Nothing was sent: no port was free, or the server's queue was full.
            Err(_) => {
                totals.refused += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        asked.fetch_add(script.sent, Ordering::Relaxed);
        totals.sent += script.sent;
        totals.answered += script.answered;
    }
    totals
}

#[allow(clippy::print_stdout, reason = "the result is this program's output")]
fn print(totals: &Totals) {
    let Totals { sent, answered, connections, refused, by_ending } = totals;
    let line = serde_json::json!({
        "sent": sent,
        "answered": answered,
        "connections": connections,
        "refused": refused,
        "by_ending": by_ending,
    });
    println!("{line}");
}
