use crate::totals::{MAX_SAMPLES, Totals};
use anyhow::{Context, Result, bail};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};
use std::collections::VecDeque;
use std::io::{IoSliceMut, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use testbed::http::Message;

/// What requests look like, and in how many writes they leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// One small GET after the other.
    Get,
    /// As a mix of APIs has them, each in one write.
    Mixed,
    /// POSTs whose bodies are a second write.
    Post,
    /// The mix, with bodies that leave in one to four writes.
    Pieces,
}

impl Profile {
    pub fn of(name: &str) -> Result<Profile> {
        match name {
            "get" => Ok(Profile::Get),
            "mixed" => Ok(Profile::Mixed),
            "post" => Ok(Profile::Post),
            "pieces" => Ok(Profile::Pieces),
            other => bail!("unknown profile {other}"),
        }
    }
}

/// A request that has no whole answer yet.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    to_head: bool,
    sent_at_ns: u64,
}

/// One keep-alive connection. Answers come in the order of the requests (RFC 9112 section 9.3.2).
#[derive(Debug)]
pub struct Connection {
    server: SocketAddr,
    stream: TcpStream,
    client: u32,
    profile: Profile,
    random: u64,
    /// The answer to the first of those that wait.
    response: Message,
    waiting: VecDeque<Waiting>,
    /// Requests that leave with the next one, in one write.
    held: Vec<u8>,
    pipelines: bool,
    answered: u64,
    reopened: bool,
    buffer: Vec<u8>,
}

impl Connection {
    /// `depth`: requests that may be under way at once.
    pub fn open(server: SocketAddr, client: u32, index: usize, profile: Profile, depth: usize) -> Result<Connection> {
        Ok(Connection {
            server,
            stream: connect(server)?,
            client,
            profile,
            // Any odd start: the sequence only has to differ between connections and be the same in every run.
            random: (u64::from(client) << 32 | index as u64) * 2 + 1,
            response: Message::response(false),
            waiting: VecDeque::new(),
            held: Vec::new(),
            pipelines: depth > 1,
            answered: 0,
            reopened: false,
            buffer: vec![0; 64 << 10],
        })
    }

    pub fn socket(&self) -> &TcpStream {
        &self.stream
    }

    pub fn answers(&self) -> u64 {
        self.answered
    }

    /// Once after each reconnect: the new socket has to be watched.
    pub fn was_reopened(&mut self) -> bool {
        std::mem::take(&mut self.reopened)
    }

    pub fn send(&mut self, number: u64) -> Result<()> {
        let (method, query, body) = match self.profile {
            Profile::Get => ("GET", "size=300".into(), 0),
            Profile::Mixed | Profile::Pieces => self.mixed_request(),
            Profile::Post => ("POST", "size=300".into(), [1, 40, 700, 3_000][self.next_random() as usize % 4]),
        };
        let client = self.client;
        let mut request = format!("{method} /items?i={client}-{number}&{query} HTTP/1.1\r\nHost: api.demo.test\r\n");
        if matches!(method, "POST" | "PUT") {
            request += &format!("Content-Type: application/octet-stream\r\nContent-Length: {body}\r\n");
        }
        request += "\r\n";
        let waiting = Waiting { to_head: method == "HEAD", sent_at_ns: now_ns()? };
        if self.waiting.is_empty() {
            self.response = Message::response(waiting.to_head);
        }
        self.waiting.push_back(waiting);
        let pieces = match self.profile {
            Profile::Get | Profile::Mixed => 0,
            Profile::Post => 1,
            Profile::Pieces => 1 + self.next_random() as usize % 4,
        };
        self.held.extend_from_slice(request.as_bytes());
        if pieces == 0 || body == 0 {
            self.held.resize(self.held.len() + body, b'x');
        } else {
            self.flush();
            for piece in vec![b'x'; body].chunks(body.div_ceil(pieces)) {
                self.write(piece);
            }
        }
        // Of a pipeline, some requests share a packet.
        if !self.pipelines || self.next_random().is_multiple_of(2) {
            self.flush();
        }
        Ok(())
    }

    /// Writes what waits for the next request.
    pub fn flush(&mut self) {
        if !self.held.is_empty() {
            let held = std::mem::take(&mut self.held);
            self.write(&held);
        }
    }

    /// Requests are far smaller than the socket's buffer, and the server takes them whatever its own
    /// answers wait for: a blocking write does not block.
    fn write(&mut self, bytes: &[u8]) {
        if self.stream.write_all(bytes).is_err() {
            // Found out by the next receive, which counts it.
            self.stream.shutdown(std::net::Shutdown::Both).ok();
        }
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

    /// Reads what is there; how many requests are over, one way or the other.
    pub fn receive(&mut self, totals: &mut Totals) -> Result<usize> {
        let mut over = 0;
        loop {
            let (length, stamp_ns) = match self.read() {
                Ok(read) => read,
                Err(Errno::EAGAIN) => return Ok(over),
                Err(Errno::EINTR) => continue,
                Err(_) => (0, None),
            };
            if length == 0 {
                return Ok(over + self.reopen(totals)?);
            }
            let mut at = 0;
            while at < length && !self.waiting.is_empty() {
                let Connection { response, buffer, .. } = self;
                at += response.feed(&buffer[at..length], |_| ());
                if response.is_broken() {
                    return Ok(over + self.reopen(totals)?);
                }
                if !response.is_complete() {
                    break;
                }
                over += 1;
                self.answered(stamp_ns, totals)?;
            }
        }
    }

    fn answered(&mut self, stamp_ns: Option<u64>, totals: &mut Totals) -> Result<()> {
        self.answered += 1;
        totals.answered += 1;
        *totals.by_status.entry(self.response.status().unwrap_or(0)).or_default() += 1;
        let ended_ns = stamp_ns.map_or_else(now_ns, Ok)?;
        let was = self.waiting.pop_front();
        if let Some(was) = was.filter(|_| totals.latencies_ns.len() < MAX_SAMPLES) {
            totals.latencies_ns.push(ended_ns.saturating_sub(was.sent_at_ns));
        }
        self.response = Message::response(self.waiting.front().is_some_and(|next| next.to_head));
        Ok(())
    }

    fn reopen(&mut self, totals: &mut Totals) -> Result<usize> {
        // Idle connections are closed by servers; only a request without an answer is a failure.
        let over = self.waiting.len();
        if over > 0 {
            self.response.close();
            let last = usize::from(self.response.is_complete());
            self.answered += last as u64;
            totals.answered += last as u64;
            totals.failed += (over - last) as u64;
        }
        totals.reconnects += 1;
        self.stream = connect(self.server)?;
        self.response = Message::response(false);
        self.waiting.clear();
        self.held.clear();
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
