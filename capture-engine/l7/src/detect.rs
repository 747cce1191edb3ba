use crate::Out;
use crate::dns;
use crate::http::{Http, head};
use flow_model::{Direction, LossReason, Ts};
use memchr::memchr;

/// What the first bytes of a message say of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// An HTTP/1 request begins after this many bytes (a PROXY protocol header may come before it).
    Request {
        after: usize,
    },
    /// An HTTP/1 response begins.
    Response,
    Dns,
    /// Could still be something; more bytes decide.
    More,
    /// Nothing that is known here. A later message may show what it is, where the connection was joined midway.
    Misfit,
    /// Surely something else: no need to look on.
    Other,
}

/// Messages in which nothing fits before a connection is left alone. A connection joined in the middle of a body has one misfit, or two with
/// an interim response; text protocols that greet have told themselves apart by then.
const MISFITS_MAX: u8 = 4;

/// A connection whose protocol is not known yet.
#[derive(Debug, Default)]
pub(crate) struct Detect {
    /// Messages whose heads were lost, by direction, and the number of the last of them.
    pub missing: [u32; 2],
    pub last_missing: [u32; 2],
    /// Message 1 went this way and was nothing that begins an exchange.
    pub began_midway: Option<Direction>,
    /// The head of message 1 was lost, and it went this way.
    pub first_missing: Option<Direction>,
    misfits: u8,
    /// The message under way did not fit: the rest of it says nothing.
    passing: [bool; 2],
    heads: [Option<Box<Head>>; 2],
}

/// The beginning of a message that says nothing yet.
#[derive(Debug)]
pub(crate) struct Head {
    pub at: Ts,
    pub turn: u32,
    pub bytes: Vec<u8>,
}

impl Detect {
    /// Looks at captured bytes of `dir`; they are kept while they say `Sign::More`, until there are `max`.
    pub(crate) fn bytes(&mut self, dir: Direction, at: Ts, turn: u32, start: bool, bytes: &[u8], max: usize) -> Sign {
        let index = dir.index();
        if start {
            if let Some(old) = &self.heads[index] {
                // The peer answered what was no whole line of anything.
                let turn = old.turn;
                if self.misfit(dir, turn) == Sign::Other {
                    return Sign::Other;
                }
            }
            self.passing[index] = false;
        } else if self.passing[index] {
            return Sign::Misfit;
        }
        let sign = match &mut self.heads[index] {
            None => classify(bytes),
            Some(head) => {
                head.bytes.extend_from_slice(bytes);
                classify(&head.bytes)
            }
        };
        match sign {
            Sign::More if self.heads[index].as_ref().map_or(bytes.len(), |head| head.bytes.len()) < max => {
                self.heads[index].get_or_insert_with(|| Box::new(Head { at, turn, bytes: bytes.to_vec() }));
                Sign::More
            }
            // As much as is ever looked at, and the request line has no end.
            Sign::More => self.decide(dir, bytes, turn),
            Sign::Misfit => self.misfit(dir, turn),
            sign => sign,
        }
    }

    /// Bytes of `dir` are missing: what was kept is all there is of that head.
    pub(crate) fn hole(&mut self, dir: Direction) -> Sign {
        match &self.heads[dir.index()] {
            Some(head) => {
                let turn = head.turn;
                self.decide(dir, &[], turn)
            }
            None => Sign::Misfit,
        }
    }

    /// Tells the dissector, which bytes of `dir` in message `turn` have called for, what was lost before it.
    pub(crate) fn settle<O: Out>(&self, http: &mut Http, turn: u32, dir: Direction, out: &mut O) {
        let requests = http.request_dir();
        let responses = requests.reverse();
        // Message 1 was a response: the connection was joined between it and its request.
        let first = u64::from(self.first_missing == Some(responses));
        let orphan = dir == responses && turn > 1 && self.last_missing[requests.index()] == turn - 1;
        http.settle(LossReason::RingFull, u64::from(self.missing[requests.index()]) + first, orphan, out);
        let kept = self.heads[responses.index()].as_ref();
        let midway = kept.is_some_and(|kept| kept.turn == 1 && head::response(&kept.bytes) == head::Scan::Not);
        if midway || self.began_midway == Some(responses) {
            http.settle(LossReason::JoinedMidway, 1, false, out);
        }
    }

    /// The head that was kept, once it is known what it is of.
    pub(crate) fn take(&mut self, dir: Direction) -> Option<Box<Head>> {
        self.heads[dir.index()].take()
    }

    pub(crate) fn buffered(&self) -> usize {
        self.heads.iter().flatten().map(|head| head.bytes.len()).sum()
    }

    fn decide(&mut self, dir: Direction, bytes: &[u8], turn: u32) -> Sign {
        let bytes = self.heads[dir.index()].as_ref().map_or(bytes, |head| &head.bytes);
        if head::known_request_begins(bytes) { Sign::Request { after: 0 } } else { self.misfit(dir, turn) }
    }

    fn misfit(&mut self, dir: Direction, turn: u32) -> Sign {
        self.heads[dir.index()] = None;
        self.passing[dir.index()] = true;
        self.misfits += 1;
        if turn == 1 {
            self.began_midway = Some(dir);
        }
        if self.misfits >= MISFITS_MAX { Sign::Other } else { Sign::Misfit }
    }
}

fn classify(bytes: &[u8]) -> Sign {
    match bytes {
        // TLS: a handshake or any other record, SSL 3.0 to TLS 1.3 (RFC 8446 section 5.1).
        [0x14..=0x17, 0x03, 0x00..=0x04, ..] => return Sign::Other,
        [b'S', b'S', b'H', b'-', ..] => return Sign::Other,
        _ if bytes.starts_with(b"PRI * HTTP/2.0") => return Sign::Other,
        _ => {}
    }
    if head::response_begins(bytes) {
        return Sign::Response;
    }
    let after = match preamble(bytes) {
        Some(0) => return Sign::More,
        Some(after) => after,
        None => 0,
    };
    let text = bytes.get(after..).unwrap_or_default();
    let blank = text.iter().take_while(|&&b| b == b'\r' || b == b'\n').count();
    let text = text.get(blank..).unwrap_or_default();
    if text.is_empty() {
        return Sign::More;
    }
    if is_dns(bytes) {
        return Sign::Dns;
    }
    let request = if head::request_likely(text) { head::request(text) } else { head::Scan::Not };
    match (request, head::response(text)) {
        (head::Scan::Complete { .. }, _) => Sign::Request { after },
        (head::Scan::Partial, _) if memchr(b'\n', text).is_some() => Sign::Request { after },
        (head::Scan::Partial, _) | (_, head::Scan::Partial) => Sign::More,
        // The length of a DNS message may come in a segment of its own.
        _ if bytes.len() < 14 && matches!(bytes, [0 | 1, ..]) => Sign::More,
        _ => Sign::Misfit,
    }
}

/// DNS over TCP: two bytes of length before each message (RFC 1035 section 4.2.2). A message of which only the beginning came in this
/// piece counts, when that beginning holds the question.
fn is_dns(bytes: &[u8]) -> bool {
    let &[high, low, ref message @ ..] = bytes else { return false };
    let length = usize::from(u16::from_be_bytes([high, low]));
    length >= 12 && dns::looks_like_message(message.get(..length).unwrap_or(message))
}

/// Length of a PROXY protocol header (versions 1 and 2), which proxies put before the first request; 0 while it is not whole.
fn preamble(bytes: &[u8]) -> Option<usize> {
    const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
    if bytes.starts_with(b"PROXY ") {
        // 107 bytes at most, by its specification.
        return match memchr(b'\n', bytes) {
            Some(lf) if lf < 107 => Some(lf + 1),
            None if bytes.len() < 107 => Some(0),
            _ => None,
        };
    }
    if bytes.starts_with(V2) {
        let Some(&[high, low]) = bytes.get(14..16) else { return Some(0) };
        let length = 16 + usize::from(u16::from_be_bytes([high, low]));
        return Some(if length <= bytes.len() { length } else { 0 });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_protocols_are_none_of_ours() {
        for bytes in
            [&b"\x16\x03\x01\x02\x00\x01\x00"[..], b"SSH-2.0-OpenSSH_9.2\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
        {
            assert_eq!(classify(bytes), Sign::Other);
        }
        for bytes in [
            &b"*1\r\n$4\r\nPING\r\n"[..],
            b"220 mail ESMTP\r\n",
            b"EHLO there\r\n",
            b"J\x00\x00\x00\x0a8.0.36\x00",
            b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
            b"OPTIONS rtsp://a RTSP/1.0\r\nCSeq: 1\r\n\r\n",
            b"INVITE sip:a@b SIP/2.0\r\n\r\n",
            b"GNUTELLA CONNECT/0.6\r\n\r\n",
            b"RTSP/1.0 200 OK\r\n\r\n",
            b"SIP/2.0 200 OK\r\n\r\n",
            b"ICY 200 OK\r\n\r\n",
        ] {
            assert!(matches!(classify(bytes), Sign::Misfit | Sign::More), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn request_after_a_proxy_header_is_found() {
        let bytes = b"PROXY TCP4 10.0.0.1 10.0.0.2 4000 80\r\nGET / HTTP/1.1\r\n\r\n";
        assert_eq!(classify(bytes), Sign::Request { after: 38 });
        assert_eq!(classify(&bytes[..20]), Sign::More);
    }

    #[test]
    fn a_request_line_decides_before_its_head_is_whole() {
        assert_eq!(classify(b"GET / HTTP/1.1\r\nHost:"), Sign::Request { after: 0 });
        assert_eq!(classify(b"GET / HTT"), Sign::More);
    }

    #[test]
    fn four_messages_that_fit_nothing_end_the_search() {
        let mut detect = Detect::default();
        let signs: Vec<_> = (1..=4)
            .map(|turn| detect.bytes(Direction::Egress, Ts(0), turn, true, b"\xf1\x02\x03\x04 hello \n", 4096))
            .collect();
        assert_eq!(signs, [Sign::Misfit, Sign::Misfit, Sign::Misfit, Sign::Other]);
    }
}
