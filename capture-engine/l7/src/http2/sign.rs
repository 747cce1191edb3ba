//! What the first bytes of a message say: whether it is HTTP/2, and who asks.

use super::frame::{self, HEADERS, Header, PREFACE};
use super::hpack::{Decoder, Fields, Of};
use crate::dissector::Sign;

/// Frames of a message that are looked at.
const FRAMES: u32 = 16;

/// So many bytes of the preface are like nothing else.
const SURE: usize = 16;

pub(super) fn recognise(head: &[u8]) -> Sign {
    let here = head.len().min(PREFACE.len());
    if here > 0 && head.get(..here) == PREFACE.get(..here) {
        return if here >= SURE { Sign::Request { after: 0 } } else { Sign::More };
    }
    // Frames alone say nothing yet: the other direction has to agree.
    let chain = frame::chain(head, 0, FRAMES, |_, _| {});
    if chain.fits && !head.is_empty() { Sign::More } else { Sign::No }
}

pub(super) fn is_preface(head: &[u8]) -> bool {
    head.starts_with(&PREFACE[..SURE])
}

/// Which of two directions asks, where what each of them says is frames, and the fields among them tell:
/// a connection that was joined in the middle. 0 or 1.
pub(crate) fn client_of(heads: [&[u8]; 2]) -> Option<usize> {
    let [first, second] = heads.map(says);
    let (first, second) = (first?, second?);
    let apart = first.newest.abs_diff(second.newest);
    if first.newest > 0 && second.newest > 0 && apart > frame::UNSHIFTED {
        return None;
    }
    match (first.of, second.of) {
        (Some(Of::Request), None | Some(Of::Response)) | (None, Some(Of::Response)) => Some(0),
        (Some(Of::Response), None | Some(Of::Request)) | (None, Some(Of::Request)) => Some(1),
        _ => None,
    }
}

/// What frames tell of who sends them.
#[derive(Clone, Copy, Debug, Default)]
struct Said {
    of: Option<Of>,
    /// The newest stream; 0: none.
    newest: u32,
}

/// `None` where they are no frames.
fn says(head: &[u8]) -> Option<Said> {
    let (mut said, mut sound) = (Said::default(), true);
    let chain = frame::chain(head, 0, FRAMES, |header, payload| {
        said.newest = said.newest.max(header.stream);
        if header.kind == HEADERS && header.ends_headers() && payload.len() == header.length as usize {
            match block(header, payload) {
                Some(fields) if !fields.cut && said.of.is_none() => said.of = fields.of,
                Some(fields) => sound &= !fields.cut,
                None => sound = false,
            }
        }
    });
    (chain.whole > 0 && chain.fits && sound).then_some(said)
}

/// The fields that HEADERS hold; `None` where there is no room for them.
fn block(header: Header, payload: &[u8]) -> Option<Fields> {
    let padding = if header.is_padded() { usize::from(*payload.first()?) } else { 0 };
    let fragment = payload.get(header.fixed() as usize..payload.len().checked_sub(padding)?)?;
    let mut fields = Fields::default();
    let mut decoder = Decoder::new();
    decoder.read(fragment, false, usize::MAX, &mut fields);
    decoder.end(&mut fields);
    Some(fields)
}
