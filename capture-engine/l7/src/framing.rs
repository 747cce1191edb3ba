//! Cutting one direction into frames that say their length. Holes inside of a frame are passed by counting.

use crate::input::{Bytes, Cause, Hole};
use flow_model::Ts;
use std::marker::PhantomData;

/// How the frames of a protocol say their length.
pub(crate) trait Framing {
    /// Bytes from which the length shows: with fewer there is nothing to read.
    const HEADER: usize;
    /// Bytes of a frame that are kept; the rest is counted.
    const KEPT: usize;

    /// Length of the whole frame, its header included; `None` while `head` is too short to tell.
    fn length(head: &[u8]) -> Option<usize>;
}

/// One direction of a connection, at a place in a frame.
#[derive(Debug)]
pub(crate) struct Frames<F> {
    /// The frame so far, at most `KEPT` bytes of it.
    bytes: Vec<u8>,
    first: Ts,
    /// Bytes to come of a frame of which enough was kept.
    rest: u64,
    /// The place of the next frame is lost until a message of the flow with a higher number than this begins.
    lost: Option<u32>,
    framing: PhantomData<F>,
}

/// A frame that is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    /// What was kept of it, its header included.
    pub bytes: &'a [u8],
    /// Its whole length.
    pub length: usize,
    /// When its first and its last byte passed.
    pub first: Ts,
    pub last: Ts,
}

impl<F> Default for Frames<F> {
    fn default() -> Self {
        Frames { bytes: Vec::new(), first: Ts::default(), rest: 0, lost: None, framing: PhantomData }
    }
}

impl<F: Framing> Frames<F> {
    /// Takes captured bytes. `read` gets each frame that they end; false: its length is believed no more.
    pub(crate) fn bytes(&mut self, data: Bytes<'_>, mut read: impl FnMut(Frame<'_>) -> bool) {
        let Bytes { at, turn, start, tail, mut bytes } = data;
        if start && self.lost.is_some_and(|lost| lost < turn) {
            self.lost = None;
        }
        if tail {
            // They begin in the middle of one.
            *self = Frames { lost: Some(turn), ..Frames::default() };
        }
        while !bytes.is_empty() && self.lost.is_none() {
            let passes = self.rest > 0;
            let used = self.take(bytes, at);
            bytes = bytes.get(used..).unwrap_or_default();
            if self.rest == 0 && (passes || self.is_kept()) {
                self.end(at, turn, &mut read);
            }
        }
    }

    /// Passes over a hole. True when the place of the next frame is lost with it: one frame at least was not seen.
    pub(crate) fn hole(&mut self, hole: Hole, mut read: impl FnMut(Frame<'_>) -> bool) -> bool {
        let Hole { bytes, at, turn, cause, .. } = hole;
        if cause == Cause::Messages {
            // The dissector was told by `missing`; what follows begins a message.
            *self = Frames::default();
            return false;
        }
        let left = self.left();
        if cause == Cause::Skipped {
            // The rest of a frame; beyond it, whole frames that were not wanted.
            let begun = self.bytes.len() >= F::HEADER || self.rest > 0;
            self.rest = left.saturating_sub(bytes);
            if begun && self.rest == 0 {
                self.end(at, turn, &mut read);
            } else if !begun {
                *self = Frames::default();
            }
            return false;
        }
        if self.lost.is_some() {
            return false;
        }
        let begun = self.bytes.len() > F::HEADER;
        if begun && bytes <= left {
            self.rest = left - bytes;
            if self.rest == 0 {
                self.end(at, turn, &mut read);
            }
            return false;
        }
        if begun {
            self.end(at, turn, &mut read);
        }
        *self = Frames { lost: Some(turn), ..Frames::default() };
        true
    }

    /// Bytes until the next frame begins; `None` where that is not known, or where some before it are to be
    /// kept: a source that is told where a frame begins copies nothing before that.
    pub(crate) fn header_in(&self) -> Option<u64> {
        let collects = self.rest == 0 && !self.bytes.is_empty();
        (self.lost.is_none() && !collects).then(|| self.left())
    }

    /// Bytes that are kept.
    pub(crate) fn buffered(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of the frame under way that have not come.
    fn left(&self) -> u64 {
        match self.rest {
            0 => F::length(&self.bytes).map_or(0, |length| length.saturating_sub(self.bytes.len()) as u64),
            rest => rest,
        }
    }

    fn is_kept(&self) -> bool {
        F::length(&self.bytes).is_some_and(|length| self.bytes.len() >= length.min(F::KEPT))
    }

    /// Takes what belongs to the frame under way; how much that was, at least one byte.
    fn take(&mut self, bytes: &[u8], at: Ts) -> usize {
        if self.rest > 0 {
            let here = usize::try_from(self.rest).unwrap_or(usize::MAX).min(bytes.len());
            self.rest -= here as u64;
            return here;
        }
        if self.bytes.is_empty() {
            self.first = at;
        }
        let want = F::length(&self.bytes).unwrap_or(F::HEADER).min(F::KEPT);
        let here = want.saturating_sub(self.bytes.len()).clamp(1, bytes.len());
        self.bytes.extend_from_slice(bytes.get(..here).unwrap_or_default());
        if let Some(length) = F::length(&self.bytes).filter(|&length| length > F::KEPT && self.bytes.len() >= F::KEPT) {
            self.rest = (length - self.bytes.len()) as u64;
        }
        here
    }

    fn end(&mut self, last: Ts, turn: u32, read: &mut impl FnMut(Frame<'_>) -> bool) {
        let length = F::length(&self.bytes).unwrap_or(0);
        if !read(Frame { bytes: &self.bytes, length, first: self.first, last }) {
            self.lost = Some(turn);
        }
        self.bytes = Vec::new();
        self.rest = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A byte that says how many follow it.
    #[derive(Debug)]
    struct Counted;

    impl Framing for Counted {
        const HEADER: usize = 1;
        const KEPT: usize = 8;

        fn length(head: &[u8]) -> Option<usize> {
            Some(usize::from(*head.first()?) + 1)
        }
    }

    /// Wherever a hole lies in a frame and however the rest comes, the frame ends where it said, and the next is whole.
    #[test]
    fn a_frame_with_a_hole_ends_where_it_said() {
        for length in [4_u8, 8, 9, 20] {
            let frame: Vec<u8> = std::iter::once(length).chain(1..=length).collect();
            let next = [2, 77, 78];
            for (from, to) in (2..frame.len()).flat_map(|from| (from + 1..=frame.len()).map(move |to| (from, to))) {
                for cut in 0..=frame.len() - to {
                    let mut frames = Frames::<Counted>::default();
                    let mut found = Vec::new();
                    let (head, hole) = (&frame[..from], (to - from) as u64);
                    let (rest, last) = (&frame[to..to + cut], [&frame[to + cut..], &next].concat());
                    let mut read = |frame: Frame<'_>| {
                        found.push((frame.length, frame.bytes.to_vec()));
                        true
                    };
                    let piece = |bytes| Bytes { at: Ts::default(), turn: 1, start: false, tail: false, bytes };
                    frames.bytes(piece(head), &mut read);
                    let hole =
                        Hole { bytes: hole, at: Ts::default(), turn: 1, before_start: false, cause: Cause::Unknown };
                    assert!(!frames.hole(hole, &mut read));
                    frames.bytes(piece(rest), &mut read);
                    frames.bytes(piece(&last), &mut read);
                    let kept = head[..from.min(Counted::KEPT)].to_vec();
                    assert_eq!(found, [(frame.len(), kept), (3, next.to_vec())], "{length} {from}..{to} {cut}");
                }
            }
        }
    }
}
