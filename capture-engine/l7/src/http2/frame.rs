//! The header of a frame (RFC 9113 section 4.1), and what tells one from other bytes.

/// Bytes of a frame's header.
pub(super) const HEADER: usize = 9;

/// What a client sends first (RFC 9113 section 3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Longest payload before the peers agree on more.
const USUAL_LENGTH: u32 = 16 << 10;

/// So far ahead at most is a stream where nothing but frames shows where they begin, and so far apart are the newest
/// streams of two directions of one connection: a header without its first byte shows 256 times its stream.
pub(super) const UNSHIFTED: u32 = 254;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITIZED: u8 = 0x20;

/// A frame's header. Stream ids are without the reserved bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub length: u32,
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
}

impl Header {
    pub(super) fn read(bytes: &[u8]) -> Option<Header> {
        let &[l2, l1, l0, kind, flags, s3, s2, s1, s0] = bytes.get(..HEADER)? else { return None };
        let stream = u32::from_be_bytes([s3 & 0x7f, s2, s1, s0]);
        Some(Header { length: u32::from_be_bytes([0, l2, l1, l0]), kind, flags, stream })
    }

    pub(super) fn ends_stream(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }

    pub(super) fn ends_headers(&self) -> bool {
        self.flags & END_HEADERS != 0
    }

    /// Begins a block of fields.
    pub(super) fn begins_block(&self) -> bool {
        matches!(self.kind, HEADERS | PUSH_PROMISE)
    }

    pub(super) fn holds_block(&self) -> bool {
        self.begins_block() || self.kind == CONTINUATION
    }

    pub(super) fn is_padded(&self) -> bool {
        matches!(self.kind, DATA | HEADERS | PUSH_PROMISE) && self.flags & PADDED != 0
    }

    /// Bytes of the payload before a block, or that are read of another frame.
    pub(super) fn fixed(&self) -> u32 {
        let padded = u32::from(self.is_padded());
        match self.kind {
            HEADERS => padded + if self.flags & PRIORITIZED != 0 { 5 } else { 0 },
            PUSH_PROMISE => padded + 4,
            RST_STREAM => 4,
            GOAWAY => 8,
            _ => 0,
        }
    }

    /// Whether it may stand on a connection (RFC 9113 section 6). A kind that is not of the RFC may.
    pub(super) fn is_sound(&self) -> bool {
        let Header { length, kind, flags: _, stream } = *self;
        match kind {
            DATA | HEADERS | PUSH_PROMISE | CONTINUATION => stream != 0,
            PRIORITY => stream != 0 && length == 5,
            RST_STREAM => stream != 0 && length == 4,
            SETTINGS => stream == 0 && length.is_multiple_of(6),
            PING => stream == 0 && length == 8,
            GOAWAY => stream == 0 && length >= 8,
            WINDOW_UPDATE => length == 4,
            _ => true,
        }
    }

    /// Whether it looks like one where nobody knows that one begins: no kind, flag or length but the
    /// usual, and a stream of a client. `most`: the longest payload so far.
    pub(super) fn is_likely(bytes: &[u8], most: u32) -> Option<Header> {
        let header = Header::is_possible(bytes, most)?;
        // Few send DATA of nothing but to end a stream, and zeros are what data are full of.
        let empty = matches!(header.kind, DATA | HEADERS) && header.length == 0 && !header.ends_stream();
        (!empty).then_some(header)
    }

    /// As that, where a frame ended before it that was found to be one.
    pub(super) fn is_possible(bytes: &[u8], most: u32) -> Option<Header> {
        let header = Header::read(bytes)?;
        let Header { length, kind, flags, stream } = header;
        let known = match kind {
            DATA => PADDED | END_STREAM,
            HEADERS => PRIORITIZED | PADDED | END_HEADERS | END_STREAM,
            SETTINGS | PING => END_STREAM,
            CONTINUATION => END_HEADERS,
            PRIORITY | RST_STREAM | GOAWAY | WINDOW_UPDATE => 0,
            _ => return None,
        };
        let reserved = bytes.get(5).is_some_and(|byte| byte & 0x80 != 0);
        let acked = kind == SETTINGS && flags != 0 && length > 0;
        let empty = kind == HEADERS && length == 0;
        let settings = kind == SETTINGS && length > 6 * 32;
        let odd = reserved || acked || empty || settings || flags & !known != 0;
        let stream = stream == 0 || stream % 2 == 1;
        (!odd && stream && header.is_sound() && length <= most.max(USUAL_LENGTH)).then_some(header)
    }
}

/// Headers of frames that follow each other in `bytes`, up to their end or `most` of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Chain {
    /// Headers that are whole.
    pub whole: u32,
    /// The last frame ends where the bytes do, or goes on behind them.
    pub fits: bool,
}

/// Follows frames that look like ones from the beginning of `bytes` on.
pub(super) fn chain(mut bytes: &[u8], longest: u32, most: u32, mut each: impl FnMut(Header, &[u8])) -> Chain {
    let mut whole = 0;
    while whole < most {
        let Some(header) = Header::is_likely(bytes, longest) else {
            return Chain { whole, fits: bytes.len() < HEADER && starts(bytes) };
        };
        let payload = bytes.get(HEADER..).unwrap_or_default();
        let length = header.length as usize;
        each(header, payload.get(..length).unwrap_or(payload));
        whole += 1;
        match payload.get(length..) {
            Some(rest) if !rest.is_empty() => bytes = rest,
            _ => break,
        }
    }
    Chain { whole, fits: true }
}

/// Whether a header that is not whole may begin like this.
fn starts(bytes: &[u8]) -> bool {
    bytes.first().is_none_or(|first| *first == 0) && bytes.get(3).is_none_or(|kind| *kind <= CONTINUATION)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn likely(bytes: &[u8]) -> bool {
        Header::is_likely(bytes, 0).is_some()
    }

    #[test]
    fn a_header_is_told_from_other_bytes() {
        assert!(likely(b"\0\0\x06\x04\0\0\0\0\0"), "SETTINGS");
        assert!(likely(b"\0\0\x00\x04\x01\0\0\0\0"), "their acknowledgment");
        assert!(likely(b"\0\0\x05\x01\x05\0\0\0\x01"));
        assert!(!likely(b"\0\0\x06\x04\x01\0\0\0\0"), "an acknowledgment with settings");
        assert!(!likely(b"\0\0\x05\x01\x05\0\0\0\0"), "HEADERS of no stream");
        assert!(!likely(b"\0\0\x05\x01\x05\0\0\0\x02"), "of a server's");
        assert!(!likely(b"\0\0\x05\x01\x05\x80\0\0\x01"), "the reserved bit");
        assert!(!likely(b"\0\0\x00\x00\x00\0\0\0\x01"), "DATA of nothing");
        assert!(!likely(b"\0\0\x05\x08\x00\0\0\0\x01"), "WINDOW_UPDATE of five bytes");
        assert!(!likely(b"GET / HTT"));
        assert!(!likely(&[0; 9]));
    }

    #[test]
    fn frames_are_followed_to_the_end_of_the_bytes() {
        let check = |bytes: &[u8], whole, fits| assert_eq!(chain(bytes, 0, 9, |_, _| {}), Chain { whole, fits });
        let ping = b"\0\0\x08\x06\0\0\0\0\0abcdefgh";
        check(ping, 1, true);
        check(&ping[..12], 1, true);
        check(&ping[..5], 0, true);
        check(&[&ping[..], b"\0\0\x04"].concat(), 1, true);
        check(&[&ping[..], b"x"].concat(), 1, false);
        check(&[&ping[..], ping].concat(), 2, true);
    }
}
