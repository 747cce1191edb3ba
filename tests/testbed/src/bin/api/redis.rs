use crate::answer::Plan;
use anyhow::{Context, Result, bail};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// One pipelined connection to Redis (RESP2): answers come in the order of the questions.
pub struct Redis {
    stream: TcpStream,
    waiting: VecDeque<(u64, Plan)>,
    incoming: Vec<u8>,
}

impl Redis {
    pub fn connect(server: SocketAddr) -> Result<Redis> {
        let stream = TcpStream::connect(server).with_context(|| format!("connect to redis at {server}"))?;
        stream.set_nodelay(true)?;
        Ok(Redis { stream, waiting: VecDeque::new(), incoming: Vec::new() })
    }

    pub fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// GET for what reads, SET for what writes.
    pub fn ask(&mut self, method: &str, key: &str, peer: u64, plan: Plan) {
        // One key in 1,000, so that the data set stays small however long it runs.
        let key = format!("item:{}", key.rsplit('-').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) % 1000);
        let command = match method {
            "POST" | "PUT" => format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n$5\r\nvalue\r\n", key.len()),
            "DELETE" => format!("*2\r\n$3\r\nDEL\r\n${}\r\n{key}\r\n", key.len()),
            _ => format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len()),
        };
        // Some hundred bytes for each open request: far below the socket's buffer, so that a
        // blocking write does not block.
        self.stream.write_all(command.as_bytes()).ok();
        self.waiting.push_back((peer, plan));
    }

    /// What was answered, in order.
    pub fn answers(&mut self) -> Result<Vec<(u64, Plan)>> {
        let mut buffer = [0; 16 << 10];
        self.stream.set_nonblocking(true)?;
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => bail!("redis closed the connection"),
                Ok(length) => self.incoming.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("read from redis"),
            }
        }
        self.stream.set_nonblocking(false)?;
        let mut done = Vec::new();
        let mut at = 0;
        while let Some(length) = reply_length(&self.incoming[at..]) {
            at += length;
            done.extend(self.waiting.pop_front());
        }
        self.incoming.drain(..at);
        Ok(done)
    }
}

/// Bytes of the first reply in `bytes` when it is whole: a line, and for a bulk string what the line announces.
fn reply_length(bytes: &[u8]) -> Option<usize> {
    let line = bytes.windows(2).position(|two| two == b"\r\n")? + 2;
    if bytes[0] != b'$' {
        return Some(line);
    }
    let announced: i64 = std::str::from_utf8(&bytes[1..line - 2]).ok()?.parse().ok()?;
    let Ok(announced) = usize::try_from(announced) else { return Some(line) };
    (bytes.len() >= line + announced + 2).then_some(line + announced + 2)
}
