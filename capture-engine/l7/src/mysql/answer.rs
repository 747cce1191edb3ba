//! Where the answer to one command stands. How a result ends shows in its packets: an EOF packet has 5
//! bytes, and the OK packet that has taken its place 7 at least. So nothing has to be known of the login.

use super::command::Answers;
use super::open::Span;
use super::packet::{self, PROGRESS, Packet, Status};

/// What comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Place {
    /// A result, or what a command is answered with.
    #[default]
    Start,
    /// So many columns.
    Columns(u64),
    /// Rows, or the EOF packet before them.
    BehindColumns,
    Rows,
    /// What a statement wants, and then what it gives.
    Parameters(u16, u16),
    BehindParameters(u16),
    Gives(u16),
    /// An EOF packet, or nothing: it may be over.
    Over,
    /// A file of the client's.
    File,
}

/// What has come of the answer to the oldest exchange.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Answer {
    pub span: Span,
    pub place: Place,
    /// Number of the server's next packet, where it is not the first behind one of the client.
    pub next: Option<u8>,
    /// What it answers belongs to both.
    pub login: bool,
}

impl Answer {
    /// What the client says next belongs to it.
    pub(super) fn waits_for_client(&self) -> bool {
        self.login || self.place == Place::File
    }

    pub(super) fn is_amid_rows(&self) -> bool {
        matches!(self.place, Place::BehindColumns | Place::Rows)
    }

    /// Nothing more has to come.
    pub(super) fn may_be_over(&self) -> bool {
        self.place == Place::Over
    }
}

/// What a packet means to the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    On,
    Done,
    Failed(u16),
    /// Unless an EOF packet follows.
    Perhaps,
    /// Its number, for what follows of it, if anything.
    Prepared(u32, bool),
    /// The server wants a file.
    File,
    /// Nothing of it ends.
    Stream,
    /// It is no such answer: something was missed.
    Wrong,
}

/// `eof`: whether the connection's results end with EOF packets, once that is known.
pub(super) fn step(answers: Answers, place: &mut Place, eof: &mut Option<bool>, it: &Packet<'_>) -> Step {
    let first = it.body.first().copied();
    if first.is_none() && it.payload > 0 {
        // A hole began with its payload: it may have been a row as well as the end of them.
        return Step::Wrong;
    }
    if first == Some(0xff) && it.payload < u64::from(packet::FULL) {
        return match packet::error(it.body) {
            Some(PROGRESS) if answers != Answers::Login => Step::On,
            Some(code) => Step::Failed(code),
            None => Step::Wrong,
        };
    }
    match answers {
        Answers::Results => result(place, eof, it, first),
        Answers::Rows => rows(place, eof, it),
        Answers::Prepared => prepared(place, eof, it),
        Answers::Once => Step::Done,
        Answers::Login if first == Some(0) => Step::Done,
        Answers::Login => Step::On,
        Answers::Plainly => match ended(it) {
            Some(_) => Step::Done,
            None => Step::Wrong,
        },
        Answers::Stream => Step::Stream,
        Answers::Never => Step::Wrong,
    }
}

/// What an OK or an EOF packet says; `None` where it is neither.
fn ended(it: &Packet<'_>) -> Option<Status> {
    let status = match (it.body.first()?, it.payload) {
        (0xfe, 5) => packet::eof(it.body),
        (0 | 0xfe, 7..0xff_ffff) => packet::ok(it.body),
        _ => None,
    };
    status.filter(|status| status.is_sound())
}

/// Another result follows, or nothing.
fn goes_on(place: &mut Place, status: Status) -> Step {
    *place = Place::Start;
    if status.more() { Step::On } else { Step::Done }
}

fn result(place: &mut Place, eof: &mut Option<bool>, it: &Packet<'_>, first: Option<u8>) -> Step {
    match *place {
        Place::Start => match (first, ended(it)) {
            (Some(0xfb), _) => {
                *place = Place::File;
                Step::File
            }
            (Some(0 | 0xfe), Some(status)) => goes_on(place, status),
            (Some(0 | 0xfe), None) => Step::Wrong,
            _ => columns(place, it),
        },
        Place::Columns(left) if is_column(it) => {
            *place = if left > 1 { Place::Columns(left - 1) } else { Place::BehindColumns };
            Step::On
        }
        Place::BehindColumns if is_eof(it) => {
            *eof = Some(true);
            match packet::eof(it.body) {
                Some(status) if status.cursor() => goes_on(place, status),
                _ => {
                    *place = Place::Rows;
                    Step::On
                }
            }
        }
        Place::BehindColumns => {
            *eof = Some(false);
            *place = Place::Rows;
            rows(place, eof, it)
        }
        Place::Rows => rows(place, eof, it),
        // The client has sent its file.
        Place::File => match ended(it) {
            Some(status) => goes_on(place, status),
            None => Step::Wrong,
        },
        _ => Step::Wrong,
    }
}

/// How many columns there are; and whether they are told, where that can be left out.
fn columns(place: &mut Place, it: &Packet<'_>) -> Step {
    let Some((count, rest)) = packet::integer(it.body) else { return Step::Wrong };
    let told = match (rest, it.payload as usize == it.body.len()) {
        ([], true) => true,
        ([told @ (0 | 1)], true) => *told == 1,
        _ => return Step::Wrong,
    };
    if count == 0 || count > u64::from(u16::MAX) {
        return Step::Wrong;
    }
    *place = if told { Place::Columns(count) } else { Place::BehindColumns };
    Step::On
}

/// A column begins with its catalogue, which is always "def".
fn is_column(it: &Packet<'_>) -> bool {
    it.body.starts_with(b"\x03def")
}

fn is_eof(it: &Packet<'_>) -> bool {
    it.payload == 5 && it.body.first() == Some(&0xfe)
}

fn rows(place: &mut Place, eof: &mut Option<bool>, it: &Packet<'_>) -> Step {
    if it.body.first() != Some(&0xfe) || it.payload >= u64::from(packet::FULL) {
        return Step::On;
    }
    match ended(it) {
        Some(status) => {
            *eof = Some(is_eof(it));
            goes_on(place, status)
        }
        None => Step::Wrong,
    }
}

fn prepared(place: &mut Place, eof: &mut Option<bool>, it: &Packet<'_>) -> Step {
    match *place {
        Place::Start => {
            let [0, a, b, c, d, low, high, low2, high2, _, _, _, told @ ..] = it.body else { return Step::Wrong };
            let (number, gives) = (u32::from_le_bytes([*a, *b, *c, *d]), u16::from_le_bytes([*low, *high]));
            let wants = u16::from_le_bytes([*low2, *high2]);
            *place = match (wants, gives) {
                _ if told.first() == Some(&0) => Place::Over,
                (0, 0) => Place::Over,
                (0, gives) => Place::Gives(gives),
                (wants, gives) => Place::Parameters(wants, gives),
            };
            Step::Prepared(number, *place == Place::Over)
        }
        Place::Parameters(left, gives) if is_column(it) => {
            *place = if left > 1 { Place::Parameters(left - 1, gives) } else { Place::BehindParameters(gives) };
            over(place, *eof)
        }
        Place::BehindParameters(gives) if is_eof(it) => {
            *eof = Some(true);
            *place = Place::Gives(gives);
            if gives == 0 { Step::Done } else { Step::On }
        }
        Place::BehindParameters(gives @ 1..) if is_column(it) => {
            *eof = Some(false);
            *place = if gives > 1 { Place::Gives(gives - 1) } else { Place::Over };
            over(place, *eof)
        }
        Place::Gives(left) if left > 0 && is_column(it) => {
            *place = if left > 1 { Place::Gives(left - 1) } else { Place::Over };
            over(place, *eof)
        }
        Place::Over if is_eof(it) => {
            *eof = Some(true);
            Step::Done
        }
        _ => Step::Wrong,
    }
}

/// Behind the last column there is an EOF packet, or none.
fn over(place: &mut Place, eof: Option<bool>) -> Step {
    if *place == Place::BehindParameters(0) {
        *place = Place::Over;
    }
    match (*place, eof) {
        (Place::Over, Some(false)) => Step::Done,
        (Place::Over, None) => Step::Perhaps,
        _ => Step::On,
    }
}
