//! One connection: requests one after the other, each with what the script says of it.

use super::proxy::{Door, LOOK, Proxy, Seen, lock};
use super::script::{Act, classify, status};
use super::tls::{self, Side};

use crate::http::Message;
use anyhow::{Context, Result, bail, ensure};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, ServerConnection};
use serde_json::Value;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A half event is made up when none comes for so long: tests have quiet clusters.
const PATIENCE: Duration = Duration::from_millis(300);

pub(super) fn run(shared: &Proxy, generation: u64, socket: TcpStream) -> Result<()> {
    let down = Side::new(ServerConnection::new(Arc::clone(&shared.towards_clients))?, socket)?;
    let mut relay = Relay { shared, generation, down, up: None };
    while let Some(request) = relay.next_request()? {
        relay.answer(&request)?;
    }
    Ok(())
}

struct Relay<'a> {
    shared: &'a Proxy,
    generation: u64,
    /// The client's side.
    down: Side,
    /// The API server's side; made with the first request that gets so far.
    up: Option<Side>,
}

struct Request {
    bytes: Vec<u8>,
    verb: String,
    resource: String,
}

impl Relay<'_> {
    /// Waits for either side. Err: the connection is to be closed.
    fn wait(&mut self) -> Result<()> {
        loop {
            ensure!(!self.shared.is_over(self.generation), "cut");
            if self.shared.door() != Door::BlackHole {
                break;
            }
            std::thread::sleep(Duration::from_millis(LOOK.into()));
        }
        tls::wait(&mut self.down, self.up.as_mut())
    }

    /// None: the client has closed.
    fn next_request(&mut self) -> Result<Option<Request>> {
        let mut message = Message::request();
        let mut bytes = Vec::new();
        loop {
            let taken = message.feed(&self.down.incoming, |_| ());
            bytes.extend(self.down.incoming.drain(..taken));
            if message.is_complete() {
                let (verb, resource) = classify(message.method(), message.target());
                let seen = Seen {
                    verb: verb.clone(),
                    resource: resource.clone(),
                    target: message.target().to_owned(),
                    at: Instant::now(),
                };
                lock(&self.shared.requests).push(seen);
                return Ok(Some(Request { bytes, verb, resource }));
            }
            ensure!(!message.is_broken(), "not HTTP");
            if !self.down.is_open {
                return Ok(None);
            }
            self.wait()?;
        }
    }

    fn answer(&mut self, request: &Request) -> Result<()> {
        let act = lock(&self.shared.script).next(&request.verb, &request.resource);
        match act {
            None => self.pass(request),
            Some(Act::Status(code)) => {
                let body = status(code).to_string();
                let head = format!(
                    "HTTP/1.1 {code} Scripted\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                self.down.send(format!("{head}{body}").as_bytes())
            }
            Some(Act::Delay(pause)) => {
                let due = Instant::now() + pause;
                while Instant::now() < due && self.down.is_open {
                    self.wait()?;
                }
                self.pass(request)
            }
            Some(Act::Close) => bail!("closed by the script"),
            Some(Act::Silence) => self.say_nothing_more(),
            Some(act) => self.edit(request, &act),
        }
    }

    fn up(&mut self) -> Result<&mut Side> {
        // A connection that the server has closed since the last request is no good for the next one.
        if self.up.as_ref().is_none_or(|up| !up.is_open) {
            let socket = TcpStream::connect(self.shared.upstream).context("connect to the API server")?;
            let name = ServerName::IpAddress(self.shared.upstream.ip().into());
            self.up = Some(Side::new(ClientConnection::new(Arc::clone(&self.shared.towards_server), name)?, socket)?);
        }
        self.up.as_mut().context("just made")
    }

    /// The answer as it comes, byte for byte.
    fn pass(&mut self, request: &Request) -> Result<()> {
        self.up()?.send(&request.bytes)?;
        let mut message = Message::response(request.bytes.starts_with(b"HEAD "));
        while !message.is_over() {
            self.wait()?;
            ensure!(self.down.is_open, "the client went away");
            let up = self.up()?;
            let taken = message.feed(&up.incoming, |_| ());
            let piece: Vec<u8> = up.incoming.drain(..taken).collect();
            if !up.is_open && !message.is_over() {
                message.close();
            }
            self.down.send(&piece)?;
        }
        // Where the end of the connection is the end of the message, or cuts it, the client is to see just that.
        ensure!(message.is_complete() && !message.closes(), "the server closed");
        Ok(())
    }

    /// A watch's answer, event by event, with a change.
    fn edit(&mut self, request: &Request, act: &Act) -> Result<()> {
        let bytes = without_compression(&request.bytes);
        self.up()?.send(&bytes)?;
        let mut message = Message::response(false);
        let (mut body, mut passed, mut has_head) = (Vec::new(), 0, false);
        let mut since = Instant::now();
        let limit = match act {
            Act::HalfEvent { after } | Act::HalfEventThenEnd { after } | Act::Stall { after } => *after,
            Act::Event { after, .. } | Act::End { after } => *after,
            _ => usize::MAX,
        };
        loop {
            self.wait()?;
            ensure!(self.down.is_open, "the client went away");
            let up = self.up()?;
            let taken = message.feed(&up.incoming, |part| body.extend_from_slice(part));
            up.incoming.drain(..taken);
            ensure!(message.is_complete() || (up.is_open && !message.is_broken()), "the server closed");
            if !has_head && let Some(code) = message.status() {
                has_head = true;
                let head = format!(
                    "HTTP/1.1 {code} Edited\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
                );
                self.down.send(head.as_bytes())?;
            }
            while passed < limit
                && let Some(end) = body.iter().position(|byte| *byte == b'\n')
            {
                let line: Vec<u8> = body.drain(..=end).collect();
                if !(*act == Act::NoBookmarks && is_bookmark(&line)) {
                    self.down.send(&chunk(&line))?;
                }
                passed += 1;
                since = Instant::now();
            }
            let is_complete = message.is_complete();
            if has_head
                && passed >= limit
                && (!wants_half(act) || !body.is_empty() || is_complete || since.elapsed() >= PATIENCE)
            {
                return self.perform(act, &body);
            }
            if is_complete {
                // A refusal has no line end.
                if !body.is_empty() {
                    self.down.send(&chunk(&body))?;
                }
                return self.down.send(b"0\r\n\r\n");
            }
        }
    }

    /// The point of the script: after the events that it let pass.
    fn perform(&mut self, act: &Act, next: &[u8]) -> Result<()> {
        let made_up = br#"{"type":"MODIFIED","object":{"kind":"Pod","apiVersion":"v1","metadata":{"name":"half"}}}"#;
        let next = if next.is_empty() { made_up.as_slice() } else { next };
        let line = next.split(|byte| *byte == b'\n').next().unwrap_or(next);
        let half = &line[..line.len().div_ceil(2)];
        // The rest of this answer is no longer wanted, and would stand in the way of the next one.
        self.up = None;
        match act {
            Act::HalfEvent { .. } => {
                self.down.send(&chunk(half))?;
                bail!("closed by the script")
            }
            Act::HalfEventThenEnd { .. } => {
                self.down.send(&chunk(half))?;
                self.down.send(b"0\r\n\r\n")
            }
            Act::Event { event, .. } => {
                self.down.send(&chunk(format!("{event}\n").as_bytes()))?;
                self.down.send(b"0\r\n\r\n")
            }
            Act::Stall { .. } => self.say_nothing_more(),
            _ => self.down.send(b"0\r\n\r\n"),
        }
    }

    /// Until the client goes, or the connection is cut.
    fn say_nothing_more(&mut self) -> Result<()> {
        self.up = None;
        while self.down.is_open {
            self.wait()?;
        }
        bail!("the client went away")
    }
}

impl Drop for Relay<'_> {
    fn drop(&mut self) {
        self.down.close();
        if let Some(up) = &mut self.up {
            up.close();
        }
    }
}

fn wants_half(act: &Act) -> bool {
    matches!(act, Act::HalfEvent { .. } | Act::HalfEventThenEnd { .. })
}

fn is_bookmark(line: &[u8]) -> bool {
    serde_json::from_slice::<Value>(line).is_ok_and(|event| event["type"] == "BOOKMARK")
}

/// RFC 9112 section 7.1.
fn chunk(bytes: &[u8]) -> Vec<u8> {
    let mut all = format!("{:x}\r\n", bytes.len()).into_bytes();
    all.extend_from_slice(bytes);
    all.extend_from_slice(b"\r\n");
    all
}

/// Lines can only be told apart in what is not compressed.
fn without_compression(request: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(request);
    let kept: Vec<&str> =
        text.split("\r\n").filter(|line| !line.to_ascii_lowercase().starts_with("accept-encoding:")).collect();
    kept.join("\r\n").into_bytes()
}
