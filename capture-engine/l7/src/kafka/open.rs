//! A request that waits for its answer, and the record that is made of both.

use super::api::Call;
use flow_model::{Detail, L7Record, MessagingOperation, Notes, Outcome, Protocol, Ts};
use std::borrow::Cow;
use std::sync::Arc;

/// A request that has no answer yet.
#[derive(Debug)]
pub(super) struct Open {
    pub id: i32,
    pub call: Call,
    /// First and last byte so far.
    pub start: Ts,
    pub last: Ts,
    pub bytes: u64,
    /// Message of the flow in which it began.
    pub turn: u32,
    pub topic: Arc<str>,
    pub group: Arc<str>,
    pub notes: Notes,
    /// Its answer may have been missed, or it has none.
    pub doubt: bool,
}

/// How an answer was.
#[derive(Debug)]
pub(super) struct Answer {
    pub start: Ts,
    /// Its newest byte so far.
    pub last: Ts,
    pub bytes: u64,
    pub code: Cow<'static, str>,
    pub notes: Notes,
}

impl Open {
    /// The record of a request without an answer: it asks for none, or none came until `end`.
    pub(super) fn unanswered(self, outcome: Outcome, end: Ts) -> L7Record {
        let Open { start, last, bytes, notes, .. } = self;
        L7Record {
            protocol: Protocol::Kafka,
            start,
            response_start: None,
            end: end.max(last).max(start),
            request_bytes: bytes,
            response_bytes: 0,
            outcome,
            notes,
            detail: self.detail(Box::default()),
        }
    }

    pub(super) fn answered(self, answer: Answer) -> L7Record {
        let Open { start, last, bytes, notes, .. } = self;
        let Answer { start: response_start, last: end, bytes: response_bytes, code, notes: more } = answer;
        L7Record {
            protocol: Protocol::Kafka,
            start,
            response_start: Some(response_start),
            end: end.max(response_start).max(last).max(start),
            request_bytes: bytes,
            response_bytes,
            outcome: Outcome::Answered,
            notes: Notes(notes.0 | more.0),
            detail: self.detail(code.into()),
        }
    }

    fn detail(self, code: Box<str>) -> Detail {
        Detail::Messaging(MessagingOperation {
            system: "kafka",
            operation: self.call.name(),
            destination: self.topic,
            group: self.group,
            code,
            messages: [0; 2],
        })
    }
}
