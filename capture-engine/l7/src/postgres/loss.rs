//! What is counted as lost, and when exchanges pair again: from a loss on nothing is paired until the
//! server has said that it is ready (ReadyForQuery) and nothing that was asked is under way.

use super::Postgres;
use super::doubt::{Doubt, Manner, Segment};
use super::frame::{Frame, Sender};
use super::open::{Answer, Kind};
use super::sign;
use crate::dissector::Begun;
use crate::{Limits, Out};
use flow_model::{LossReason, Ts};
use std::time::Duration;

/// A client that asks after so long a silence waits for nothing.
const SILENCE: Duration = Duration::from_secs(1);

impl Postgres {
    /// Nothing is paired from here on.
    pub(super) fn lose<O: Out>(&mut self, reason: LossReason, out: &mut O) {
        let mut open = 0_i32;
        while let Some(lost) = self.open.pop() {
            open = open.saturating_add(i32::from(lost.kind != Kind::Preparation));
        }
        let under_way = self.asked.wrapping_sub(self.closed);
        (self.asked, self.closed) = (0, 0);
        // An error that was seen, and of which nobody knew whose it is.
        let failed = self.failed.take().is_some_and(|failed| !failed.blamed);
        (self.pending, self.answer) = (None, Answer::default());
        let copies = std::mem::take(&mut self.copies);
        let doubt = self.doubt.get_or_insert_with(|| Box::new(Doubt::new(reason, under_way)));
        doubt.asked = doubt.asked.saturating_add(open);
        doubt.answered = doubt.answered.saturating_add(i32::from(failed));
        doubt.copies |= copies;
        doubt.count(out);
    }

    /// Bytes of the client were not seen.
    pub(super) fn lose_client<O: Out>(&mut self, reason: LossReason, out: &mut O) {
        self.lose(reason, out);
        self.client.lose();
        self.prepared.forget();
        if let Some(doubt) = &mut self.doubt {
            doubt.hidden = true;
        }
    }

    /// Bytes of the server were not seen.
    pub(super) fn lose_server<O: Out>(&mut self, reason: LossReason, out: &mut O) {
        self.lose(reason, out);
        self.server.lose();
        (self.ready, self.segment) = (false, Segment::default());
        if let Some(doubt) = &mut self.doubt {
            doubt.unheard = true;
        }
    }

    /// What was seen does not fit together: nobody knows of whom something was missed.
    pub(super) fn lose_both<O: Out>(&mut self, out: &mut O) {
        self.lose(LossReason::Gap, out);
        if let Some(doubt) = &mut self.doubt {
            (doubt.hidden, doubt.unheard) = (true, true);
        }
    }

    /// A whole message was not seen.
    pub(super) fn message_missing<O: Out>(&mut self, sender: Sender, out: &mut O) {
        match sender {
            Sender::Client => {
                self.lose_client(LossReason::RingFull, out);
                self.fold(out);
            }
            Sender::Server => self.lose_server(LossReason::RingFull, out),
        }
        if let Some(doubt) = &mut self.doubt {
            doubt.missing[sender as usize] = true;
        }
    }

    /// What was asked before a message of the client that begins is answered, but by those that do not wait.
    pub(super) fn fold<O: Out>(&mut self, out: &mut O) {
        if let Some(doubt) = self.doubt.as_mut().filter(|doubt| self.manner != Manner::Overlaps && !doubt.copies) {
            doubt.fold(out);
        }
    }

    /// A message of the client begins.
    pub(super) fn client_speaks<O: Out>(&mut self, begun: Begun, limits: &Limits, out: &mut O) {
        let Begun { turn, at, unsure, missed } = begun;
        // A capture may have dropped the rest of what the server is amid.
        let unsure = unsure || limits.report_partial && self.server.is_amid();
        let waits = self.open.front().is_some_and(|open| open.turn < turn) || self.asked != self.closed;
        let waits = match &self.doubt {
            None => waits && !self.copies,
            // Not amid the requests of a login, or of a batch that is flushed.
            Some(doubt) => doubt.waits() && (self.ready || self.server.is_amid()),
        };
        if waits && !self.logs_in && !unsure {
            self.manner = Manner::Overlaps;
        } else if self.manner == Manner::Pipelines && self.doubt.is_none() && self.is_idle() && !unsure && !missed {
            self.manner = Manner::Batches;
        }
        if self.client.is_amid() {
            // It goes on with a message.
            return;
        }
        if self.failed.is_none() {
            // What was prepared in another message of the flow has been answered.
            self.pending = None;
            if self.open.is_empty() && !self.server.is_amid() {
                self.answer = Answer::default();
            }
        }
        if self.doubt.is_none() {
            return;
        }
        let server_missing = self.doubt.as_ref().is_some_and(|doubt| doubt.missing[Sender::Server as usize]);
        if !unsure || server_missing {
            self.fold(out);
        }
        if unsure {
            return;
        }
        let Some(doubt) = &mut self.doubt else { return };
        let [sent, ready] = std::mem::take(&mut doubt.pair);
        let certain = match self.manner {
            Manner::Alternates | Manner::Batches => true,
            Manner::Pipelines => sent == ready && sent > 0 && !missed,
            Manner::Overlaps => false,
        };
        let certain = certain || doubt.is_settled() || at.since(self.last) >= SILENCE;
        if certain && self.ready && !missed && !self.server.is_amid() {
            self.doubt = None;
            self.logs_in = false;
        }
    }

    /// A direction of which the place is lost begins a message, or goes on with one. Whether the place is known again.
    pub(super) fn find<O: Out>(&mut self, sender: Sender, start: bool, bytes: &[u8], out: &mut O) -> bool {
        let found = start && sign::begins(sender, bytes);
        let side = if sender == Sender::Client { &mut self.client } else { &mut self.server };
        if found {
            side.find();
        } else if start && self.doubt.is_none() {
            self.lose(LossReason::Gap, out);
            if let Some(doubt) = &mut self.doubt {
                doubt.hidden |= sender == Sender::Client;
                doubt.unheard |= sender == Sender::Server;
            }
        }
        found
    }

    /// A message of the client while nothing is paired.
    pub(super) fn asked_in_doubt<O: Out>(&mut self, kind: u8, out: &mut O) {
        if let Some(doubt) = &mut self.doubt {
            doubt.ask(kind, out);
            if doubt.pair[0] > 1 {
                self.manner = self.manner.max(Manner::Pipelines);
            }
        }
    }

    /// A message of the server while nothing is paired.
    pub(super) fn answered_in_doubt<O: Out>(&mut self, frame: &Frame, out: &mut O) {
        if let Some(doubt) = &mut self.doubt {
            doubt.answer(frame, self.segment, out);
        }
    }

    /// The server was seen to be ready, and not what it said before.
    pub(super) fn is_ready_again(&mut self) {
        self.ready = true;
        self.segment = Segment::default();
        if let Some(doubt) = &mut self.doubt {
            doubt.is_ready();
        }
    }

    /// Nothing more comes.
    pub(super) fn end_doubt<O: Out>(&mut self, out: &mut O) {
        if let Some(doubt) = &mut self.doubt {
            doubt.end(out);
        }
    }

    /// Bytes of either direction passed.
    pub(super) fn passed(&mut self, at: Ts) {
        self.last = self.last.max(at);
    }
}
