//! What is counted while nothing is paired. As many exchanges are lost as were asked or answered,
//! whichever is more: where all of one direction was seen, that is exact.

use super::frame::{Body, Frame};
use crate::Out;
use flow_model::LossReason;

/// How the client was seen to ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Manner {
    /// One batch at a time.
    #[default]
    Alternates,
    /// Several batches. Whether it asks more before all are answered has not shown.
    Pipelines,
    /// Several batches, and no more before all are answered.
    Batches,
    /// It asks while it waits.
    Overlaps,
}

/// What is counted and not paired, since something was lost.
#[derive(Debug)]
pub(super) struct Doubt {
    reason: LossReason,
    /// Exchanges that were seen to be asked and to be answered since nothing was under way, and how many of
    /// them have been counted as lost.
    pub(super) asked: i32,
    pub(super) answered: i32,
    counted: i32,
    /// Whole messages of the flow are missing since then, by sender.
    pub(super) missing: [bool; 2],
    /// What makes the server say that it is ready, and how often it said so, since the doubt began.
    pub(super) sent: u32,
    pub(super) ready: u32,
    /// The same since a message of the client began last.
    pub(super) pair: [u32; 2],
    /// Bytes of the client were not seen: more was sent, perhaps.
    pub(super) hidden: bool,
    /// Bytes of the server were not seen: it was ready more often, perhaps.
    pub(super) unheard: bool,
    /// The server waits for data of a COPY.
    pub(super) copies: bool,
    /// What has been complete since the server was ready may be all of one query.
    pending: bool,
}

/// Where a ReadyForQuery may end a simple query, of which all completions are one exchange.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Segment {
    /// What only the extended protocol has was among it.
    extended: bool,
}

impl Doubt {
    /// So many ReadyForQuery are to come.
    pub(super) fn new(reason: LossReason, sent: u32) -> Doubt {
        Doubt {
            reason,
            asked: 0,
            answered: 0,
            counted: 0,
            missing: [false; 2],
            sent,
            ready: 0,
            pair: [0; 2],
            unheard: false,
            hidden: reason == LossReason::JoinedMidway,
            copies: false,
            pending: false,
        }
    }

    /// A message of the client.
    pub(super) fn ask<O: Out>(&mut self, kind: u8, out: &mut O) {
        match kind {
            b'Q' | b'F' => {
                self.asked = self.asked.saturating_add(1);
                self.sends();
            }
            b'E' => self.asked = self.asked.saturating_add(1),
            b'S' => self.sends(),
            // Its COPY has been counted, and is yet to be answered.
            b'c' | b'f' if !std::mem::take(&mut self.copies) => self.answered = self.answered.saturating_sub(1),
            _ => {}
        }
        self.count(out);
    }

    fn sends(&mut self) {
        self.sent = self.sent.saturating_add(1);
        self.pair[0] = self.pair[0].saturating_add(1);
    }

    /// A message of the server, of which `segment` says what it answers.
    pub(super) fn answer<O: Out>(&mut self, frame: &Frame, segment: Segment, out: &mut O) {
        if matches!(frame.body, Body::Error { fatal: true, .. }) && !self.hidden && self.asked <= self.answered {
            // It ends a connection on which nothing is asked.
            return;
        }
        if segment.extended && self.pending {
            self.pending = false;
            self.answered = self.answered.saturating_add(1);
        }
        match frame.kind {
            b'C' | b'I' | b's' | b'E' | b'V' if segment.extended => self.answered = self.answered.saturating_add(1),
            b'C' | b'I' | b'E' | b'V' => self.pending = true,
            b'G' => self.copies = true,
            b'Z' => self.is_ready(),
            _ => {}
        }
        self.count(out);
    }

    /// The server says that it is ready.
    pub(super) fn is_ready(&mut self) {
        self.answered = self.answered.saturating_add(i32::from(std::mem::take(&mut self.pending)));
        self.ready = self.ready.saturating_add(1);
        self.pair[1] = self.pair[1].saturating_add(1);
        self.copies = false;
    }

    /// Nothing more comes.
    pub(super) fn end<O: Out>(&mut self, out: &mut O) {
        self.answered = self.answered.saturating_add(i32::from(std::mem::take(&mut self.pending)));
        self.count(out);
        self.fold(out);
    }

    pub(super) fn count<O: Out>(&mut self, out: &mut O) {
        let known = self.asked.max(self.answered);
        if known > self.counted {
            out.lost(self.reason, known.saturating_sub(self.counted).unsigned_abs().into());
            self.counted = known;
        }
    }

    /// All that was asked is answered, as far as both are known to the last one.
    pub(super) fn is_settled(&self) -> bool {
        !self.hidden && self.sent == self.ready
    }

    /// Something waits for its answer, for certain.
    pub(super) fn waits(&self) -> bool {
        !self.unheard && !self.copies && self.sent > self.ready
    }

    /// What was asked so far is over.
    pub(super) fn fold<O: Out>(&mut self, out: &mut O) {
        if self.missing == [true; 2] && self.asked.max(self.answered) <= 0 {
            // A request and its response, of which nothing was seen.
            out.lost(self.reason, 1);
        }
        (self.asked, self.answered, self.counted, self.missing) = (0, 0, 0, [false; 2]);
    }
}

impl Segment {
    /// What the server says shows which protocol it answers.
    pub(super) fn hear(&mut self, kind: u8) {
        match kind {
            b'Z' => self.extended = false,
            b'1' | b'2' | b'3' | b't' | b's' => self.extended = true,
            _ => {}
        }
    }
}
