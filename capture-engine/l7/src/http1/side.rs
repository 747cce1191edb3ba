//! One direction of a connection: where in a message it stands, and the head that it collects, of a
//! request or a response alike, which may come in several pieces.

use super::chunked::Chunked;
use crate::Limits;
use crate::input::Bytes;
use flow_model::{Notes, Ts};

/// Where in a message a direction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// A head begins here, or is being collected in `Side::head`.
    Start,
    /// This many bytes of the body are to come.
    Body(u64),
    Chunked(Chunked),
    /// The body ends with the connection.
    Close,
    /// Inside a message whose framing is lost; it ends with the message of the flow.
    Unframed,
    /// Nothing is known until a message begins.
    Lost,
}

/// One direction of a connection.
#[derive(Debug)]
pub(super) struct Side {
    pub state: State,
    /// The head that is being collected.
    pub head: Option<Box<PartialHead>>,
}

/// The beginning of a head that has not come to its end.
#[derive(Debug)]
pub(super) struct PartialHead {
    pub bytes: Vec<u8>,
    pub first: Ts,
    pub last: Ts,
    pub turn: u32,
}

/// When and in which message a request or a response began, and how much of it its head is.
pub(super) struct Begin {
    pub at: Ts,
    pub last: Ts,
    pub turn: u32,
    pub bytes: u64,
    pub notes: Notes,
}

/// As much of a head as there is.
pub(super) enum Gathered<'a> {
    /// It begins here, behind this many bytes of empty lines.
    Here { text: &'a [u8], blank: usize },
    /// It began in an earlier piece, which had this many bytes of it; so many were added.
    Begun { partial: Box<PartialHead>, had: usize, added: usize },
}

impl Side {
    // Inline: what it returns is large, and made for each message.
    #[inline]
    /// The text of the head under way with `bytes` behind it; `None` for nothing but empty lines,
    /// which may come before a head (RFC 9112 section 2.2).
    pub(super) fn gather<'a>(&mut self, data: &Bytes<'_>, bytes: &'a [u8], limits: &Limits) -> Option<Gathered<'a>> {
        if let Some(mut partial) = self.head.take() {
            let (had, added) = partial.grow(data, bytes, limits);
            return Some(Gathered::Begun { partial, had, added });
        }
        let blank = bytes.iter().take_while(|&&b| b == b'\r' || b == b'\n').count();
        let text = bytes.get(blank..).filter(|text| !text.is_empty())?;
        Some(Gathered::Here { text, blank })
    }

    /// Keeps a head that has no end yet; how many bytes of this piece it took.
    pub(super) fn keep(&mut self, data: &Bytes<'_>, gathered: Gathered<'_>) -> usize {
        let (partial, taken) = match gathered {
            Gathered::Here { text, blank } => {
                let (at, turn) = (data.at, data.turn);
                (Box::new(PartialHead { bytes: text.to_vec(), first: at, last: at, turn }), blank + text.len())
            }
            Gathered::Begun { partial, added, .. } => (partial, added),
        };
        self.head = Some(partial);
        taken
    }

    /// A head longer than the bound is read as far as it goes.
    pub(super) fn head_is_full(&self, limits: &Limits) -> bool {
        self.head.as_ref().is_some_and(|partial| partial.bytes.len() >= limits.head_bytes)
    }
}

impl Gathered<'_> {
    pub(super) fn text(&self) -> &[u8] {
        match self {
            Gathered::Here { text, .. } => text,
            Gathered::Begun { partial, .. } => &partial.bytes,
        }
    }

    pub(super) fn begins_here(&self) -> bool {
        matches!(self, Gathered::Here { .. })
    }

    /// The head is whole and has `length` bytes.
    pub(super) fn begin(&self, data: &Bytes<'_>, length: usize) -> Begin {
        let (at, last, turn) = match self {
            Gathered::Here { .. } => (data.at, data.at, data.turn),
            Gathered::Begun { partial, .. } => (partial.first, partial.last, partial.turn),
        };
        Begin { at, last, turn, bytes: length as u64, notes: Notes::default() }
    }

    /// Bytes of this piece that a whole head of `length` bytes takes.
    pub(super) fn used(&self, length: usize) -> usize {
        match self {
            Gathered::Here { blank, .. } => blank + length,
            Gathered::Begun { had, .. } => length.saturating_sub(*had),
        }
    }
}

impl PartialHead {
    /// Takes as much of `bytes` as the bound leaves room for, and at least one: a head that is too
    /// long must be seen to be. Returns its length before, and how much was taken.
    fn grow(&mut self, data: &Bytes<'_>, bytes: &[u8], limits: &Limits) -> (usize, usize) {
        let had = self.bytes.len();
        let room = limits.head_bytes.saturating_sub(had).max(1).min(bytes.len());
        self.bytes.extend_from_slice(bytes.get(..room).unwrap_or_default());
        self.last = self.last.max(data.at);
        (had, room)
    }
}
