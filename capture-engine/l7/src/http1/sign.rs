//! What the first bytes of a message say: whether it is HTTP/1, and who asks.

use super::head::{self, Scan};
use crate::dissector::Sign;
use memchr::memchr;

pub(super) fn recognise(bytes: &[u8]) -> Sign {
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
    let request = if head::request_likely(text) { head::request(text) } else { Scan::Not };
    match (request, head::response(text)) {
        (Scan::Complete { .. }, _) => Sign::Request { after },
        (Scan::Partial, _) if memchr(b'\n', text).is_some() => Sign::Request { after },
        (Scan::Partial, _) | (_, Scan::Partial) => Sign::More,
        _ => Sign::No,
    }
}

/// A head without its end: a request line that is beyond doubt will do.
pub(super) fn recognise_cut(bytes: &[u8]) -> Sign {
    if head::known_request_begins(bytes) { Sign::Request { after: 0 } } else { Sign::No }
}

/// Length of a PROXY protocol header (versions 1 and 2), which proxies put before the first
/// request; 0 while it is not whole.
pub(crate) fn preamble(bytes: &[u8]) -> Option<usize> {
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
