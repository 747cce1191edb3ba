//! Whether requests and responses still pair by counting once some of them were lost, for protocols
//! that answer in the order of asking (HTTP/1: RFC 9112 section 9.3.2; Redis).
//!
//! A lost head shifts all pairs behind it. From a loss on nothing is paired until it is certain that
//! all that was asked is answered; what passes meanwhile is counted as lost. How certain a new message
//! of the client makes it depends on its manners: a connection is taken for as orderly as it has been
//! so far.

use crate::Out;
use flow_model::{LossReason, Ts};
use std::time::Duration;

/// How the client asks, as far as was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Manner {
    /// One request at a time.
    Alternates,
    /// Several at a time; whether it waits for all their responses has not shown.
    Pipelines,
    /// Several at a time, and no more before all of them are answered.
    Batches,
    /// It asks more while it waits.
    Overlaps,
}

/// A client that asks after so long a silence waits for nothing. Who keeps several requests under
/// way sends the next one as soon as a response has come.
const SILENCE: Duration = Duration::from_secs(1);

/// What is not known when a message of the client begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unheard {
    /// What the server said last may be held back, or is missing.
    pub unsure: bool,
    /// Bytes of the client before this message were not seen.
    pub missed: bool,
    /// The source drops packets unseen: what is missing shows late, or never.
    pub dropped: bool,
}

/// Requests that wait no more: what answered them was lost, as far as is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GivenUp {
    /// Of messages before the client's newest one, and of that.
    pub earlier: u32,
    pub newest: u32,
}

impl GivenUp {
    /// One more, of message `turn`, the client's newest message being `spoke`.
    pub(crate) fn add(&mut self, turn: u32, spoke: u32) {
        let count = if turn < spoke { &mut self.earlier } else { &mut self.newest };
        *count = count.saturating_add(1);
    }
}

/// What is counted and not paired, since something was lost.
#[derive(Debug)]
struct Doubt {
    reason: LossReason,
    /// Requests and final responses that were seen, or must have passed unseen.
    asked: u32,
    answered: u32,
    /// Of those asked, the ones that nobody saw: they may have been answered before this began.
    inferred: u32,
    /// How many of both are in the requests and responses of the newest pair of messages.
    pair: [u32; 2],
    /// Responses of this pair that were not seen, though they must have passed.
    unseen: u32,
    /// Exchanges that have been counted as lost.
    counted: u32,
    /// Requests are among what was not seen: more than were counted, perhaps.
    requests_lost: bool,
    /// So are responses; and of some loss it is not certain that one was in it.
    responses_lost: bool,
    responses_unsure: bool,
    /// Something of the server is missing; most often it is of a response that was seen.
    responses_perhaps: bool,
    calm: Calm,
    /// How many requests were not seen is yet to be told.
    unknown: bool,
}

/// What shows, since something was lost last, that all that was asked is answered at times though the
/// client does not wait for it.
///
/// A server answers in order and as soon as it can. So where fewer requests have never been under way
/// than now, and again and again nothing comes of the server for far longer than it needs for a
/// response, until the client asks more, then it had nothing to answer. Had it, one more response
/// would have come in one of these pauses, and the least number would have been lower.
#[derive(Debug, Default)]
struct Calm {
    /// The least number of requests under way, compared to when this began.
    least: Option<i64>,
    /// Responses that were waited for, and the nanoseconds of that.
    served: u32,
    service: u64,
    /// Pauses with the least number under way.
    pauses: u32,
}

/// Pauses that show it, how much longer than a response each has to be, and of how many responses
/// that has to be known.
const PAUSES: u32 = 32;
const PAUSE: u64 = 4;
const SERVED: u32 = 32;

/// What is known of the order.
#[derive(Debug)]
pub(crate) struct Order {
    manner: Manner,
    doubt: Option<Box<Doubt>>,
    /// When the newest byte passed, and how long after the one before.
    last: Ts,
    pause: u32,
    /// All requests are told of that there were, so that responses tell of none.
    exact: bool,
}

impl Order {
    pub(crate) const ORDERLY: Order =
        Order { manner: Manner::Alternates, doubt: None, last: Ts(0), pause: 0, exact: false };

    /// Nothing is paired.
    pub(crate) fn is_lost(&self) -> bool {
        self.doubt.is_some()
    }

    /// Whether a response to what came before the client's newest message answers what was settled when that
    /// began: it was held back, and a client that asks one thing at a time has gone on. `dropped`: in a
    /// capture, of which more may be missing, what it answers may have been held back, too, and counted after that.
    pub(crate) fn is_settled(&mut self, dropped: bool) -> bool {
        if self.manner != Manner::Alternates {
            return false;
        }
        if dropped {
            self.responses_unread();
        }
        true
    }

    /// The client does not wait for what it has asked.
    pub(crate) fn is_overlapping(&self) -> bool {
        self.manner == Manner::Overlaps
    }

    /// A request began while another one had no response.
    pub(crate) fn pipelined(&mut self) {
        self.manner = self.manner.max(Manner::Pipelines);
    }

    /// A request, seen or unseen, that no record will tell of.
    pub(crate) fn lost_request<O: Out>(&mut self, reason: LossReason, seen: bool, out: &mut O) {
        let exact = self.exact;
        let doubt = self.doubt(reason);
        if !seen {
            doubt.calm = Calm::default();
        }
        doubt.requests_lost |= !seen;
        doubt.inferred = doubt.inferred.saturating_add(u32::from(!seen));
        doubt.ask(1);
        doubt.count(exact, out);
        if doubt.pair[0] > 1 {
            self.pipelined();
        }
    }

    /// So many requests were lost that nobody saw: that is known.
    pub(crate) fn lost_requests<O: Out>(&mut self, reason: LossReason, requests: u32, out: &mut O) {
        let exact = self.exact;
        let doubt = self.doubt(reason);
        doubt.calm = Calm::default();
        doubt.requests_lost = true;
        doubt.inferred = doubt.inferred.saturating_add(requests);
        doubt.ask(requests);
        doubt.count(exact, out);
        if doubt.pair[0] > 1 {
            self.pipelined();
        }
    }

    /// Requests were lost; how many is told later.
    pub(crate) fn requests_unknown(&mut self, reason: LossReason) {
        let doubt = self.doubt(reason);
        doubt.calm = Calm::default();
        (doubt.requests_lost, doubt.unknown) = (true, true);
    }

    /// It has been told.
    pub(crate) fn requests_known(&mut self) {
        if let Some(doubt) = &mut self.doubt {
            doubt.unknown = false;
        }
    }

    /// From here on all requests are told of, or no longer.
    pub(crate) fn requests_are_counted(&mut self, exact: bool) {
        self.exact = exact;
        if let Some(doubt) = &mut self.doubt {
            doubt.asked = doubt.asked.max(doubt.counted);
            doubt.answered = doubt.answered.min(doubt.asked);
        }
    }

    /// As that, where the caller has counted it.
    pub(crate) fn has_lost_request(&mut self, reason: LossReason) {
        let doubt = self.doubt(reason);
        doubt.requests_lost = true;
        doubt.inferred = doubt.inferred.saturating_add(1);
        doubt.ask(1);
        doubt.counted += 1;
    }

    /// Responses were lost, and with them what they answered. `certain`: one response at least was among what
    /// was not seen.
    pub(crate) fn lost_responses<O: Out>(&mut self, reason: LossReason, given_up: GivenUp, certain: bool, out: &mut O) {
        let GivenUp { earlier, newest } = given_up;
        if given_up == GivenUp::default() {
            let Some(doubt) = &mut self.doubt else { return };
            if !certain {
                doubt.calm = Calm::default();
                doubt.responses_perhaps = true;
                return;
            }
        }
        let exact = self.exact;
        let doubt = self.doubt(reason);
        doubt.calm = Calm::default();
        // Those of earlier messages are no requests of the newest one, which may still be held back.
        doubt.asked = doubt.asked.saturating_add(earlier);
        doubt.ask(newest);
        doubt.responses_lost = true;
        if certain {
            doubt.answer();
            doubt.unseen += 1;
        } else {
            doubt.responses_unsure = true;
        }
        doubt.count(exact, out);
        if newest > 1 {
            self.pipelined();
        }
    }

    /// A response passed before anybody knew what the connection speaks; its request is yet to show.
    pub(crate) fn response_unread<O: Out>(&mut self, reason: LossReason, out: &mut O) {
        let doubt = self.doubt(reason);
        doubt.responses_lost = true;
        doubt.answer();
        doubt.count(false, out);
    }

    /// Bytes of the client are missing where it was not known what they were: requests may be in them.
    pub(crate) fn requests_unread(&mut self) {
        if let Some(doubt) = &mut self.doubt {
            doubt.calm = Calm::default();
            doubt.requests_lost = true;
        }
    }

    /// The message of the client that is over had bytes of which nobody knows what they were: requests, perhaps.
    /// Where their responses may still come, nothing is paired.
    pub(crate) fn requests_blurred(&mut self) {
        if self.doubt.is_some() || matches!(self.manner, Manner::Pipelines | Manner::Overlaps) {
            let doubt = self.doubt(LossReason::Gap);
            doubt.calm = Calm::default();
            doubt.requests_lost = true;
        }
    }

    /// Bytes of the server make no sense: responses may be in them.
    pub(crate) fn responses_unread(&mut self) {
        if let Some(doubt) = &mut self.doubt {
            doubt.calm = Calm::default();
            doubt.responses_unsure = true;
        }
    }

    /// A final response that is not paired; false when pairs are certain.
    pub(crate) fn response<O: Out>(&mut self, out: &mut O) -> bool {
        let pause = std::mem::take(&mut self.pause);
        let Some(doubt) = &mut self.doubt else { return false };
        doubt.calm.answer(pause);
        let all = self.manner == Manner::Alternates || doubt.pair[1] >= doubt.pair[0];
        if doubt.unseen > 0 && all {
            // What was not seen was an interim response: all that was asked is answered without it.
            doubt.unseen -= 1;
            return true;
        }
        doubt.answer();
        doubt.calm.under_way(doubt.asked, doubt.answered);
        doubt.count(self.exact, out);
        true
    }

    /// Bytes passed.
    pub(crate) fn passed(&mut self, at: Ts) {
        if self.doubt.is_some() {
            self.pause = u32::try_from(at.since(self.last).as_nanos()).unwrap_or(u32::MAX);
        }
        self.last = self.last.max(at);
    }

    /// The requests that wait now were asked before a message of the client that begins, though no
    /// response to them is known to be lost.
    pub(crate) fn overlaps(&mut self) {
        self.manner = Manner::Overlaps;
    }

    /// A message of the client begins, `waiting` requests before it being open. `clear`: the server is
    /// not amid a response.
    pub(crate) fn client_speaks(&mut self, at: Ts, waiting: usize, clear: bool, unheard: Unheard) {
        let Unheard { unsure, missed, dropped } = unheard;
        let Some(doubt) = &mut self.doubt else {
            if self.manner == Manner::Pipelines && waiting == 0 && clear {
                self.manner = Manner::Batches;
            }
            return;
        };
        doubt.responses_perhaps |= unsure;
        let (mut waits, mut earlier) = (doubt.asked > doubt.answered, doubt.answered > doubt.asked);
        if dropped {
            // Only what was seen, and nothing missing where it may have been otherwise, shows how the client asks.
            let heard = !doubt.responses_unsure && !doubt.responses_perhaps;
            waits = heard && doubt.asked.saturating_sub(doubt.inferred) > doubt.answered;
            earlier &= heard && !missed;
        }
        waits &= clear && !doubt.responses_lost;
        earlier &= self.manner > Manner::Alternates && !doubt.requests_lost;
        if waits || earlier {
            self.manner = Manner::Overlaps;
        }
        // Every request was seen, and as many responses must have passed.
        let settled = !doubt.requests_lost && !doubt.responses_unsure && doubt.asked == doubt.answered;
        let certain = settled
            || match self.manner {
                Manner::Alternates => true,
                Manner::Batches => !unsure,
                Manner::Pipelines => doubt.pair[0] == doubt.pair[1] && doubt.pair[0] > 0 && !doubt.unknown,
                Manner::Overlaps => {
                    let pause = at.since(self.last);
                    let calm = clear && !unheard.missed && doubt.calm.pauses(doubt.asked, doubt.answered, pause);
                    pause >= SILENCE || calm
                }
            };
        (doubt.pair, doubt.unseen) = ([0; 2], 0);
        if certain && waiting == 0 {
            self.doubt = None;
        }
    }

    fn doubt(&mut self, reason: LossReason) -> &mut Doubt {
        self.doubt.get_or_insert_with(|| {
            Box::new(Doubt {
                reason,
                asked: 0,
                answered: 0,
                inferred: 0,
                pair: [0; 2],
                unseen: 0,
                counted: 0,
                requests_lost: false,
                responses_lost: false,
                responses_unsure: false,
                responses_perhaps: false,
                calm: Calm::default(),
                unknown: false,
            })
        })
    }
}

impl Calm {
    /// A response begins, so many nanoseconds after the byte before it.
    fn answer(&mut self, pause: u32) {
        if pause > 0 {
            self.served = self.served.saturating_add(1);
            self.service = self.service.saturating_add(u64::from(pause));
        }
    }

    /// A response has come.
    fn under_way(&mut self, asked: u32, answered: u32) {
        let now = i64::from(asked) - i64::from(answered);
        if self.least.is_none_or(|least| now < least) {
            (self.least, self.pauses) = (Some(now), 0);
        }
    }

    /// The client asks more after a pause. True where it has shown that nothing was under way.
    fn pauses(&mut self, asked: u32, answered: u32, pause: Duration) -> bool {
        let now = i64::from(asked) - i64::from(answered);
        let usual = self.service / u64::from(self.served.max(1));
        let long = self.served >= SERVED && pause.as_nanos() > u128::from(usual.saturating_mul(PAUSE));
        if long && self.least == Some(now) {
            self.pauses += 1;
        }
        self.pauses >= PAUSES && self.least == Some(now)
    }
}

impl Doubt {
    fn ask(&mut self, requests: u32) {
        self.asked = self.asked.saturating_add(requests);
        self.pair[0] = self.pair[0].saturating_add(requests);
    }

    fn answer(&mut self) {
        self.answered = self.answered.saturating_add(1);
        self.pair[1] = self.pair[1].saturating_add(1);
    }

    /// Of requests and responses of the same exchanges some were seen of each: there were at least as
    /// many exchanges as the greater number says. `exact`: as many as were asked.
    fn count<O: Out>(&mut self, exact: bool, out: &mut O) {
        let known = if exact { self.asked } else { self.asked.max(self.answered) };
        if known > self.counted {
            out.lost(self.reason, u64::from(known - self.counted));
            self.counted = known;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nowhere;

    impl Out for Nowhere {
        fn record(&mut self, _: flow_model::L7Record) {}
        fn lost(&mut self, _: LossReason, _: u64) {}
    }

    /// A client that does not wait and a loss of one request; then `rounds` of a request, its response
    /// after 100 us and a pause. Whether it is in step again.
    fn in_step(rounds: u64, pause_us: u64) -> bool {
        let (mut order, mut now) = (Order::ORDERLY, 1_000_000);
        order.overlaps();
        order.lost_request(LossReason::Gap, false, &mut Nowhere);
        for _ in 0..rounds {
            let heard = Unheard { unsure: false, missed: false, dropped: false };
            order.client_speaks(Ts(now), 0, true, heard);
            order.passed(Ts(now));
            if !order.is_lost() {
                return true;
            }
            order.lost_request(LossReason::Gap, true, &mut Nowhere);
            now += 100_000;
            order.passed(Ts(now));
            order.response(&mut Nowhere);
            now += pause_us * 1000;
        }
        false
    }

    #[test]
    fn a_server_that_is_silent_again_and_again_has_nothing_to_answer() {
        assert!(in_step(1000, 1000));
        assert!(!in_step(u64::from(PAUSES), 1000), "some pauses show nothing");
        assert!(!in_step(10_000, 100), "a pause as long as a response shows nothing");
    }
}
