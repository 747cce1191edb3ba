//! One direction of a connection: where in a message it stands, and the head that it collects, of a
//! request or a response alike, which may come in several pieces.

use super::chunked::Chunked;
use crate::Limits;
use crate::input::Bytes;
use flow_model::{Notes, Ts};
use memchr::{memchr, memmem};

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
    /// Its first line is whole.
    pub in_fields: bool,
}

/// After so many bytes without a line end a first line stays what it is: methods have 32 at most, and
/// of a target 64 are looked at.
const FIRST_LINE_SURE: usize = 128;

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
    /// The text of the head under way with `bytes` behind it; `None` for nothing but empty lines,
    /// which may come before a head (RFC 9112 section 2.2).
    // Inline: what it returns is large, and made for each message.
    #[inline]
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
                let in_fields = memchr(b'\n', text).is_some();
                (
                    Box::new(PartialHead { bytes: text.to_vec(), first: at, last: at, turn, in_fields }),
                    blank + text.len(),
                )
            }
            Gathered::Begun { mut partial, had, added } => {
                partial.in_fields |= memchr(b'\n', partial.added(had)).is_some();
                (partial, added)
            }
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

    /// A head that had no end still has none: what was added cannot end it. So a head that comes byte
    /// by byte is not read again with each of them.
    pub(super) fn goes_on(&self) -> bool {
        let Gathered::Begun { partial, had, .. } = self else { return false };
        if partial.in_fields {
            // The line end before an empty line may have come earlier.
            let new = partial.added(had.saturating_sub(2));
            memmem::find(new, b"\n\n").is_none() && memmem::find(new, b"\n\r\n").is_none()
        } else {
            *had >= FIRST_LINE_SURE && memchr(b'\n', partial.added(*had)).is_none()
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
    fn added(&self, had: usize) -> &[u8] {
        self.bytes.get(had..).unwrap_or_default()
    }

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

#[cfg(test)]
mod tests {
    use super::super::head::{self, Scan};
    use super::*;
    use proptest::prelude::*;

    /// Feeds a head in pieces; how often it had to be read, and whether `goes_on` ever hid something.
    fn reads(bytes: &[u8], pieces: impl Iterator<Item = usize>) -> (usize, bool) {
        let mut side = Side { state: State::Start, head: None };
        let limits = Limits { head_bytes: 1 << 20, ..Limits::default() };
        let (mut rest, mut reads, mut right) = (bytes, 0, true);
        for length in pieces {
            let (piece, after) = rest.split_at(length.clamp(1, rest.len().max(1)).min(rest.len()));
            rest = after;
            let data = Bytes { at: Ts(0), turn: 1, start: false, tail: false, bytes: piece };
            let Some(gathered) = side.gather(&data, piece, &limits) else { continue };
            let text = gathered.text();
            let over = [head::request(text) != Scan::Partial, head::response(text) != Scan::Partial];
            if gathered.goes_on() {
                // Whichever of the two it was before, it still is.
                let had = match &gathered {
                    Gathered::Begun { partial, had, .. } => &partial.bytes[..*had],
                    Gathered::Here { .. } => &[],
                };
                right &= [head::request(had) != Scan::Partial, head::response(had) != Scan::Partial] == over;
            } else {
                reads += 1;
            }
            side.keep(&data, gathered);
        }
        (reads, right)
    }

    #[test]
    fn a_head_that_comes_byte_by_byte_is_read_a_few_times_however_long_it_is() {
        for filler in [1_000, 8_000] {
            let target = format!("GET /{} HTTP/1.1\r\nHost: a", "x".repeat(filler));
            let fields = format!("GET / HTTP/1.1\r\n{}", "a: b\r\n".repeat(filler / 6));
            for text in [target, fields] {
                let (reads, right) = reads(text.as_bytes(), std::iter::repeat_n(1, text.len()));
                assert!(reads <= FIRST_LINE_SURE + 2 && right, "{reads} of {}", text.len());
            }
        }
    }

    proptest! {
        #[test]
        fn what_goes_on_is_no_whole_head(
            words in prop::collection::vec(prop::sample::select(vec![
                "GET ", "/", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", " HTTP/1.1", "\r", "\n",
                "\r\n", "\n\n", "\r\n\r\n", "a: b", " ", "\t", "HTTP/1.1 200 OK", "\u{1}",
            ]), 1..24),
            begin in prop::sample::select(vec!["", "GET / HTTP/1.1\r\n", "HTTP/1.1 200 OK\r\n", "GET /"]),
            pieces in prop::collection::vec(1usize..90, 1..200),
        ) {
            let text = begin.to_owned() + &words.concat();
            prop_assert!(reads(text.as_bytes(), pieces.into_iter()).1);
        }
    }
}
