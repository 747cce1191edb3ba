//! How a source may follow the frames of a protocol and copy only their beginnings: each is a
//! constant of the protocol's folder.

use crate::Asked;

/// The frames of a protocol, as far as their lengths tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    /// Where a frame says its length.
    pub length: Length,
    /// Bytes of the header, 1 to 16; no frame is shorter. Of headers that vary, the least.
    pub header: u8,
    /// Bytes of the frame that its length does not count.
    pub uncounted: i32,
    /// Place of a frame's kind within `header` bytes, and the bits of it that count. None: all are of
    /// class 0.
    pub kind: Option<(u8, u8)>,
    /// Kinds of a class other than 0.
    pub classes: &'static [(u8, &'static [u8])],
    /// Bytes of a frame of each class that are copied, from its header on; 0: nothing tells of it.
    pub keep: [u32; 4],
    /// Frames of a packet that are followed, 64 at most.
    pub most: u32,
    /// A message (see [`Piece`](crate::Piece)) begins with a header.
    pub aligned: bool,
    /// A packet with more than `most` frames is one of many rows: of the message's rest only the last
    /// 256 bytes are copied. Else the direction is copied from there on, until
    /// [`Tcp::headers`](crate::Tcp::headers) tells where a header is.
    pub rows: bool,
    /// Frames of class 3 are many and say no more than their length: of those that follow one another the
    /// first is told, and what goes on behind its packet. Any number of them is followed.
    pub runs: bool,
}

/// Where a frame says its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// In `width` bytes (1 to 4) at `at`.
    Fixed {
        /// Place of the first of them.
        at: u8,
        /// Their number.
        width: u8,
        /// The most significant one is first.
        big_endian: bool,
    },
    /// In 7 bits of each byte from `at` on, the least significant first; four bytes at most. The
    /// frame goes on behind them.
    Varint {
        /// Place of the first of them.
        at: u8,
    },
    /// As RFC 6455 section 5.2 has it.
    WebSocket,
    /// Nowhere that a source could find: the first `keep[0]` bytes of each packet are copied.
    Packets,
}

/// What a source that follows frames, or counts requests, says of a piece.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// So many bytes right before the piece passed and were left out, inside of frames that were followed.
    pub skipped: u32,
    /// What the piece leaves out lies inside of frames, too.
    pub frames: bool,
    /// The source does not know where the next header is.
    pub astray: bool,
    /// The last bytes of a message of rows: they begin anywhere in a frame.
    pub tail: bool,
    /// How often the client has asked ([`Interest::Pipeline`](crate::Interest::Pipeline)): before the piece, where it
    /// is the client's, else until then.
    pub asked: Option<Asked>,
}
