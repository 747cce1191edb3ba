use super::head::Version;
use flow_model::{HttpExchange, Notes, Ts};
use std::borrow::Cow;
use std::collections::VecDeque;

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
    pub(crate) fn describe(self, status: Option<u16>) -> HttpExchange {
        let (target, host) = self.strings.map_or_else(Default::default, |strings| (strings.target, strings.host));
        HttpExchange { method: self.method, target, host, status, version: self.version.as_str() }
    }
}

/// Open requests in the order in which they were sent, which is that of their responses (RFC 9112 section 9.3.2).
///
/// Nearly always there is at most one; only pipelines allocate, and what they allocated is freed when they end.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    front: Option<Open>,
    #[expect(clippy::box_collection, reason = "8 bytes in each connection instead of 32; few connections pipeline")]
    rest: Option<Box<VecDeque<Open>>>,
}

impl Queue {
    pub(crate) fn push(&mut self, open: Open) {
        if self.front.is_none() {
            self.front = Some(open);
        } else {
            self.rest.get_or_insert_default().push_back(open);
        }
    }

    pub(crate) fn pop(&mut self) -> Option<Open> {
        let open = self.front.take()?;
        if let Some(rest) = &mut self.rest {
            self.front = rest.pop_front();
            if rest.is_empty() {
                self.rest = None;
            }
        }
        Some(open)
    }

    pub(crate) fn front(&self) -> Option<&Open> {
        self.front.as_ref()
    }

    /// The request that is still being sent.
    pub(crate) fn sending(&mut self) -> Option<&mut Open> {
        let back = match &mut self.rest {
            Some(rest) => rest.back_mut(),
            None => self.front.as_mut(),
        };
        back.filter(|open| !open.whole)
    }

    pub(crate) fn len(&self) -> usize {
        usize::from(self.front.is_some()) + self.rest.as_ref().map_or(0, |rest| rest.len())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.front.is_none()
    }
}
