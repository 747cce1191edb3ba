//! An exchange that waits for its end, and the record that is made of both.

use super::frame::Code;
use flow_model::{DbOperation, Detail, L7Record, Notes, Outcome, Protocol, Ts};
use std::borrow::Cow;
use std::sync::Arc;

/// What ends an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// ReadyForQuery, or an error that ends the connection: a simple query, a function call, the login.
    Ready,
    /// A completion of its own: an Execute.
    Completion,
    /// ReadyForQuery: statements that were prepared and not executed. No exchange, unless it fails.
    Preparation,
}

/// What was asked and is not over.
#[derive(Debug)]
pub(super) struct Open {
    pub kind: Kind,
    pub verb: &'static str,
    /// First and last byte.
    pub start: Ts,
    pub last: Ts,
    pub bytes: u64,
    /// Message of the flow in which it was asked.
    pub turn: u32,
    /// Which ReadyForQuery closes it, by number.
    pub batch: u32,
}

/// What has come of the answer to the oldest exchange.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Answer {
    pub start: Option<Ts>,
    pub last: Ts,
    pub bytes: u64,
    /// Something says what became of it.
    pub done: bool,
    pub failed: bool,
    pub code: Code,
    /// Bytes that are to be read of it were not seen.
    pub cut: bool,
    /// A command that is complete was compared with what was asked.
    pub compared: bool,
}

/// What prepares the next Execute: Parse, Bind, Describe, Close.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    pub start: Ts,
    pub bytes: u64,
    /// What the statement does that was parsed or bound last.
    pub verb: Option<&'static str>,
}

/// The batch under way has failed: the server skips what is left of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failed {
    pub answer: Answer,
    /// An exchange has been told to have failed by it.
    pub blamed: bool,
}

/// Status of what a server did not do, since something before it failed.
const SKIPPED: &str = "skipped";

/// An error whose code was not seen.
const OTHER: &str = "other";

impl Answer {
    /// Bytes of it pass.
    pub(super) fn take(&mut self, first: Ts, last: Ts, bytes: u64) {
        self.start.get_or_insert(first);
        self.last = self.last.max(last);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn word(&self) -> Box<str> {
        if !self.failed {
            return Box::default();
        }
        let code = self.code.as_ref().and_then(|code| std::str::from_utf8(code).ok());
        Box::from(code.unwrap_or(OTHER))
    }
}

impl Open {
    pub(super) fn answered(self, answer: &Answer, mut notes: Notes, database: Option<&Arc<str>>) -> L7Record {
        if answer.cut {
            notes.add(Notes::GAP);
        }
        let end = answer.last.max(self.last);
        let start = answer.start.unwrap_or(end);
        self.record(Outcome::Answered, Some(start), end, answer.bytes, (answer.word(), notes), database)
    }

    /// The server passed over it, and said so with the byte that passed at `at`.
    pub(super) fn skipped(self, at: Ts, database: Option<&Arc<str>>) -> L7Record {
        let end = at.max(self.last);
        self.record(Outcome::Answered, Some(end), end, 0, (Box::from(SKIPPED), Notes::default()), database)
    }

    /// No answer came, or none is asked for.
    pub(super) fn unanswered(self, outcome: Outcome, database: Option<&Arc<str>>) -> L7Record {
        let end = self.last;
        self.record(outcome, None, end, 0, (Box::default(), Notes::default()), database)
    }

    fn record(
        self,
        outcome: Outcome,
        response_start: Option<Ts>,
        end: Ts,
        response_bytes: u64,
        (code, notes): (Box<str>, Notes),
        database: Option<&Arc<str>>,
    ) -> L7Record {
        let Open { verb, start, bytes, .. } = self;
        L7Record {
            protocol: Protocol::Postgresql,
            start,
            response_start,
            end,
            request_bytes: bytes,
            response_bytes,
            outcome,
            notes,
            detail: Detail::Db(DbOperation {
                system: "postgresql",
                operation: Cow::Borrowed(verb),
                collection: Arc::default(),
                namespace: database.cloned().unwrap_or_default(),
                code,
            }),
        }
    }
}
