//! Where the two directions stand: the command and the reply under way.

use super::command::{Command, Word};
use super::scan::{Extent, Scan, Step};
use flow_model::{Notes, Ts};

/// Where the client's bytes stand.
#[derive(Debug, Default)]
pub(super) struct Requests {
    pub(super) scan: Scan,
    /// The command under way.
    pub(super) under_way: Option<Partial>,
    /// Nothing is known until a message begins.
    pub(super) lost: bool,
}

/// A command of which bytes are to come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Partial {
    pub(super) start: Ts,
    pub(super) last: Ts,
    pub(super) turn: u32,
    pub(super) bytes: u64,
    pub(super) command: Command,
    /// Arguments to come; `None` before their number has come.
    pub(super) left: Option<u32>,
    pub(super) notes: Notes,
    /// Its end was not seen, and its reply was.
    pub(super) answered: bool,
}

impl Requests {
    /// A command is under way.
    pub(super) fn is_amid(&self) -> bool {
        self.under_way.is_some()
    }

    /// Forgets the command under way, and with it the place; false where there is none.
    pub(super) fn drop_partial(&mut self) -> bool {
        let any = self.under_way.take().is_some();
        self.lost |= any;
        any
    }
}

/// Where the server's bytes stand.
#[derive(Debug, Default)]
pub(super) struct Replies {
    pub(super) scan: Scan,
    pub(super) extent: Extent,
    pub(super) state: State,
    /// The reply under way.
    pub(super) under_way: Option<Reply>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    #[default]
    Known,
    /// Inside of a reply of which bytes are missing; it ends with its message.
    Unframed,
    /// Nothing is known until a message begins.
    Lost,
}

#[derive(Debug)]
pub(super) struct Reply {
    /// Message in which it began.
    pub(super) turn: u32,
    pub(super) start: Ts,
    pub(super) last: Ts,
    pub(super) bytes: u64,
    pub(super) notes: Notes,
    pub(super) part: Part,
    /// Its first byte, attributes left out; 0 before it has come.
    pub(super) kind: u8,
    pub(super) said: Said,
    pub(super) word: Word,
    pub(super) code: Box<str>,
}

/// What of a reply is to be looked at next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Head,
    First,
    Rest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Other,
    Ok,
    /// The command waits for `EXEC`.
    Queued,
    /// A line of `MONITOR`.
    Seen,
    Null,
}

/// An error's first word is one of the server's if it looks like this; else it may be anything.
const LONGEST_CODE: usize = 24;

impl Replies {
    pub(super) fn is_amid(&self) -> bool {
        self.under_way.is_some()
    }

    pub(super) fn is_lost(&self) -> bool {
        self.state == State::Lost
    }

    /// A reply begins at the next byte, if one begins there at all.
    pub(super) fn is_clear(&self) -> bool {
        self.state == State::Known && self.under_way.is_none()
    }

    pub(super) fn lose(&mut self) {
        *self = Replies { state: State::Lost, ..Replies::default() };
    }

    /// It is known what the reply under way is.
    pub(super) fn has_begun(&self) -> bool {
        self.under_way.as_ref().is_some_and(|reply| reply.part != Part::Head)
    }

    /// When the last byte of the reply under way came.
    pub(super) fn last(&self) -> Ts {
        self.under_way.as_ref().map_or_else(Ts::default, |reply| reply.last)
    }

    /// The reply under way, if there is one, ended not before `at`.
    pub(super) fn reaches(&mut self, at: Ts) {
        if let (State::Unframed, Some(reply)) = (self.state, &mut self.under_way) {
            reply.last = reply.last.max(at);
        }
    }

    /// Bytes to come of the reply under way, where they are all of its last value.
    pub(super) fn last_bytes(&self) -> Option<u64> {
        if self.state != State::Known || !self.extent.is_at_last() {
            return None;
        }
        self.scan.left().filter(|_| self.under_way.is_some())
    }

    /// Counts an element of the reply under way; false where it is none. `at_last`: as it was before it.
    pub(super) fn element(&mut self, step: Step) -> bool {
        let at_last = self.extent.is_at_last();
        let text = self.scan.text();
        let (kind, text) = match step {
            Step::Bulk { kind, .. } => {
                self.extent.bulk(kind);
                (kind, text)
            }
            Step::Line if self.extent.line(text) => text.split_first().map_or((0, text), |(kind, rest)| (*kind, rest)),
            _ => return false,
        };
        let Some(reply) = &mut self.under_way else { return true };
        match reply.part {
            Part::Head if at_last && kind != b'|' => {
                reply.kind = kind;
                reply.part = Part::Rest;
                match kind {
                    b'-' | b'!' => reply.code = code(text),
                    b'+' if text == b"OK" => reply.said = Said::Ok,
                    b'+' if text == b"QUEUED" => reply.said = Said::Queued,
                    b'+' if text.first().is_some_and(u8::is_ascii_digit) => reply.said = Said::Seen,
                    b'_' => reply.said = Said::Null,
                    b'*' | b'$' if text == b"-1" && step == Step::Line => reply.said = Said::Null,
                    b'*' | b'>' if !self.extent.is_whole() => reply.part = Part::First,
                    _ => {}
                }
            }
            Part::First => {
                reply.part = Part::Rest;
                if matches!(kind, b'$' | b'+') {
                    reply.word = Word::of(text);
                }
            }
            Part::Head | Part::Rest => {}
        }
        true
    }
}

/// The first word of an error, as servers write it.
fn code(text: &[u8]) -> Box<str> {
    let word = text.split(|byte| *byte == b' ').next().unwrap_or_default();
    let is_code = (1..=LONGEST_CODE).contains(&word.len())
        && word.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_');
    let word = if is_code { std::str::from_utf8(word).ok() } else { None };
    Box::from(word.unwrap_or("other"))
}
