//! One direction of a connection: cuts it into messages, over pieces and holes.

use super::frame::{self, Body, Frame, HEADER, KEPT, KEPT_STARTUP, STARTUP, Sender};
use crate::input::{Cause, Hole};
use flow_model::Ts;

/// Where a direction stands.
#[derive(Debug)]
pub(super) struct Side {
    sender: Sender,
    /// What comes next has no kind: the connection begins.
    pub untyped: bool,
    /// Nobody knows where a message begins.
    lost: bool,
    head: [u8; HEADER],
    have: u8,
    /// When the message under way began, and the newest message of the flow that it is in.
    first: Ts,
    turn: u32,
    under_way: Option<Partial>,
    /// What is kept of its body, where not all of it came at once.
    body: Vec<u8>,
}

/// A message of which bytes are to come.
#[derive(Clone, Copy, Debug)]
struct Partial {
    kind: u8,
    /// Of its body; and those of them that are to come.
    length: u32,
    left: u32,
    /// Bytes of the body that matter are missing.
    cut: bool,
}

/// What bytes end.
#[derive(Debug)]
pub(super) enum Step {
    Frame(Frame),
    /// They are no message.
    Broken,
}

/// What a hole has passed.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// It ends this message.
    pub frame: Option<Frame>,
    /// Messages may have been in it, nobody knows which.
    pub lost: bool,
    /// Bytes of whole rows behind that message, which the source has followed.
    pub rows: u64,
}

impl Side {
    pub(super) fn new(sender: Sender, untyped: bool, lost: bool) -> Side {
        Side {
            sender,
            untyped,
            lost,
            head: [0; HEADER],
            have: 0,
            first: Ts::default(),
            turn: 0,
            under_way: None,
            body: Vec::new(),
        }
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost
    }

    /// Some of a message has come, and not all of it.
    pub(super) fn is_amid(&self) -> bool {
        self.under_way.is_some() || self.have > 0
    }

    /// Nobody knows where the next message begins.
    pub(super) fn lose(&mut self) {
        *self = Side::new(self.sender, false, true);
    }

    /// A message begins with the next byte.
    pub(super) fn find(&mut self) {
        *self = Side::new(self.sender, false, false);
    }

    /// Bytes until the next message; `None` where nobody knows, or where some before it are to be read: a
    /// source that is told where a message begins copies nothing before that.
    pub(super) fn header_in(&self) -> Option<u64> {
        if self.lost || self.untyped || self.have > 0 {
            return None;
        }
        let Some(Partial { kind, left, cut, .. }) = self.under_way else { return Some(0) };
        let reads = frame::is_read(self.sender, kind) && !cut && self.body.len() < kept(kind);
        (!reads).then_some(u64::from(left))
    }

    /// Takes bytes up to the end of a message, or of its head; how many, at least one.
    pub(super) fn take(&mut self, bytes: &[u8], at: Ts, turn: u32) -> (usize, Option<Step>) {
        self.turn = turn;
        let Some(partial) = &mut self.under_way else { return self.header(bytes, at) };
        let here = (partial.left as usize).min(bytes.len());
        partial.left -= here as u32;
        if frame::is_read(self.sender, partial.kind) && !partial.cut {
            let room = kept(partial.kind).saturating_sub(self.body.len());
            self.body.extend_from_slice(bytes.get(..here.min(room)).unwrap_or_default());
        }
        (here, self.ends(at).map(Step::Frame))
    }

    /// Passes over bytes that were not captured.
    pub(super) fn skip(&mut self, hole: &Hole) -> Passed {
        let mut passed = Passed::default();
        if self.lost {
            if hole.cause == Cause::Skipped {
                // What follows begins with a head.
                self.find();
            }
            return passed;
        }
        if hole.bytes == 0 {
            return passed;
        }
        let beyond = self.pass(hole.bytes);
        passed.frame = self.ends(hole.at);
        if beyond > 0 && hole.cause == Cause::Skipped && self.have == 0 && !self.untyped {
            passed.rows = beyond;
        } else if beyond > 0 {
            self.lose();
            passed.lost = true;
        }
        passed
    }

    pub(super) fn buffered(&self) -> usize {
        self.body.len()
    }

    /// Passes over bytes of the message under way; how many are not of it.
    fn pass(&mut self, bytes: u64) -> u64 {
        let Some(partial) = &mut self.under_way else { return bytes };
        let here = u64::from(partial.left).min(bytes);
        partial.left -= here as u32;
        partial.cut |= here > 0 && self.body.len() < kept(partial.kind);
        bytes - here
    }

    fn header(&mut self, bytes: &[u8], at: Ts) -> (usize, Option<Step>) {
        let have = usize::from(self.have);
        if have == 0 {
            self.first = at;
        }
        let want = if self.untyped { 4 } else { HEADER };
        let here = want.saturating_sub(have).min(bytes.len());
        if let (Some(to), Some(from)) = (self.head.get_mut(have..have + here), bytes.get(..here)) {
            to.copy_from_slice(from);
        }
        self.have += here as u8;
        if usize::from(self.have) < want {
            return (here, None);
        }
        self.have = 0;
        let [a, b, c, d, _] = self.head;
        let (kind, length) = match self.untyped {
            true => (STARTUP, frame::startup_length([a, b, c, d])),
            false => (a, frame::body_length(self.sender, self.head)),
        };
        let Some(length) = length else { return (here, Some(Step::Broken)) };
        self.under_way = Some(Partial { kind, length, left: length, cut: false });
        self.body.clear();
        // Nearly always all of it is here, and nothing is to be kept.
        if let Some(body) = bytes.get(here..).and_then(|rest| rest.get(..length as usize)) {
            self.under_way = None;
            return (here + body.len(), Some(Step::Frame(self.whole(kind, length, body, at))));
        }
        (here, None)
    }

    /// The message under way, where it has come to its end.
    fn ends(&mut self, at: Ts) -> Option<Frame> {
        let Partial { kind, length, cut, .. } = self.under_way.filter(|partial| partial.left == 0)?;
        self.under_way = None;
        let kept = std::mem::take(&mut self.body);
        let whole = !cut && kept.len() == length as usize;
        let body = frame::is_read(self.sender, kind).then(|| frame::read(self.sender, kind, &kept, whole));
        Some(Frame { cut, ..self.frame(kind, length, body.unwrap_or(Body::Other), at) })
    }

    /// No more is looked at than of a message that comes in pieces, or whose end is not copied.
    fn whole(&self, kind: u8, length: u32, body: &[u8], at: Ts) -> Frame {
        let read = frame::is_read(self.sender, kind);
        let kept = body.get(..kept(kind)).unwrap_or(body);
        let body = if read { frame::read(self.sender, kind, kept, kept.len() == body.len()) } else { Body::Other };
        self.frame(kind, length, body, at)
    }

    fn frame(&self, kind: u8, length: u32, body: Body, last: Ts) -> Frame {
        let header = if kind == STARTUP { 4 } else { HEADER as u64 };
        Frame {
            kind,
            length: u64::from(length) + header,
            first: self.first,
            last: last.max(self.first),
            turn: self.turn,
            body,
            cut: false,
        }
    }
}

/// Bytes of a body that are looked at.
fn kept(kind: u8) -> usize {
    if kind == STARTUP { KEPT_STARTUP } else { KEPT - HEADER }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is copied of a message is all that a source tells before the next one.
    #[test]
    fn where_the_next_message_begins_is_not_told_before_all_that_is_read_has_come() {
        let message = |kind: u8, length: usize| {
            let head = [&[kind][..], &(length as u32 + 4).to_be_bytes()].concat();
            [head, vec![b'S'; length]].concat()
        };
        for (kind, length, reads) in [(b'E', 40, 35), (b'E', 4000, KEPT - HEADER), (b'D', 4000, 0)] {
            let mut side = Side::new(Sender::Server, false, false);
            for (at, byte) in message(kind, length).iter().enumerate() {
                side.take(&[*byte], Ts::default(), 2);
                let have = (at + 1).saturating_sub(HEADER);
                let left = (length - have) as u64;
                let known = at + 1 >= HEADER && (left == 0 || have >= reads.min(length) && (reads != 35));
                assert_eq!(side.header_in(), known.then_some(left), "{kind} {length} {at}");
            }
        }
    }
}
