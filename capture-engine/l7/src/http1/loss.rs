//! What is counted as lost, and what is known of the order of requests and responses afterwards.

use super::open::Sent;
use super::{Http1, State};
use crate::order::{GivenUp, Unheard};
use crate::{Limits, Out};
use flow_model::{LossReason, Notes, Ts};

impl Http1 {
    /// `count` requests were lost before the protocol was known; `orphan`: a response to one of them may follow.
    pub(super) fn settle<O: Out>(&mut self, reason: LossReason, count: u64, orphan: bool, out: &mut O) {
        if count > 0 {
            out.lost(reason, count);
            if orphan {
                self.order.has_lost_request(reason);
            }
        }
    }

    /// A message of the client begins.
    pub(super) fn client_speaks(&mut self, turn: u32, at: Ts, unheard: Unheard) {
        let unsure = unheard.unsure;
        if std::mem::take(&mut self.continues) || self.open.sending().is_some() {
            // It goes on with a body.
            return;
        }
        if std::mem::take(&mut self.blurred) || self.requests.state == State::Unframed {
            self.order.requests_blurred();
        }
        self.spoke = turn;
        let clear = !unsure && self.responses.state == State::Start && self.reply.is_none();
        let waits = self.open.front().is_some_and(|open| open.turn < turn);
        if waits && !unsure && matches!(self.responses.state, State::Start | State::Body(_) | State::Chunked(_)) {
            self.order.overlaps();
        }
        self.order.client_speaks(at, self.open.len(), clear, unheard);
    }

    /// The client has spoken, and no request was missing: what the server had said before answered nothing.
    pub(super) fn settle_unasked<O: Out>(&mut self, out: &mut O) {
        if self.unasked > 0 {
            out.unasked(u64::from(std::mem::take(&mut self.unasked)));
            self.untold = None;
        }
    }

    pub(super) fn request_missing<O: Out>(&mut self, turn: u32, at: Ts, out: &mut O) {
        let interim = self.interim_bytes > 0;
        if let Some(open) = self.open.sending().filter(|open| open.sent == Sent::Waits || interim) {
            // The body that `100 Continue` asked for.
            open.sent = Sent::Part;
            if let State::Chunked(_) = self.requests.state {
                self.requests.state = State::Unframed;
            }
            self.requests_unseen();
            return;
        }
        // The response before it has no end: its summary came with the head that is missing.
        if let Some(reply) = self.reply.take() {
            self.responses.state = State::Lost;
            if reply.answers.is_open() && self.open.pop().is_some() {
                out.lost(LossReason::RingFull, 1);
            }
        }
        if self.responses.state == State::Lost {
            self.lose_before(turn, LossReason::RingFull, false, out);
        }
        self.lose_partial_request(out);
        self.client_speaks(turn, at, Unheard { unsure: true, missed: false, dropped: false });
        self.requests.state = State::Lost;
        self.lose_unseen(LossReason::RingFull, out);
    }

    pub(super) fn response_missing<O: Out>(&mut self, turn: u32, limits: &Limits, out: &mut O) {
        match &self.reply {
            Some(reply) if reply.answers.is_open() && reply.turn > self.spoke => return,
            // The client has gone on since.
            Some(reply) if reply.answers.is_open() => {
                let last = reply.last;
                self.finish(last, Notes::END_ASSUMED, limits, out);
            }
            Some(_) => self.reply = None,
            None if self.open.sending().is_some_and(|open| open.sent == Sent::Waits) => return,
            None => {}
        }
        if self.requests.state != State::Start {
            self.requests.state = State::Lost;
        }
        self.lose_partial_request(out);
        let certain = self.responses.state == State::Start && self.responses.head.is_none();
        self.responses.head = None;
        self.responses.state = State::Lost;
        self.lose_before(turn, LossReason::RingFull, certain, out);
    }

    /// The rest of a head that was being collected will not come, nor a response to it.
    fn lose_partial_request<O: Out>(&mut self, out: &mut O) {
        if self.requests.head.take().is_some() {
            self.requests.state = State::Lost;
            self.order.lost_request(LossReason::RingFull, true, out);
            self.head_is_cut(true);
        }
    }

    /// Gives up the open requests that came before message `turn`: their responses were lost.
    /// `certain`: one of them at least. Of a client that overlaps, later ones may have been answered there, too.
    pub(super) fn lose_before<O: Out>(&mut self, turn: u32, reason: LossReason, certain: bool, out: &mut O) {
        let mut count = GivenUp::default();
        self.given_up = self.given_up.max(turn);
        let all = self.order.is_overlapping() && self.open.front().is_some_and(|open| open.turn < turn);
        while self.open.front().is_some_and(|open| all || open.turn < turn) {
            self.open.pop().iter().for_each(|open| count.add(open.turn, self.spoke));
        }
        self.order.lost_responses(reason, count, certain, out);
    }
}
