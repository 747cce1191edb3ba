//! Opens connections to a neighbour, accepts as many, and keeps them without a word: what an agent
//! finds when it starts late. At SIGUSR1 it sends one HTTP request over each and waits for the
//! answers; it answers those of its neighbour.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

const PORT: u16 = 9000;
/// The neighbour may not have begun to listen.
const AGAIN: Duration = Duration::from_millis(200);
const REQUEST: &[u8] = b"GET /held HTTP/1.1\r\nHost: neighbour\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[allow(clippy::print_stdout, reason = "whoever started it reads that")]
fn say(line: &str) {
    println!("{line}");
}

/// `hold ADDRESS-OF-THE-NEIGHBOUR CONNECTIONS`
fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().context("hold ADDRESS CONNECTIONS");
    let neighbour: IpAddr = next()?.parse().context("address")?;
    let connections: usize = next()?.parse().context("number")?;
    let mut asked = SigSet::empty();
    asked.add(Signal::SIGUSR1);
    // Before any thread: they inherit it.
    asked.thread_block()?;
    let listener = TcpListener::bind(("0.0.0.0", PORT))?;
    let server = thread::spawn(move || serve(&listener, connections));
    let mut held = Vec::with_capacity(connections);
    while held.len() < connections {
        match TcpStream::connect(SocketAddr::from((neighbour, PORT))) {
            Ok(stream) => held.push(stream),
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable) => {
                thread::sleep(AGAIN);
            }
            Err(error) => return Err(error.into()),
        }
    }
    say("connected");
    loop {
        asked.wait()?;
        let mut answer = [0; RESPONSE.len()];
        for stream in &mut held {
            stream.write_all(REQUEST)?;
            stream.read_exact(&mut answer)?;
            ensure!(answer == *RESPONSE, "another answer");
        }
        say("asked");
        ensure!(!server.is_finished(), "the serving half has ended");
    }
}

/// Accepts that many, then answers whoever asks.
fn serve(listener: &TcpListener, connections: usize) -> Result<()> {
    let mut held = Vec::with_capacity(connections);
    while held.len() < connections {
        held.push(listener.accept()?.0);
    }
    say("accepted");
    let mut request = [0; REQUEST.len()];
    loop {
        let mut waiting: Vec<PollFd<'_>> =
            held.iter().map(|stream| PollFd::new(stream.as_fd(), PollFlags::POLLIN)).collect();
        match poll(&mut waiting, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            polled => polled?,
        };
        let ready: Vec<bool> = waiting.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        let mut at = 0;
        held.retain_mut(|stream| {
            let turn = ready.get(at).copied().unwrap_or(false);
            at += 1;
            !turn || stream.read_exact(&mut request).and_then(|()| stream.write_all(RESPONSE)).is_ok()
        });
    }
}
