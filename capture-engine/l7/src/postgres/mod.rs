//! PostgreSQL's protocol, version 3 ("Frontend/Backend Protocol" in its manual), from the two
//! directions of one connection, of which bytes may be missing.
//!
//! One exchange is a simple query, however many statements it has, an Execute of the extended
//! protocol with what prepares it, a function call, or the login. Answers come in the order of asking;
//! each Sync, and each simple query, is answered by a ReadyForQuery, which closes all that was asked
//! before (`Open::batch`). An error in a batch makes the server skip the rest of it: those Executes
//! are `skipped`. What the server tells unasked (notices, notifications, parameters) is no answer.

mod doubt;
mod frame;
mod loss;
mod open;
mod prepared;
mod reply;
mod request;
mod side;
mod sign;
mod statement;

use crate::dissector::{Begun, Dissector, Next, Opening, Sign, Used};
use crate::input::{Bytes, Hole};
use crate::pairing::InOrder;
use crate::{Interest, Length, Limits, MessageEnd, Out, Walk};
use doubt::{Doubt, Manner, Segment};
use flow_model::{Close, Direction, LossReason, Notes, Outcome, Ts};
use frame::Sender;
use open::{Answer, Failed, Kind, Open, Pending};
use prepared::Prepared;
use side::{Side, Step};
use std::sync::Arc;

/// As a source follows it. Of all of which only the kind matters, the heads; so a password is not copied. Of
/// rows and of data that is copied, which may be millions, the first and the last of a packet. Heads are wanted
/// although they say nothing: where the source loses its way, only who knows them finds it again.
static WALK: Walk = Walk {
    length: Length::Fixed { at: 1, width: 4, big_endian: true },
    header: frame::HEADER as u8,
    uncounted: 1,
    kind: Some((0, 0xff)),
    classes: &[(1, b"TtNAKRGHWVvpcf"), (3, b"Dd")],
    keep: [frame::KEPT as u32, frame::HEADER as u32, 0, frame::HEADER as u32],
    most: 64,
    aligned: false,
    rows: false,
    runs: true,
};

#[derive(Debug)]
pub(crate) struct Postgres {
    client_dir: Direction,
    client: Side,
    server: Side,
    /// Answers come in the order of asking.
    open: InOrder<Open>,
    /// Batches that the client has closed, and the server.
    asked: u32,
    closed: u32,
    /// What was prepared for the next Execute.
    pending: Option<Pending>,
    prepared: Prepared,
    /// The answer that is under way.
    answer: Answer,
    /// The batch under way has failed.
    failed: Option<Failed>,
    segment: Segment,
    /// The server waits for data of a COPY.
    copies: bool,
    logs_in: bool,
    /// The client asks to go on encrypted, and waits for one byte.
    negotiates: bool,
    /// The server has said last that it is ready.
    ready: bool,
    manner: Manner,
    /// Message of the flow with which it begins to be read.
    first: u32,
    /// When bytes passed last.
    last: Ts,
    /// Nothing is paired.
    doubt: Option<Box<Doubt>>,
    /// The database, where the login told it.
    database: Option<Arc<str>>,
    /// Sticks once it is not `Same`.
    next: Next,
}

impl Dissector for Postgres {
    fn recognise(head: &[u8]) -> Sign {
        sign::recognise(head)
    }

    fn client_of(heads: [&[u8]; 2]) -> Option<usize> {
        sign::client_of(heads)
    }

    fn open<O: Out>(opening: &Opening<'_>, out: &mut O) -> Postgres {
        let Opening { dir, client, before, heads, from_start, .. } = *opening;
        let client = client.unwrap_or(dir);
        let server = client.reverse();
        // Its first message has no kind, but a length whose highest byte is 0.
        let begins = heads[client.index()].map_or(dir == client, |head| head.bytes.first() == Some(&0));
        let mut postgres = Postgres::new(client, begins);
        let passed = before.passed();
        if postgres.client.untyped {
            return postgres;
        }
        // What was asked and not read: the login, where the connection was seen to begin.
        let missing = u64::from(passed.missing[client.index()]);
        let hidden = u64::from(from_start && passed.first_missing.is_none());
        // Message 1 was the rest of an answer.
        let rest = passed.began_midway == Some(server) || heads[server.index()].is_some_and(|head| head.turn == 1);
        let joined = u64::from(!from_start && rest);
        let reason = match (passed.missing, from_start) {
            ([0, 0], true) => LossReason::Gap,
            ([0, 0], false) => LossReason::JoinedMidway,
            _ => LossReason::RingFull,
        };
        // What the server said before that is the answer to what was missing.
        postgres.first = heads[client.index()].map_or(opening.turn, |head| head.turn);
        if missing + hidden + joined > 0 {
            out.lost(reason, missing + hidden + joined);
        }
        postgres.lose_client(reason, out);
        postgres.lose_server(reason, out);
        postgres
    }

    fn bytes<O: Out>(&mut self, dir: Direction, data: Bytes<'_>, limits: &Limits, out: &mut O) -> Used {
        let bytes = if dir == self.client_dir {
            self.client_bytes(data, limits, out)
        } else {
            // Stops short where an answer may be to something that is not here yet.
            self.server_bytes(data, limits, out)
        };
        self.passed(data.at);
        Used { bytes, next: self.next }
    }

    fn hole<O: Out>(&mut self, dir: Direction, hole: Hole, limits: &Limits, out: &mut O) {
        if self.next != Next::Same {
            return;
        }
        let side = if dir == self.client_dir { &self.client } else { &self.server };
        if side.is_lost() && hole.is_unseen() {
            // What is to show where messages begin may have been in it, and what is asked, or answers.
            return if dir == self.client_dir {
                self.lose_client(LossReason::Gap, out);
            } else {
                self.lose_server(LossReason::Gap, out);
            };
        }
        if dir == self.client_dir {
            let passed = self.client.skip(&hole);
            if let Some(frame) = passed.frame {
                self.client_says(&frame, limits, out);
            }
            if passed.lost {
                self.lose_client(LossReason::Gap, out);
            } else if passed.rows > 0 && self.copies && self.doubt.is_none() {
                self.copied(hole.at, passed.rows);
            }
        } else {
            let passed = self.server.skip(&hole);
            if let Some(frame) = passed.frame {
                self.server_says(&frame, limits, out);
            }
            if passed.lost {
                self.lose_server(LossReason::Gap, out);
            } else if passed.rows > 0 {
                self.rows_passed(hole.at, passed.rows);
            }
        }
    }

    fn message_begins<O: Out>(&mut self, dir: Direction, begun: Begun, limits: &Limits, out: &mut O) {
        if dir == self.client_dir {
            self.client_speaks(begun, limits, out);
        }
    }

    fn message_ended<O: Out>(&mut self, dir: Direction, end: &MessageEnd, _limits: &Limits, _out: &mut O) {
        let tail = end.tail.get(end.tail.len() - usize::from(end.tail_len.min(8))..).unwrap_or_default();
        if dir != self.client_dir && self.server.is_lost() && !self.ready && frame::ends_ready(tail) {
            self.is_ready_again();
        }
    }

    fn missing<O: Out>(&mut self, dir: Direction, _turn: u32, _at: Ts, _limits: &Limits, out: &mut O) {
        let sender = if dir == self.client_dir { Sender::Client } else { Sender::Server };
        self.message_missing(sender, out);
    }

    fn closed<O: Out>(&mut self, _at: Ts, close: Close, limits: &Limits, out: &mut O) {
        let told = close != Close::Gone || limits.report_partial;
        self.end_doubt(out);
        let mut unfinished = 0;
        while let Some(open) = self.open.pop() {
            let answer = std::mem::take(&mut self.answer);
            if open.kind == Kind::Preparation {
                continue;
            }
            if answer.failed {
                // An error that ended the connection.
                out.record(open.answered(&answer, Notes::default(), self.database.as_ref()));
            } else if told {
                out.record(open.unanswered(Outcome::Unanswered, self.database.as_ref()));
            } else {
                unfinished += 1;
            }
        }
        if unfinished > 0 {
            out.lost(LossReason::Unfinished, unfinished);
        }
    }

    fn client(&self) -> Option<Direction> {
        Some(self.client_dir)
    }

    fn interest(&self) -> Interest {
        if self.client.untyped { Interest::Heads } else { Interest::Frames(&WALK) }
    }

    fn header_in(&self, dir: Direction) -> Option<u64> {
        if dir == self.client_dir { self.client.header_in() } else { self.server.header_in() }
    }

    /// True if what this may be the answer to is still held in reassembly.
    fn needs_other(&self, dir: Direction) -> bool {
        dir != self.client_dir && !self.server.is_amid() && self.is_idle()
    }

    fn buffered(&self) -> usize {
        self.client.buffered() + self.server.buffered()
    }

    fn shed<O: Out>(&mut self, _turn: u32, out: &mut O) {
        if !self.is_idle() || self.client.is_amid() || self.server.is_amid() {
            self.lose_client(LossReason::Limit, out);
            self.lose_server(LossReason::Limit, out);
        }
        self.prepared.forget();
    }

    fn held(&self) -> usize {
        self.buffered() + self.open.len() * size_of::<Open>() + self.prepared.held()
    }
}

impl Postgres {
    fn new(client_dir: Direction, begins: bool) -> Postgres {
        Postgres {
            client_dir,
            client: Side::new(Sender::Client, begins, !begins),
            server: Side::new(Sender::Server, false, !begins),
            open: InOrder::default(),
            asked: 0,
            closed: 0,
            pending: None,
            prepared: Prepared::default(),
            answer: Answer::default(),
            failed: None,
            segment: Segment::default(),
            copies: false,
            logs_in: false,
            negotiates: false,
            ready: false,
            manner: Manner::default(),
            first: 0,
            last: Ts::default(),
            doubt: None,
            database: None,
            next: Next::Same,
        }
    }

    /// Nothing that is known to be asked waits for an answer.
    fn is_idle(&self) -> bool {
        self.open.is_empty() && self.asked == self.closed
    }

    fn client_bytes<O: Out>(&mut self, data: Bytes<'_>, limits: &Limits, out: &mut O) -> usize {
        let Bytes { at, turn, start, bytes, .. } = data;
        let mut rest = bytes;
        while !rest.is_empty() && self.next == Next::Same {
            if self.client.is_lost() && !self.find(Sender::Client, start && rest.len() == bytes.len(), rest, out) {
                return bytes.len();
            }
            if self.client.untyped && self.negotiates && rest.first() == Some(&0x16) {
                // It goes on encrypted: the server has said so unseen.
                self.next = Next::Search;
                break;
            }
            let (used, step) = self.client.take(rest, at, turn);
            rest = rest.get(used..).unwrap_or_default();
            match step {
                None => {}
                Some(Step::Frame(frame)) => self.client_says(&frame, limits, out),
                Some(Step::Broken) => self.lose_client(LossReason::Gap, out),
            }
        }
        bytes.len() - rest.len()
    }

    fn server_bytes<O: Out>(&mut self, data: Bytes<'_>, limits: &Limits, out: &mut O) -> usize {
        let Bytes { at, turn, start, tail, bytes } = data;
        let waiting = !self.is_idle();
        if turn < self.first {
            return bytes.len();
        }
        if tail {
            // They begin anywhere in a message.
            self.lose_server(LossReason::Gap, out);
        }
        let mut rest = bytes;
        while !rest.is_empty() && self.next == Next::Same && !(waiting && self.is_idle()) {
            if std::mem::take(&mut self.negotiates) {
                rest = self.negotiated(rest);
                continue;
            }
            if self.server.is_lost() && !self.find(Sender::Server, start && rest.len() == bytes.len(), rest, out) {
                self.ready = false;
                if frame::ends_ready(rest) {
                    self.server.find();
                    self.is_ready_again();
                }
                return bytes.len();
            }
            let (used, step) = self.server.take(rest, at, turn);
            rest = rest.get(used..).unwrap_or_default();
            match step {
                None => {}
                Some(Step::Frame(frame)) => self.server_says(&frame, limits, out),
                Some(Step::Broken) => self.lose_server(LossReason::Gap, out),
            }
        }
        bytes.len() - rest.len()
    }

    /// One exchange is over.
    fn report<O: Out>(&mut self, open: Open, answer: &Answer, notes: Notes, out: &mut O) {
        out.record(open.answered(answer, notes, self.database.as_ref()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_a_connection_stays_small() {
        assert!(size_of::<Postgres>() <= 640, "{}", size_of::<Postgres>());
        assert!(size_of::<Open>() <= 64, "{}", size_of::<Open>());
    }
}
