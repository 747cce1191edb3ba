//! What a server sends: its greeting, answers in the order of asking, and what it tells unasked.

use super::Mysql;
use super::answer::{self, Answer, Step};
use super::command::Answers;
use super::login;
use super::open::{End, LOGIN, Open, Span};
use super::packet::{self, PROGRESS, Packet};
use crate::Out;
use crate::dissector::Next;
use flow_model::{LossReason, Notes};

impl Mysql {
    pub(super) fn server_says<O: Out>(&mut self, it: &Packet<'_>, out: &mut O) {
        let before = std::mem::replace(&mut self.heard, it.last_number);
        // Packets of a long answer come to this number again, behind 0.
        let begins = it.number == 1 && before != 0;
        if it.number == 0 && self.answer.next != Some(0) && self.unasked(it, out) {
            return;
        }
        if self.answer.may_be_over() && self.answer.next != Some(it.number) {
            self.finish(End::Done, Notes::default(), out);
        }
        let Some(open) = self.open.front().filter(|open| self.doubt.is_none() && open.turn < it.turn) else {
            if self.doubt.is_none() {
                self.lose(LossReason::Gap, out);
            }
            return self.answered_in_doubt(begins, out);
        };
        if it.number != self.answer.next.unwrap_or(open.number.wrapping_add(1)) {
            self.lose(LossReason::Gap, out);
            return self.answered_in_doubt(begins, out);
        }
        self.answer.next = Some(it.last_number.wrapping_add(1));
        self.answer.login = open.answers == Answers::Login;
        let step = answer::step(open.answers, &mut self.answer.place, &mut self.eof, it);
        if step != Step::Wrong {
            self.answer.span.take(it.first, it.last, it.length);
        }
        self.steps(step, begins, out);
    }

    /// What begins a connection, or ends it: true where it answers nothing.
    fn unasked<O: Out>(&mut self, it: &Packet<'_>, out: &mut O) -> bool {
        if self.awaits_greeting
            && let Some(Ok(capabilities)) = login::greeting(it.body)
        {
            (self.awaits_greeting, self.server.logs_in) = (false, false);
            self.capabilities = capabilities;
            return true;
        }
        match packet::error(it.body) {
            Some(code) if code != PROGRESS => self.refuses(it, code, out),
            _ => return false,
        }
        true
    }

    fn answered_in_doubt<O: Out>(&mut self, begins: bool, out: &mut O) {
        if let Some(doubt) = self.doubt.as_mut().filter(|_| begins) {
            doubt.answer(out);
        }
    }

    fn steps<O: Out>(&mut self, step: Step, begins: bool, out: &mut O) {
        match step {
            Step::On | Step::File | Step::Perhaps => {}
            Step::Prepared(number, over) => {
                if let Some(verb) = self.open.front().and_then(|open| open.prepares) {
                    self.prepared.add(number, verb);
                }
                if over {
                    self.finish(End::Done, Notes::default(), out);
                }
            }
            Step::Done => self.finish(End::Done, Notes::default(), out),
            Step::Failed(code) => self.finish(End::Failed(code), Notes::default(), out),
            Step::Stream => {
                self.finish(End::Done, Notes::WAITED, out);
                self.next = Next::Opaque;
            }
            Step::Wrong => {
                self.lose(LossReason::Gap, out);
                self.answered_in_doubt(begins, out);
            }
        }
    }

    /// The answer to the oldest exchange is whole.
    pub(super) fn finish<O: Out>(&mut self, end: End, mut notes: Notes, out: &mut O) {
        let Some(mut open) = self.open.pop() else { return };
        let Answer { span, .. } = std::mem::take(&mut self.answer);
        let done = end == End::Done;
        if open.begins_anew && done {
            self.prepared.forget();
        }
        let logs_in = open.name == LOGIN;
        let database = open.database.take().filter(|_| done);
        if let Some(database) = &database {
            self.database.clone_from(database);
        }
        if logs_in && done && self.compresses {
            // Nothing of what follows can be read.
            notes.add(Notes::UPGRADED);
            self.next = Next::Opaque;
        }
        out.record(open.answered(&span, end, notes, self.database.as_ref()));
    }

    /// An error that answers nothing: the server has no room, knows the client's host not, or ends what is idle.
    fn refuses<O: Out>(&mut self, it: &Packet<'_>, code: u16, out: &mut O) {
        if std::mem::take(&mut self.awaits_greeting) {
            self.awaits_login = false;
            let open = Open::new(LOGIN, Answers::Login, (it.first, it.first), 0);
            let mut span = Span::default();
            span.take(it.first, it.last, it.length);
            out.record(open.answered(&span, End::Failed(code), Notes::NO_REQUEST, None));
            self.next = Next::Opaque;
        } else if self.doubt.is_none() && self.open.is_empty() {
            out.unasked(1);
        } else if self.doubt.is_none() {
            // It is what becomes of what was asked.
            self.answer.span.take(it.first, it.last, it.length);
            self.finish(End::Failed(code), Notes::default(), out);
        }
    }
}
