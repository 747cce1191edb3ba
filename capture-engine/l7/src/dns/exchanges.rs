use super::message::{Message, parse};
use crate::{Limits, Out};
use flow_model::{Detail, Direction, DnsExchange, L7Record, LossReason, Notes, Outcome, Protocol, Role, Ts};
use std::collections::VecDeque;
use std::time::Duration;

/// How long a query waits for its answer. Resolvers give up after 5 s (glibc, RFC 1123 6.1.3.3) and
/// servers drop what they could not resolve in 8-10 s.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Answered questions that are remembered to know a repeated response. A duplicate follows within a few datagrams.
const REMEMBERED: usize = 8;

const TYPE_IXFR: u16 = 251;
const TYPE_AXFR: u16 = 252;

/// Pairs the queries and responses of one flow.
#[derive(Debug)]
pub struct Exchanges {
    /// Oldest first, but for clocks that went backwards.
    open: VecDeque<Open>,
    limit: usize,
    /// [`Limits::report_partial`].
    report_partial: bool,
    role: Role,
    query_seen: bool,
    answered: VecDeque<Question>,
    /// A zone transfer over TCP whose further messages belong to the exchange that was reported.
    transfer: Option<u16>,
    missed: Missed,
}

/// What identifies an exchange: a response repeats it (RFC 5452 9.1).
#[derive(Clone, Debug)]
struct Question {
    /// The way of the query.
    dir: Direction,
    id: u16,
    opcode: u8,
    qtype: u16,
    qclass: u16,
    name: String,
}

#[derive(Debug)]
struct Open {
    question: Question,
    at: Ts,
    bytes: u64,
    notes: Notes,
    over_tcp: bool,
    /// Messages of the flow went missing after this query: no answer seen is no proof of none.
    doubtful: bool,
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
            open: VecDeque::new(),
            limit: limits.open_exchanges.max(1),
            report_partial: limits.report_partial,
            role: Role::Unknown,
            query_seen: false,
            answered: VecDeque::new(),
            transfer: None,
            missed: Missed { count: 0, reason: LossReason::Gap, last: Ts(0) },
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
        for open in &mut self.open {
            open.doubtful = true;
        }
    }

    /// Gives up on what has waited for [`ANSWER_TIMEOUT`] at `now`.
    pub fn expire(&mut self, now: Ts, out: &mut impl Out) {
        while let Some(open) = self.open.pop_front_if(|open| now.since(open.at) >= ANSWER_TIMEOUT) {
            let end = open.at.plus(ANSWER_TIMEOUT);
            self.give_up(open, end, out);
        }
        if self.open.is_empty() && self.missed.count > 0 && now.since(self.missed.last) >= ANSWER_TIMEOUT {
            self.settle_missed(out);
        }
    }

    /// The flow is over: nothing more will be answered.
    pub fn closed(&mut self, at: Ts, out: &mut impl Out) {
        while let Some(open) = self.open.pop_front() {
            let waited = at.since(open.at);
            if waited < ANSWER_TIMEOUT && !open.over_tcp && !open.doubtful && !self.report_partial {
                // Who lets go of a UDP flow this early knows nothing of its answers.
                out.lost(LossReason::Unfinished, 1);
                continue;
            }
            let end = open.at.plus(waited.min(ANSWER_TIMEOUT));
            self.give_up(open, end, out);
        }
        self.settle_missed(out);
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
        self.open.front().map(|open| open.at).or(missed).map(|since| since.plus(ANSWER_TIMEOUT))
    }

    /// Queries without an answer yet.
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
        // Noted on both, so that whoever reads one of the records knows of the other.
        for earlier in self.open.iter_mut().filter(|open| open.question.same(&question)) {
            earlier.notes.add(Notes::DUPLICATE);
            notes.add(Notes::DUPLICATE);
        }
        if self.open.len() >= self.limit {
            self.open.pop_front();
            out.lost(LossReason::Limit, 1);
        }
        self.open.push_back(Open { question, at, bytes: wire, notes, over_tcp, doubtful: false });
    }

    fn response(&mut self, seen: Seen, message: Message, out: &mut impl Out) {
        let Seen { dir, at, over_tcp, wire, cut } = seen;
        let mut notes = Notes::default();
        if cut {
            notes.add(Notes::RESPONSE_CUT);
        } else if !message.whole {
            notes.add(Notes::MALFORMED);
        }
        let fits = |open: &Open| open.question.answered_by(&message, dir);
        let Some(open) = self.open.iter().position(fits).and_then(|at| self.open.remove(at)) else {
            self.lone_response(seen, notes, message, out);
            return;
        };
        let Open { question, at: start, bytes, notes: asked, .. } = open;
        notes.add(asked);
        if over_tcp && matches!(question.qtype, TYPE_AXFR | TYPE_IXFR) && message.rcode == 0 {
            self.transfer = Some(question.id);
            notes.add(Notes::END_ASSUMED);
        }
        let detail = answer(message, Some(&question), over_tcp);
        if self.answered.len() >= REMEMBERED {
            self.answered.pop_front();
        }
        self.answered.push_back(question);
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
        notes.add(Notes::NO_REQUEST);
        let mut missing = None;
        if self.answered.iter().any(|question| question.answered_by(&message, dir)) {
            notes.add(Notes::DUPLICATE);
        } else if self.missed.count > 0 {
            self.missed.count -= 1;
            notes.add(Notes::GAP);
            missing = Some(self.missed.reason);
        } else if !self.query_seen {
            missing = Some(LossReason::JoinedMidway);
        }
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
                detail: answer(message, None, over_tcp),
            });
        } else if let Some(reason) = missing {
            out.lost(reason, 1);
        }
    }

    fn give_up(&mut self, open: Open, end: Ts, out: &mut impl Out) {
        let Open { question, at, bytes, notes, over_tcp, doubtful } = open;
        if doubtful && self.missed.count > 0 {
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
            detail: Detail::Dns(DnsExchange { id, opcode, name, qtype, over_tcp, ..DnsExchange::default() }),
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

impl Question {
    fn of(message: Message, dir: Direction) -> Question {
        let Message { id, opcode, qtype, qclass, name, .. } = message;
        Question { dir, id, opcode, qtype, qclass, name }
    }

    fn same(&self, other: &Question) -> bool {
        self.id == other.id
            && self.dir == other.dir
            && (self.opcode, self.qtype, self.qclass) == (other.opcode, other.qtype, other.qclass)
            && self.name.eq_ignore_ascii_case(&other.name)
    }

    /// A response without a question section answers by its id alone (RFC 1035 leaves it out of
    /// error responses, RFC 2136 3.8 allows it for UPDATE).
    fn answered_by(&self, response: &Message, dir: Direction) -> bool {
        self.id == response.id
            && self.dir != dir
            && self.opcode == response.opcode
            && (response.questions == 0
                || (self.qtype, self.qclass) == (response.qtype, response.qclass)
                    && self.name.eq_ignore_ascii_case(&response.name))
    }
}

fn answer(message: Message, question: Option<&Question>, over_tcp: bool) -> Detail {
    let Message { id, opcode, rcode, questions, answers, mut name, mut qtype, addresses, ttl_s, .. } = message;
    if let (Some(question), 0) = (question, questions) {
        name.clone_from(&question.name);
        qtype = question.qtype;
    }
    Detail::Dns(DnsExchange { id, opcode, name, qtype, rcode: Some(rcode), answers, addresses, ttl_s, over_tcp })
}
