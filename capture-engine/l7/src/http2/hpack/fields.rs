//! What a block of fields says, of those that are read. No other value is kept: they may be secrets.

use super::name::Name;
use super::value::Value;
use std::borrow::Cow;
use std::sync::Arc;

/// A text of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::http2) enum Text {
    /// Of the table.
    Shared(Arc<str>),
    Own(String),
}

/// What the content type says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::http2) enum Content {
    #[default]
    None,
    Grpc,
    Other,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::http2) struct Fields {
    pub method: Option<Cow<'static, str>>,
    pub path: Option<Text>,
    pub authority: Option<Text>,
    pub status: Option<u16>,
    pub content: Content,
    pub grpc_status: Option<u16>,
    /// A field of which name or value is not known was among them.
    pub unknown: bool,
    /// What follows was not seen, or makes no sense.
    pub cut: bool,
    /// They are those of a request, or of a response.
    pub of: Option<Of>,
    /// Method and scheme were among them, each by its index in the table that all have.
    pub method_by_index: bool,
    pub scheme_by_index: bool,
}

/// Whose pseudo-header fields there were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http2) enum Of {
    Request,
    Response,
}

impl Text {
    pub(in crate::http2) fn as_str(&self) -> &str {
        match self {
            Text::Shared(text) => text,
            Text::Own(text) => text,
        }
    }

    pub(in crate::http2) fn into_string(self) -> String {
        match self {
            Text::Shared(text) => (*text).to_owned(),
            Text::Own(text) => text,
        }
    }
}

impl Fields {
    /// Takes a field of the table, or one that goes into it.
    pub(super) fn put(&mut self, name: Name, value: &Value) {
        self.tells(name);
        match (name, value) {
            (Name::Unknown, _) | (_, Value::Unknown) => self.unknown = true,
            (Name::Method, Value::Word(word)) => self.method = Some(Cow::Borrowed(word)),
            (Name::Method, Value::Text(text)) => self.method = Some(Cow::Owned((**text).to_owned())),
            (Name::Path, Value::Word(word)) => self.path = Some(Text::Own((*word).to_owned())),
            (Name::Path, Value::Text(text)) => self.path = Some(Text::Shared(Arc::clone(text))),
            (Name::Authority, Value::Text(text)) => self.authority = Some(Text::Shared(Arc::clone(text))),
            (Name::Host, Value::Text(text)) if self.authority.is_none() => {
                self.authority = Some(Text::Shared(Arc::clone(text)));
            }
            (Name::Status, Value::Number(number)) => self.status = Some(*number),
            (Name::GrpcStatus, Value::Number(number)) => self.grpc_status = Some(*number),
            (Name::ContentType, Value::Grpc(true)) => self.content = Content::Grpc,
            (Name::ContentType, Value::Grpc(false)) => self.content = Content::Other,
            _ => {}
        }
    }

    /// Takes a field that the table will not have.
    pub(super) fn put_text(&mut self, name: Name, text: String) {
        self.tells(name);
        match name {
            Name::Path => self.path = Some(Text::Own(text)),
            Name::Authority => self.authority = Some(Text::Own(text)),
            Name::Host if self.authority.is_none() => self.authority = Some(Text::Own(text)),
            _ => {}
        }
    }

    fn tells(&mut self, name: Name) {
        if name.is_of_request() {
            self.of = Some(Of::Request);
        } else if name == Name::Status {
            self.of = Some(Of::Response);
        }
    }
}
