//! HTTP/1 exchanges (RFC 9112) from the two directions of one connection, of which bytes may be missing.
//!
//! Each direction is followed by position: a body of known length is passed by counting, whether its bytes were captured or
//! not. Where the position is lost, the next message of that direction is the next place to look for a head. Requests and
//! responses pair by order; where an unknown number of either was lost, nothing is paired until their numbers agree again.

mod chunked;
pub(crate) mod head;
mod method;
mod queue;
mod request;
mod response;

use crate::{Limits, MessageEnd, Out};
use chunked::Chunked;
use flow_model::{Close, Detail, Direction, HttpExchange, L7Record, LossReason, Notes, Outcome, Protocol, Ts};
use queue::Queue;

/// Captured bytes at the place where their direction is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bytes<'a> {
    pub at: Ts,
    pub turn: u32,
    /// They are the first of their message.
    pub start: bool,
    pub bytes: &'a [u8],
}

/// Bytes that were on the wire but not captured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hole {
    pub bytes: u64,
    /// When the last of them passed, as far as that is known.
    pub at: Ts,
    /// The message that follows; requests of earlier ones were answered inside the hole, if at all.
    pub turn: u32,
    /// What follows begins that message.
    pub before_start: bool,
    pub why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Counted by the kernel but not copied; `at` is exact.
    Counted,
    /// The numbers of whole messages are missing, and were settled by `Http::missing`.
    Turns,
    /// Nobody told: dropped by the capture.
    Unknown,
}

/// What the connection carries from here on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Http,
    /// A tunnel through a proxy: anything may begin.
    Tunnel,
    Opaque,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A head begins here, or is being collected in `Side::head`.
    Start,
    /// This many bytes of the body are to come.
    Body(u64),
    Chunked(Chunked),
    /// The body ends with the connection.
    Close,
    /// Inside a message whose framing is lost; it ends with the message of the flow.
    Unframed,
    /// Nothing is known until a message begins.
    Lost,
}

#[derive(Debug)]
struct Side {
    state: State,
    head: Option<Box<PartialHead>>,
}

/// The beginning of a head that has not come to its end.
#[derive(Debug)]
struct PartialHead {
    bytes: Vec<u8>,
    first: Ts,
    last: Ts,
    turn: u32,
}

/// Whom the response under way answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answers {
    /// The oldest open request.
    Front,
    /// A request that was never seen and is not otherwise accounted for.
    Stray,
    /// A request that has been counted as lost.
    Counted,
}

#[derive(Debug)]
struct Reply {
    answers: Answers,
    /// Message in which it began.
    turn: u32,
    start: Ts,
    last: Ts,
    bytes: u64,
    status: Option<u16>,
    version: head::Version,
    notes: Notes,
}

/// Pairing is suspended since an unknown number of messages was lost amid several open requests.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    reason: LossReason,
    /// Requests and final responses seen since pairing stopped, in this pair of messages.
    asked: u32,
    answered: u32,
}

#[derive(Debug)]
pub(crate) struct Http {
    request_dir: Direction,
    requests: Side,
    responses: Side,
    open: Queue,
    reply: Option<Reply>,
    doubt: Option<Doubt>,
    /// Responses to requests of messages before this one may have been lost: such a request that shows up late is not waited for.
    given_up: u32,
    /// Interim responses before the one that is to come.
    interim_bytes: u64,
    /// Requests beyond the bound, counted as lost, whose responses come after those of all open ones.
    beyond: u32,
    /// Responses to requests that were never seen, since the last request.
    strays: u32,
    /// A response without a request may come: its exchange has been counted as lost.
    orphans: bool,
    seen_request: bool,
    pub pipelined: bool,
    pub next: Next,
}

impl Http {
    pub(crate) fn new(request_dir: Direction) -> Http {
        let side = || Side { state: State::Start, head: None };
        Http {
            request_dir,
            requests: side(),
            responses: side(),
            open: Queue::default(),
            reply: None,
            doubt: None,
            given_up: 0,
            interim_bytes: 0,
            beyond: 0,
            strays: 0,
            orphans: false,
            seen_request: false,
            pipelined: false,
            next: Next::Http,
        }
    }

    pub(crate) fn request_dir(&self) -> Direction {
        self.request_dir
    }

    /// `count` requests were lost before the protocol was known; `orphan`: a response to one of them may follow.
    pub(crate) fn settle<O: Out>(&mut self, reason: LossReason, count: u64, orphan: bool, out: &mut O) {
        if count > 0 {
            out.lost(reason, count);
        }
        self.seen_request |= count > 0;
        self.orphans |= orphan;
    }

    /// Takes captured bytes; how many were used. It stops short where a response may be to a request that is not here yet.
    pub(crate) fn bytes<O: Out>(&mut self, dir: Direction, data: Bytes<'_>, limits: &Limits, out: &mut O) -> usize {
        if dir == self.request_dir {
            self.request_bytes(data, limits, out);
            data.bytes.len()
        } else {
            self.response_bytes(data, limits, out)
        }
    }

    pub(crate) fn hole<O: Out>(&mut self, dir: Direction, hole: Hole, limits: &Limits, out: &mut O) {
        if dir == self.request_dir {
            self.request_hole(hole, limits, out);
        } else {
            self.response_hole(hole, limits, out);
        }
    }

    /// The first piece of message `turn` has come; its bytes follow.
    pub(crate) fn message_begins<O: Out>(&mut self, dir: Direction, turn: u32, limits: &Limits, out: &mut O) {
        if dir != self.request_dir {
            return;
        }
        if self.reply.as_ref().is_some_and(|reply| reply.answers != Answers::Front) {
            // Whether it had a body depends on a method that was not seen; the client at least goes on.
            let last = self.reply.as_ref().map_or_else(Ts::default, |reply| reply.last);
            self.finish(last, Notes::END_ASSUMED, limits, out);
        }
        if self.responses.state == State::Lost {
            self.lose_before(turn, LossReason::Gap, out);
        }
        if let Some(doubt) = &mut self.doubt {
            let agree = doubt.asked == doubt.answered && doubt.asked > 0 && self.open.is_empty();
            (doubt.asked, doubt.answered) = (0, 0);
            if agree {
                self.doubt = None;
            }
        }
    }

    /// What was counted of the message of this direction that began last; its uncaptured bytes went to `hole`.
    pub(crate) fn message_ended<O: Out>(&mut self, dir: Direction, end: &MessageEnd, limits: &Limits, out: &mut O) {
        if dir == self.request_dir {
            if self.requests.state == State::Unframed {
                self.request_whole(end.last);
            }
            return;
        }
        match self.responses.state {
            State::Unframed => {
                self.finish(end.last, Notes::default(), limits, out);
                // Responses to more of a pipeline may have come behind it.
                self.lose_before(end.turn, LossReason::Gap, out);
            }
            State::Close => {
                if let Some(reply) = &mut self.reply {
                    reply.last = reply.last.max(end.last);
                }
            }
            _ => {}
        }
    }

    /// No head of message `turn` was captured, though it was counted.
    pub(crate) fn missing<O: Out>(&mut self, dir: Direction, turn: u32, out: &mut O) {
        if dir == self.request_dir { self.request_missing(out) } else { self.response_missing(turn, out) }
    }

    fn request_missing<O: Out>(&mut self, out: &mut O) {
        let interim = self.interim_bytes > 0;
        if let Some(open) = self.open.sending().filter(|open| open.waits || interim) {
            // The body that `100 Continue` asked for.
            open.waits = false;
            if let State::Chunked(_) = self.requests.state {
                self.requests.state = State::Unframed;
            }
            return;
        }
        // The response before it has no end: its summary came with the head that is missing.
        if let Some(reply) = self.reply.take() {
            self.responses.state = State::Lost;
            if reply.answers == Answers::Front && self.open.pop().is_some() {
                out.lost(LossReason::RingFull, 1);
            }
        }
        out.lost(LossReason::RingFull, 1);
        self.requests.head = None;
        self.requests.state = State::Lost;
        self.orphans = true;
        self.seen_request = true;
    }

    fn response_missing<O: Out>(&mut self, turn: u32, out: &mut O) {
        match &self.reply {
            Some(reply) if reply.answers == Answers::Front => return,
            Some(_) => self.reply = None,
            None if self.open.sending().is_some_and(|open| open.waits) => return,
            None => {}
        }
        if self.requests.state != State::Start {
            self.requests.state = State::Lost;
        }
        self.responses.head = None;
        self.responses.state = State::Lost;
        self.lose_before(turn, LossReason::RingFull, out);
    }

    /// Whether a response without a request would be for want of request bytes that are only waiting for their turn.
    pub(crate) fn wants_requests(&self) -> bool {
        self.reply.is_none() && (self.open.is_empty() || self.responses.state == State::Lost)
    }

    /// Bytes of the response under way that are to come; `None` where that is not known, or nothing is under way.
    pub(crate) fn body_left(&self) -> Option<u64> {
        match self.responses.state {
            State::Body(left) => Some(left),
            _ => None,
        }
    }

    /// The response under way was chunked when last seen, and its end may have passed uncaptured.
    pub(crate) fn in_chunks(&self) -> bool {
        matches!(self.responses.state, State::Chunked(_) | State::Unframed) && self.reply.is_some()
    }

    pub(crate) fn buffered(&self) -> usize {
        [&self.requests, &self.responses]
            .into_iter()
            .filter_map(|side| side.head.as_ref())
            .map(|head| head.bytes.len())
            .sum()
    }

    pub(crate) fn waiting_for_end(&self) -> bool {
        self.body_left().is_some() || self.in_chunks()
    }

    /// The response under way is over: its last bytes, though not captured, show it. `bytes` of it were not captured.
    pub(crate) fn over<O: Out>(&mut self, bytes: u64, end: &MessageEnd, limits: &Limits, out: &mut O) {
        let framed = self.body_left().is_some();
        if let Some(reply) = &mut self.reply {
            reply.bytes += bytes;
            reply.notes.add(Notes::BODY_SKIPPED);
        }
        self.finish(end.last, Notes::default(), limits, out);
        if !framed {
            self.lose_before(end.turn, LossReason::Gap, out);
        }
    }

    pub(crate) fn closed<O: Out>(&mut self, close: Close, limits: &Limits, out: &mut O) {
        self.cut_response_head(limits, out);
        self.cut_request_head(0, limits, out);
        let told = close != Close::Gone || limits.report_partial;
        if let Some(reply) = &self.reply {
            let exact = self.responses.state == State::Close && close == Close::Fin;
            if told {
                let (last, notes) = (reply.last, if exact { Notes::default() } else { Notes::END_ASSUMED });
                self.finish(last, notes, limits, out);
            } else if reply.answers == Answers::Front && self.open.pop().is_some() {
                out.lost(LossReason::Unfinished, 1);
            }
        }
        let mut unfinished = 0;
        while let Some(open) = self.open.pop() {
            if told {
                out.record(L7Record {
                    protocol: Protocol::Http1,
                    start: open.start,
                    response_start: None,
                    end: open.last,
                    request_bytes: open.bytes,
                    response_bytes: std::mem::take(&mut self.interim_bytes),
                    outcome: Outcome::Unanswered,
                    notes: open.notes,
                    detail: Detail::Http(open.describe(None)),
                });
            } else {
                unfinished += 1;
            }
        }
        if unfinished > 0 {
            out.lost(LossReason::Unfinished, unfinished);
        }
    }

    /// Gives up the open requests that came before message `turn`: their responses were lost.
    fn lose_before<O: Out>(&mut self, turn: u32, reason: LossReason, out: &mut O) {
        let mut count = 0;
        self.given_up = self.given_up.max(turn);
        while self.open.front().is_some_and(|open| open.turn < turn) {
            self.open.pop();
            count += 1;
        }
        if count > 0 {
            out.lost(reason, count);
            self.orphans = true;
        }
        if count > 1 {
            self.doubt.get_or_insert(Doubt { reason, asked: 0, answered: 0 });
        }
    }

    /// The response under way ends; its record goes out.
    fn finish<O: Out>(&mut self, end: Ts, notes: Notes, limits: &Limits, out: &mut O) {
        self.responses.state = State::Start;
        let Some(reply) = self.reply.take() else { return };
        let open = match reply.answers {
            Answers::Front => self.open.pop(),
            Answers::Stray if limits.report_partial => None,
            Answers::Stray | Answers::Counted => return,
        };
        let mut notes = Notes(notes.0 | reply.notes.0);
        let mut record = L7Record {
            protocol: Protocol::Http1,
            start: reply.start,
            response_start: Some(reply.start),
            end: end.max(reply.last),
            request_bytes: 0,
            response_bytes: reply.bytes + std::mem::take(&mut self.interim_bytes),
            outcome: Outcome::Answered,
            notes,
            detail: Detail::Http(HttpExchange {
                status: reply.status,
                version: reply.version.as_str(),
                ..HttpExchange::default()
            }),
        };
        if let Some(open) = open {
            notes.add(open.notes);
            record.start = open.start;
            record.request_bytes = open.bytes;
            record.notes = notes;
            record.detail = Detail::Http(open.describe(reply.status));
        } else {
            record.notes.add(Notes::NO_REQUEST);
        }
        out.record(record);
    }
}

/// No request (but HTTP/0.9's) and no response fits into fewer bytes; what was counted behind a message and is shorter is a line end.
const SHORTEST_HEAD: u64 = 16;

impl Hole {
    /// Between two messages: whether there may have been another one, or part of one, that is not accounted for.
    fn may_hold_head(&self) -> bool {
        match self.why {
            Why::Counted => self.bytes >= SHORTEST_HEAD,
            Why::Unknown => self.bytes > 0,
            Why::Turns => false,
        }
    }
}

impl PartialHead {
    fn new(data: &Bytes<'_>, bytes: &[u8]) -> Box<PartialHead> {
        Box::new(PartialHead { bytes: bytes.to_vec(), first: data.at, last: data.at, turn: data.turn })
    }

    /// Takes as much of `bytes` as the bound leaves room for, and at least one: a head that is too long must be seen to be. Returns its
    /// length before, and how much was taken.
    fn grow(&mut self, data: &Bytes<'_>, bytes: &[u8], limits: &Limits) -> (usize, usize) {
        let had = self.bytes.len();
        let room = limits.head_bytes.saturating_sub(had).max(1).min(bytes.len());
        self.bytes.extend_from_slice(bytes.get(..room).unwrap_or_default());
        self.last = self.last.max(data.at);
        (had, room)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_state_of_a_connection_stays_small() {
        assert!(size_of::<super::Http>() <= 256, "{}", size_of::<super::Http>());
    }
}
