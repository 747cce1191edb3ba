//! What is counted as lost, and when exchanges pair again: from a loss on nothing is paired until the
//! client, which waits for what it has asked, begins another message with a command.

use super::Mysql;
use super::answer::Answer;
use super::command::{self, Answers};
use super::doubt::Doubt;
use super::open::{End, LOGIN};
use super::packet::{HEADER, Sender, Tail, tail};
use super::sign;
use crate::dissector::Begun;
use crate::{Limits, MessageEnd, Out};
use flow_model::{LossReason, Notes, Ts};
use std::time::Duration;

/// A client that asks after so long a silence waits for nothing.
const SILENCE: Duration = Duration::from_secs(1);

/// Bytes that are kept of the end of rows that were left out.
const TAIL: usize = 256;

impl Mysql {
    /// Nothing is paired from here on.
    pub(super) fn lose<O: Out>(&mut self, reason: LossReason, out: &mut O) {
        let (mut open, mut logins) = (0, 0);
        while let Some(lost) = self.open.pop() {
            let login = lost.name == LOGIN;
            (open, logins) = (open + u32::from(!login), logins + u32::from(login));
        }
        (self.answer, self.hidden) = (Answer::default(), None);
        let doubt = self.doubt.get_or_insert_with(|| Box::new(Doubt::new(reason)));
        doubt.ask(open, out);
        doubt.lose(logins, out);
    }

    /// Bytes of the client were not seen.
    pub(super) fn lose_client<O: Out>(&mut self, reason: LossReason, out: &mut O) {
        self.lose(reason, out);
        let begun = self
            .client
            .begins()
            .is_some_and(|code| code.and_then(command::known).is_none_or(|(_, answers)| answers != Answers::Never));
        if let Some(doubt) = &mut self.doubt {
            doubt.judge(true, out);
        }
        self.client.lose();
        self.prepared.forget();
        self.database = None;
        let login = self.login_is_lost();
        if let Some(doubt) = &mut self.doubt {
            doubt.hidden = true;
            doubt.missing[Sender::Client as usize] = login == 0;
            doubt.lose(login, out);
            doubt.ask(u32::from(begun), out);
        }
    }

    /// Bytes of the server were not seen.
    pub(super) fn lose_server<O: Out>(&mut self, reason: LossReason, out: &mut O) {
        self.lose(reason, out);
        self.server.lose();
        self.heard = 1;
        if let Some(doubt) = &mut self.doubt {
            doubt.missing[Sender::Server as usize] = true;
        }
    }

    /// The message of the client that was read behind a hole is over.
    fn judge<O: Out>(&mut self, out: &mut O) {
        let holds = !self.client.is_lost() && !self.client.is_amid();
        if let Some(doubt) = &mut self.doubt {
            doubt.judge(holds, out);
        }
    }

    /// A whole message was not seen, or its beginning.
    pub(super) fn message_missing<O: Out>(&mut self, sender: Sender, turn: u32, out: &mut O) {
        match sender {
            Sender::Client => {
                self.judge(out);
                self.headless = turn;
                let login = self.login_is_lost();
                self.lose(LossReason::RingFull, out);
                self.fold(out);
                self.lose_client(LossReason::RingFull, out);
                if let Some(doubt) = self.doubt.as_mut().filter(|_| login > 0) {
                    doubt.missing[Sender::Client as usize] = false;
                    doubt.lose(login, out);
                }
            }
            Sender::Server => self.lose_server(LossReason::RingFull, out),
        }
    }

    /// The login was not seen, though it must have passed: 1, or 0.
    fn login_is_lost(&mut self) -> u32 {
        self.client.logs_in = false;
        u32::from(std::mem::take(&mut self.awaits_login))
    }

    /// What was asked before a message of the client that begins is answered, but by those that do not wait.
    pub(super) fn fold<O: Out>(&mut self, out: &mut O) {
        if let Some(doubt) = self.doubt.as_mut().filter(|_| !self.overlaps) {
            doubt.fold(out);
        }
    }

    /// A message of the client begins.
    pub(super) fn client_speaks<O: Out>(&mut self, begun: Begun, limits: &Limits, out: &mut O) {
        let Begun { turn, at, unsure, missed } = begun;
        self.judge(out);
        self.settle(out);
        // A capture may have dropped the rest of what the server is amid.
        let unsure = unsure || limits.report_partial && self.server.is_amid();
        let waits = self.open.front().is_some_and(|open| open.turn < turn) && !self.answer.waits_for_client();
        self.overlaps |= self.doubt.is_none() && waits && !unsure;
        if self.client.is_amid() && self.doubt.is_none() {
            // It goes on with a packet.
            return;
        }
        let Some(doubt) = &self.doubt else { return };
        if self.client.is_amid() {
            self.client.lose();
        }
        let server_missing = doubt.missing[Sender::Server as usize];
        if !unsure || server_missing {
            self.fold(out);
        }
        if unsure {
            return;
        }
        let Some(doubt) = &self.doubt else { return };
        let settled = !doubt.hidden && doubt.asked == doubt.answered;
        let certain = !self.overlaps || settled || at.since(self.last) >= SILENCE;
        if self.server.is_amid() {
            if !self.overlaps {
                // The client, which waits for all of an answer, asks: that was no packet, or the rest is missing.
                self.server.lose();
            }
        } else if certain && !missed {
            self.doubt = None;
        }
    }

    /// A direction of which the place is lost begins message `start`, or goes on with one. Whether the place is known
    /// again.
    pub(super) fn find<O: Out>(&mut self, sender: Sender, start: Option<u32>, bytes: &[u8], out: &mut O) -> bool {
        let found = start.is_some() && sign::begins(sender, bytes);
        let side = if sender == Sender::Client { &mut self.client } else { &mut self.server };
        if found {
            side.find(bytes.len() >= HEADER);
            if sender == Sender::Client
                && start == Some(self.headless)
                && let Some(doubt) = &mut self.doubt
            {
                doubt.try_message();
            }
        } else if self.doubt.is_none() {
            // What it says is not read, and may have been the answer to what waits.
            self.lose(LossReason::Gap, out);
            if let Some(doubt) = self.doubt.as_mut().filter(|_| sender == Sender::Client) {
                doubt.hidden = true;
            }
        }
        found
    }

    /// Rows were left out, and of one answer alone.
    pub(super) fn hides_rows(&mut self) -> bool {
        let hides = self.doubt.is_none() && self.hidden.is_some()
            || self.open.len() == 1 && self.answer.is_amid_rows() && self.doubt.is_none();
        if hides {
            self.server.lose();
            self.hidden.get_or_insert_default();
        }
        hides
    }

    /// So many bytes of them passed unseen.
    pub(super) fn pass_rows(&mut self, bytes: u64, at: Ts) {
        if let Some(hidden) = &mut self.hidden {
            hidden.tail.clear();
            hidden.last = hidden.last.max(at);
            self.answer.span.take(at, at, bytes);
        }
    }

    /// The last bytes of rows that were left out, as far as is known.
    pub(super) fn end_of_rows(&mut self, bytes: &[u8], at: Ts) {
        let Some(hidden) = &mut self.hidden else { return };
        self.answer.span.take(at, at, bytes.len() as u64);
        hidden.last = hidden.last.max(at);
        hidden.tail.extend_from_slice(bytes);
        let extra = hidden.tail.len().saturating_sub(TAIL);
        hidden.tail.drain(..extra);
    }

    /// The server's message is over: its last bytes may be known, though they were not copied.
    pub(super) fn rows_end<O: Out>(&mut self, end: &MessageEnd, out: &mut O) {
        if self.hidden.as_ref().is_some_and(|hidden| hidden.tail.is_empty()) {
            let bytes = end.tail.get(end.tail.len() - usize::from(end.tail_len.min(8))..).unwrap_or_default();
            if let Some(hidden) = &mut self.hidden {
                hidden.tail.extend_from_slice(bytes);
                hidden.last = hidden.last.max(end.last);
            }
            self.answer.span.last = self.answer.span.last.max(end.last);
        }
        self.settle(out);
    }

    /// The server has nothing more to say to what it was asked: the answer under way ends as its last bytes say.
    pub(super) fn settle<O: Out>(&mut self, out: &mut O) {
        if self.answer.may_be_over() {
            self.finish(End::Done, Notes::default(), out);
        }
        let Some(hidden) = self.hidden.take() else { return };
        let end = match tail(&hidden.tail, self.eof) {
            Tail::Done => End::Done,
            Tail::Failed(code) => End::Failed(code),
            Tail::Unknown => return self.lose_server(LossReason::Gap, out),
        };
        self.finish(end, Notes::BODY_SKIPPED, out);
        // The next message begins with a packet.
        self.server.find(true);
    }

    /// Nothing more comes.
    pub(super) fn end_doubt<O: Out>(&mut self, out: &mut O) {
        self.judge(out);
        if let Some(doubt) = &mut self.doubt {
            doubt.fold(out);
        }
    }

    /// Bytes of either direction passed.
    pub(super) fn passed(&mut self, at: Ts) {
        self.last = self.last.max(at);
    }
}
