//! An answer without an end: lines, as they come.

use crate::error::{AskError, PATIENCE};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest line that is taken for one of the agent's.
const LINE_BYTES: usize = 64 << 10;
/// Longest head of an answer, and longest text of a refusal.
const HEAD_BYTES: usize = 16 << 10;
/// Read at a time.
const PIECE: usize = 16 << 10;

/// What was heard next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A line, without its end.
    Line(String),
    /// Nothing, for as long as it was to be waited for.
    Quiet,
    /// The connection is over.
    End,
}

/// Lines of one answer. Whoever drops it ends the answer.
#[derive(Debug)]
pub struct Lines {
    stream: UnixStream,
    socket: PathBuf,
    /// What was read and not yet handed out, from `begin` on.
    held: Vec<u8>,
    begin: usize,
    /// Of `held`, where no end of a line is.
    searched: usize,
}

impl Lines {
    /// Asks for `path` with these parameters; `what` is what an agent lacks that does not know it.
    pub(crate) fn open(
        stream: UnixStream,
        socket: &Path,
        path: &str,
        parameters: &[(&str, String)],
        what: &'static str,
    ) -> Result<Lines, AskError> {
        let mut lines = Lines { stream, socket: socket.to_owned(), held: Vec::new(), begin: 0, searched: 0 };
        let status = lines.ask(&request(path, parameters)).map_err(|error| lines.failed(error))?;
        if status == "200" {
            return Ok(lines);
        }
        let socket = socket.to_owned();
        let why = lines.rest();
        Err(match status.as_str() {
            "404" => AskError::Old { socket, what },
            "400" => AskError::Wrong(why),
            "503" => AskError::Refused { socket, why },
            _ => AskError::Strange { socket, what: format!("{path}: HTTP status {status}: {why}") },
        })
    }

    /// The next line; waits for a piece of one at most this long, for ever without it.
    ///
    /// # Errors
    /// The connection broke, or what came is no line.
    pub fn next(&mut self, patience: Option<Duration>) -> Result<Heard, AskError> {
        if let Some(line) = self.line() {
            return Ok(Heard::Line(line));
        }
        // No time at all would be refused.
        let patience = patience.map(|patience| patience.max(Duration::from_millis(1)));
        self.stream.set_read_timeout(patience).map_err(|error| self.failed(error))?;
        loop {
            match self.more() {
                Ok(0) => return Ok(Heard::End),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Ok(Heard::Quiet);
                }
                Err(error) => return Err(self.failed(error)),
            }
            if let Some(line) = self.line() {
                return Ok(Heard::Line(line));
            }
            if self.held.len() - self.begin > LINE_BYTES {
                let what = format!("a line of more than {LINE_BYTES} bytes");
                return Err(AskError::Strange { socket: self.socket.clone(), what });
            }
        }
    }

    fn ask(&mut self, request: &str) -> io::Result<String> {
        self.stream.set_read_timeout(Some(PATIENCE))?;
        self.stream.set_write_timeout(Some(PATIENCE))?;
        self.stream.write_all(request.as_bytes())?;
        loop {
            if let Some(end) = self.held.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(self.held.get(..end).unwrap_or_default()).into_owned();
                self.begin = end + 4;
                self.searched = self.begin;
                return Ok(head.split(' ').nth(1).unwrap_or_default().to_owned());
            }
            if self.held.len() > HEAD_BYTES || self.more()? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// The body of a refusal.
    fn rest(&mut self) -> String {
        while self.held.len() - self.begin < HEAD_BYTES && self.more().is_ok_and(|read| read > 0) {}
        String::from_utf8_lossy(self.held.get(self.begin..).unwrap_or_default()).trim().to_owned()
    }

    /// A whole line that was read already.
    fn line(&mut self) -> Option<String> {
        let unsearched = self.held.get(self.searched..)?;
        let Some(end) = unsearched.iter().position(|byte| *byte == b'\n') else {
            self.searched = self.held.len();
            return None;
        };
        let end = self.searched + end;
        let line = String::from_utf8_lossy(self.held.get(self.begin..end)?).into_owned();
        (self.begin, self.searched) = (end + 1, end + 1);
        Some(line)
    }

    /// Reads some more; how much, 0 at the end.
    fn more(&mut self) -> io::Result<usize> {
        self.held.drain(..self.begin);
        self.searched -= self.begin;
        self.begin = 0;
        let before = self.held.len();
        self.held.resize(before + PIECE, 0);
        let read = loop {
            match self.stream.read(self.held.get_mut(before..).unwrap_or_default()) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        self.held.truncate(before + read.as_ref().map_or(0, |read| *read));
        read
    }

    fn failed(&self, error: io::Error) -> AskError {
        AskError::broken(&self.socket, error)
    }
}

/// HTTP/1.0: the answer ends with the connection, without chunks.
pub(crate) fn request(path: &str, parameters: &[(&str, String)]) -> String {
    let mut request = format!("GET {path}");
    for (place, (name, value)) in parameters.iter().enumerate() {
        request.push(if place == 0 { '?' } else { '&' });
        request.push_str(name);
        request.push('=');
        for byte in value.bytes() {
            // RFC 3986 section 2.3.
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => request.push(byte.into()),
                _ => request.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    request + " HTTP/1.0\r\nHost: pilotfish\r\n\r\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// What is heard of an answer that comes in these pieces.
    fn heard(pieces: Vec<Vec<u8>>) -> Vec<Heard> {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        let agent = thread::spawn(move || {
            let mut asked = [0; 4096];
            let read = theirs.read(&mut asked).expect("a request");
            theirs.write_all(b"HTTP/1.0 200 OK\r\n\r\n").expect("write");
            for piece in pieces {
                theirs.write_all(&piece).expect("write");
            }
            String::from_utf8_lossy(asked.get(..read).expect("read")).into_owned()
        });
        let parameters = [("workload", "shop/a b".to_owned()), ("limit", "3".to_owned())];
        let mut lines = Lines::open(ours, Path::new("/a.sock"), "/v1/tap", &parameters, "tap").expect("opens");
        let mut heard = Vec::new();
        loop {
            heard.push(lines.next(None).expect("lines"));
            if heard.last() == Some(&Heard::End) {
                break;
            }
        }
        let asked = agent.join().expect("no panic");
        assert!(asked.starts_with("GET /v1/tap?workload=shop%2Fa%20b&limit=3 HTTP/1.0\r\n"), "{asked}");
        heard
    }

    #[test]
    fn lines_are_whole_however_they_come_and_half_a_one_is_none() {
        let text = b"one\n\ntwo, which is longer\nhalf";
        let expected: Vec<Heard> =
            ["one", "", "two, which is longer"].map(|line| Heard::Line(line.to_owned())).into_iter().collect();
        for size in 1..=text.len() {
            let pieces = text.chunks(size).map(<[u8]>::to_vec).collect();
            assert_eq!(heard(pieces), [&expected[..], &[Heard::End]].concat(), "in pieces of {size}");
        }
    }

    #[test]
    fn silence_is_told_after_its_time_and_a_line_without_end_is_refused() {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        theirs.write_all(b"HTTP/1.0 200 OK\r\n\r\nhal").expect("write");
        let mut lines = Lines::open(ours, Path::new("/a.sock"), "/v1/tap", &[], "tap").expect("opens");
        assert_eq!(lines.next(Some(Duration::ZERO)).expect("nothing"), Heard::Quiet);
        theirs.write_all(b"f\n").expect("write");
        assert_eq!(lines.next(Some(Duration::ZERO)).expect("a line"), Heard::Line("half".into()));
        let flood = thread::spawn(move || theirs.write_all(&[b'x'; 4 * LINE_BYTES]));
        let error = lines.next(None).expect_err("no line");
        assert!(error.to_string().contains("a line of more than"), "{error}");
        drop(lines);
        // It may have been cut off.
        let _ = flood.join().expect("no panic");
    }

    #[test]
    fn a_refusal_says_what_the_agent_says() {
        let refused = |answer: &'static str| {
            let (ours, mut theirs) = UnixStream::pair().expect("a pair");
            theirs.write_all(answer.as_bytes()).expect("write");
            theirs.shutdown(std::net::Shutdown::Write).expect("shutdown");
            Lines::open(ours, Path::new("/a.sock"), "/v1/tap", &[], "tap").expect_err("refused").to_string()
        };
        assert_eq!(refused("HTTP/1.0 400 Bad Request\r\n\r\nlimit is 0\n"), "limit is 0");
        assert_eq!(refused("HTTP/1.0 503 Busy\r\n\r\n4 are open\n"), "the agent on /a.sock refuses: 4 are open");
        let old = "the agent on /a.sock is older than this command and has no tap; restart it";
        assert_eq!(refused("HTTP/1.0 404 Not Found\r\n\r\nno such page\n"), old);
        assert!(refused("HTTP/1.0 500 Oh\r\n\r\n").contains("no agent of this version: /v1/tap: HTTP status 500"));
        assert!(refused("garbage").contains("ask the agent on /a.sock"));
    }
}
