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
    match (first?, second?) {
        (Some(Of::Request), None | Some(Of::Response)) | (None, Some(Of::Response)) => Some(0),
        (Some(Of::Response), None | Some(Of::Request)) | (None, Some(Of::Request)) => Some(1),
        _ => None,
    }
}

/// What frames tell of who sends them; `None` where they are no frames.
#[expect(clippy::option_option, reason = "no frames, or frames that do not tell")]
fn says(head: &[u8]) -> Option<Option<Of>> {
    let mut of = None;
    let chain = frame::chain(head, 0, FRAMES, |header, payload| of = of.or_else(|| block(header, payload)));
    (chain.whole > 0 && chain.fits).then_some(of)
}

/// Whose fields HEADERS hold.
fn block(header: Header, payload: &[u8]) -> Option<Of> {
    if header.kind != HEADERS {
        return None;
    }
    let padding = if header.is_padded() { usize::from(*payload.first()?) } else { 0 };
    let whole = payload.len() == header.length as usize;
    let end = if whole { payload.len().checked_sub(padding)? } else { payload.len() };
    let fragment = payload.get(header.fixed() as usize..end)?;
    let mut fields = Fields::default();
    Decoder::new().read(fragment, false, usize::MAX, &mut fields);
    fields.of
}
