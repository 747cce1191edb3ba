//! A request that waits for its response.

use super::head::Version;
use crate::http2::Upgrade;
use crate::pairing::InOrder;
use flow_model::{HttpExchange, Notes, Ts};
use std::borrow::Cow;

/// A request that has no final response yet.
#[derive(Debug)]
pub(crate) struct Open {
    /// First and last byte so far.
    pub start: Ts,
    pub last: Ts,
    pub bytes: u64,
    /// Message in which it began.
    pub turn: u32,
    pub notes: Notes,
    pub version: Version,
    /// Its last byte was seen or counted.
    pub whole: bool,
    /// Nothing of the body was sent yet: it waits for `100 Continue`.
    pub waits: bool,
    pub method: Cow<'static, str>,
    pub strings: Option<Box<Strings>>,
}

#[derive(Debug)]
pub(crate) struct Strings {
    pub target: String,
    pub host: String,
}

impl Open {
    /// Bytes that it takes.
    pub(crate) fn held(&self) -> usize {
        let strings = self
            .strings
            .as_ref()
            .map_or(0, |strings| size_of::<Strings>() + strings.target.capacity() + strings.host.capacity());
        size_of::<Open>() + strings
    }

    /// The same request, as what an upgraded connection answers first.
    pub(super) fn upgrade(&self) -> Upgrade {
        let (target, host) = self
            .strings
            .as_ref()
            .map_or_else(Default::default, |strings| (strings.target.clone(), strings.host.clone()));
        let request = HttpExchange { method: self.method.clone(), target, host, ..HttpExchange::default() };
        Upgrade { request, start: self.start, last: self.last, bytes: self.bytes }
    }

    pub(crate) fn describe(self, status: Option<u16>) -> HttpExchange {
        let (target, host) = self.strings.map_or_else(Default::default, |strings| (strings.target, strings.host));
        HttpExchange { method: self.method, target, host, status, version: self.version.as_str() }
    }
}

/// Bytes of the client that were no request, as far as they could be read. If the server answers,
/// they were one to it.
#[derive(Debug)]
pub(super) struct Unread {
    pub turn: u32,
    start: Ts,
    last: Ts,
    bytes: u64,
}

impl Unread {
    pub(super) fn new(turn: u32, at: Ts, bytes: u64) -> Unread {
        Unread { turn, start: at, last: at, bytes }
    }

    pub(super) fn add(&mut self, at: Ts, bytes: u64) {
        self.last = self.last.max(at);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    pub(super) fn into_open(self) -> Open {
        let Unread { turn, start, last, bytes } = self;
        Open {
            start,
            last,
            bytes,
            turn,
            notes: Notes(Notes::MALFORMED.0 | Notes::NO_REQUEST.0),
            version: Version::V11,
            whole: true,
            waits: false,
            method: Cow::Borrowed(""),
            strings: None,
        }
    }
}

impl InOrder<Open> {
    /// The request that is still being sent.
    pub(crate) fn sending(&mut self) -> Option<&mut Open> {
        self.back_mut().filter(|open| !open.whole)
    }
}
