//! A neighbour that does everything at once, each kind in a thread of its own, as fast as it is let:
//! addresses, links and forks; sockets; SYNs from addresses that are nobody's; DNS names that repeat
//! never; statuses and methods that nobody lists; pipelines; requests a byte at a time. Prints how
//! often it did what, and how many exchanges it asked for, when it is asked to end.
#![forbid(unsafe_code)]

mod http;
mod raw;

use anyhow::{Context, Result, bail};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

struct Options {
    /// An API server, and a port that nobody answers on over UDP.
    target: SocketAddrV4,
    /// Nothing is done before this file exists.
    gate: Option<PathBuf>,
}

fn options() -> Result<Options> {
    let (mut target, mut gate) = (None, None);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let value = args.next().with_context(|| format!("{arg} wants a value"))?;
        match arg.as_str() {
            "--target" => target = Some(value.parse()?),
            "--gate" => gate = Some(value.into()),
            other => bail!("unknown option {other}"),
        }
    }
    Ok(Options { target: target.context("--target ADDRESS:PORT")?, gate })
}

/// One kind of trouble: a turn of it, its number, and where to count what it asks for.
type Turn = fn(SocketAddrV4, u64, &AtomicU64) -> Result<()>;

const KINDS: [(&str, Turn); 8] = [
    ("addresses", addresses),
    ("links", links),
    ("sockets", sockets),
    ("syns", raw::syns),
    ("dns", dns),
    ("statuses", http::statuses),
    ("pipelines", http::pipeline),
    ("tiny_segments", http::tiny_segments),
];

#[allow(clippy::print_stdout, reason = "the result is this program's output")]
fn main() -> Result<()> {
    let Options { target, gate } = options()?;
    testbed::signals::catch()?;
    if let Some(gate) = gate {
        testbed::until("the gate opens", Duration::MAX, || gate.exists()).ok();
    }
    let (asked, ends) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut running = Vec::new();
    for (name, turn) in KINDS {
        let (asked, ends) = (asked.clone(), ends.clone());
        let act = move || {
            let mut done = 0_u64;
            for number in (0..).take_while(|_| !ends.load(Ordering::Relaxed)) {
                // What fails for want of room is tried again: that is what it is for.
                match turn(target, number, &asked) {
                    Ok(()) => done += 1,
                    Err(_) => std::thread::sleep(Duration::from_millis(1)),
                }
            }
            done
        };
        running.push((name, std::thread::spawn(act)));
    }
    testbed::until("it is asked to end", Duration::MAX, || false).ok();
    // Turns are done to their end: what is asked for is answered, and counted.
    ends.store(true, Ordering::Relaxed);
    let mut told = serde_json::Map::new();
    for (name, thread) in running {
        let done = thread.join().map_err(|_| anyhow::anyhow!("{name} broke off"))?;
        told.insert(name.to_owned(), done.into());
    }
    told.insert("asked".to_owned(), asked.load(Ordering::Relaxed).into());
    println!("{}", serde_json::Value::from(told));
    Ok(())
}

/// A process for each.
fn ip(words: &str) -> Result<()> {
    let output = Command::new("/bin/busybox").arg("ip").args(words.split(' ')).output()?;
    if !output.status.success() {
        bail!("{words}");
    }
    Ok(())
}

/// Comes, and goes a few turns later.
fn addresses(_: SocketAddrV4, number: u64, _: &AtomicU64) -> Result<()> {
    let of = |number: u64| format!("10.9.{}.{}/32", number / 250 % 250, 1 + number % 250);
    if let Some(old) = number.checked_sub(20) {
        ip(&format!("addr del {} dev eth0", of(old))).ok();
    }
    ip(&format!("addr add {} dev eth0", of(number)))
}

fn links(_: SocketAddrV4, number: u64, _: &AtomicU64) -> Result<()> {
    let name = format!("h{}", number % 40);
    if ip(&format!("link add name {name} type bridge")).is_err() {
        ip(&format!("link del {name}")).ok();
        return ip(&format!("link add name {name} type bridge"));
    }
    ip(&format!("link set {name} up"))
}

/// Two hundred that listen, and as many connections, for a moment.
fn sockets(_: SocketAddrV4, _: u64, _: &AtomicU64) -> Result<()> {
    let listeners: Vec<TcpListener> =
        (0..200).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<Result<_, _>>()?;
    let connect = |listener: &TcpListener| TcpStream::connect(listener.local_addr()?);
    let connected: Vec<TcpStream> = listeners.iter().map(connect).collect::<Result<_, _>>()?;
    std::thread::sleep(Duration::from_millis(20));
    drop(connected);
    Ok(())
}

/// A question (RFC 1035) for a name that was never asked for before, at a port where nobody is.
fn dns(target: SocketAddrV4, number: u64, asked: &AtomicU64) -> Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let server = SocketAddr::from((*target.ip(), 53));
    for one in 0..50 {
        #[allow(clippy::cast_possible_truncation, reason = "an id has 16 bits")]
        let mut packet = (number as u16).to_be_bytes().to_vec();
        packet.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        for label in [format!("n{number}x{one}"), "never".into(), "test".into()] {
            packet.push(u8::try_from(label.len())?);
            packet.extend(label.as_bytes());
        }
        packet.extend([0, 0, 1, 0, 1]);
        if socket.send_to(&packet, server).is_ok() {
            asked.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}
