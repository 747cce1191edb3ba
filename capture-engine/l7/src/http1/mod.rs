//! HTTP/1 exchanges (RFC 9112) from the two directions of one connection, of which bytes may be missing.
//!
//! Each direction is followed by position: a body of known length is passed by counting, whether
//! its bytes were captured or not. Where the position is lost, the next message of that direction
//! is the next place to look for a head. Requests and responses pair by order; where an unknown
//! number of either was lost, nothing is paired until their numbers agree again.

mod chunked;
mod head;
mod method;
mod open;
mod request;
mod response;
mod side;
mod sign;

use crate::dissector::{Dissector, Next, Opening, Sign, Used};
use crate::input::{Bytes, Cause, Hole};
use crate::pairing::InOrder;
use crate::{Interest, Limits, MessageEnd, Out};
use flow_model::{Close, Detail, Direction, HttpExchange, L7Record, LossReason, Notes, Outcome, Protocol, Ts};
use open::Open;
use side::{Side, State};
use std::time::Duration;

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
pub(crate) struct Http1 {
    request_dir: Direction,
    requests: Side,
    responses: Side,
    /// Responses come in the order of requests (RFC 9112 section 9.3.2).
    open: InOrder<Open>,
    reply: Option<Reply>,
    doubt: Option<Doubt>,
    /// Responses to requests of messages before this one may have been lost: such a request that
    /// shows up late is not waited for.
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
    /// It pipelined, and not so many requests ago: then all of it is wanted.
    pipelined: u8,
    /// Sticks once it is not `Same`.
    next: Next,
}

impl Dissector for Http1 {
    fn recognise(head: &[u8]) -> Sign {
        sign::recognise(head)
    }

    fn recognise_cut(head: &[u8]) -> Sign {
        sign::recognise_cut(head)
    }

    fn open<O: Out>(opening: &Opening<'_>, out: &mut O) -> Http1 {
        let Opening { dir, turn, client, before, heads, .. } = *opening;
        let requests = client.unwrap_or(dir);
        let responses = requests.reverse();
        let mut http = Http1::new(requests);
        // Message 1 was a response: the connection was joined between it and its request.
        let first = u64::from(before.first_missing == Some(responses));
        let orphan = dir == responses && turn > 1 && before.last_missing[requests.index()] == turn - 1;
        let count = u64::from(before.missing[requests.index()]) + first;
        http.settle(LossReason::RingFull, count, orphan, out);
        let midway = heads[responses.index()]
            .is_some_and(|kept| kept.turn == 1 && head::response(&kept.bytes) == head::Scan::Not);
        if midway || before.began_midway == Some(responses) {
            http.settle(LossReason::JoinedMidway, 1, false, out);
        }
        http
    }

    fn bytes<O: Out>(&mut self, dir: Direction, data: Bytes<'_>, limits: &Limits, out: &mut O) -> Used {
        let bytes = if dir == self.request_dir {
            self.request_bytes(data, limits, out);
            data.bytes.len()
        } else {
            // Stops short where a response may be to a request that is not here yet.
            self.response_bytes(data, limits, out)
        };
        Used { bytes, next: self.next }
    }

    fn hole<O: Out>(&mut self, dir: Direction, hole: Hole, limits: &Limits, out: &mut O) {
        if dir == self.request_dir {
            self.request_hole(hole, limits, out);
        } else {
            self.response_hole(hole, limits, out);
        }
    }

    fn message_begins<O: Out>(&mut self, dir: Direction, turn: u32, limits: &Limits, out: &mut O) {
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

    fn message_ended<O: Out>(&mut self, dir: Direction, end: &MessageEnd, limits: &Limits, out: &mut O) {
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

    fn missing<O: Out>(&mut self, dir: Direction, turn: u32, _at: Ts, out: &mut O) {
        if dir == self.request_dir { self.request_missing(out) } else { self.response_missing(turn, out) }
    }

    fn closed<O: Out>(&mut self, _at: Ts, close: Close, limits: &Limits, out: &mut O) {
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

    fn client(&self) -> Option<Direction> {
        Some(self.request_dir)
    }

    fn progress<O: Out>(
        &mut self,
        dir: Direction,
        so_far: &MessageEnd,
        unseen: u64,
        now: Ts,
        limits: &Limits,
        out: &mut O,
    ) -> bool {
        if dir == self.request_dir {
            return false;
        }
        let whole = match self.body_left() {
            // Only when nothing but the body has passed is the time of the last byte that of the body's.
            Some(left) => left == unseen,
            None => self.in_chunks() && so_far.last.plus(QUIET) <= now && ends_chunks(so_far),
        };
        if whole {
            self.over(unseen, so_far, limits, out);
        }
        whole
    }

    fn interest(&self) -> Interest {
        if self.pipelined > 0 { Interest::Everything } else { Interest::Heads }
    }

    /// True if the request for this response may still be held in reassembly.
    fn needs_other(&self, dir: Direction) -> bool {
        dir != self.request_dir && self.reply.is_none() && (self.open.is_empty() || self.responses.state == State::Lost)
    }

    fn waits_for_end(&self) -> bool {
        self.body_left().is_some() || self.in_chunks()
    }

    fn buffered(&self) -> usize {
        [&self.requests, &self.responses]
            .into_iter()
            .filter_map(|side| side.head.as_ref())
            .map(|head| head.bytes.len())
            .sum()
    }

    fn shed<O: Out>(&mut self, turn: u32, out: &mut O) {
        if self.requests.head.take().is_some() {
            self.requests.state = State::Lost;
            self.orphans = true;
            out.lost(LossReason::Limit, 1);
        }
        let answered = self.reply.take_if(|reply| reply.answers == Answers::Front).is_some();
        if self.responses.head.take().is_some() || answered {
            self.responses.state = State::Lost;
        }
        self.lose_before(turn.saturating_add(1), LossReason::Limit, out);
    }

    fn held(&self) -> usize {
        self.buffered() + self.open.iter().map(Open::held).sum::<usize>()
    }
}

impl Http1 {
    fn new(request_dir: Direction) -> Http1 {
        let side = || Side { state: State::Start, head: None };
        Http1 {
            request_dir,
            requests: side(),
            responses: side(),
            open: InOrder::default(),
            reply: None,
            doubt: None,
            given_up: 0,
            interim_bytes: 0,
            beyond: 0,
            strays: 0,
            orphans: false,
            seen_request: false,
            pipelined: 0,
            next: Next::Same,
        }
    }

    /// `count` requests were lost before the protocol was known; `orphan`: a response to one of them may follow.
    fn settle<O: Out>(&mut self, reason: LossReason, count: u64, orphan: bool, out: &mut O) {
        if count > 0 {
            out.lost(reason, count);
        }
        self.seen_request |= count > 0;
        self.orphans |= orphan;
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

    /// Bytes of the response under way that are to come; `None` where that is not known, or nothing is under way.
    fn body_left(&self) -> Option<u64> {
        match self.responses.state {
            State::Body(left) => Some(left),
            _ => None,
        }
    }

    /// The response under way was chunked when last seen, and its end may have passed uncaptured.
    fn in_chunks(&self) -> bool {
        matches!(self.responses.state, State::Chunked(_) | State::Unframed) && self.reply.is_some()
    }

    /// The response under way is over: its last bytes, though not captured, show it. `bytes` of it were not captured.
    fn over<O: Out>(&mut self, bytes: u64, end: &MessageEnd, limits: &Limits, out: &mut O) {
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
        let (start, request_bytes, exchange) = match open {
            Some(open) => {
                notes.add(open.notes);
                (open.start, open.bytes, open.describe(reply.status))
            }
            None => {
                notes.add(Notes::NO_REQUEST);
                let version = reply.version.as_str();
                (reply.start, 0, HttpExchange { status: reply.status, version, ..HttpExchange::default() })
            }
        };
        // Made in one go, as it is some 180 bytes and moved for each exchange.
        out.record(L7Record {
            protocol: Protocol::Http1,
            start,
            response_start: Some(reply.start),
            end: end.max(reply.last),
            request_bytes,
            response_bytes: reply.bytes + std::mem::take(&mut self.interim_bytes),
            outcome: Outcome::Answered,
            notes,
            detail: Detail::Http(exchange),
        });
    }
}

/// The last chunk and an empty trailer section, behind the line end of the chunk before.
fn ends_chunks(message: &MessageEnd) -> bool {
    let length = usize::from(message.tail_len).min(message.tail.len());
    message.tail.get(message.tail.len() - length..).is_some_and(|tail| tail.ends_with(b"\r\n0\r\n\r\n"))
}

/// Requests one at a time after which a connection that pipelined is taken for one that does so no
/// more: from then on a long response is not copied in full.
const AFTER_PIPELINE: u8 = 32;

/// Without new bytes for this long, the end of a chunked body that the tail of the message shows is
/// believed before the next message or the close confirm it. Data that happens to end so is not
/// followed by silence.
const QUIET: Duration = Duration::from_millis(200);

/// No request (but HTTP/0.9's) and no response fits into fewer bytes; what was counted behind a
/// message and is shorter is a line end.
const SHORTEST_HEAD: u64 = 16;

impl Hole {
    /// Between two messages: whether there may have been another one, or part of one, that is not accounted for.
    fn may_hold_head(&self) -> bool {
        match self.cause {
            Cause::Counted => self.bytes >= SHORTEST_HEAD,
            Cause::Unknown => self.bytes > 0,
            Cause::Messages => false,
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_state_of_a_connection_stays_small() {
        assert!(size_of::<super::Http1>() <= 256, "{}", size_of::<super::Http1>());
    }
}
