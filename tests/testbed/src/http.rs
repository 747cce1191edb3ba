//! HTTP/1.1 framing (RFC 9112 section 6) as an incremental reader, for the testbed's own client and
//! server. Written apart from the agent's dissector on purpose: one may not share the other's
//! mistakes.

/// One message being read. Fed with bytes as they come; says how many belong to it.
#[derive(Debug)]
pub struct Message {
    is_response: bool,
    /// The response to a HEAD has no body whatever its fields say.
    to_head: bool,
    head: Vec<u8>,
    first_line: String,
    close: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    /// Body bytes still to come.
    Sized(u64),
    UntilClose,
    ChunkSize(u64, bool),
    Chunk(u64),
    ChunkEnd,
    /// Length of the trailer line so far.
    Trailer(u32),
    Complete,
    Broken,
}

/// Longest head that is read; what is longer is broken.
const MAX_HEAD: usize = 64 << 10;

impl Message {
    #[must_use]
    pub fn response(to_head: bool) -> Message {
        Message { is_response: true, to_head, ..Message::request() }
    }

    #[must_use]
    pub fn request() -> Message {
        Message {
            is_response: false,
            to_head: false,
            head: Vec::new(),
            first_line: String::new(),
            close: false,
            state: State::Head,
        }
    }

    /// Takes what belongs to this message from `bytes` and returns how many that were; body bytes go to `body`.
    pub fn feed(&mut self, bytes: &[u8], mut body: impl FnMut(&[u8])) -> usize {
        let mut at = 0;
        while at < bytes.len() && !self.is_over() {
            let rest = &bytes[at..];
            at += match self.state {
                State::Head => self.feed_head(rest),
                State::Sized(left) | State::Chunk(left) => {
                    let take = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    body(&rest[..take]);
                    let left = left - take as u64;
                    self.state = match self.state {
                        State::Sized(_) if left == 0 => State::Complete,
                        State::Sized(_) => State::Sized(left),
                        _ if left == 0 => State::ChunkEnd,
                        _ => State::Chunk(left),
                    };
                    take
                }
                State::UntilClose => {
                    body(rest);
                    rest.len()
                }
                _ => {
                    self.feed_framing(rest[0]);
                    1
                }
            };
        }
        at
    }

    fn feed_head(&mut self, bytes: &[u8]) -> usize {
        let before = self.head.len();
        self.head.extend_from_slice(bytes);
        // The end may straddle the previous piece.
        let from = before.saturating_sub(3);
        let end = self.head[from..].windows(4).position(|four| four == b"\r\n\r\n").map(|at| from + at + 4);
        let Some(end) = end else {
            if self.head.len() > MAX_HEAD {
                self.state = State::Broken;
            }
            return bytes.len();
        };
        self.head.truncate(end);
        self.state = self.after_head();
        end - before
    }

    fn after_head(&mut self) -> State {
        let text = String::from_utf8_lossy(&self.head).into_owned();
        let mut lines = text.split("\r\n");
        self.first_line = lines.next().unwrap_or_default().to_owned();
        let (mut length, mut chunked) = (None, false);
        for line in lines {
            let Some((name, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                length = value.parse().ok();
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                chunked = value.eq_ignore_ascii_case("chunked");
            } else if name.eq_ignore_ascii_case("connection") {
                self.close = value.eq_ignore_ascii_case("close");
            }
        }
        if self.is_response {
            let Some(status) = self.status() else { return State::Broken };
            if (100..200).contains(&status) {
                self.head.clear();
                return State::Head;
            }
            if self.to_head || status == 204 || status == 304 {
                return State::Complete;
            }
        }
        match (chunked, length) {
            (true, _) => State::ChunkSize(0, false),
            (false, Some(0)) => State::Complete,
            (false, Some(bytes)) => State::Sized(bytes),
            (false, None) if self.is_response => State::UntilClose,
            (false, None) => State::Complete,
        }
    }

    fn feed_framing(&mut self, byte: u8) {
        self.state = match (self.state, byte) {
            (State::ChunkSize(0, _), b'\n') => State::Trailer(0),
            (State::ChunkSize(size, _), b'\n') => State::Chunk(size),
            (State::ChunkSize(size, _), b';') => State::ChunkSize(size, true),
            (State::ChunkSize(size, false), digit) if digit.is_ascii_hexdigit() && size < 1 << 40 => {
                let value = (digit as char).to_digit(16).unwrap_or(0);
                State::ChunkSize(size * 16 + u64::from(value), false)
            }
            (State::ChunkSize(size, true), _) | (State::ChunkSize(size, _), b'\r') => State::ChunkSize(size, true),
            (State::ChunkEnd, b'\r') => State::ChunkEnd,
            (State::ChunkEnd, b'\n') => State::ChunkSize(0, false),
            (State::Trailer(length), b'\r') => State::Trailer(length),
            (State::Trailer(0), b'\n') => State::Complete,
            (State::Trailer(_), b'\n') => State::Trailer(0),
            (State::Trailer(length), _) => State::Trailer(length.saturating_add(1)),
            _ => State::Broken,
        };
    }

    /// The connection was closed: the end of a message that is delimited by it.
    pub fn close(&mut self) {
        self.state = if self.state == State::UntilClose { State::Complete } else { State::Broken };
    }

    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.state == State::Complete
    }

    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.state == State::Broken
    }

    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_complete() || self.is_broken()
    }

    /// The other side said that it closes the connection after this message.
    #[must_use]
    pub fn closes(&self) -> bool {
        self.close
    }

    /// Status of a response whose head is complete.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.first_line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).and_then(|code| code.parse().ok())
    }

    /// Method of a request whose head is complete.
    #[must_use]
    pub fn method(&self) -> &str {
        self.first_line.split(' ').next().unwrap_or_default()
    }

    /// Target of a request whose head is complete.
    #[must_use]
    pub fn target(&self) -> &str {
        self.first_line.split(' ').nth(1).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::Message;

    /// Feeds `bytes` in pieces of every size and returns the body; all pieces must agree.
    fn check(head_only: bool, bytes: &[u8], body: &str, complete: bool) {
        for size in 1..=bytes.len() {
            let mut message = Message::response(head_only);
            let mut got = Vec::new();
            let mut taken = 0;
            for piece in bytes.chunks(size) {
                taken += message.feed(piece, |part| got.extend_from_slice(part));
            }
            assert_eq!(
                (String::from_utf8_lossy(&got).as_ref(), message.is_complete()),
                (body, complete),
                "pieces of {size}"
            );
            assert!(!complete || taken == bytes.len());
        }
    }

    #[test]
    fn sized_chunked_and_empty_bodies_end_where_they_end() {
        check(false, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello", true);
        check(
            false,
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nT: v\r\n\r\n",
            "hello",
            true,
        );
        check(true, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "", true);
        check(false, b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", "", true);
        check(false, b"HTTP/1.1 200 OK\r\n\r\nuntil the end", "until the end", false);
    }

    #[test]
    fn the_next_message_is_left_alone() {
        let mut message = Message::request();
        let bytes = b"POST /a HTTP/1.1\r\nContent-Length: 2\r\n\r\nhiGET /b HTTP/1.1\r\n\r\n";
        let taken = message.feed(bytes, |_| ());
        assert_eq!((message.method(), message.target(), &bytes[taken..taken + 6]), ("POST", "/a", &b"GET /b"[..]));
    }
}
