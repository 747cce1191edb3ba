use super::chunked::{Chunked, Step};
use super::head::{self, ResponseHead, Scan, Version};
use super::side::{Begin, PartialHead};
use super::{Answers, Http1, Reply, State};
use crate::dissector::Next;
use crate::input::{Bytes, Cause, Hole};
use crate::{Limits, Out};
use flow_model::{LossReason, Notes, Ts};

impl Http1 {
    /// Reads responses until the bytes end or all requests are answered, whichever is first; how many bytes that were.
    pub(super) fn response_bytes<O: Out>(&mut self, data: Bytes<'_>, limits: &Limits, out: &mut O) -> usize {
        let waiting = !self.open.is_empty();
        self.order.passed(data.at);
        let mut rest = data.bytes;
        let mut start = data.start;
        while !rest.is_empty() && self.next == Next::Same && !(waiting && self.open.is_empty()) {
            if start && self.response_moved_on(data.turn, rest) {
                let last = self.reply.as_ref().map_or(data.at, |reply| reply.last);
                let unframed = self.responses.state == State::Unframed;
                self.finish(last, Notes::END_ASSUMED, limits, out);
                if unframed {
                    self.lose_before(data.turn.saturating_sub(1), LossReason::Gap, false, out);
                }
            }
            if self.answered_head(rest) {
                self.finish(data.at, Notes::default(), limits, out);
            }
            let used = match self.responses.state {
                State::Start => self.response_head(&data, rest, limits, out),
                State::Body(left) => {
                    let here = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    self.response_body(here as u64, data.at);
                    self.responses.state = State::Body(left - here as u64);
                    if here as u64 == left {
                        self.finish(data.at, Notes::default(), limits, out);
                    }
                    here
                }
                State::Chunked(mut chunked) => match chunked.feed(rest) {
                    Step::More => {
                        self.response_body(rest.len() as u64, data.at);
                        self.responses.state = State::Chunked(chunked);
                        rest.len()
                    }
                    Step::Done(here) => {
                        self.response_body(here as u64, data.at);
                        self.finish(data.at, Notes::default(), limits, out);
                        here
                    }
                    Step::Broken(_) => {
                        self.response_body(rest.len() as u64, data.at);
                        self.note(Notes::MALFORMED);
                        self.responses.state = State::Unframed;
                        rest.len()
                    }
                },
                State::Close | State::Unframed => {
                    self.response_body(rest.len() as u64, data.at);
                    rest.len()
                }
                // After a hole a packet may begin with a head too, not only a message. What was
                // asked before the message to which this is the answer was answered in what did not
                // make sense.
                State::Lost if start && head::response(rest) != Scan::Not => {
                    self.lose_before(data.turn.saturating_sub(1), LossReason::Gap, false, out);
                    self.responses.state = State::Start;
                    0
                }
                State::Lost if rest.len() == data.bytes.len() && head::response_begins(rest) => {
                    self.lose_before(data.turn, LossReason::Gap, false, out);
                    self.responses.state = State::Start;
                    0
                }
                State::Lost => rest.len(),
            };
            if used > 0 {
                start = false;
            }
            rest = rest.get(used..).unwrap_or_default();
        }
        data.bytes.len() - rest.len()
    }

    /// A message begins where more of the last response was awaited, and shows that there is no more of it.
    fn response_moved_on(&self, turn: u32, bytes: &[u8]) -> bool {
        let Some(reply) = &self.reply else { return false };
        match self.responses.state {
            State::Unframed => true,
            // To HEAD, perhaps, for all that is known: the client spoke in between, so no body is believed.
            _ if !reply.answers.knows_method() => reply.turn < turn,
            // No length and no close: a server that sends no body at all.
            State::Close => self.open.len() > 1 && head::response_begins(bytes),
            _ => false,
        }
    }

    /// A response to a request that is not known has no body where another one follows at once: it was to HEAD.
    fn answered_head(&self, bytes: &[u8]) -> bool {
        let unknown = self.reply.as_ref().is_some_and(|reply| reply.bare && !reply.answers.knows_method());
        unknown
            && matches!(self.responses.state, State::Body(_) | State::Chunked(_))
            && head::response(bytes) != Scan::Not
    }

    /// Looks for a head at the beginning of `bytes`, or goes on with one that began before; the number of bytes used.
    fn response_head<O: Out>(&mut self, data: &Bytes<'_>, bytes: &[u8], limits: &Limits, out: &mut O) -> usize {
        let Some(gathered) = self.responses.gather(data, bytes, limits) else { return bytes.len() };
        let scan = if gathered.goes_on() { Scan::Partial } else { head::response(gathered.text()) };
        match scan {
            Scan::Complete { head, len } => {
                self.response(&head, &gathered.begin(data, len), limits, out);
                gathered.used(len)
            }
            Scan::Partial => {
                let used = self.responses.keep(data, gathered);
                if self.responses.head_is_full(limits) {
                    self.cut_response_head(limits, out);
                }
                used
            }
            Scan::Not
                if gathered.begins_here() && self.open.front().is_some_and(|open| open.version == Version::V09) =>
            {
                // HTTP/0.9: the response is its body (RFC 1945 section 6).
                self.reply = Some(Reply {
                    answers: Answers::Front,
                    turn: data.turn,
                    start: data.at,
                    last: data.at,
                    bytes: 0,
                    status: None,
                    version: Version::V09,
                    notes: Notes::default(),
                    bare: true,
                });
                self.responses.state = State::Close;
                0
            }
            Scan::Not => {
                self.responses.state = State::Lost;
                self.order.responses_unread();
                bytes.len()
            }
        }
    }

    /// The rest of the head that was being collected is not to be had. False when not even a status was seen.
    pub(super) fn cut_response_head<O: Out>(&mut self, limits: &Limits, out: &mut O) -> bool {
        let Some(partial) = self.responses.head.take() else { return false };
        self.responses.state = State::Lost;
        let Some(head) = head::cut_response(&partial.bytes) else { return false };
        let bytes = partial.bytes.len() as u64;
        let PartialHead { first: at, last, turn, .. } = *partial;
        let begin = Begin { at, last, turn, bytes, notes: Notes::RESPONSE_CUT };
        self.response(&head, &begin, limits, out);
        true
    }

    fn response<O: Out>(&mut self, head: &ResponseHead<'_>, begin: &Begin, limits: &Limits, out: &mut O) {
        let ResponseHead { status, version, fields } = head;
        let cut = begin.notes.has(Notes::RESPONSE_CUT);
        if self.open.is_empty() && self.requests.head.as_ref().is_some_and(|head| head.turn < begin.turn) {
            // A request whose head has not ended is answered: 400, 408, 431.
            self.cut_request_head(0, limits, out);
        }
        if (100..200).contains(status) && *status != 101 {
            let bytes = u32::try_from(begin.bytes).unwrap_or(u32::MAX);
            self.interim_bytes = self.interim_bytes.saturating_add(bytes);
            self.continues = *status == 100;
            self.responses.state = if cut { State::Lost } else { State::Start };
            return;
        }
        let answers = self.answers(begin.turn, limits, out);
        let method = self.open.front().filter(|_| answers == Answers::Front).map_or("", |open| &*open.method);
        let tunnel = method == "CONNECT" && (200..300).contains(status);
        let bodiless = method == "HEAD" || matches!(status, 204 | 304) || tunnel || *status == 101;
        let mut notes = begin.notes;
        if fields.malformed || fields.chunked && fields.content_length.is_some() {
            notes.add(Notes::MALFORMED);
        }
        if tunnel || *status == 101 {
            notes.add(Notes::UPGRADED);
            self.next = match tunnel {
                true => Next::Search,
                false if fields.h2c => Next::Http2,
                false if fields.websocket => Next::WebSocket,
                false => Next::Opaque,
            };
        }
        if self.next == Next::Http2 {
            let front = self.open.front().filter(|_| answers == Answers::Front);
            self.seldom.agreed(front.map(|open| open.upgrade()));
        }
        self.reply = Some(Reply {
            answers,
            turn: begin.turn,
            start: begin.at,
            last: begin.last,
            bytes: begin.bytes,
            status: Some(*status),
            version: *version,
            notes,
            bare: true,
        });
        self.responses.state = match fields.content_length {
            _ if tunnel || *status == 101 => State::Start,
            _ if cut => State::Unframed,
            _ if bodiless => State::Start,
            _ if fields.chunked => State::Chunked(Chunked::START),
            Some(0) if !fields.other_coding => State::Start,
            Some(length) if !fields.other_coding => State::Body(length),
            _ => State::Close,
        };
        if self.responses.state == State::Start {
            self.finish(begin.last, Notes::default(), limits, out);
        }
    }

    /// Decides which request a final response belongs to.
    fn answers<O: Out>(&mut self, turn: u32, limits: &Limits, out: &mut O) -> Answers {
        // What waited behind a hole until now may be older than the request; no response comes before its request.
        if self.open.front().is_some_and(|open| open.turn < turn) {
            Answers::Front
        } else if turn < self.spoke && self.order.is_settled(limits.report_partial) || self.order.response(out) {
            Answers::Counted
        } else if self.beyond > 0 {
            self.beyond -= 1;
            Answers::Counted
        } else if let Some(unread) = self.unread.take_if(|unread| unread.turn < turn) {
            self.unread_is_told(unread.lines);
            self.open.push(unread.into_open());
            Answers::Unread
        } else if self.midway {
            if !limits.report_partial {
                out.lost(LossReason::JoinedMidway, 1);
            }
            Answers::Stray
        } else if turn < self.spoke {
            Answers::Counted
        } else if self.blurred || self.requests.state == State::Unframed {
            if !self.seldom.counts() {
                out.lost(LossReason::Gap, 1);
            }
            Answers::Counted
        } else if self.requests.state == State::Lost {
            Answers::Counted
        } else {
            Answers::Nothing
        }
    }

    fn response_body(&mut self, bytes: u64, at: Ts) {
        if let Some(reply) = &mut self.reply {
            reply.bytes = reply.bytes.saturating_add(bytes);
            reply.last = reply.last.max(at);
            reply.bare = false;
        }
    }

    fn note(&mut self, note: Notes) {
        if let Some(reply) = &mut self.reply {
            reply.notes.add(note);
        }
    }

    pub(super) fn response_hole<O: Out>(&mut self, hole: Hole, limits: &Limits, out: &mut O) {
        match self.responses.state {
            State::Start if self.responses.head.is_some() => {
                if self.cut_response_head(limits, out) {
                    self.response_unseen(hole.counted(), hole.at);
                    // It was an interim one, and the response itself may have followed it.
                    if self.reply.is_none() && hole.cause == Cause::Unknown {
                        self.lose_before(hole.turn, LossReason::Gap, false, out);
                    }
                } else {
                    let certain = self.answers_newest(&hole, limits);
                    self.lose_before(hole.turn, LossReason::Gap, certain, out);
                }
            }
            State::Start => self.responses_lost(hole, limits, out),
            State::Body(left) => {
                let here = left.min(hole.bytes);
                self.response_unseen(here, hole.at);
                self.responses.state = State::Body(left - here);
                if here == left {
                    let exact = hole.cause == Cause::Counted && hole.bytes == here;
                    let notes = if exact { Notes::default() } else { Notes::END_ASSUMED };
                    self.finish(hole.at, notes, limits, out);
                    self.responses_lost(Hole { bytes: hole.bytes - here, ..hole }, limits, out);
                }
            }
            State::Chunked(mut chunked) => {
                self.response_unseen(hole.counted(), hole.at);
                self.responses.state = if chunked.skip(hole.bytes) { State::Chunked(chunked) } else { State::Unframed };
            }
            State::Close | State::Unframed => self.response_unseen(hole.counted(), hole.at),
            // Whatever it was that made no sense, responses may have followed it.
            State::Lost if hole.may_hold_head() => self.lose_before(hole.turn, LossReason::Gap, false, out),
            State::Lost => {}
        }
        let moved_on = self.reply.as_ref().filter(|reply| reply.turn < hole.turn).map(|reply| reply.last);
        if let (State::Unframed, Cause::Unknown, Some(last)) = (self.responses.state, hole.cause, moved_on) {
            // It ended inside the hole, and so may the next response have begun there.
            self.finish(last, Notes::END_ASSUMED, limits, out);
            self.responses.state = State::Lost;
            self.lose_before(hole.turn, LossReason::Gap, false, out);
        }
    }

    /// Whether a hole is in what the server said after the newest message of the client. Where the source
    /// counts messages, what is missing before one belongs to the one before it.
    fn answers_newest(&self, hole: &Hole, limits: &Limits) -> bool {
        hole.turn > self.spoke && (!hole.before_start || limits.report_partial)
    }

    fn response_unseen(&mut self, bytes: u64, at: Ts) {
        self.response_body(bytes, at);
        self.note(Notes::BODY_SKIPPED);
    }

    /// A hole where a response should begin.
    fn responses_lost<O: Out>(&mut self, hole: Hole, limits: &Limits, out: &mut O) {
        if hole.may_hold_head() {
            self.responses.state = State::Lost;
            let certain = self.answers_newest(&hole, limits);
            self.lose_before(hole.turn, LossReason::Gap, certain, out);
        }
    }
}
