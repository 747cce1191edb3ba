//! Frames of RFC 6455 section 5.2: 2 to 14 bytes of header, and nothing of what they carry but a close's code.

use crate::framing::Framing;

/// What a frame is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    fn of(first: u8) -> Option<Opcode> {
        Some(match first & 0x0f {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            _ => return None,
        })
    }

    /// The name in records and labels.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Opcode::Continuation => "continuation",
            Opcode::Text => "text",
            Opcode::Binary => "binary",
            Opcode::Close => "close",
            Opcode::Ping => "ping",
            Opcode::Pong => "pong",
        }
    }

    pub(super) fn is_control(self) -> bool {
        matches!(self, Opcode::Close | Opcode::Ping | Opcode::Pong)
    }
}

/// What a frame's header says, and the code of a close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub opcode: Opcode,
    /// It is the last of its message.
    pub fin: bool,
    /// RSV1 to RSV3, as in the first byte.
    pub reserved: u8,
    pub masked: bool,
    /// The mask, where there is one.
    pub key: Option<[u8; 4]>,
    /// The length is said in no more bytes than it needs.
    pub minimal: bool,
    pub payload: u64,
    /// Of a close; 1005 where it has none (section 7.4.1). `None` where that was not captured.
    pub code: Option<u16>,
}

/// RSV1: the message is compressed (RFC 7692 section 6).
pub(super) const COMPRESSED: u8 = 0x40;

/// "No status received": what RFC 6455 section 7.4.1 calls a close without a code.
const NO_CODE: u16 = 1005;

/// Bytes of a control frame's payload at most (section 5.5).
const LARGEST_CONTROL: u64 = 125;

/// Bytes of a header from which its length shows, but for the payload's.
fn header_length(second: u8) -> usize {
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    mask + match second & 0x7f {
        126 => 4,
        127 => 10,
        _ => 2,
    }
}

/// Length of the payload; `None` while too little of the header is there.
fn payload(head: &[u8]) -> Option<u64> {
    match head.get(1)? & 0x7f {
        126 => Some(u64::from(u16::from_be_bytes(head.get(2..4)?.try_into().ok()?))),
        127 => Some(u64::from_be_bytes(head.get(2..10)?.try_into().ok()?)),
        length => Some(u64::from(length)),
    }
}

fn key(kept: &[u8], second: u8) -> Option<[u8; 4]> {
    let end = header_length(second);
    kept.get(end - 4..end)?.try_into().ok()
}

impl Header {
    /// Of what was kept of a frame; `None` where it is none, or too little was kept.
    pub(super) fn read(kept: &[u8]) -> Option<Header> {
        let &[first, second, ..] = kept else { return None };
        let opcode = Opcode::of(first)?;
        let payload = payload(kept)?;
        let header = Header {
            opcode,
            fin: first & 0x80 != 0,
            reserved: first & 0x70,
            masked: second & 0x80 != 0,
            key: (second & 0x80 != 0).then(|| key(kept, second)).flatten(),
            minimal: payload >= [0, 126, 0x1_0000][usize::from((second & 0x7f).saturating_sub(125))],
            payload,
            code: None,
        };
        let possible = payload >> 63 == 0 && (!opcode.is_control() || header.fin && payload <= LARGEST_CONTROL);
        possible.then(|| Header { code: header.close_code(kept), ..header })
    }

    fn close_code(self, kept: &[u8]) -> Option<u16> {
        if self.opcode != Opcode::Close {
            return None;
        }
        if self.payload < 2 {
            return Some(NO_CODE);
        }
        let start = header_length(*kept.get(1)?);
        let code: [u8; 2] = kept.get(start..start + 2)?.try_into().ok()?;
        let mask: [u8; 2] = if self.masked { kept.get(start - 4..start - 2)?.try_into().ok()? } else { [0; 2] };
        Some(u16::from_be_bytes(code) ^ u16::from_be_bytes(mask))
    }
}

#[derive(Debug)]
pub(super) struct Format;

impl Framing for Format {
    const HEADER: usize = 2;
    /// The longest header; a close's code is within it.
    const KEPT: usize = 14;

    /// Bytes that can begin no frame are one of their own, which [`Header::read`] refuses: so nothing is
    /// passed over for what they would say of a length.
    fn length(head: &[u8]) -> Option<usize> {
        let &[first, second, ..] = head else { return None };
        let Some(opcode) = Opcode::of(first) else { return Some(2) };
        let payload = payload(head)?;
        if payload >> 63 != 0 || opcode.is_control() && (first & 0x80 == 0 || payload > LARGEST_CONTROL) {
            return Some(head.len());
        }
        usize::try_from(payload).ok()?.checked_add(header_length(second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_says_how_long_its_frame_is() {
        for (head, length) in [
            (&b"\x81"[..], None),
            (b"\x81\x00", Some(2)),
            (b"\x81\x05", Some(7)),
            (b"\x81\x85", Some(11)),
            (b"\x82\x7e", None),
            (b"\x82\x7e\x01", None),
            (b"\x82\x7e\x01\x00", Some(260)),
            (b"\x82\xfe\x01\x00", Some(264)),
            (b"\x82\x7f\0\0\0\0\0\x01\0", None),
            (b"\x82\x7f\0\0\0\0\0\x01\0\0", Some(65_546)),
            (b"\x82\xff\0\0\0\0\0\x01\0\0", Some(65_550)),
            (b"\x83\x05", Some(2)),
            (b"\x08\x02", Some(2)),
            (b"\x89\x7e\x01\x00", Some(4)),
            (b"\x82\x7f\x80\0\0\0\0\x01\0\0", Some(10)),
        ] {
            assert_eq!(Format::length(head), length, "{}", head.escape_ascii());
        }
        for head in
            [&b"\x83\x05"[..], b"\x08\x02", b"\x89\x7e\x01\x00", b"\x82\x7f\x80\0\0\0\0\x01\0\0", b"\x82\x7e\x01"]
        {
            assert_eq!(Header::read(head), None, "{}", head.escape_ascii());
        }
    }

    #[test]
    fn a_code_is_read_through_its_mask() {
        let code = |bytes: &[u8]| Header::read(bytes).and_then(|header| header.code);
        assert_eq!(code(b"\x88\x02\x03\xe8"), Some(1000));
        assert_eq!(code(b"\x88\x82\x01\x02\x03\x04\x02\xea"), Some(1000));
        assert_eq!(code(b"\x88\x80\x01\x02\x03\x04"), Some(1005));
        assert_eq!(code(b"\x88\x00"), Some(1005));
        assert_eq!(code(b"\x88\x02\x03"), None);
        assert_eq!(code(b"\x81\x02\x03\xe8"), None);
    }

    #[test]
    fn a_length_in_more_bytes_than_it_needs_is_told() {
        let minimal = |bytes: &[u8]| Header::read(bytes).map(|header| header.minimal);
        assert_eq!(minimal(b"\x82\x7d"), Some(true));
        assert_eq!(minimal(b"\x82\x7e\0\x7d"), Some(false));
        assert_eq!(minimal(b"\x82\x7e\0\x7e"), Some(true));
        assert_eq!(minimal(b"\x82\x7f\0\0\0\0\0\0\xff\xff"), Some(false));
        assert_eq!(minimal(b"\x82\x7f\0\0\0\0\0\x01\0\0"), Some(true));
    }
}
