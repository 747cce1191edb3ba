//! What the first bytes of messages say: whether it is Kafka's protocol, and who asks. A length and some
//! small numbers are no proof, so a request and a response have to fit each other.

use super::error;
use super::header::{self, Asks, HEAD};
use super::schema::End;
use crate::dissector::Sign;

/// Frames of a message that are looked at.
const FRAMES: usize = 8;

/// So many requests may have been asked since the one that is answered: clients keep five under way, or as many as
/// they are told to.
const UNDER_WAY: i32 = 64;

/// A name of so many characters says something.
const NAMED: usize = 2;

/// The name of a client may not be whole in so few bytes.
const FEW: usize = 16;

/// No message says alone that it is Kafka's.
pub(super) fn recognise(head: &[u8]) -> Sign {
    let possible = requests(head).is_some() || responses(head).is_some();
    if possible && !head.is_empty() { Sign::More } else { Sign::No }
}

/// Which of two directions asks.
pub(super) fn client_of([first, second]: [&[u8]; 2]) -> Option<usize> {
    if fit(first, second) {
        Some(0)
    } else if fit(second, first) {
        Some(1)
    } else {
        None
    }
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
        let asks = header::request(frame.head, frame.body, frame.length, None)?;
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

/// Whether `second` answers what `first` asks, or what was asked shortly before.
fn fit(first: &[u8], second: &[u8]) -> bool {
    let (Some(asked), Some(answered)) = (requests(first), responses(second)) else { return false };
    let Some(newest) = asked.last().map(|asks| asks.id) else { return false };
    let tells = asked.iter().any(|asks| asks.named >= NAMED || asks.seen.topic.is_some());
    let whole = answered.last().is_some_and(|frame| frame.is_whole);
    for frame in &answered {
        let id = header::id(frame.head);
        if let Some(asks) = asked.iter().find(|asks| asks.id == id) {
            let (end, seen) = header::response(asks.call, frame.body, frame.length);
            let sound = end != End::Broken && error::is_likely(seen.error);
            // A request that says nothing of its own needs an answer that says much.
            let fits = end == End::Whole && frame.length >= 20 || asks.end == End::Whole && seen.codes > 0 && whole;
            return sound && (tells && (whole || seen.codes > 0) || fits && asks.call.known().is_some() && whole);
        }
        let behind = newest.wrapping_sub(id);
        if !(1..=UNDER_WAY).contains(&behind) {
            return false;
        }
    }
    // What is answered was asked before: the bytes alone have to say enough. A response that names a topic is like the
    // beginning of a request by a client of that name.
    let sound = asked.iter().any(|asks| asks.end == End::Whole || asks.seen.topic.is_some());
    tells && sound && !answered.is_empty() && (whole || second.len() > 64)
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
pub(super) fn is_response(bytes: &[u8], starts: bool, call: impl Fn(i32) -> Option<Option<super::api::Call>>) -> bool {
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
