use super::chunked::{Chunked, Step};
use super::head::{self, RequestHead, Scan, Version};
use super::open::{Open, Sent, Strings, Unread};
use super::side::{Begin, PartialHead};
use super::{AFTER_PIPELINE, Http1, State, method};
use crate::input::{Bytes, Cause, Hole};
use crate::{Limits, Out};
use flow_model::{LossReason, Notes, Ts};

impl Http1 {
    pub(super) fn request_bytes<O: Out>(&mut self, data: Bytes<'_>, limits: &Limits, out: &mut O) {
        let mut rest = data.bytes;
        let mut start = data.start;
        self.order.passed(data.at);
        if start && matches!(self.requests.state, State::Body(_) | State::Chunked(_)) && self.open.sending().is_none() {
            self.after_its_answer(&data);
        }
        while !rest.is_empty() {
            let before = self.requests.state;
            let used = match before {
                State::Start => self.request_head(&data, rest, limits, out),
                State::Body(left) => {
                    let here = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    self.request_body(here as u64, data.at);
                    self.requests.state = State::Body(left - here as u64);
                    if here as u64 == left {
                        self.request_whole(data.at);
                    }
                    here
                }
                State::Chunked(mut chunked) => {
                    let (here, next) = match chunked.feed(rest) {
                        Step::More => (rest.len(), Some(State::Chunked(chunked))),
                        Step::Done(here) => (here, None),
                        Step::Broken(_) => {
                            if let Some(open) = self.open.sending() {
                                open.notes.add(Notes::MALFORMED);
                            }
                            (rest.len(), Some(State::Unframed))
                        }
                    };
                    self.request_body(here as u64, data.at);
                    match next {
                        Some(state) => self.requests.state = state,
                        None => self.request_whole(data.at),
                    }
                    here
                }
                State::Unframed if start && (self.open.is_empty() || request_begins(rest)) => {
                    if let Some(open) = self.open.sending() {
                        open.sent = Sent::Whole;
                    }
                    self.requests.state = State::Lost;
                    0
                }
                State::Unframed => {
                    self.request_body(rest.len() as u64, data.at);
                    rest.len()
                }
                State::Lost | State::Close => {
                    if start && head::request_likely(rest) {
                        self.requests.state = State::Start;
                        0
                    } else {
                        match &mut self.unread {
                            Some(unread) => unread.add(data.at, rest.len() as u64),
                            None => self.blurred = true,
                        }
                        rest.len()
                    }
                }
            };
            if used > 0 {
                start = false;
                self.request_read(before, rest.get(..used).unwrap_or_default());
            }
            rest = rest.get(used..).unwrap_or_default();
        }
    }

    /// Looks for a head at the beginning of `bytes`, or goes on with one that began before; the number of bytes used.
    fn request_head<O: Out>(&mut self, data: &Bytes<'_>, bytes: &[u8], limits: &Limits, out: &mut O) -> usize {
        let Some(gathered) = self.requests.gather(data, bytes, limits) else { return bytes.len() };
        let scan = if gathered.goes_on() { Scan::Partial } else { head::request(gathered.text()) };
        match scan {
            Scan::Complete { head, len } => {
                self.request(&head, &gathered.begin(data, len), limits, out);
                gathered.used(len)
            }
            Scan::Partial => {
                let used = self.requests.keep(data, gathered);
                if self.requests.head_is_full(limits) {
                    // The request ends with its message.
                    self.cut_request_head(0, limits, out);
                }
                used
            }
            Scan::Not => {
                self.requests.state = State::Lost;
                let begin = gathered.begin(data, gathered.text().len());
                self.forget_unread();
                self.unread = Some(Box::new(Unread::new(begin.turn, begin.at, begin.bytes)));
                bytes.len()
            }
        }
    }

    /// More comes in a message of its own though the request under way has been answered: either the
    /// rest of its body, or the next request, the body being left out. That is the client's choice after
    /// a refused `Expect: 100-continue` (RFC 9110 section 10.1.1), and what others do after an early answer.
    #[cold]
    fn after_its_answer(&mut self, data: &Bytes<'_>) {
        if request_begins(data.bytes) {
            self.requests.state = State::Start;
        } else if !self.order.is_lost() {
            self.forget_unread();
            self.unread = Some(Box::new(Unread::new(data.turn, data.at, 0)));
        }
    }

    /// The rest of the head that was being collected is not to be had: `unseen` bytes of it follow.
    pub(super) fn cut_request_head<O: Out>(&mut self, unseen: u64, limits: &Limits, out: &mut O) {
        let Some(partial) = self.requests.head.take() else { return };
        let PartialHead { ref bytes, first: at, last, turn, .. } = *partial;
        self.requests.state = State::Lost;
        if let Some(head) = head::cut_request(bytes) {
            let bytes = bytes.len() as u64 + if unseen == Hole::UNKNOWN { 0 } else { unseen };
            self.request(&head, &Begin { at, last, turn, bytes, notes: Notes::REQUEST_CUT }, limits, out);
            self.requests.state = State::Unframed;
            self.head_is_cut(true);
        } else if unseen > 0 || turn < self.given_up {
            self.lose_unseen(LossReason::Gap, out);
            self.head_is_cut(false);
        } else {
            self.forget_unread();
            self.unread = Some(Box::new(Unread::new(turn, at, bytes.len() as u64)));
            self.head_is_cut(false);
        }
        if unseen > 0 {
            self.requests_unseen();
        }
    }

    fn request<O: Out>(&mut self, head: &RequestHead<'_>, begin: &Begin, limits: &Limits, out: &mut O) {
        let RequestHead { method, target, target_cut, version, fields } = head;
        let state = if fields.chunked {
            Some(State::Chunked(Chunked::START))
        } else {
            fields.content_length.filter(|&length| length > 0).map(State::Body)
        };
        let cut = begin.notes.has(Notes::REQUEST_CUT);
        self.requests.state = state.unwrap_or(State::Start);
        self.midway = false;
        self.forget_unread();
        self.settle_unasked(out);
        // In a capture that dropped packets: a request behind bytes of which nobody knows what they were may not
        // be the first that its message asks, and one that shows when the client has gone on may be answered.
        let unsure = limits.report_partial && (self.blurred || begin.turn < self.spoke);
        if unsure || self.order.is_lost() || begin.turn < self.given_up {
            return self.order.lost_request(LossReason::Gap, true, out);
        }
        if self.beyond > 0 || self.open.len() >= limits.open_exchanges.max(1) {
            self.beyond = self.beyond.saturating_add(1);
            out.lost(LossReason::Limit, 1);
            return;
        }
        let mut notes = begin.notes;
        let both = fields.chunked && fields.content_length.is_some();
        if fields.malformed || both {
            notes.add(Notes::MALFORMED);
        }
        if fields.probe {
            notes.add(Notes::PROBE);
        }
        // What a probe asks for is in its pod's spec: that tells which of them it is.
        let strings = (limits.keep_strings || fields.probe).then(|| {
            let host = match (limits.keep_strings, fields.host) {
                (false, _) => b"",
                (true, b"") => authority(method, target),
                (true, host) => host,
            };
            Box::new(Strings { target: method::printable(target).into(), host: method::printable(host).into() })
        });
        let has_route = limits.routes && !target_cut && *method != b"CONNECT";
        let route = if has_route { self.target.route(target) } else { None };
        // What waits may have been answered by bytes that are held back.
        let waits = self.open.front().is_some_and(|open| open.turn == begin.turn || !self.unsure);
        let pipelines = waits && *version != Version::V09;
        self.pipelined = if pipelines { AFTER_PIPELINE } else { self.pipelined.saturating_sub(1) };
        if pipelines {
            self.order.pipelined();
        }
        self.open.push(Open {
            start: begin.at,
            last: begin.last,
            bytes: begin.bytes,
            turn: begin.turn,
            notes,
            version: *version,
            sent: match state {
                None if !cut => Sent::Whole,
                Some(_) if fields.expects_continue => Sent::Waits,
                _ => Sent::Part,
            },
            method: method::name(method),
            route,
            strings,
        });
    }

    fn request_body(&mut self, bytes: u64, at: Ts) {
        if let Some(open) = self.open.sending() {
            open.bytes = open.bytes.saturating_add(bytes);
            open.last = open.last.max(at);
            if bytes > 0 {
                open.sent = Sent::Part;
            }
        } else if let Some(unread) = &mut self.unread {
            unread.add(at, bytes);
        }
    }

    pub(super) fn request_whole(&mut self, at: Ts) {
        self.requests.state = State::Start;
        if let Some(open) = self.open.sending() {
            open.last = open.last.max(at);
            open.sent = Sent::Whole;
        }
    }

    pub(super) fn request_hole<O: Out>(&mut self, hole: Hole, limits: &Limits, out: &mut O) {
        match self.requests.state {
            State::Start if self.requests.head.is_some() => self.cut_request_head(hole.bytes, limits, out),
            State::Start => self.requests_lost(hole, out),
            State::Body(left) => {
                let here = left.min(hole.bytes);
                self.request_unseen(here, hole.at);
                self.requests.state = State::Body(left - here);
                if here == left {
                    self.request_whole(hole.at);
                    self.requests_lost(Hole { bytes: hole.bytes - here, ..hole }, out);
                }
            }
            State::Chunked(mut chunked) => {
                self.request_unseen(hole.counted(), hole.at);
                if chunked.skip(hole.bytes) {
                    self.requests.state = State::Chunked(chunked);
                } else {
                    self.requests_unseen();
                    self.requests.state = State::Unframed;
                    self.blurred |= hole.cause == Cause::Unknown;
                }
            }
            State::Unframed => {
                self.request_unseen(hole.counted(), hole.at);
                self.requests_unseen();
                self.blurred |= hole.cause == Cause::Unknown;
            }
            State::Lost if self.seldom.counts() => {
                self.requests_unseen();
                self.order.requests_unread();
            }
            // Whatever it was that made no sense, a request may have followed it.
            State::Lost if self.order.is_lost() => self.order.requests_unread(),
            // The source counts messages: this is the end of one of which a loss has been counted.
            State::Lost if !limits.report_partial => {}
            State::Lost if hole.cause == Cause::Unknown => self.requests_lost(hole, out),
            State::Close | State::Lost => {}
        }
    }

    fn request_unseen(&mut self, bytes: u64, at: Ts) {
        self.request_body(bytes, at);
        if let Some(open) = self.open.sending() {
            open.notes.add(Notes::BODY_SKIPPED);
        }
    }

    /// A hole where a request should begin.
    fn requests_lost<O: Out>(&mut self, hole: Hole, out: &mut O) {
        if !hole.may_hold_head() {
            return;
        }
        self.midway = false;
        let unasked = std::mem::take(&mut self.unasked);
        if unasked > 0 && hole.before_start && self.open.is_empty() && self.reply.is_none() {
            // The requests to what seemed to answer nothing were in there.
            let untold = self.untold.take().map_or_else(Vec::new, |untold| *untold);
            let lost = u64::from(unasked).saturating_sub(untold.len() as u64);
            self.requests_unseen();
            self.told_unseen(unasked);
            untold.into_iter().for_each(|record| out.record(record));
            if lost > 0 {
                out.lost(LossReason::Gap, lost);
            }
            return;
        }
        self.requests.state = State::Lost;
        self.lose_unseen(LossReason::Gap, out);
        for _ in 0..unasked {
            self.order.response(out);
        }
    }
}

/// Whether a request line is here for certain.
fn request_begins(bytes: &[u8]) -> bool {
    matches!(head::request(bytes), Scan::Complete { .. }) || head::known_request_begins(bytes)
}

/// The authority of an absolute-form or authority-form target (RFC 9112 section 3.2).
fn authority<'a>(method: &[u8], target: &'a [u8]) -> &'a [u8] {
    if method == b"CONNECT" {
        return target;
    }
    match memchr::memmem::find(target, b"://") {
        Some(at) if target.first() != Some(&b'/') => {
            let rest = target.get(at + 3..).unwrap_or_default();
            rest.split(|b| b"/?#".contains(b)).next().unwrap_or_default()
        }
        _ => b"",
    }
}
