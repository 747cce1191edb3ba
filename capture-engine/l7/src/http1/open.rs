//! A request that waits for its response.

use super::head::Version;
use crate::http2::Upgrade;
use crate::pairing::InOrder;
use crate::route::{self, Routed};
use flow_model::{HttpExchange, Notes, Ts};
use std::borrow::Cow;
use std::sync::Arc;

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
    pub sent: Sent,
    pub method: Cow<'static, str>,
    pub route: Option<Arc<Routed>>,
    pub strings: Option<Box<Strings>>,
}

/// How much of a request was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// Nothing of the body yet: it waits for `100 Continue`.
    Waits,
    Part,
    /// Its last byte was seen or counted.
    Whole,
}

#[derive(Debug)]
pub(crate) struct Strings {
    pub target: Box<str>,
    pub host: Box<str>,
}

impl Open {
    /// Bytes that it takes.
    pub(crate) fn held(&self) -> usize {
        let strings =
            self.strings.as_ref().map_or(0, |strings| size_of::<Strings>() + strings.target.len() + strings.host.len());
        size_of::<Open>() + strings
    }

    /// The same request, as what an upgraded connection answers first.
    pub(super) fn upgrade(&self) -> Upgrade {
        let (target, host) = self
            .strings
            .as_ref()
            .map_or_else(Default::default, |strings| (strings.target.clone(), strings.host.clone()));
        let (method, route) = (self.method.clone(), route::told(self.route.as_ref()));
        let request = HttpExchange { method, target, host, route, ..HttpExchange::default() };
        Upgrade { request, start: self.start, last: self.last, bytes: self.bytes }
    }

    pub(crate) fn describe(self, status: Option<u16>) -> HttpExchange {
        let (target, host) = self.strings.map_or_else(Default::default, |strings| (strings.target, strings.host));
        let Open { method, route, version, .. } = self;
        let route = route::told(route.as_ref());
        HttpExchange { method, target, host, route, status, version: version.as_str() }
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
    /// Ends of request lines in it, where they are counted.
    pub lines: u32,
}

impl Unread {
    pub(super) fn new(turn: u32, at: Ts, bytes: u64) -> Unread {
        Unread { turn, start: at, last: at, bytes, lines: 0 }
    }

    pub(super) fn add(&mut self, at: Ts, bytes: u64) {
        self.last = self.last.max(at);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    pub(super) fn into_open(self) -> Open {
        let Unread { turn, start, last, bytes, lines: _ } = self;
        Open {
            start,
            last,
            bytes,
            turn,
            notes: Notes(Notes::MALFORMED.0 | Notes::NO_REQUEST.0),
            version: Version::V11,
            sent: Sent::Whole,
            method: Cow::Borrowed(""),
            route: None,
            strings: None,
        }
    }
}

impl InOrder<Open> {
    /// The request that is still being sent.
    pub(crate) fn sending(&mut self) -> Option<&mut Open> {
        self.back_mut().filter(|open| open.sent != Sent::Whole)
    }
}
