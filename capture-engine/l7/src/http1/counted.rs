//! How many requests were in what was not seen, where the source counts them.
//!
//! A request that is read is told as it is. Of what is not, its line is counted: of bytes that are
//! missing by the source, of those that are here and are passed over by ourselves. So each is told once,
//! whatever became of its answer.

use super::ledger::Ledger;
use super::{Http1, State};
use crate::Out;
use crate::asked::{Asked, Counted};
use flow_model::{Direction, LossReason};

impl Http1 {
    /// The source has counted so many of the client's requests, and tells it with what `dir` says.
    pub(super) fn requests_counted<O: Out>(&mut self, dir: Direction, asked: Asked, counted: Counted, out: &mut O) {
        if counted == Counted::Here && dir != self.request_dir {
            return;
        }
        let Some(ledger) = self.seldom.ledger() else {
            if counted == Counted::Here {
                self.begin_ledger(asked);
            }
            return;
        };
        let in_body = matches!(self.requests.state, State::Body(_) | State::Chunked(_));
        let unseen = ledger.unseen || counted == Counted::Last && !in_body;
        if !unseen && counted != Counted::Here {
            return;
        }
        // Told late by another processor: it is known better.
        let Some(more) = asked.since(ledger.at) else { return };
        if unseen {
            ledger.owe(more.into());
            if !asked.is_of_run(ledger.at) {
                ledger.owed = ledger.owed.max(ledger.inferred.into());
            }
        }
        ledger.at = asked;
        (ledger.unseen, ledger.inferred) = (false, 0);
        self.tell_owed(out);
    }

    #[cold]
    fn begin_ledger(&mut self, asked: Asked) {
        let head = self.requests.head.as_ref().map_or(0, |head| Asked::default().pass(&head.bytes));
        self.seldom.begin(Ledger::new(asked, head));
        self.order.requests_are_counted(true);
    }

    /// The source counts no more. What is not known by then is told as without it.
    #[cold]
    pub(super) fn end_ledger<O: Out>(&mut self, out: &mut O) {
        let Some(ledger) = self.seldom.ledger() else { return };
        ledger.owed = ledger.owed.max(ledger.inferred.into());
        self.tell_owed(out);
        self.seldom.end();
        self.order.requests_are_counted(false);
    }

    fn tell_owed<O: Out>(&mut self, out: &mut O) {
        let Some(ledger) = self.seldom.ledger() else { return };
        let owed = u32::try_from(ledger.owed.max(0)).unwrap_or(u32::MAX);
        if owed > 0 {
            ledger.owed = 0;
            self.order.lost_requests(ledger.reason, owed, out);
        }
        self.order.requests_known();
    }

    /// A request was lost that nobody saw; more, where the source has counted more.
    pub(super) fn lose_unseen<O: Out>(&mut self, reason: LossReason, out: &mut O) {
        let Some(ledger) = self.seldom.ledger() else { return self.order.lost_request(reason, false, out) };
        ledger.unseen = true;
        ledger.inferred = ledger.inferred.saturating_add(1);
        ledger.reason = reason;
        self.order.requests_unknown(reason);
    }

    /// Bytes of the client are missing, in which requests may be.
    pub(super) fn requests_unseen(&mut self) {
        if let Some(ledger) = self.seldom.ledger() {
            ledger.unseen = true;
        }
    }

    /// So many requests were told of that are in what is not seen.
    pub(super) fn told_unseen(&mut self, requests: u32) {
        if let Some(ledger) = self.seldom.ledger() {
            ledger.owe(-i64::from(requests));
        }
    }

    /// The head that was being collected is not to be had. `told`: it is known what was asked all the same.
    pub(super) fn head_is_cut(&mut self, told: bool) {
        let Some(ledger) = self.seldom.ledger() else { return };
        let lines = std::mem::take(&mut ledger.head);
        if told {
            ledger.owe(i64::from(lines) - 1);
        } else if let Some(unread) = &mut self.unread {
            unread.lines += lines;
        } else {
            ledger.owe(lines.into());
        }
    }

    /// What the client said last will not be a request.
    pub(super) fn forget_unread(&mut self) {
        if let Some(unread) = self.unread.take()
            && let Some(ledger) = self.seldom.ledger()
        {
            ledger.owe(unread.lines.into());
        }
    }

    /// It is one.
    pub(super) fn unread_is_told(&mut self, lines: u32) {
        if let Some(ledger) = self.seldom.ledger() {
            ledger.owe(lines.saturating_sub(1).into());
        }
    }

    /// Bytes of the client have been read, from the state `before` on.
    pub(super) fn request_read(&mut self, before: State, bytes: &[u8]) {
        let Some(ledger) = self.seldom.ledger() else { return };
        let lines = ledger.at.pass(bytes);
        match (before, self.requests.state) {
            (State::Start, State::Start) if self.requests.head.is_some() => ledger.head += lines,
            (State::Start, State::Lost) => {
                let lines = lines + std::mem::take(&mut ledger.head);
                match &mut self.unread {
                    Some(unread) => unread.lines += lines,
                    None => ledger.owe(lines.into()),
                }
            }
            // Of a head that was longer than is read: it was told when it was cut.
            (State::Start, State::Unframed) => ledger.owe(lines.into()),
            // A whole head was told. What is like a line in a body is none.
            (State::Start, _) => ledger.head = 0,
            (State::Body(_), _) => {}
            (State::Chunked(_), State::Unframed) => ledger.owe(lines.into()),
            (State::Chunked(_), _) => {}
            (State::Unframed | State::Lost | State::Close, _) => match &mut self.unread {
                Some(unread) => unread.lines += lines,
                None => ledger.owe(lines.into()),
            },
        }
    }
}
