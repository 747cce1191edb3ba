//! Pairs the queries and responses of one flow.

use super::message::{Message, parse};
use super::question::Question;
use super::waiting::{Open, Place, Waiting};
use crate::{Limits, Out};
use flow_model::{Detail, Direction, DnsExchange, L7Record, LossReason, Notes, Outcome, Protocol, Role, Ts};
use std::collections::VecDeque;
use std::time::Duration;

/// How long a query waits for its answer. Resolvers give up after 5 s (glibc, RFC 1123 6.1.3.3) and
/// servers drop what they could not resolve in 8-10 s.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A question that is asked again so long after it was asked first is a lookup of its own. Resolvers
/// have given up by then: glibc after 2 tries of 5 s at each of 3 servers, c-ares and Go sooner. So
/// one that never gives up is told of all the same.
pub const RETRY_WINDOW: Duration = Duration::from_secs(30);

/// The same question under another id is the same lookup only when the one before has waited for
/// this long: two programs behind one socket may ask the same at the same time, and no resolver
/// changes its id sooner.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Answered questions that are remembered to know a repeated response. A duplicate follows within a few datagrams.
const REMEMBERED: usize = 8;

const TYPE_IXFR: u16 = 251;
const TYPE_AXFR: u16 = 252;

/// Pairs the queries and responses of one flow.
#[derive(Debug)]
pub struct Exchanges {
    /// In the order in which they were asked last.
    open: Waiting,
    limit: usize,
    /// [`Limits::report_partial`].
    report_partial: bool,
    role: Role,
    query_seen: bool,
    answered: VecDeque<Answered>,
    /// A zone transfer over TCP whose further messages belong to the exchange that was reported.
    transfer: Option<u16>,
    missed: Missed,
    /// Number of the next lookup.
    next: u64,
    /// Messages of the flow went missing after lookups with smaller numbers began: of those, no
    /// answer seen is no proof of none.
    doubtful: u64,
}

/// A lookup that is over.
#[derive(Debug)]
struct Answered {
    question: Question,
    /// Its repetitions may be answered, too.
    owed: u16,
}

/// Where and how a message was seen.
#[derive(Clone, Copy, Debug)]
struct Seen {
    dir: Direction,
    at: Ts,
    over_tcp: bool,
    /// Its length, of which less was captured if it was `cut`.
    wire: u64,
    cut: bool,
}

/// Messages known to be missing, and what became known of them.
#[derive(Debug)]
struct Missed {
    count: u64,
    reason: LossReason,
    last: Ts,
}

impl Exchanges {
    /// No exchange is open. Of `limits`, `open_exchanges` (at least 1) and `report_partial` matter.
    #[must_use]
    pub fn new(limits: &Limits) -> Exchanges {
        Exchanges {
            open: Waiting::new(),
            limit: limits.open_exchanges.max(1),
            report_partial: limits.report_partial,
            role: Role::Unknown,
            query_seen: false,
            answered: VecDeque::new(),
            transfer: None,
            missed: Missed { count: 0, reason: LossReason::Gap, last: Ts(0) },
            next: 0,
            doubtful: 0,
        }
    }

    /// One whole message (over TCP: without its length), seen in full.
    pub fn message(&mut self, dir: Direction, at: Ts, over_tcp: bool, bytes: &[u8], out: &mut impl Out) {
        let _ = self.captured(dir, at, over_tcp, bytes.len(), bytes, out);
    }

    /// One message of `wire_len` bytes of which `bytes` were captured. False when it could not be
    /// read; it then counts for nothing.
    pub fn captured(
        &mut self,
        dir: Direction,
        at: Ts,
        over_tcp: bool,
        wire_len: usize,
        bytes: &[u8],
        out: &mut impl Out,
    ) -> bool {
        let Some(message) = parse(bytes) else {
            if bytes.len() < wire_len {
                self.missed(1, LossReason::Gap, at);
            }
            return false;
        };
        self.expire(at, out);
        let wire = wire_len.max(bytes.len()) as u64;
        let cut = bytes.len() < wire_len;
        let seen = Seen { dir, at, over_tcp, wire, cut };
        if message.response {
            self.response(seen, message, out);
        } else {
            self.query(seen, message, out);
        }
        true
    }

    /// `count` messages (queries or responses, nobody knows) were not seen before `at`.
    pub fn missed(&mut self, count: u64, reason: LossReason, at: Ts) {
        if count == 0 {
            return;
        }
        self.missed.count += count;
        self.missed.reason = reason;
        self.missed.last = at;
        self.doubtful = self.next;
    }

    /// Gives up on what has waited for [`ANSWER_TIMEOUT`] at `now`.
    pub fn expire(&mut self, now: Ts, out: &mut impl Out) {
        while self.open.oldest().is_some_and(|open| now.since(open.asked) >= ANSWER_TIMEOUT) {
            let Some(open) = self.open.pop_oldest() else { break };
            let end = open.asked.plus(ANSWER_TIMEOUT);
            self.give_up(open, end, out);
        }
        if self.open.is_empty() && self.missed.count > 0 && now.since(self.missed.last) >= ANSWER_TIMEOUT {
            self.settle_missed(out);
        }
    }

    /// The flow is over: nothing more will be answered.
    pub fn closed(&mut self, at: Ts, out: &mut impl Out) {
        while let Some(open) = self.open.pop_oldest() {
            let waited = at.since(open.asked);
            let doubtful = open.number < self.doubtful;
            if waited < ANSWER_TIMEOUT && !open.over_tcp && !doubtful && !self.report_partial {
                // Who lets go of a UDP flow this early knows nothing of its answers.
                out.lost(LossReason::Unfinished, 1);
                continue;
            }
            let end = open.asked.plus(waited.min(ANSWER_TIMEOUT));
            self.give_up(open, end, out);
        }
        self.settle_missed(out);
    }

    /// Lets go of what is held: lookups that wait for their answers are lost to a limit.
    pub fn shed(&mut self, out: &mut impl Out) {
        let open = std::mem::replace(&mut self.open, Waiting::new()).len() as u64;
        self.answered = VecDeque::new();
        if open > 0 {
            out.lost(LossReason::Limit, open);
        }
    }

    /// What the local end is, by the way that queries and responses went.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// When [`expire`](Self::expire) has something to do next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Ts> {
        let missed = (self.missed.count > 0).then_some(self.missed.last);
        self.open.oldest().map(|open| open.asked).or(missed).map(|since| since.plus(ANSWER_TIMEOUT))
    }

    /// Bytes that it holds on to.
    #[must_use]
    pub fn held(&self) -> usize {
        let answered: usize = self.answered.iter().map(|answered| answered.question.name.capacity()).sum();
        self.open.held() + answered + self.answered.capacity() * size_of::<Answered>()
    }

    /// Lookups without an answer yet.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.len()
    }

    fn query(&mut self, seen: Seen, message: Message, out: &mut impl Out) {
        let Seen { dir, at, over_tcp, wire, cut } = seen;
        self.learn_role(dir);
        self.query_seen = true;
        self.transfer = None;
        let mut notes = Notes::default();
        if cut {
            notes.add(Notes::REQUEST_CUT);
        } else if !message.whole {
            notes.add(Notes::MALFORMED);
        }
        let question = Question::of(message, dir);
        if let Some(place) = self.repeats(&question, at, over_tcp) {
            self.open.renew(place, question.id);
            if let Some(open) = self.open.get_mut(place) {
                open.asked = open.asked.max(at);
                open.retries = open.retries.saturating_add(1);
                notes.add(Notes::DUPLICATE);
                open.notes.add(notes);
            }
            return;
        }
        if let Some(stale) = self.open.asking(&question).and_then(|place| self.open.remove(place)) {
            self.give_up(stale, at, out);
        }
        if self.open.len() >= self.limit && self.open.pop_oldest().is_some() {
            out.lost(LossReason::Limit, 1);
        }
        let number = self.next;
        self.next += 1;
        self.open.push(Open { question, at, asked: at, retries: 0, bytes: wire, notes, over_tcp, number });
    }

    /// The open lookup that this question asks again.
    fn repeats(&mut self, question: &Question, at: Ts, over_tcp: bool) -> Option<Place> {
        let exact = self.open.asking(question);
        let place = exact.or_else(|| if over_tcp { None } else { self.open.alike(question) })?;
        let open = self.open.get_mut(place)?;
        let again = exact.is_some() || at.since(open.asked) >= RETRY_AFTER;
        (again && at.since(open.at) < RETRY_WINDOW).then_some(place)
    }

    fn response(&mut self, seen: Seen, message: Message, out: &mut impl Out) {
        let Seen { dir, at, over_tcp, wire, cut } = seen;
        let mut notes = Notes::default();
        if cut {
            notes.add(Notes::RESPONSE_CUT);
        } else if !message.whole {
            notes.add(Notes::MALFORMED);
        }
        let asked = self.open.answered_by(&message, dir);
        let Some(open) = asked.and_then(|place| self.open.remove(place)) else {
            self.lone_response(seen, notes, message, out);
            return;
        };
        let Open { question, at: start, retries, bytes, notes: asked, .. } = open;
        notes.add(asked);
        if over_tcp && matches!(question.qtype, TYPE_AXFR | TYPE_IXFR) && message.rcode == 0 {
            self.transfer = Some(question.id);
            notes.add(Notes::END_ASSUMED);
        }
        let detail = answer(message, Some(&question), retries, over_tcp);
        if self.answered.len() >= REMEMBERED {
            self.answered.pop_front();
        }
        self.answered.push_back(Answered { question, owed: retries });
        out.record(L7Record {
            protocol: Protocol::Dns,
            start,
            response_start: Some(at),
            end: at.max(start),
            request_bytes: bytes,
            response_bytes: wire,
            outcome: Outcome::Answered,
            notes,
            detail,
        });
    }

    /// A response that fits no open query. An exchange of its own only when its query was not seen.
    fn lone_response(&mut self, seen: Seen, mut notes: Notes, message: Message, out: &mut impl Out) {
        let Seen { dir, at, over_tcp, wire, .. } = seen;
        if self.transfer == Some(message.id) {
            return;
        }
        self.learn_role(dir.reverse());
        let mut missing = None;
        // The newest first: an id comes again with the next question.
        let answered = self.answered.iter_mut().rev().find(|answered| answered.question.answered_by(&message, dir));
        if let Some(answered) = answered {
            if let Some(owed) = answered.owed.checked_sub(1) {
                // To a repetition of a query that is answered: nothing that was not told.
                answered.owed = owed;
                return;
            }
            notes.add(Notes::DUPLICATE);
        } else if self.missed.count > 0 {
            self.missed.count -= 1;
            notes.add(Notes::GAP);
            missing = Some(self.missed.reason);
        } else if !self.query_seen {
            missing = Some(LossReason::JoinedMidway);
        }
        notes.add(Notes::NO_REQUEST);
        if self.report_partial {
            out.record(L7Record {
                protocol: Protocol::Dns,
                start: at,
                response_start: Some(at),
                end: at,
                request_bytes: 0,
                response_bytes: wire,
                outcome: Outcome::Answered,
                notes,
                detail: answer(message, None, 0, over_tcp),
            });
        } else if let Some(reason) = missing {
            out.lost(reason, 1);
        }
    }

    fn give_up(&mut self, open: Open, end: Ts, out: &mut impl Out) {
        let Open { question, at, retries, bytes, notes, over_tcp, number, .. } = open;
        if number < self.doubtful && self.missed.count > 0 {
            // Its answer is among the missing.
            self.missed.count -= 1;
            out.lost(self.missed.reason, 1);
            return;
        }
        let Question { id, opcode, qtype, name, .. } = question;
        out.record(L7Record {
            protocol: Protocol::Dns,
            start: at,
            response_start: None,
            end,
            request_bytes: bytes,
            response_bytes: 0,
            outcome: Outcome::Unanswered,
            notes,
            detail: Detail::Dns(DnsExchange { id, opcode, name, qtype, retries, over_tcp, ..DnsExchange::default() }),
        });
    }

    /// What is still unexplained were exchanges of which neither message was seen: two messages each.
    fn settle_missed(&mut self, out: &mut impl Out) {
        let exchanges = self.missed.count.div_ceil(2);
        self.missed.count = 0;
        if exchanges > 0 {
            out.lost(self.missed.reason, exchanges);
        }
    }

    fn learn_role(&mut self, query_dir: Direction) {
        if self.role == Role::Unknown {
            self.role = match query_dir {
                Direction::Egress => Role::Client,
                Direction::Ingress => Role::Server,
            };
        }
    }
}

fn answer(message: Message, question: Option<&Question>, retries: u16, over_tcp: bool) -> Detail {
    let Message { id, opcode, rcode, questions, answers, mut name, mut qtype, addresses, ttl_s, .. } = message;
    if let (Some(question), 0) = (question, questions) {
        name.clone_from(&question.name);
        qtype = question.qtype;
    }
    let rcode = Some(rcode);
    Detail::Dns(DnsExchange { id, opcode, name, qtype, rcode, answers, addresses, ttl_s, retries, over_tcp })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::question::LOOKS;

    struct Nothing;

    impl Out for Nothing {
        fn record(&mut self, _: L7Record) {}

        fn lost(&mut self, _: LossReason, _: u64) {}
    }

    fn message(id: u16, response: bool, name: u32, questions: u8) -> Vec<u8> {
        let head = [id.to_be_bytes(), if response { [0x81, 0x80] } else { [1, 0] }, [0, questions]].concat();
        let name = format!("n{name:07}");
        let question = [&[8], name.as_bytes(), &[0, 0, 1, 0, 1]].concat();
        [head.as_slice(), &[0; 6], if questions > 0 { &question } else { &[] }].concat()
    }

    /// Comparisons that `count` open queries cost, then as many answers to the last ones first, then
    /// as many that fit nothing. `id` gives the id of each.
    fn looks(count: u32, questions: u8, id: fn(u32) -> u16) -> u64 {
        let mut exchanges = Exchanges::new(&Limits { open_exchanges: 1 << 16, ..Limits::default() });
        let before = LOOKS.get();
        for number in 0..count {
            exchanges.message(Direction::Egress, Ts(0), false, &message(id(number), false, number, 1), &mut Nothing);
            exchanges.missed(1, LossReason::RingFull, Ts(0));
        }
        assert_eq!(exchanges.open(), count as usize);
        assert!(exchanges.held() < count as usize * 400, "{} bytes", exchanges.held());
        for name in [0, count] {
            for number in (0..count).rev() {
                let bytes = message(id(number), true, number + name, questions);
                exchanges.message(Direction::Ingress, Ts(0), false, &bytes, &mut Nothing);
            }
        }
        if questions == 1 {
            assert_eq!(exchanges.open(), 0);
        }
        LOOKS.get() - before
    }

    #[test]
    fn open_queries_cost_the_same_each_however_many_they_are() {
        let ids: [fn(u32) -> u16; 2] = [|number| number as u16, |_| 7];
        for id in ids {
            for questions in [0, 1] {
                let (few, many) = (looks(4000, questions, id), looks(16_000, questions, id));
                assert!(many <= 4 * few + 4 * few / 10, "{few} comparisons, {many} for four times as many");
                assert!(many <= 16_000 * 40, "{many} comparisons");
            }
        }
    }
}
