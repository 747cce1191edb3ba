//! What the first bytes of messages say: whether it is Kafka's protocol, and who asks. A length and some
//! small numbers are no proof, so a response has to fit a request: by its number, and by what it says.

use super::api::Call;
use super::error;
use super::header::{self, Asks, HEAD};
use super::schema::End;
use crate::candidates::Asked;
use std::collections::VecDeque;

/// Frames of a message that are looked at.
const FRAMES: usize = 8;

/// A name of so many characters says something.
const NAMED: usize = 2;

/// The name of a client may not be whole in so few bytes.
const FEW: usize = 16;

/// Responses are that long at least, if they alone have to say enough.
const LONG: u64 = 20;

/// What bytes say as requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Says {
    /// They are none.
    Nothing,
    /// They may be some.
    Little,
    /// They are sound, and by somebody with a name, or about a topic.
    Much,
}

/// Whether a message may begin with requests.
pub(crate) fn may_ask(head: &[u8]) -> Says {
    match requests(head) {
        Some(all) if all.iter().any(tells) => Says::Much,
        Some(_) => Says::Little,
        None => Says::Nothing,
    }
}

/// Whether a message may begin with responses, as far as their lengths tell.
pub(crate) fn may_answer(head: &[u8]) -> bool {
    responses(head).is_some()
}

/// The requests that message `turn` begins with, and that are to be answered.
pub(crate) fn asked(head: &[u8], turn: u32) -> impl Iterator<Item = Asked> {
    let all = requests(head).unwrap_or_default();
    all.into_iter().filter(is_answered).map(move |asks| {
        let Call { key, version, .. } = asks.call;
        Asked { key, version, id: asks.id, tells: tells(&asks), turn, counted: false, unanswered: false }
    })
}

/// Whether `second` answers a request of `first`, or one of those that were asked `earlier`.
pub(crate) fn fit(first: &[u8], earlier: &VecDeque<Asked>, second: &[u8]) -> bool {
    let (Some(asked), Some(answered)) = (requests(first), responses(second)) else { return false };
    let whole = answered.last().is_some_and(|frame| frame.is_whole);
    let fits = |frame: &Frame<'_>, call: Call, tells: bool, sound: bool| {
        let (end, seen) = header::response(call, frame.body, frame.length);
        // A request that says nothing of its own needs an answer that says much.
        let says = match (tells, end) {
            (true, _) => whole || seen.codes > 0,
            (_, End::Whole) if frame.length >= LONG => whole && call.known().is_some(),
            _ => sound && seen.codes > 0 && whole && call.known().is_some(),
        };
        end != End::Broken && error::is_likely(seen.error) && says
    };
    // The first one with a number that was asked decides.
    let first = answered.iter().find_map(|frame| {
        let id = header::id(frame.head);
        let newest = asked.iter().find(|asks| asks.id == id && is_answered(asks));
        let of = newest.map(|asks| (asks.call, tells(asks), asks.end == End::Whole));
        let older = || earlier.iter().rev().find(|asked| asked.id == id);
        let of = of.or_else(|| older().map(|asked| (Call::new(asked.key, asked.version), asked.tells, false)));
        of.map(|(call, tells, sound)| fits(frame, call, tells, sound))
    });
    first.unwrap_or(false)
}

/// Whether a request says something of its own: about a topic, or by somebody with a name. A length that ends
/// nowhere is no frame yet, and any two letters behind it are a name.
fn tells(asks: &Asks<'_>) -> bool {
    asks.seen.topic.is_some() || asks.named >= NAMED && asks.is_whole
}

fn is_answered(asks: &Asks<'_>) -> bool {
    asks.seen.acks != Some(0)
}

/// Whether a request begins here, as far as it is known, and is more than small numbers.
pub(super) fn is_request(bytes: &[u8], client: u64) -> Option<i32> {
    let frame = Frame::first(bytes, true)?;
    let asks = header::request(frame.head, frame.body, frame.length, Some(client))?;
    let follows = frame.rest.is_empty()
        || Frame::first(frame.rest, true).map_or(frame.rest.len() < HEAD, |next| {
            let asks = header::request(next.head, next.body, next.length, Some(client));
            asks.is_some_and(|asks| asks.client == client || next.body.len() < FEW)
        });
    let named = asks.named >= NAMED || asks.seen.topic.is_some();
    (asks.client == client && asks.end != End::Broken && named && follows).then_some(asks.id)
}

/// Requests of a message and whether they say something of their own. `None` where they are none.
fn requests(head: &[u8]) -> Option<Vec<Asks<'_>>> {
    let mut all: Vec<Asks<'_>> = Vec::new();
    let mut rest = head;
    while rest.len() >= HEAD && all.len() < FRAMES {
        let frame = Frame::first(rest, true)?;
        rest = frame.rest;
        if frame.body.len() < 4 {
            // Its number is not here yet.
            break;
        }
        let mut asks = header::request(frame.head, frame.body, frame.length, None)?;
        asks.is_whole = frame.is_whole;
        let goes_on = all
            .last()
            .is_none_or(|last| last.client == asks.client && asks.id.wrapping_sub(last.id) >= 0 || asks.client == 0);
        if asks.end == End::Broken || !goes_on {
            return None;
        }
        all.push(asks);
    }
    begins_small(rest).then_some(all)
}

/// Responses of a message: their numbers, bodies and lengths.
fn responses(head: &[u8]) -> Option<Vec<Frame<'_>>> {
    let mut all = Vec::new();
    let mut rest = head;
    while rest.len() >= HEAD && all.len() < FRAMES {
        let frame = Frame::first(rest, false)?;
        rest = frame.rest;
        all.push(frame);
    }
    begins_small(rest).then_some(all)
}

/// What is too short to be a head may be the beginning of one.
fn begins_small(rest: &[u8]) -> bool {
    rest.len() >= HEAD || rest.first().is_none_or(|first| *first <= (header::LONGEST >> 24) as u8)
}

/// A frame as far as it is here.
#[derive(Clone, Copy, Debug)]
struct Frame<'a> {
    head: [u8; HEAD],
    body: &'a [u8],
    length: u64,
    rest: &'a [u8],
    is_whole: bool,
}

impl Frame<'_> {
    /// `None` where none begins here, or too little of it is here.
    fn first(bytes: &[u8], from_client: bool) -> Option<Frame<'_>> {
        let head: [u8; HEAD] = bytes.get(..HEAD)?.try_into().ok()?;
        let [a, b, c, d, ..] = head;
        let length = header::length([a, b, c, d], from_client)?;
        let end = usize::try_from(length).unwrap_or(usize::MAX).min(bytes.len());
        let kept = end.min(header::KEPT);
        let (body, rest) = (bytes.get(HEAD..kept).unwrap_or_default(), bytes.get(end..).unwrap_or_default());
        Some(Frame { head, body, length, rest, is_whole: bytes.len() as u64 >= length })
    }
}

/// Whether a response begins here that fits: to `call`, where that is known. `starts`: a message of the flow does.
pub(super) fn is_response(bytes: &[u8], starts: bool, call: impl Fn(i32) -> Option<Option<Call>>) -> bool {
    let Some(frame) = Frame::first(bytes, false) else { return false };
    let Some(call_of) = call(header::id(frame.head)) else { return false };
    let ends = frame.is_whole && frame.rest.is_empty();
    let followed = || Frame::first(frame.rest, false).is_some_and(|next| call(header::id(next.head)).is_some());
    let says = || {
        call_of.is_some_and(|call| {
            let (end, seen) = header::response(call, frame.body, frame.length);
            end != End::Broken && seen.codes > 0 && error::is_likely(seen.error)
        })
    };
    ends || followed() || starts && !frame.is_whole && says()
}
