//! Streams that are open: what was asked, and what has come of the answer.

use super::grpc::Call;
use flow_model::{Notes, Ts};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

/// A request on a stream, and its answer so far.
#[derive(Debug)]
pub(super) struct Open {
    pub id: u32,
    /// First and last byte so far.
    pub start: Ts,
    pub last: Ts,
    /// First byte of the final response.
    pub answered: Option<Ts>,
    pub request_bytes: u64,
    pub response_bytes: u64,
    /// Of the final response, where it was seen.
    pub status: Option<u16>,
    pub grpc_status: Option<u16>,
    pub notes: Notes,
    pub flags: Flags,
    pub asked: Asked,
}

/// What is known of a stream. Bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flags(u8);

impl Flags {
    /// A field of the answer was not known: a status that is not there may have been it.
    pub(super) const UNKNOWN: Flags = Flags(1);
    /// The end of the stream may have been missed.
    pub(super) const DOUBT: Flags = Flags(1 << 1);
    /// Bytes of the answer were missed.
    pub(super) const GAP: Flags = Flags(1 << 2);
    /// The answer says that it is gRPC.
    pub(super) const GRPC: Flags = Flags(1 << 3);
    /// The request was not seen.
    pub(super) const STRAY: Flags = Flags(1 << 4);

    pub(super) fn has(self, flag: Flags) -> bool {
        self.0 & flag.0 != 0
    }

    pub(super) fn set(&mut self, flag: Flags, on: bool) {
        self.0 = if on { self.0 | flag.0 } else { self.0 & !flag.0 };
    }
}

/// What a request asked for.
#[derive(Debug)]
pub(super) enum Asked {
    /// A call of gRPC.
    Call(Call),
    /// Method and route.
    Method(Cow<'static, str>, Arc<str>),
    /// The same, and what else the record is to have.
    Full(Box<Request>),
}

#[derive(Debug, Default)]
pub(super) struct Request {
    pub method: Cow<'static, str>,
    pub target: Box<str>,
    pub host: Box<str>,
    pub route: Arc<str>,
    /// The path as a call, should the answer say that it was one.
    pub call: Option<Call>,
}

impl Open {
    pub(super) fn new(id: u32, start: Ts, last: Ts, request_bytes: u64, asked: Asked) -> Open {
        Open {
            id,
            start,
            last,
            answered: None,
            request_bytes,
            response_bytes: 0,
            status: None,
            grpc_status: None,
            notes: Notes::default(),
            flags: Flags::default(),
            asked,
        }
    }

    /// Bytes of the server were missed, and what it said on this stream may have been among them.
    pub(super) fn may_have_been_answered(&mut self) {
        self.flags.set(Flags::DOUBT, true);
        self.flags.set(Flags::GAP, true);
    }

    fn held(&self) -> usize {
        let asked = match &self.asked {
            Asked::Full(request) => size_of::<Request>() + request.target.len() + request.host.len(),
            Asked::Call(_) | Asked::Method(..) => 0,
        };
        size_of::<Open>() + asked
    }
}

/// The open streams of a connection, in the order of their ids.
#[derive(Debug, Default)]
pub(super) struct Streams(VecDeque<Open>);

impl Streams {
    pub(super) fn get(&mut self, id: u32) -> Option<&mut Open> {
        let place = self.place(id).ok()?;
        self.0.get_mut(place)
    }

    pub(super) fn has(&self, id: u32) -> bool {
        self.place(id).is_ok()
    }

    pub(super) fn add(&mut self, open: Open) {
        match self.place(open.id) {
            Ok(_) => {}
            Err(place) => self.0.insert(place, open),
        }
    }

    pub(super) fn take(&mut self, id: u32) -> Option<Open> {
        let open = self.0.remove(self.place(id).ok()?);
        if self.0.is_empty() && self.0.capacity() > 8 {
            self.0 = VecDeque::new();
        }
        open
    }

    /// Takes all streams above `id`.
    pub(super) fn take_above(&mut self, id: u32) -> impl Iterator<Item = Open> {
        let place = self.0.partition_point(|open| open.id <= id);
        self.0.split_off(place).into_iter()
    }

    /// The oldest of those whose end may have been missed.
    pub(super) fn in_doubt(&self) -> Option<u32> {
        self.0.iter().find(|open| open.flags.has(Flags::DOUBT)).map(|open| open.id)
    }

    pub(super) fn each(&mut self) -> impl Iterator<Item = &mut Open> {
        self.0.iter_mut()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn held(&self) -> usize {
        let spare = (self.0.capacity() - self.0.len()) * size_of::<Open>();
        spare + self.0.iter().map(Open::held).sum::<usize>()
    }

    fn place(&self, id: u32) -> Result<usize, usize> {
        // Streams end nearly in the order in which they began, and few are open.
        match self.0.front() {
            Some(open) if open.id == id => Ok(0),
            _ => self.0.binary_search_by_key(&id, |open| open.id),
        }
    }
}
