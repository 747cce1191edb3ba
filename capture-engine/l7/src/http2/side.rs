//! One direction of a connection: cuts it into frames and blocks of fields, over pieces and holes.

use super::frame::{self, CONTINUATION, HEADER, Header, PREFACE};
use super::hpack::{Decoder, Fields};
use crate::Limits;
use crate::input::{Cause, Hole};
use flow_model::Ts;

/// As many streams may have been opened since the newest that was seen, where frames are looked for.
pub(super) const NEXT_STREAMS: u32 = 4096;

/// Frames after one that was found, which prove it.
const TRIAL: u8 = 8;

/// Where a direction stands, and its table.
#[derive(Debug)]
pub(super) struct Side {
    pub decoder: Decoder,
    /// Bytes of the preface that are to come.
    preface: u8,
    /// Nobody knows where a frame begins.
    lost: bool,
    head: [u8; HEADER],
    have: u8,
    frame: Option<Frame>,
    block: Option<Block>,
    /// The longest payload so far.
    longest: u32,
    /// So many frames from here on have to look like ones.
    trial: Option<(u8, u32)>,
    /// When the frame under way began.
    first: Ts,
    /// The newest stream of a client of which a frame shows that it was asked for before.
    spoken_of: u32,
}

/// The frame under way.
#[derive(Clone, Copy, Debug)]
struct Frame {
    header: Header,
    /// Bytes of its payload that are to come.
    left: u32,
    /// Those of them that are padding; no more than `left`.
    padding: u32,
    /// Bytes of the payload that come before a block, or that are read.
    fixed: [u8; 9],
    fixed_have: u8,
    fixed_want: u8,
    /// Its lengths make no sense: what it says is unknown.
    malformed: bool,
}

/// A block of fields that is not whole.
#[derive(Debug)]
struct Block {
    header: Header,
    first: Ts,
    /// Bytes of its frames, headers included.
    bytes: u64,
    fields: Fields,
}

/// What the bytes of a direction say.
#[derive(Debug)]
pub(super) enum Event {
    /// A frame begins: its header was read.
    Begins,
    /// A frame that holds no block of fields is over. What was read of it, where all of it was seen.
    Frame { header: Header, read: Option<[u8; 9]> },
    /// A block of fields is over. The header is that of its first frame.
    Block { header: Header, first: Ts, bytes: u64, fields: Fields },
    /// Nobody knows any more where frames begin.
    Lost,
}

impl Side {
    pub(super) fn new(preface: bool) -> Side {
        Side {
            decoder: Decoder::new(),
            preface: if preface { PREFACE.len() as u8 } else { 0 },
            lost: false,
            head: [0; HEADER],
            have: 0,
            frame: None,
            block: None,
            longest: 0,
            trial: None,
            first: Ts::default(),
            spoken_of: 0,
        }
    }

    /// Takes bytes up to the first event in them; how many, at least one.
    pub(super) fn take(&mut self, bytes: &[u8], at: Ts, limits: &Limits) -> (usize, Option<Event>) {
        if self.preface > 0 {
            let want = &PREFACE[PREFACE.len() - usize::from(self.preface)..];
            let here = want.len().min(bytes.len());
            if bytes.get(..here) != want.get(..here) {
                return (bytes.len(), Some(self.lose()));
            }
            self.preface -= here as u8;
            return (here, None);
        }
        if self.lost {
            return (bytes.len(), None);
        }
        let Some(frame) = &mut self.frame else { return self.header(bytes, at) };
        if frame.fixed_have < frame.fixed_want {
            let at_once = usize::from(frame.fixed_want - frame.fixed_have).min(bytes.len());
            for &byte in bytes.iter().take(at_once) {
                if let Some(place) = frame.fixed.get_mut(usize::from(frame.fixed_have)) {
                    *place = byte;
                }
                frame.fixed_have += 1;
            }
            frame.left = frame.left.saturating_sub(at_once as u32);
            if frame.fixed_have == frame.fixed_want && frame.header.is_padded() {
                let padding = u32::from(frame.fixed[0]);
                frame.malformed = padding > frame.left;
                frame.padding = padding.min(frame.left);
            }
            return (at_once, self.ends_if_whole());
        }
        let here = (frame.left as usize).min(bytes.len());
        let fragment = here.min(frame.left.saturating_sub(frame.padding) as usize);
        frame.left -= here as u32;
        if frame.header.holds_block()
            && !frame.malformed
            && let Some(block) = &mut self.block
        {
            let fragment = bytes.get(..fragment).unwrap_or_default();
            self.decoder.read(fragment, limits.keep_strings, limits.head_bytes, &mut block.fields);
        }
        (here, self.ends_if_whole())
    }

    /// Passes over bytes that were not captured; what they end.
    pub(super) fn skip(&mut self, hole: &Hole) -> [Option<Event>; 2] {
        if hole.cause == Cause::Messages && self.lost {
            // Told by `lose` already. Where it was not, the messages are the other direction's.
            return [None, None];
        }
        let skipped = hole.cause == Cause::Skipped;
        if self.lost {
            if skipped {
                self.find(None);
            }
            return [None, None];
        }
        if self.have > 0 && skipped {
            // Of a frame that nobody wants.
            self.have = 0;
            return [None, None];
        }
        if self.preface > 0 || self.have > 0 {
            return [Some(self.lose()), None];
        }
        let Some(frame) = &mut self.frame else {
            return [(!skipped).then(|| self.lose()), None];
        };
        let left = u64::from(frame.left);
        let here = left.min(hole.bytes);
        if frame.header.holds_block() {
            if here > u64::from(frame.padding) || left > here {
                self.decoder.lose();
            }
        } else if frame.fixed_have < frame.fixed_want {
            frame.malformed = true;
        }
        frame.fixed_want = frame.fixed_have;
        frame.left -= here as u32;
        frame.padding = frame.padding.min(frame.left);
        let event = self.ends_if_whole();
        let beyond = hole.bytes > here && !skipped;
        let lost = beyond.then(|| self.lose());
        [event, lost]
    }

    /// Nobody knows where the next frame begins.
    pub(super) fn lose(&mut self) -> Event {
        self.lost = true;
        self.preface = 0;
        self.have = 0;
        self.frame = None;
        if let Some(block) = self.block.take() {
            self.speaks_of(block.header.stream);
        }
        self.decoder.forget();
        Event::Lost
    }

    fn speaks_of(&mut self, stream: u32) {
        if stream % 2 == 1 {
            self.spoken_of = self.spoken_of.max(stream);
        }
    }

    /// The newest stream that a frame without fields was of, or fields that were lost. 0 where that is
    /// none that a client could have come to since it opened `newest`.
    pub(super) fn spoken_of(&self, newest: u32) -> u32 {
        if self.spoken_of.saturating_sub(newest) <= NEXT_STREAMS { self.spoken_of } else { 0 }
    }

    /// The rest of the block under way will not come, if it is one of `stream`: it has been answered.
    pub(super) fn cut_block(&mut self, stream: u32) -> Option<Event> {
        let Block { header, first, bytes, mut fields } = self.block.take_if(|block| block.header.stream == stream)?;
        self.decoder.lose();
        self.decoder.end(&mut fields);
        Some(Event::Block { header, first, bytes, fields })
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost
    }

    /// A frame begins with the next byte. Where it was searched for, the next ones have to look like
    /// frames, too, and to be of no stream above `searched`.
    pub(super) fn find(&mut self, searched: Option<u32>) {
        self.lost = false;
        self.trial = searched.map(|most| (TRIAL, most));
    }

    /// Where in `bytes` frames surely begin, of a direction that is lost. `known`: the stream is one that
    /// is open, or one of as many that are opened next.
    pub(super) fn search(&self, bytes: &[u8], known: impl Fn(u32, u32) -> bool) -> Option<usize> {
        let longest = self.longest;
        // A header begins with the highest byte of its length: nearly always 0.
        let mut from = 0;
        while let Some(rest) = bytes.get(from..).filter(|rest| rest.len() >= HEADER) {
            if let Some(first) = Header::is_likely(rest, longest) {
                let (mut near, mut far) = (false, false);
                let chain = frame::chain(rest, longest, 4, |header, _| {
                    near |= known(header.stream, frame::UNSHIFTED);
                    far |= known(header.stream, NEXT_STREAMS);
                });
                // One header alone: one of the next streams, or fields that fill the packet.
                let fields = first.kind == frame::HEADERS && first.ends_headers();
                let fills = fields && rest.len() == HEADER + first.length as usize;
                let alone = from == 0 && (fills && far || known(first.stream, frame::UNSHIFTED));
                let pair = chain.whole >= 2 && (near || far && chain.whole > 2);
                if chain.whole >= 4 && far || chain.fits && (pair || alone) {
                    return Some(from);
                }
            }
            from += 1;
        }
        None
    }

    /// Bytes until the next frame; `None` where nobody knows, or where some before it are to be read: a
    /// source that is told where a frame begins copies nothing before that.
    pub(super) fn header_in(&self) -> Option<u64> {
        if self.lost || self.have > 0 || self.preface > 0 {
            return None;
        }
        let Some(frame) = &self.frame else { return Some(0) };
        let fields = frame.header.holds_block() && frame.left > frame.padding;
        (!fields && frame.fixed_have == frame.fixed_want).then_some(u64::from(frame.left))
    }

    /// The header of the frame under way.
    pub(super) fn under_way(&self) -> Option<Header> {
        self.frame.map(|frame| frame.header)
    }

    pub(super) fn buffered(&self) -> usize {
        self.decoder.buffered()
    }

    pub(super) fn held(&self) -> usize {
        self.decoder.held()
    }

    fn header(&mut self, bytes: &[u8], at: Ts) -> (usize, Option<Event>) {
        let have = usize::from(self.have);
        if have == 0 {
            self.first = at;
        }
        let here = (HEADER - have).min(bytes.len());
        if let (Some(to), Some(from)) = (self.head.get_mut(have..have + here), bytes.get(..here)) {
            to.copy_from_slice(from);
        }
        self.have += here as u8;
        if usize::from(self.have) < HEADER {
            return (here, None);
        }
        self.have = 0;
        let header = Header::read(&self.head).unwrap_or_default();
        let goes_on = self.block.as_ref().map(|block| block.header.stream);
        let continues = (header.kind == CONTINUATION).then_some(header.stream);
        // Nothing may come between the frames of a block (RFC 9113 section 6.10).
        let doubted = self
            .trial
            .is_some_and(|(_, most)| header.stream > most || Header::is_possible(&self.head, self.longest).is_none());
        if !header.is_sound() || goes_on != continues || doubted {
            return (here, Some(self.lose()));
        }
        self.trial = self.trial.and_then(|(left, most)| Some((left.checked_sub(1)?, most)));
        self.longest = self.longest.max(header.length);
        if matches!(header.kind, frame::DATA | frame::RST_STREAM | frame::WINDOW_UPDATE) {
            self.speaks_of(header.stream);
        }
        let fixed = header.fixed();
        let malformed = fixed > header.length;
        self.frame = Some(Frame {
            header,
            left: header.length,
            padding: 0,
            fixed: [0; 9],
            fixed_have: 0,
            fixed_want: fixed.min(header.length) as u8,
            malformed,
        });
        if header.holds_block() {
            let bytes = u64::from(header.length) + HEADER as u64;
            match &mut self.block {
                Some(block) => block.bytes += bytes,
                None => {
                    let first = self.first;
                    self.block = Some(Block { header, first, bytes, fields: Fields::default() });
                }
            }
        }
        (here, Some(Event::Begins))
    }

    /// The event of the frame under way, where it has come to its end. To be asked after `Begins`, too:
    /// a frame may have no payload.
    pub(super) fn ends_if_whole(&mut self) -> Option<Event> {
        let Frame { header, left, fixed, malformed, .. } = self.frame?;
        if left > 0 {
            return None;
        }
        self.frame = None;
        if !header.holds_block() {
            return Some(Event::Frame { header, read: (!malformed).then_some(fixed) });
        }
        if malformed {
            self.decoder.lose();
        }
        if !header.ends_headers() {
            return None;
        }
        let block = self.block.take()?;
        let Block { header, first, bytes, mut fields } = block;
        self.decoder.end(&mut fields);
        Some(Event::Block { header, first, bytes, fields })
    }
}
