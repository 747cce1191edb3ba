//! What is kept of the value of a field.

use std::sync::Arc;

/// The value of a field that is read, as it is kept in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// Nobody asks for it: not kept.
    Unread,
    Unknown,
    /// Of the protocol.
    Word(&'static str),
    Text(Arc<str>),
    Number(u16),
    /// The content is gRPC.
    Grpc(bool),
}

impl Value {
    pub(super) fn held(&self) -> usize {
        match self {
            Value::Text(text) => text.len() + 2 * size_of::<usize>(),
            _ => 0,
        }
    }
}
