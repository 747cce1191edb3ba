//! What a server sends: answers in the order of asking, and what it tells unasked.

use super::Postgres;
use super::doubt::{Manner, Segment};
use super::frame::{Body, Code, Frame};
use super::open::{Answer, Failed, Kind, Open};
use super::statement;
use crate::dissector::Next;
use crate::{Limits, Out};
use flow_model::{Notes, Ts};

/// What was found is not what has to be: something was missed.
struct Contradiction;

impl Postgres {
    pub(super) fn server_says<O: Out>(&mut self, frame: &Frame, _limits: &Limits, out: &mut O) {
        if matches!(frame.kind, b'N' | b'A' | b'S') {
            // Told any time.
            return;
        }
        self.ready = frame.kind == b'Z';
        self.segment.hear(frame.kind);
        if self.doubt.is_none() && self.answers(frame, out).is_ok() {
            return;
        }
        if self.doubt.is_none() {
            self.lose_both(out);
        }
        self.answered_in_doubt(frame, out);
        if frame.kind == b'W' {
            self.next = Next::Opaque;
        }
    }

    /// Rows passed that were left out: their length is all that they have to say.
    pub(super) fn rows_passed(&mut self, at: Ts, bytes: u64) {
        self.ready = false;
        if self.doubt.is_none() {
            self.answer.take(at, at, bytes);
        }
    }

    /// The oldest exchange, if it is of the batch that the server is at, and was asked before the message `turn`.
    fn front(&self, turn: u32) -> Option<&Open> {
        self.open.front().filter(|open| open.batch == self.closed && open.turn < turn)
    }

    fn answers<O: Out>(&mut self, frame: &Frame, out: &mut O) -> Result<(), Contradiction> {
        let Frame { kind, length, first, last, turn, ref body, cut } = *frame;
        let kind_of_front = self.front(turn).map(|open| open.kind);
        self.answer.take(first, last, length);
        self.answer.cut |= cut;
        let began = self.answer.start.unwrap_or_default();
        if self.front(turn).is_some_and(|open| began < open.start) {
            // What is asked was not yet asked then.
            return Err(Contradiction);
        }
        match (kind, body) {
            (b'Z', _) => return self.is_ready(turn, last, out),
            (b'E', &Body::Error { code, fatal }) => return self.fails(code, fatal, kind_of_front, out),
            (b'C' | b'I' | b's' | b'V', _) if self.failed.is_some() => return Err(Contradiction),
            (b'C', Body::Complete(done)) => {
                let verb = self.front(turn).map_or("", |open| open.verb);
                if !self.answer.compared && statement::contradicts(verb, done) {
                    // It is the answer to something else: what is asked waits for more than was thought.
                    self.manner = Manner::Overlaps;
                    return Err(Contradiction);
                }
                self.answer.compared = true;
                return self.completes(kind_of_front, out);
            }
            (b'I' | b's' | b'V', _) => return self.completes(kind_of_front, out),
            (b'G', _) => return self.wants_data(turn),
            (b'W', _) => {
                // Replication: both sides send as long as they like.
                let open = self.open.pop().ok_or(Contradiction)?;
                let answer = std::mem::take(&mut self.answer);
                self.report(open, &answer, Notes::WAITED, out);
                self.next = Next::Opaque;
            }
            _ => {}
        }
        Ok(())
    }

    /// Something that was asked is complete.
    fn completes<O: Out>(&mut self, front: Option<Kind>, out: &mut O) -> Result<(), Contradiction> {
        match front {
            Some(Kind::Completion) => {
                if let Some(open) = self.open.pop() {
                    let answer = std::mem::take(&mut self.answer);
                    self.report(open, &answer, Notes::default(), out);
                }
                self.copies = false;
            }
            Some(Kind::Ready) if !self.logs_in => self.answer.done = true,
            _ => return Err(Contradiction),
        }
        Ok(())
    }

    fn fails<O: Out>(
        &mut self,
        code: Code,
        fatal: bool,
        front: Option<Kind>,
        out: &mut O,
    ) -> Result<(), Contradiction> {
        self.copies = false;
        if !self.answer.failed {
            // Of several errors the first one is what went wrong.
            (self.answer.failed, self.answer.code) = (true, code);
        }
        self.answer.done = true;
        match front {
            // A ReadyForQuery ends it, if the error does not end the connection.
            Some(Kind::Ready) if !fatal => {}
            Some(Kind::Ready | Kind::Completion) => {
                let answer = std::mem::take(&mut self.answer);
                if let Some(open) = self.open.pop() {
                    self.report(open, &answer, Notes::default(), out);
                }
                self.failed = Some(Failed { answer, blamed: true });
            }
            Some(Kind::Preparation) | None => {
                let answer = std::mem::take(&mut self.answer);
                if front.is_some() || self.asked != self.closed || self.pending.is_some() {
                    self.failed.get_or_insert(Failed { answer, blamed: false });
                } else if !fatal {
                    // Where nothing is asked, an error says that the connection ends.
                    return Err(Contradiction);
                }
            }
        }
        Ok(())
    }

    /// The batch is over.
    fn is_ready<O: Out>(&mut self, turn: u32, at: Ts, out: &mut O) -> Result<(), Contradiction> {
        if self.asked == self.closed {
            return Err(Contradiction);
        }
        while let Some(kind) = self.front(turn).map(|open| open.kind) {
            let as_it_should_be = match kind {
                Kind::Ready => self.answer.done || self.logs_in,
                Kind::Completion => self.failed.is_some(),
                Kind::Preparation => true,
            };
            if !as_it_should_be {
                return Err(Contradiction);
            }
            let Some(open) = self.open.pop() else { break };
            let answer = std::mem::take(&mut self.answer);
            match (kind, &mut self.failed) {
                (Kind::Ready, _) => self.report(open, &answer, Notes::default(), out),
                (_, Some(failed)) if !failed.blamed => {
                    failed.blamed = true;
                    let answer = failed.answer;
                    self.report(open, &answer, Notes::default(), out);
                }
                (Kind::Completion, _) => out.record(open.skipped(at, self.database.as_ref())),
                (Kind::Preparation, _) => {}
            }
        }
        self.closed = self.closed.wrapping_add(1);
        if self.open.front().is_some_and(|open| open.batch.wrapping_sub(self.closed) > u32::MAX / 2) {
            // One of the batch was asked after this.
            return Err(Contradiction);
        }
        (self.answer, self.failed, self.segment) = (Answer::default(), None, Segment::default());
        (self.logs_in, self.copies) = (false, false);
        Ok(())
    }

    /// The server waits for data of a COPY. It ignores each Sync until it has all of it.
    fn wants_data(&mut self, turn: u32) -> Result<(), Contradiction> {
        let Some(open) = self.front(turn) else { return Err(Contradiction) };
        let (kind, batch) = (open.kind, open.batch);
        if self.open.len() > 1 {
            // What else was asked it takes for a fault of the client.
            return Err(Contradiction);
        }
        if kind == Kind::Completion {
            self.asked = batch;
        }
        self.copies = true;
        Ok(())
    }
}
