//! HTTP/1 exchanges (RFC 9112) from the two directions of one connection, of which bytes may be missing.
//!
//! Each direction is followed by position: a body of known length is passed by counting, whether
//! its bytes were captured or not. Where the position is lost, the next message of that direction
//! is the next place to look for a head. Requests and responses pair by order (`order`).

mod chunked;
mod counted;
mod head;
mod ledger;
mod loss;
pub(crate) mod method;
mod open;
mod request;
mod response;
mod seldom;
mod side;
mod sign;

use crate::asked::{Asked, Counted};
use crate::before::Misfit;
use crate::dissector::{Begun, Dissector, Next, Opening, Sign, Used};
use crate::http2::Upgrade;
use crate::input::{Bytes, Cause, Hole};
use crate::order::{Order, Unheard};
use crate::pairing::InOrder;
use crate::route::Newest;
use crate::{Interest, Limits, MessageEnd, Out};
use flow_model::{Close, Detail, Direction, HttpExchange, L7Record, LossReason, Notes, Outcome, Protocol, Ts};
use open::{Open, Unread};
use seldom::Seldom;
use side::{Side, State};
pub(crate) use sign::preamble;
use std::time::Duration;

/// Whom the response under way answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answers {
    /// The oldest open request.
    Front,
    /// The same, which could not be read: whether the response has a body depends on its method.
    Unread,
    /// A request from before the capture began.
    Stray,
    /// Nothing that was asked, as far as is known until the client speaks again.
    Nothing,
    /// A request that has been counted as lost.
    Counted,
}

impl Answers {
    /// The oldest open request is over with the response.
    fn is_open(self) -> bool {
        matches!(self, Answers::Front | Answers::Unread)
    }

    fn knows_method(self) -> bool {
        self == Answers::Front
    }
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
    /// Nothing of its body has come.
    bare: bool,
}

#[derive(Debug)]
pub(crate) struct Http1 {
    request_dir: Direction,
    requests: Side,
    responses: Side,
    /// Responses come in the order of requests (RFC 9112 section 9.3.2).
    open: InOrder<Open>,
    reply: Option<Reply>,
    order: Order,
    /// Responses to requests of messages before this one may have been lost: such a request that
    /// shows up late is not waited for.
    given_up: u32,
    /// Interim responses before the one that is to come. They have no bodies.
    interim_bytes: u32,
    /// Requests beyond the bound, counted as lost, whose responses come after those of all open ones.
    beyond: u32,
    /// Responses to nothing that was asked, since the last request: their number, and what is to be
    /// told of them should their requests turn out to be lost.
    unasked: u32,
    #[expect(clippy::box_collection, reason = "8 bytes in each connection instead of 24; few have any")]
    untold: Option<Box<Vec<L7Record>>>,
    /// What the client said last, where it was no request that could be read.
    unread: Option<Box<Unread>>,
    /// What a response answers may have been asked before anything was seen.
    midway: bool,
    /// The last that the server said is that the client may go on with a body.
    continues: bool,
    /// The newest message of the client.
    spoke: u32,
    /// The newest message of the client has bytes of which nobody knows what they were: requests, perhaps.
    blurred: bool,
    /// Responses to earlier messages than the newest of the client may be held back.
    unsure: bool,
    /// It pipelined, and not so many requests ago: then all of it is wanted.
    pipelined: u8,
    target: Newest,
    /// Sticks once it is not `Same`.
    next: Next,
    seldom: Seldom,
}

impl Dissector for Http1 {
    fn recognise(head: &[u8]) -> Sign {
        sign::recognise(head)
    }

    fn recognise_cut(head: &[u8]) -> Sign {
        sign::recognise_cut(head)
    }

    fn open<O: Out>(opening: &Opening<'_>, out: &mut O) -> Http1 {
        let Opening { dir, turn, client, heads, from_start, .. } = *opening;
        let before = opening.before.passed();
        let requests = client.unwrap_or(dir);
        let responses = requests.reverse();
        let mut http = Http1::new(requests);
        // Message 1 was a response: the connection was joined between it and its request.
        let first = u64::from(before.first_missing == Some(responses));
        let orphan = dir == responses && turn > 1 && before.last_missing[requests.index()] == turn - 1;
        let misfit = before.misfits[requests.index()];
        let answered = misfit.filter(|misfit| from_start && misfit.turn + 1 == turn);
        // What began like nothing, and its rest or its answer is missing; but what is answered is an exchange.
        let cut = match before.cut[requests.index()] {
            cut if from_start => cut - u32::from(answered.is_some_and(|misfit| misfit.cut)),
            _ => 0,
        };
        let odd = |misfit: &Misfit| before.last_missing[responses.index()] > misfit.turn;
        let odd = misfit.is_some_and(|misfit| odd(&misfit) && !(from_start && misfit.cut));
        let count = u64::from(before.missing[requests.index()]) + first + u64::from(odd);
        http.settle(LossReason::RingFull, count, orphan, out);
        http.settle(LossReason::Gap, u64::from(cut), false, out);
        let hole = |dir: Direction| before.holes[dir.index()].filter(Hole::may_hold_head);
        http.given_up = before.last_missing[responses.index()];
        if let Some(hole) = hole(responses) {
            http.responses.state = State::Lost;
            http.given_up = http.given_up.max(hole.turn);
        }
        let told = count > 0 || misfit.is_some();
        if hole(requests).is_some() && from_start && !told {
            http.order.lost_request(LossReason::Gap, false, out);
        }
        let midway = heads[responses.index()]
            .is_some_and(|kept| kept.turn == 1 && head::response(&kept.bytes) == head::Scan::Not);
        http.midway = !from_start && count == 0;
        if http.midway && (midway || before.began_midway == Some(responses)) {
            http.settle(LossReason::JoinedMidway, 1, false, out);
            http.midway = false;
        }
        if let Some(misfit) = answered {
            http.unread = Some(Box::new(Unread::new(misfit.turn, misfit.at, misfit.bytes)));
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

    fn message_begins<O: Out>(&mut self, dir: Direction, begun: Begun, limits: &Limits, out: &mut O) {
        if dir != self.request_dir {
            return;
        }
        let Begun { turn, at, unsure, missed } = begun;
        // A capture may have dropped the rest of a response: no sign that the client does not wait for it.
        let unsure = unsure || limits.report_partial && self.reply.is_some();
        self.forget_unread();
        self.unsure = unsure;
        if self.reply.as_ref().is_some_and(|reply| !reply.answers.knows_method()) {
            // Whether it had a body depends on a method that was not seen; the client at least goes on.
            let last = self.reply.as_ref().map_or_else(Ts::default, |reply| reply.last);
            self.finish(last, Notes::END_ASSUMED, limits, out);
            if unsure {
                // What is held back of it is no response.
                self.responses.state = State::Lost;
            }
        }
        if self.responses.state == State::Lost {
            self.lose_before(turn, LossReason::Gap, false, out);
        }
        self.client_speaks(turn, at, Unheard { unsure, missed, dropped: limits.report_partial });
    }

    fn message_ended<O: Out>(&mut self, dir: Direction, end: &MessageEnd, limits: &Limits, out: &mut O) {
        if dir == self.request_dir {
            if self.requests.state == State::Unframed {
                self.blurred = true;
                self.request_whole(end.last);
            }
            return;
        }
        match self.responses.state {
            State::Unframed => {
                self.finish(end.last, Notes::default(), limits, out);
                // Responses to more of a pipeline may have come behind it.
                self.lose_before(end.turn, LossReason::Gap, false, out);
            }
            State::Close => {
                if let Some(reply) = &mut self.reply {
                    reply.last = reply.last.max(end.last);
                }
            }
            _ => {}
        }
    }

    fn missing<O: Out>(&mut self, dir: Direction, turn: u32, at: Ts, limits: &Limits, out: &mut O) {
        if dir == self.request_dir {
            self.request_missing(turn, at, out);
        } else {
            self.response_missing(turn, limits, out);
        }
    }

    fn counted<O: Out>(&mut self, dir: Direction, asked: Asked, counted: Counted, out: &mut O) {
        self.requests_counted(dir, asked, counted, out);
    }

    fn uncounted<O: Out>(&mut self, dir: Direction, out: &mut O) {
        if dir == self.request_dir {
            self.end_ledger(out);
        }
    }

    fn closed<O: Out>(&mut self, _at: Ts, close: Close, limits: &Limits, out: &mut O) {
        self.cut_response_head(limits, out);
        self.cut_request_head(0, limits, out);
        self.settle_unasked(out);
        self.forget_unread();
        self.end_ledger(out);
        let told = close != Close::Gone || limits.report_partial;
        if let Some(reply) = &self.reply {
            let exact = self.responses.state == State::Close && close == Close::Fin;
            if told {
                let (last, notes) = (reply.last, if exact { Notes::default() } else { Notes::END_ASSUMED });
                self.finish(last, notes, limits, out);
            } else if reply.answers.is_open() && self.open.pop().is_some() {
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
                    response_bytes: u64::from(std::mem::take(&mut self.interim_bytes)),
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
        // Who does not wait asks much at once any time.
        let pipelines = self.pipelined > 0 || self.order.is_overlapping();
        if pipelines { Interest::Pipeline(self.request_dir) } else { Interest::Heads }
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
            self.lose_unseen(LossReason::Limit, out);
            self.head_is_cut(false);
        }
        self.settle_unasked(out);
        let answered = self.reply.take_if(|reply| reply.answers.is_open()).is_some();
        if self.responses.head.take().is_some() || answered {
            self.responses.state = State::Lost;
        }
        self.lose_before(turn.saturating_add(1), LossReason::Limit, false, out);
    }

    fn held(&self) -> usize {
        let untold = self.untold.as_ref().map_or(0, |untold| untold.len() * size_of::<L7Record>());
        self.buffered() + untold + self.target.held() + self.open.iter().map(Open::held).sum::<usize>()
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
            order: Order::ORDERLY,
            given_up: 0,
            interim_bytes: 0,
            beyond: 0,
            unasked: 0,
            untold: None,
            unread: None,
            midway: false,
            continues: false,
            spoke: 0,
            blurred: false,
            unsure: false,
            pipelined: 0,
            target: Newest::default(),
            next: Next::Same,
            seldom: Seldom::default(),
        }
    }

    /// Who asks, and what was asked when the connection became one of HTTP/2.
    pub(crate) fn upgrade(&mut self) -> (Direction, Option<Upgrade>) {
        (self.request_dir, self.seldom.take_upgrade())
    }

    /// Who asks, and whether the client has left nothing behind that is no whole request.
    pub(crate) fn left_by_client(&self) -> (Direction, bool) {
        (self.request_dir, self.requests.state == State::Start && self.requests.head.is_none())
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
            self.lose_before(end.turn, LossReason::Gap, false, out);
        }
    }

    /// The response under way ends; its record goes out.
    fn finish<O: Out>(&mut self, end: Ts, notes: Notes, limits: &Limits, out: &mut O) {
        self.responses.state = State::Start;
        let Some(reply) = self.reply.take() else { return };
        let interim_bytes = u64::from(std::mem::take(&mut self.interim_bytes));
        self.continues = false;
        let open = match reply.answers {
            Answers::Front | Answers::Unread => self.open.pop(),
            Answers::Stray | Answers::Nothing if limits.report_partial => None,
            Answers::Nothing => {
                self.unasked += 1;
                return;
            }
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
        let record = L7Record {
            protocol: Protocol::Http1,
            start,
            response_start: Some(reply.start),
            end: end.max(reply.last),
            request_bytes,
            response_bytes: reply.bytes + interim_bytes,
            outcome: Outcome::Answered,
            notes,
            detail: Detail::Http(exchange),
        };
        if reply.answers == Answers::Nothing {
            self.unasked += 1;
            let untold = self.untold.get_or_insert_default();
            if untold.len() < UNTOLD {
                untold.push(record);
            }
        } else {
            out.record(record);
        }
    }
}

/// Responses that are kept until it shows whether anything was asked; more are only counted.
const UNTOLD: usize = 16;

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
            Cause::Skipped => false,
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
