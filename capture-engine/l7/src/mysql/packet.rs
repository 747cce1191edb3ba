//! Packets of the protocol ("MySQL Packets" in its source's manual): a length of three bytes, the least
//! significant first, a number that counts the packets of an exchange, and what they carry. One of the
//! greatest length goes on in the next.

use flow_model::Ts;

/// Length and number.
pub(super) const HEADER: usize = 4;

/// A packet of this length goes on in the next one.
pub(super) const FULL: u32 = 0xff_ffff;

/// Bytes of a payload that are looked at: of a command, of an answer, and of what begins a connection.
pub(super) const KEPT_CLIENT: usize = 252;
pub(super) const KEPT_SERVER: usize = 32;
pub(super) const KEPT_LOGIN: usize = 1024;
pub(super) const KEPT_GREETING: usize = 128;

/// Capabilities of both ends.
pub(super) const PROTOCOL_41: u32 = 1 << 9;
pub(super) const CONNECT_WITH_DB: u32 = 1 << 3;
pub(super) const COMPRESS: u32 = 1 << 5;
pub(super) const SSL: u32 = 1 << 11;
pub(super) const SECURE_CONNECTION: u32 = 1 << 15;
pub(super) const LENENC_AUTH: u32 = 1 << 21;
pub(super) const DEPRECATE_EOF: u32 = 1 << 24;
pub(super) const ZSTD: u32 = 1 << 26;

/// What a server says of its state where a result ends.
const MORE_RESULTS: u16 = 1 << 3;
const CURSOR: u16 = 1 << 6;

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    Client,
    Server,
}

/// A packet that is over, with those in which it went on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    /// The first bytes of its payload.
    pub body: &'a [u8],
    /// Bytes of the payload, and of all of it.
    pub payload: u64,
    pub length: u64,
    /// The number of its first part, and of its last.
    pub number: u8,
    pub last_number: u8,
    /// When its first and its last byte passed.
    pub first: Ts,
    pub last: Ts,
    /// The message of the flow in which it ended.
    pub turn: u32,
}

impl Packet<'_> {
    /// The same, with the bytes that are kept of it in `place`.
    pub(super) fn kept_in<'b>(&self, place: &'b mut [u8; KEPT_GREETING]) -> Packet<'b> {
        let length = self.body.len().min(KEPT_GREETING);
        if let (Some(to), Some(from)) = (place.get_mut(..length), self.body.get(..length)) {
            to.copy_from_slice(from);
        }
        Packet { body: place.get(..length).unwrap_or_default(), ..*self }
    }
}

/// Length of the payload.
pub(super) fn length(head: [u8; HEADER]) -> u32 {
    u32::from_le_bytes([head[0], head[1], head[2], 0])
}

/// An integer of 1, 3, 4 or 9 bytes, and what is behind it.
pub(super) fn integer(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let width = match first {
        0..=0xfa => return Some((u64::from(first), rest)),
        0xfc => 2,
        0xfd => 3,
        0xfe => 8,
        _ => return None,
    };
    let (bytes, rest) = rest.split_at_checked(width)?;
    Some((bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)), rest))
}

/// What the end of a result says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status(u16);

impl Status {
    /// Another result follows.
    pub(super) fn more(self) -> bool {
        self.0 & MORE_RESULTS != 0
    }

    /// Rows are to be fetched: none follow.
    pub(super) fn cursor(self) -> bool {
        self.0 & CURSOR != 0
    }

    /// As it is outside of a transaction, or in one.
    pub(super) fn is_usual(self) -> bool {
        self.is_sound() && self.0 & 3 != 0
    }

    /// The bit that no server sets is not set.
    pub(super) fn is_sound(self) -> bool {
        self.0 & 1 << 2 == 0
    }
}

/// Of an OK packet, which also begins with 0xfe where it ends rows.
pub(super) fn ok(payload: &[u8]) -> Option<Status> {
    let (_affected, rest) = integer(payload.get(1..)?)?;
    let (_last_id, rest) = integer(rest)?;
    rest.first_chunk::<2>().map(|status| Status(u16::from_le_bytes(*status)))
}

/// Of an EOF packet, which has 5 bytes: an OK packet has 7 at least.
pub(super) fn eof(payload: &[u8]) -> Option<Status> {
    match payload {
        [0xfe, _, _, low, high] => Some(Status(u16::from_le_bytes([*low, *high]))),
        _ => None,
    }
}

/// Code of an ERR packet.
pub(super) fn error(payload: &[u8]) -> Option<u16> {
    match payload {
        [0xff, low, high, ..] => Some(u16::from_le_bytes([*low, *high])),
        _ => None,
    }
}

/// The code with which MariaDB tells how far it is; no error.
pub(super) const PROGRESS: u16 = 0xffff;

/// Bytes up to the next zero, and what is behind it; `None` where there is no zero.
pub(super) fn until_nul(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(0, bytes)?;
    Some((bytes.get(..end)?, bytes.get(end + 1..)?))
}

/// The end of a message that is over: the last packet of an answer, of which only these bytes were seen. They
/// are the message's last ones, and begin anywhere. `eof`: how results of the connection end, if known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    Done,
    Failed(u16),
    Unknown,
}

pub(super) fn tail(bytes: &[u8], eof_ends: Option<bool>) -> Tail {
    let done = |status: Status| if status.more() || !status.is_sound() { Tail::Unknown } else { Tail::Done };
    if eof_ends != Some(false)
        && let [.., 0, 0, _, 0xfe, warned, warned2, low, high] = *bytes
        && bytes.len().checked_sub(9).is_none_or(|at| bytes.get(at) == Some(&5))
        && let Some(status) = eof(&[0xfe, warned, warned2, low, high])
    {
        return done(status);
    }
    if eof_ends != Some(true)
        && let [.., 0xfe, 0, 0, low, high, _, _] = *bytes
        && (bytes.len() < 11 || matches!(bytes.get(bytes.len() - 11..), Some([7, 0, 0, _, ..])))
    {
        return done(Status(u16::from_le_bytes([low, high])));
    }
    // With information of the session, or an error: its length leads to the end.
    let begins = |at: usize| {
        let (head, payload) = bytes.get(at..)?.split_first_chunk::<HEADER>()?;
        if length(*head) as usize != payload.len() {
            return None;
        }
        match payload {
            [0xfe, ..] if eof_ends != Some(true) && payload.len() > 7 => ok(payload).map(done),
            [0xff, _, _, b'#', rest @ ..] => {
                let state = rest.get(..5)?.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
                error(payload).filter(|code| state && *code != PROGRESS).map(Tail::Failed)
            }
            _ => None,
        }
    };
    let mut found = (0..bytes.len().saturating_sub(HEADER)).filter_map(begins);
    match (found.next(), found.next()) {
        (Some(tail), None) => tail,
        _ => Tail::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_have_the_width_that_they_say() {
        assert_eq!(integer(&[250, 9]), Some((250, &[9][..])));
        assert_eq!(integer(&[0xfc, 1, 2]), Some((0x201, &[][..])));
        assert_eq!(integer(&[0xfd, 1, 2, 3]), Some((0x3_0201, &[][..])));
        assert_eq!(integer(&[0xfe, 1, 0, 0, 0, 0, 0, 0, 0x80]), Some((1 << 63 | 1, &[][..])));
        for bytes in [&[][..], &[0xfb], &[0xff], &[0xfc, 1], &[0xfe, 1, 2, 3, 4, 5, 6, 7]] {
            assert_eq!(integer(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn the_last_bytes_of_a_result_say_how_it_ended() {
        let eof = [5, 0, 0, 9, 0xfe, 0, 0, 2, 0];
        let ok = [7, 0, 0, 9, 0xfe, 0, 0, 2, 0, 0, 0];
        let session = [10, 0, 0, 9, 0xfe, 0, 0, 2, 0x40, 0, 0, 2, 3, 4];
        let error = [12, 0, 0, 9, 0xff, 0x25, 5, b'#', b'7', b'0', b'1', b'0', b'0', b'Q', b'u', b'e'];
        let more = [7, 0, 0, 9, 0xfe, 0, 0, 10, 0, 0, 0];
        let row = [3, 0, 0, 8, 2, b'a', b'b'];
        let behind = |end: &[u8]| [&row[..], end].concat();
        assert_eq!(tail(&behind(&eof), Some(true)), Tail::Done);
        assert_eq!(tail(&behind(&eof), None), Tail::Done);
        assert_eq!(tail(&eof[1..], Some(true)), Tail::Done);
        assert_eq!(tail(&eof, Some(false)), Tail::Unknown);
        assert_eq!(tail(&behind(&ok), Some(false)), Tail::Done);
        assert_eq!(tail(&ok[3..], Some(false)), Tail::Done);
        assert_eq!(tail(&ok, Some(true)), Tail::Unknown);
        assert_eq!(tail(&behind(&session), Some(false)), Tail::Done);
        assert_eq!(tail(&behind(&error), None), Tail::Failed(1317));
        assert_eq!(tail(&behind(&more), None), Tail::Unknown);
        assert_eq!(tail(&row, None), Tail::Unknown);
        assert_eq!(tail(&[], None), Tail::Unknown);
    }
}
