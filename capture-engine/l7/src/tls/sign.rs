//! What the first bytes of a message say: whether a handshake of TLS begins, or goes on that began before.

use super::records::{CLIENT_HELLO, HANDSHAKE, SERVER_HELLO};
use crate::dissector::Sign;
use crate::http1;

/// Bytes of a MySQL SSLRequest: its header, flags, sizes, zeros. The ClientHello follows in the same message.
const MYSQL_REQUEST: usize = 36;

pub(super) fn recognise(bytes: &[u8]) -> Sign {
    if let Some(after) = before_hello(bytes) {
        return match after {
            0 => Sign::More,
            after => match hello(bytes.get(after..).unwrap_or_default()) {
                Sign::Request { .. } => Sign::Request { after },
                Sign::More => Sign::More,
                _ => Sign::No,
            },
        };
    }
    match hello(bytes) {
        Sign::No if is_old_hello(bytes) => Sign::Request { after: 0 },
        sign => sign,
    }
}

/// A record that is not the beginning of a handshake, whether its handshake is under way, as far as one can see.
pub(crate) fn midway(bytes: &[u8]) -> Option<bool> {
    let under_way = match *bytes {
        [HANDSHAKE, ..] | [0x14, _, _, 0, 1, 1, ..] => true,
        [0x14..=0x17, ..] => false,
        _ => return None,
    };
    (matches!(bytes, [_, 3, 0..=4, ..]) && hello(bytes) == Sign::No).then_some(under_way)
}

fn hello(bytes: &[u8]) -> Sign {
    let fits = match bytes {
        [0x14..=0x17] | [0x14..=0x17, 3] => return Sign::More,
        [0x14 | HANDSHAKE, 3, 0..=4] | [0x14 | HANDSHAKE, 3, 0..=4, _] | [0x14, 3, 0..=4, _, _] => return Sign::More,
        [HANDSHAKE, 3, 0..=4, high, low, ..] => matches!(u16::from_be_bytes([*high, *low]), 1..=0x4000),
        _ => false,
    };
    if !fits {
        return Sign::No;
    }
    let length = bytes.get(3..5).map_or(0, |length| length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)));
    // A message may be cut into many records; of what is in the first, its kind and its length tell.
    let content = bytes.get(5..).unwrap_or_default();
    let content = content.get(..length).unwrap_or(content);
    let Some(kind @ (&CLIENT_HELLO | &SERVER_HELLO)) = content.first() else {
        return if content.is_empty() { Sign::More } else { Sign::No };
    };
    if content.len() < length.min(6) {
        return Sign::More;
    }
    let length = match content {
        [_, high, middle, low, ..] => u32::from_be_bytes([0, *high, *middle, *low]),
        // 131,396 is what OpenSSL takes.
        _ => 64,
    };
    let version = content.get(4..6).unwrap_or(&[3, 1]);
    if !(36..=1 << 17).contains(&length) || !matches!(version, [3, 0..=4] | [0x7f, _]) {
        return Sign::No;
    }
    if *kind == CLIENT_HELLO { Sign::Request { after: 0 } } else { Sign::Response }
}

/// A ClientHello in the form of SSL 2.0 that offers more than that (RFC 5246 appendix E.2).
pub(super) fn is_old_hello(bytes: &[u8]) -> bool {
    let &[high, low, 1, 3, 0..=3, c1, c0, 0, session @ (0 | 16), 0, challenge @ 16..=32, ..] = bytes else {
        return false;
    };
    let length = u16::from_be_bytes([high & 0x7f, low]);
    let ciphers = u16::from_be_bytes([c1, c0]);
    let sum = 9 + u32::from(ciphers) + u32::from(session) + u32::from(challenge);
    high & 0x80 != 0 && ciphers > 0 && ciphers.is_multiple_of(3) && u32::from(length) == sum
}

/// Length of what stands before a ClientHello in its message; 0 while that is not whole.
fn before_hello(bytes: &[u8]) -> Option<usize> {
    http1::preamble(bytes).or_else(|| mysql_request(bytes))
}

/// MySQL's client asks for TLS and does not wait for an answer (protocol "SSLRequest").
fn mysql_request(bytes: &[u8]) -> Option<usize> {
    const SSL: u8 = 0x08;
    let request = bytes.get(..MYSQL_REQUEST)?;
    let fits = request.starts_with(&[0x20, 0, 0, 1])
        && request.get(5).is_some_and(|flags| flags & SSL != 0)
        && request.get(13..36).is_some_and(|zeros| zeros.iter().filter(|byte| **byte != 0).count() <= 4);
    fits.then_some(if bytes.len() == MYSQL_REQUEST { 0 } else { MYSQL_REQUEST })
}
