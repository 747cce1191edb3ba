//! One direction cut into records (RFC 8446 section 5.1). What is in them is handed on as it comes.

use crate::input::{Bytes, Cause, Hole};
use flow_model::Ts;

pub(super) const CHANGE_CIPHER_SPEC: u8 = 20;
pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
pub(super) const APPLICATION_DATA: u8 = 23;
/// Of RFC 6520.
const HEARTBEAT: u8 = 24;
/// Not of the registry: a ClientHello in the form of SSL 2.0 (RFC 5246 appendix E.2).
pub(super) const OLD_HELLO: u8 = 0x80;

const HEADER: u8 = 5;
/// Of what is encrypted; RFC 5246 section 6.2.3.
const LONGEST: u16 = (1 << 14) + 2048;

/// A place in a direction's records.
#[derive(Debug, Default)]
pub(super) struct Records {
    head: [u8; HEADER as usize],
    /// Bytes of `head`; all of them while a record is under way.
    have: u8,
    length: u16,
    /// Bytes of the record under way that are to come.
    left: u16,
    /// When its first byte passed.
    pub first: Ts,
    /// The first record is a hello in the form of SSL 2.0.
    pub old_hello: bool,
    /// The place of the next record is lost until a message with this number or a higher one begins.
    lost: Option<u32>,
    /// The record began where a message did, after bytes of unknown number were missing.
    unsure: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Part<'a> {
    /// Of a record of this kind.
    Content(u8, &'a [u8]),
    End(Record),
    /// What comes is no record.
    Other,
}

/// A record that is over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub kind: u8,
    /// Of its content.
    pub length: u16,
    pub last: Ts,
}

/// What a hole took.
#[derive(Clone, Copy, Debug)]
pub(super) enum Passed {
    /// A part of a record's content.
    Within,
    /// The rest of a record.
    Ended(Record),
    /// The place.
    Place,
}

impl Records {
    /// The next part of `data`, which is shortened by it. `None`: nothing more can be said of it.
    pub(super) fn next<'a>(&mut self, data: &mut Bytes<'a>) -> Option<Part<'a>> {
        if let Some(lost) = self.lost {
            if !data.start || data.turn < lost {
                return None;
            }
            *self = Records { unsure: true, ..Records::default() };
        }
        loop {
            if self.have == HEADER {
                if self.left == 0 {
                    return Some(Part::End(self.end(data.at)));
                }
                let here = usize::from(self.left).min(data.bytes.len());
                let content = data.bytes.get(..here).filter(|content| !content.is_empty())?;
                self.left -= here as u16;
                *data = data.after(here);
                return Some(Part::Content(self.head[0], content));
            }
            let byte = *data.bytes.first()?;
            if self.have == 0 {
                self.first = data.at;
            }
            if let Some(place) = self.head.get_mut(usize::from(self.have)) {
                *place = byte;
            }
            self.have += 1;
            if !self.may_be_header() {
                if self.unsure {
                    self.lose(data.turn.saturating_add(1));
                    return None;
                }
                return Some(Part::Other);
            }
            *data = data.after(1);
        }
    }

    /// Passes over a hole.
    pub(super) fn hole(&mut self, hole: Hole) -> Passed {
        if hole.cause == Cause::Messages {
            *self = Records::default();
            return Passed::Place;
        }
        if self.lost.is_none() && self.have == HEADER && hole.bytes <= u64::from(self.left) {
            self.left -= hole.bytes as u16;
            return if self.left == 0 { Passed::Ended(self.end(hole.at)) } else { Passed::Within };
        }
        self.lose(hole.turn);
        Passed::Place
    }

    /// The place is lost until message `turn`.
    fn lose(&mut self, turn: u32) {
        *self = Records { lost: Some(turn), ..Records::default() };
    }

    fn end(&mut self, last: Ts) -> Record {
        self.have = 0;
        self.unsure = false;
        Record { kind: self.head[0], length: self.length, last }
    }

    /// Looks at the bytes of the header that have come; reads its length when it is whole.
    fn may_be_header(&mut self) -> bool {
        let [kind, major, minor, high, low] = self.head;
        if self.old_hello {
            if self.have == 2 {
                self.length = u16::from_be_bytes([kind & 0x7f, major]);
                self.head[0] = OLD_HELLO;
                self.have = HEADER;
                self.left = self.length;
                self.old_hello = false;
            }
            return true;
        }
        match self.have {
            1 => (CHANGE_CIPHER_SPEC..=HEARTBEAT).contains(&kind),
            2 => major == 3,
            3 => minor <= 4,
            4 => true,
            _ => {
                self.length = u16::from_be_bytes([high, low]);
                self.left = self.length;
                self.length <= LONGEST
            }
        }
    }
}

/// Cuts the content of handshake records into messages (RFC 8446 section 4), of which only what is
/// read is kept: no certificate, no key, no ticket.
#[derive(Debug, Default)]
pub(super) struct Messages {
    /// The message under way, or the one that is over: four bytes of header and what is kept.
    bytes: Vec<u8>,
    /// Bytes of it that have come.
    passed: usize,
    over: bool,
    /// Bytes are missing: nobody knows any more where a message begins.
    stopped: bool,
}

pub(super) const CLIENT_HELLO: u8 = 1;
pub(super) const SERVER_HELLO: u8 = 2;
/// Of drafts of TLS 1.3.
pub(super) const HELLO_RETRY_REQUEST: u8 = 6;
pub(super) const SERVER_KEY_EXCHANGE: u8 = 12;
pub(super) const SERVER_HELLO_DONE: u8 = 14;

impl Messages {
    /// The next message that ends in `content`, which is shortened: as much as is kept, at most `most` bytes.
    pub(super) fn next(&mut self, content: &mut &[u8], most: usize) -> Option<&[u8]> {
        if self.stopped {
            return None;
        }
        if self.over {
            self.bytes.clear();
            (self.passed, self.over) = (0, false);
        }
        while let Some(&byte) = content.first() {
            let taken = match self.left(most) {
                None => {
                    self.bytes.push(byte);
                    1
                }
                Some((to_keep, left)) => {
                    let here = if to_keep > 0 { to_keep } else { left }.min(content.len());
                    if to_keep > 0 {
                        self.bytes.extend_from_slice(content.get(..here).unwrap_or_default());
                    }
                    here
                }
            };
            self.passed += taken;
            *content = content.get(taken..).unwrap_or_default();
            if self.left(most).is_some_and(|(_, left)| left == 0) {
                self.over = true;
                return Some(&self.bytes);
            }
        }
        None
    }

    /// What was kept of a hello that will not become whole.
    pub(super) fn cut(&self) -> Option<&[u8]> {
        Some(&*self.bytes).filter(|bytes| !self.over && matches!(bytes.first(), Some(&(CLIENT_HELLO | SERVER_HELLO))))
    }

    /// Keeps raw bytes: a hello in the form of SSL 2.0 has no header.
    pub(super) fn keep(&mut self, content: &[u8], most: usize) {
        let room = most.saturating_sub(self.bytes.len()).min(content.len());
        self.bytes.extend_from_slice(content.get(..room).unwrap_or_default());
    }

    pub(super) fn kept(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads no more.
    pub(super) fn stop(&mut self) {
        *self = Messages { stopped: true, ..Messages::default() };
    }

    /// Bytes of the message under way that are to be kept, and all that are to come; `None` while its
    /// header is not whole.
    fn left(&self, most: usize) -> Option<(usize, usize)> {
        let &[kind, high, middle, low] = self.bytes.get(..4)? else { return None };
        let length = 4 + u32::from_be_bytes([0, high, middle, low]) as usize;
        let kept = match kind {
            CLIENT_HELLO | SERVER_HELLO => length.min(most.max(4)),
            // Kind and number of the curve (RFC 8422 section 5.4).
            SERVER_KEY_EXCHANGE => length.min(7),
            _ => 4,
        };
        Some((kept.saturating_sub(self.bytes.len()), length - self.passed.min(length)))
    }
}
