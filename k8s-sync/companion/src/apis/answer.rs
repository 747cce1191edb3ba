//! What is answered.

use super::status::Failure;
use serde_json::Value;

/// A document, with its status and its content type.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Of HTTP.
    pub status: u16,
    /// Of HTTP.
    pub content_type: &'static str,
    /// JSON.
    pub body: Value,
}

impl Answer {
    pub(super) fn json(body: Value) -> Answer {
        Answer { status: 200, content_type: "application/json", body }
    }
}

impl From<Failure> for Answer {
    fn from(failure: Failure) -> Answer {
        Answer { status: failure.code, ..Answer::json(failure.body()) }
    }
}
