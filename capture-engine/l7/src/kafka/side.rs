//! One direction of a connection: cuts it into frames at their lengths, over pieces and holes.

use super::header::{self, HEAD, KEPT, LENGTH};
use crate::input::{Cause, Hole};
use flow_model::Ts;
use std::borrow::Cow;

/// Where a direction stands.
#[derive(Debug)]
pub(super) struct Side {
    from_client: bool,
    /// Nobody knows where a frame begins.
    pub lost: bool,
    /// What is lost began a message with `body`, or goes on in it.
    trying: bool,
    /// What passes may have no header but its length.
    pub raw: bool,
    head: [u8; HEAD],
    have: u8,
    frame: Option<Frame>,
    /// What is kept of the frame's body, where it did not come at once.
    body: Vec<u8>,
    /// When the frame under way began, and in which message of the flow.
    pub first: Ts,
    pub turn: u32,
}

/// The frame under way.
#[derive(Clone, Copy, Debug)]
struct Frame {
    /// All of it, its length included.
    length: u64,
    /// Bytes that are to come.
    left: u64,
    /// `Event::Head` was told of it.
    told: bool,
}

/// What the bytes of a direction say.
#[derive(Debug)]
pub(super) enum Event<'a> {
    /// A frame begins: its length is known, and of a response its number.
    Begins,
    /// As much as is kept of the body is here. `cut`: not all of that came.
    Head { head: [u8; HEAD], body: Cow<'a, [u8]>, length: u64, cut: bool },
    /// The frame is over.
    Ends { length: u64 },
    /// Nobody knows any more where frames begin. `bad`: what stood in the place of a length was none.
    Lost { bad: bool },
}

impl Side {
    pub(super) fn new(from_client: bool) -> Side {
        Side {
            from_client,
            lost: false,
            trying: false,
            raw: false,
            head: [0; HEAD],
            have: 0,
            frame: None,
            body: Vec::new(),
            first: Ts::default(),
            turn: 0,
        }
    }

    /// Takes bytes up to the first event in them; how many.
    pub(super) fn take<'a>(&mut self, bytes: &'a [u8], at: Ts, turn: u32) -> (usize, Option<Event<'a>>) {
        if self.lost {
            return (bytes.len(), None);
        }
        let Some(frame) = &mut self.frame else { return self.header(bytes, at, turn) };
        if !frame.told {
            let want = (frame.length.min(KEPT as u64) as usize).saturating_sub(HEAD + self.body.len());
            let here = want.min(bytes.len());
            frame.left = frame.left.saturating_sub(here as u64);
            let part = bytes.get(..here).unwrap_or_default();
            if here < want {
                self.body.extend_from_slice(part);
                return (here, None);
            }
            frame.told = true;
            let body = if self.body.is_empty() {
                Cow::Borrowed(part)
            } else {
                self.body.extend_from_slice(part);
                Cow::Owned(std::mem::take(&mut self.body))
            };
            return (here, Some(Event::Head { head: self.head, body, length: frame.length, cut: false }));
        }
        let here = usize::try_from(frame.left).unwrap_or(usize::MAX).min(bytes.len());
        frame.left -= here as u64;
        let ends = frame.left == 0;
        (here, if ends { self.end() } else { None })
    }

    /// An event is due without another byte.
    pub(super) fn is_due(&self) -> bool {
        self.frame.is_some_and(|frame| frame.left == 0)
    }

    /// Passes over bytes that were not captured; what they end.
    pub(super) fn skip(&mut self, hole: &Hole) -> [Option<Event<'static>>; 3] {
        let skipped = hole.cause == Cause::Skipped;
        if self.lost {
            // What follows what was left out begins with a header.
            self.lost = !skipped;
            self.no_message();
            return [None, None, None];
        }
        let head = if self.frame.is_some() { self.cut() } else { None };
        let Some(frame) = &mut self.frame else {
            if skipped {
                self.have = 0;
                return [None, None, None];
            }
            return [Some(self.lose(false)), None, None];
        };
        let here = frame.left.min(hole.bytes);
        frame.left -= here;
        let end = if frame.left == 0 { self.end() } else { None };
        let lost = (hole.bytes > here && !skipped).then(|| self.lose(false));
        [head, end, lost]
    }

    /// Nobody knows where the next frame begins.
    pub(super) fn lose(&mut self, bad: bool) -> Event<'static> {
        self.lost = true;
        self.have = 0;
        self.frame = None;
        self.body = Vec::new();
        self.trying = false;
        Event::Lost { bad }
    }

    /// Bytes of a direction that is lost: what there is of its message so far, and how much of that came before,
    /// if they are in one that was seen to begin. `starts`: they begin it.
    pub(super) fn try_message(&mut self, bytes: &[u8], at: Ts, turn: u32, starts: bool) -> Option<(Vec<u8>, usize)> {
        if starts {
            (self.trying, self.first, self.turn) = (true, at, turn);
            self.body.clear();
        }
        let room = KEPT.saturating_sub(self.body.len());
        if !self.trying || room == 0 {
            self.no_message();
            return None;
        }
        self.body.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
        Some((std::mem::take(&mut self.body), KEPT - room))
    }

    /// They do not show it yet.
    pub(super) fn go_on_trying(&mut self, body: Vec<u8>) {
        self.body = body;
    }

    fn no_message(&mut self) {
        self.trying = false;
        self.body = Vec::new();
    }

    /// A frame begins with the next byte.
    pub(super) fn find(&mut self) {
        self.lost = false;
        self.no_message();
    }

    /// Whether a frame is under way.
    pub(super) fn is_amid(&self) -> bool {
        self.have > 0 || self.frame.is_some()
    }

    /// No more is seen of what is kept of the frame under way: what there is of it, or that its place is lost.
    pub(super) fn cut(&mut self) -> Option<Event<'static>> {
        match &mut self.frame {
            Some(frame) if frame.told => None,
            Some(frame) => {
                frame.told = true;
                let body = Cow::Owned(std::mem::take(&mut self.body));
                Some(Event::Head { head: self.head, body, length: frame.length, cut: true })
            }
            None if self.have > 0 => Some(self.lose(false)),
            None => None,
        }
    }

    /// The number of the response under way, of which no more than that was told.
    pub(super) fn begun(&self) -> Option<i32> {
        self.frame.filter(|frame| !frame.told)?;
        Some(header::id(self.head))
    }

    /// Bytes until the next frame; `None` where nobody knows, or where some before it are to be read: a
    /// source that is told where a frame begins copies nothing before that.
    pub(super) fn header_in(&self) -> Option<u64> {
        match self.frame {
            _ if self.lost || (self.have > 0 && self.frame.is_none()) => None,
            None => Some(0),
            Some(frame) => frame.told.then_some(frame.left),
        }
    }

    pub(super) fn buffered(&self) -> usize {
        self.body.len()
    }

    fn header(&mut self, bytes: &[u8], at: Ts, turn: u32) -> (usize, Option<Event<'static>>) {
        let have = usize::from(self.have);
        if have == 0 {
            (self.first, self.turn) = (at, turn);
        }
        let want = if self.raw && have < LENGTH { LENGTH } else { HEAD };
        let here = (want - have).min(bytes.len());
        if let (Some(to), Some(from)) = (self.head.get_mut(have..have + here), bytes.get(..here)) {
            to.copy_from_slice(from);
        }
        self.have += here as u8;
        let [a, b, c, d, ..] = self.head;
        if usize::from(self.have) == LENGTH && want == LENGTH {
            let length = u64::from(u32::from_be_bytes([a, b, c, d]));
            if length < header::LEAST[usize::from(self.from_client)] {
                // No request is so short, and no response.
                self.frame = Some(Frame { length: 4 + length, left: length, told: true });
            }
        }
        if usize::from(self.have) < HEAD {
            return (here, None);
        }
        let Some(length) = header::length([a, b, c, d], self.from_client) else { return (here, Some(self.lose(true))) };
        self.frame = Some(Frame { length, left: length.saturating_sub(HEAD as u64), told: false });
        (here, Some(Event::Begins))
    }

    fn end(&mut self) -> Option<Event<'static>> {
        let frame = self.frame.take()?;
        self.have = 0;
        Some(Event::Ends { length: frame.length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hole(bytes: u64, cause: Cause) -> Hole {
        Hole { bytes, at: Ts(9), turn: 2, before_start: false, cause }
    }

    /// What is told of `pieces`: bytes, or the length of a hole.
    fn told(pieces: &[Result<&[u8], u64>]) -> Vec<String> {
        let mut side = Side::new(false);
        let mut told = Vec::new();
        let mut note = |event: Event<'_>| {
            told.push(match event {
                Event::Begins => return,
                Event::Head { body, length, cut, .. } => {
                    format!("{} of {length}{}", body.len(), if cut { " cut" } else { "" })
                }
                Event::Ends { length } => format!("ends {length}"),
                Event::Lost { bad } => format!("lost {bad}"),
            });
        };
        for piece in pieces.iter().copied() {
            match piece {
                Ok(mut bytes) => {
                    while !bytes.is_empty() || side.is_due() {
                        let (used, event) = side.take(bytes, Ts(1), 1);
                        bytes = &bytes[used..];
                        event.into_iter().for_each(&mut note);
                    }
                }
                Err(length) => side.skip(&hole(length, Cause::Counted)).into_iter().flatten().for_each(&mut note),
            }
        }
        told
    }

    #[test]
    fn frames_end_where_they_say_wherever_they_are_cut() {
        let short = b"\0\0\0\x06\0\0\0\x01ab";
        let long = [&b"\0\0\x07\xd0\0\0\0\x02"[..], &[b'x'; 1996]].concat();
        let all = [&short[..], &long, short].concat();
        let expected = ["2 of 10", "ends 10", "504 of 2004", "ends 2004", "2 of 10", "ends 10"];
        for step in 1..40 {
            let pieces: Vec<_> = all.chunks(step).map(Ok).collect();
            assert_eq!(told(&pieces), expected, "{step}");
        }
    }

    #[test]
    fn a_hole_inside_of_a_frame_costs_what_it_held() {
        let head = [&b"\0\0\x07\xd0\0\0\0\x02"[..], &[b'x'; 92]].concat();
        let next = b"\0\0\0\x06\0\0\0\x01ab";
        assert_eq!(told(&[Ok(&head), Err(1904), Ok(next)]), ["92 of 2004 cut", "ends 2004", "2 of 10", "ends 10"]);
        assert_eq!(told(&[Ok(&head), Err(1905), Ok(next)]), ["92 of 2004 cut", "ends 2004", "lost false"]);
        assert_eq!(told(&[Ok(&head[..5]), Err(1), Ok(next)]), ["lost false"]);
        assert_eq!(told(&[Ok(b"\xff\xff\xff\xffabcd")]), ["lost true"]);
    }
}
