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
    // Frames alone say nothing yet: fields among them have to be those of a request, or the other direction
    // has to agree.
    let (mut asks, mut newest, mut sound) = (false, 0, true);
    let chain = frame::chain(head, 0, FRAMES, |header, payload| {
        if header.kind != HEADERS {
            return;
        }
        if header.ends_headers() && payload.len() == header.length as usize {
            let fields = block(header, payload);
            // Trailers have none of these. Every client says them like this (RFC 7541 appendix A has both).
            let is_request = |fields: &Fields| fields.method_by_index && fields.scheme_by_index;
            sound &= fields.as_ref().is_some_and(|fields| !fields.cut && fields.of != Some(Of::Response));
            if fields.as_ref().is_some_and(is_request) {
                asks = true;
                // A client numbers its streams upwards.
                sound &= header.stream > newest;
                newest = header.stream;
            }
        }
    });
    if !chain.fits || head.is_empty() {
        Sign::No
    } else if asks && sound && chain.whole >= SURE_FRAMES {
        Sign::Request { after: 0 }
    } else {
        Sign::More
    }
}

/// Whether a message is frames, though they do not tell who asks: those that follow may.
pub(crate) fn are_frames(head: &[u8]) -> bool {
    let chain = frame::chain(head, 0, FRAMES, |_, _| {});
    chain.fits && chain.whole > 0
}

/// So many frames in a row, a request's fields among them, are like nothing else.
const SURE_FRAMES: u32 = 2;

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

#[cfg(test)]
mod tests {
    use super::*;

    const POST: &[u8] = &[0x83, 0x86, 0xc2];

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream], payload].concat()
    }

    #[test]
    fn two_frames_of_which_one_asks_are_a_client() {
        let headers = |stream, block: &[u8]| frame(HEADERS, 4, stream, block);
        let update = frame(frame::WINDOW_UPDATE, 0, 0, &[0, 0, 1, 0]);
        let data = frame(frame::DATA, 1, 7, b"12345");
        let check = |frames: &[&[u8]], sign| assert_eq!(recognise(&frames.concat()), sign, "{frames:?}");
        let sure = Sign::Request { after: 0 };
        check(&[&headers(7, POST), &data], sure);
        check(&[&update, &headers(7, POST)], sure);
        check(&[&headers(7, POST), &data[..10]], sure);
        check(&[&headers(7, POST), &headers(9, POST)], sure);
        // One frame, fields by indexes that were said before, an answer, streams that go back, bytes behind.
        check(&[&headers(7, POST)], Sign::More);
        check(&[&headers(7, &[0xc0, 0xc1]), &data], Sign::More);
        check(&[&headers(7, &[0x88]), &data], Sign::More);
        check(&[&headers(7, POST), &headers(5, POST)], Sign::More);
        check(&[&headers(7, &[0x83, 0x86, 0x7f]), &data], Sign::More);
        check(&[&headers(7, POST), b"\x17\x03\x03\0\x20\0\0\0\0\0"], Sign::No);
    }
}
