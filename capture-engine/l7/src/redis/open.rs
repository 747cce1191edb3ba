//! A command that waits for its reply, and the record that is made of both.

use super::command::{Ask, Name};
use flow_model::{DbOperation, Detail, L7Record, Notes, Outcome, Protocol, Ts};
use std::borrow::Cow;
use std::sync::Arc;

/// A command that has no reply yet.
#[derive(Debug)]
pub(super) struct Open {
    /// First and last byte so far.
    pub start: Ts,
    pub last: Ts,
    pub bytes: u64,
    /// Message in which it began.
    pub turn: u32,
    pub name: Name,
    pub notes: Notes,
    pub ask: Ask,
}

/// How a reply was.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub start: Ts,
    pub end: Ts,
    pub bytes: u64,
    /// First word of an error.
    pub code: Box<str>,
    pub notes: Notes,
}

impl Open {
    /// The record of a command without a reply: it asks for none, or none came.
    pub(super) fn unanswered(self, outcome: Outcome, database: Option<&Arc<str>>) -> L7Record {
        let Open { start, last, bytes, name, notes, .. } = self;
        L7Record {
            protocol: Protocol::Redis,
            start,
            response_start: None,
            end: last,
            request_bytes: bytes,
            response_bytes: 0,
            outcome,
            notes,
            detail: detail(name, database, Box::default()),
        }
    }

    pub(super) fn answered(self, answer: Answer, database: Option<&Arc<str>>) -> L7Record {
        let Open { start, last, bytes, name, notes, .. } = self;
        let Answer { start: response_start, end, bytes: response_bytes, code, notes: more } = answer;
        L7Record {
            protocol: Protocol::Redis,
            start,
            response_start: Some(response_start),
            end: end.max(last),
            request_bytes: bytes,
            response_bytes,
            outcome: Outcome::Answered,
            notes: Notes(notes.0 | more.0),
            detail: detail(name, database, code),
        }
    }
}

fn detail(name: Name, database: Option<&Arc<str>>, code: Box<str>) -> Detail {
    Detail::Db(DbOperation {
        system: "redis",
        operation: Cow::Borrowed(name.as_str()),
        collection: Arc::default(),
        namespace: database.cloned().unwrap_or_default(),
        code,
    })
}
