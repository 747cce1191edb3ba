//! An exchange that waits for its end, and the record that is made of both.

use super::command::Answers;
use flow_model::{DbOperation, Detail, L7Record, Notes, Outcome, Protocol, Ts};
use std::borrow::Cow;
use std::sync::Arc;

/// The operation that is no command.
pub(super) const LOGIN: &str = "login";

/// What was asked and is not over.
#[derive(Debug)]
pub(super) struct Open {
    pub name: &'static str,
    pub answers: Answers,
    /// First and last byte.
    pub start: Ts,
    pub last: Ts,
    pub bytes: u64,
    /// Message of the flow in which it was asked.
    pub turn: u32,
    /// Number of the client's last packet: the next one of the server has one more.
    pub number: u8,
    /// What it prepares.
    pub prepares: Option<&'static str>,
    /// The statements of the session end with it.
    pub begins_anew: bool,
    /// The database from then on, where that changes.
    pub database: Option<Option<Arc<str>>>,
}

/// How the answer to an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Done,
    Failed(u16),
}

/// What has come of the answer to the oldest exchange.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    pub start: Option<Ts>,
    pub last: Ts,
    pub bytes: u64,
}

impl Span {
    /// Bytes of it pass.
    pub(super) fn take(&mut self, first: Ts, last: Ts, bytes: u64) {
        self.start.get_or_insert(first);
        self.last = self.last.max(last);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

impl Open {
    pub(super) fn new(name: &'static str, answers: Answers, (start, last): (Ts, Ts), bytes: u64) -> Open {
        Open {
            name,
            answers,
            start,
            last,
            bytes,
            turn: 0,
            number: 0,
            prepares: None,
            begins_anew: false,
            database: None,
        }
    }

    /// Stamps of two processors may differ: nothing is answered before it is asked.
    pub(super) fn answered(self, span: &Span, end: End, notes: Notes, database: Option<&Arc<str>>) -> L7Record {
        let last = span.last.max(self.last);
        let start = span.start.unwrap_or(last).clamp(self.start, last);
        let code = match end {
            End::Done => Box::default(),
            End::Failed(code) => code.to_string().into_boxed_str(),
        };
        self.record(Outcome::Answered, Some(start), last, span.bytes, (code, notes), database)
    }

    /// No answer came, or none is asked for.
    pub(super) fn unanswered(self, outcome: Outcome, notes: Notes, database: Option<&Arc<str>>) -> L7Record {
        let end = self.last;
        self.record(outcome, None, end, 0, (Box::default(), notes), database)
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
        let Open { name, start, bytes, .. } = self;
        L7Record {
            protocol: Protocol::Mysql,
            start,
            response_start,
            end,
            request_bytes: bytes,
            response_bytes,
            outcome,
            notes,
            detail: Detail::Db(DbOperation {
                system: "mysql",
                operation: Cow::Borrowed(name),
                collection: Arc::default(),
                namespace: database.cloned().unwrap_or_default(),
                code,
            }),
        }
    }
}
