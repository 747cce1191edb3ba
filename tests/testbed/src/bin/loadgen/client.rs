use crate::totals::{MAX_SAMPLES, Totals};
use anyhow::{Context, Result};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};
use std::io::{IoSliceMut, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use testbed::http::Message;

/// One keep-alive connection with at most one request under way.
#[derive(Debug)]
pub struct Connection {
    server: SocketAddr,
    stream: TcpStream,
    client: u32,
    mixed: bool,
    random: u64,
    response: Message,
    sent_at_ns: u64,
    answered: u64,
    reopened: bool,
    buffer: Vec<u8>,
}

impl Connection {
    pub fn open(server: SocketAddr, client: u32, index: usize, profile: &str) -> Result<Connection> {
        Ok(Connection {
            server,
            stream: connect(server)?,
            client,
            mixed: profile == "mixed",
            // Any odd start: the sequence only has to differ between connections and be the same in every run.
            random: (u64::from(client) << 32 | index as u64) * 2 + 1,
            response: Message::response(false),
            sent_at_ns: 0,
            answered: 0,
            reopened: false,
            buffer: vec![0; 64 << 10],
        })
    }

    pub fn socket(&self) -> &TcpStream {
        &self.stream
    }

    pub fn answered(&self) -> u64 {
        self.answered
    }

    /// Once after each reconnect: the new socket has to be watched.
    pub fn was_reopened(&mut self) -> bool {
        std::mem::take(&mut self.reopened)
    }

    pub fn send(&mut self, number: u64) -> Result<()> {
        let (method, query, body) = if self.mixed { self.mixed_request() } else { ("GET", "size=300".into(), 0) };
        let client = self.client;
        let mut request = format!("{method} /items?i={client}-{number}&{query} HTTP/1.1\r\nHost: api.demo.test\r\n");
        if matches!(method, "POST" | "PUT") {
            request += &format!("Content-Type: application/octet-stream\r\nContent-Length: {body}\r\n");
        }
        request += "\r\n";
        let mut bytes = request.into_bytes();
        bytes.resize(bytes.len() + body, b'x');
        self.response = Message::response(method == "HEAD");
        self.sent_at_ns = now_ns()?;
        // Requests are far smaller than the socket's buffer, and the connection was idle: a
        // blocking write does not block.
        if self.stream.write_all(&bytes).is_err() {
            // Found out by the next receive, which counts it.
            self.stream.shutdown(std::net::Shutdown::Both).ok();
        }
        Ok(())
    }

    /// Methods and sizes as a mix of APIs has them: mostly small GETs, some bodies both ways, a few large.
    fn mixed_request(&mut self) -> (&'static str, String, usize) {
        let method = match self.next_random() % 100 {
            0..70 => "GET",
            70..78 => "HEAD",
            78..90 => "POST",
            90..96 => "PUT",
            _ => "DELETE",
        };
        let size = match self.next_random() % 100 {
            0..10 => 0,
            10..50 => 120,
            50..80 => 900,
            80..95 => 4_000,
            95..99 => 16_000,
            _ => 100_000,
        };
        let chunked = if self.next_random().is_multiple_of(5) { "&chunked=1" } else { "" };
        let body =
            if matches!(method, "POST" | "PUT") { [0, 40, 700, 3_000][self.next_random() as usize % 4] } else { 0 };
        (method, format!("size={size}{chunked}"), body)
    }

    /// xorshift64 (Marsaglia 2003).
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// Reads what is there; true when the request under way is over, one way or the other.
    pub fn receive(&mut self, totals: &mut Totals) -> Result<bool> {
        let mut over = false;
        loop {
            let (length, stamp_ns) = match self.read() {
                Ok(read) => read,
                Err(Errno::EAGAIN) => return Ok(over),
                Err(Errno::EINTR) => continue,
                Err(_) => (0, None),
            };
            if length == 0 {
                return self.reopen(totals, over);
            }
            let was_complete = self.response.is_complete();
            let Connection { response, buffer, .. } = self;
            response.feed(&buffer[..length], |_| ());
            if response.is_complete() && !was_complete {
                over = true;
                self.answered += 1;
                totals.answered += 1;
                *totals.by_status.entry(self.response.status().unwrap_or(0)).or_default() += 1;
                let ended_ns = stamp_ns.map_or_else(now_ns, Ok)?;
                if totals.latencies_ns.len() < MAX_SAMPLES {
                    totals.latencies_ns.push(ended_ns.saturating_sub(self.sent_at_ns));
                }
            }
        }
    }

    fn reopen(&mut self, totals: &mut Totals, mut over: bool) -> Result<bool> {
        // Idle connections are closed by servers; only a request without an answer is a failure.
        if self.sent_at_ns != 0 && !self.response.is_complete() {
            self.response.close();
            if self.response.is_complete() {
                self.answered += 1;
                totals.answered += 1;
            } else {
                totals.failed += 1;
            }
            over = true;
        }
        totals.reconnects += 1;
        self.stream = connect(self.server)?;
        self.response = Message::response(false);
        self.sent_at_ns = 0;
        self.reopened = true;
        Ok(over)
    }

    /// One read with the kernel's stamp of the last segment in it (realtime clock, as `now_ns`).
    fn read(&mut self) -> Result<(usize, Option<u64>), Errno> {
        let mut control = cmsg_space!(TimeSpec);
        let mut parts = [IoSliceMut::new(&mut self.buffer)];
        let message = recvmsg::<()>(self.stream.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_DONTWAIT)?;
        let stamp = message.cmsgs()?.find_map(|message| match message {
            ControlMessageOwned::ScmTimestampns(at) => Some(nanoseconds(at)),
            _ => None,
        });
        Ok((message.bytes, stamp))
    }
}

fn connect(server: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(server).with_context(|| format!("connect to {server}"))?;
    stream.set_nodelay(true)?;
    setsockopt(&stream, sockopt::ReceiveTimestampns, &true)?;
    Ok(stream)
}

fn now_ns() -> Result<u64> {
    Ok(nanoseconds(clock_gettime(ClockId::CLOCK_REALTIME)?))
}

fn nanoseconds(at: TimeSpec) -> u64 {
    u64::try_from(at.tv_sec()).unwrap_or(0) * 1_000_000_000 + u64::try_from(at.tv_nsec()).unwrap_or(0)
}
