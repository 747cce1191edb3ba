//! What shows DNS over TCP. A length, an id and counts are small numbers among zeros, as files and rows of other
//! protocols are full of them: believed is a query together with a response to it, or one whole query, plain
//! in all that it says, as the first that a connection carries.

use super::message::{self, Look, Message, looks_like_message};
use crate::dissector::Sign;

/// Messages of a head that are looked at.
const MOST: usize = 16;

/// Stands for what is too short for a header: no message either.
const TOO_SHORT: &[u8] = &[0xff; 12];

/// A message with its length before it, as far as it is here.
struct Framed<'a> {
    bytes: &'a [u8],
    whole: bool,
}

/// What one side says: nothing is sure.
pub(super) fn recognise(head: &[u8]) -> Sign {
    if look(head) == Look::Other { Sign::No } else { Sign::More }
}

/// A whole query with nothing behind it but queries, of which the last one may be cut.
pub(super) fn recognise_first(head: &[u8]) -> Sign {
    let mut all = framed(head).take(MOST);
    let sure = all.next().is_some_and(|first| first.whole && message::asks_plainly(first.bytes))
        && all.all(|next| !next.whole || message::asks_plainly(next.bytes))
        && look(head) == Look::Message;
    if sure { Sign::Request { after: 0 } } else { Sign::No }
}

/// An UPDATE that is longer than what is looked at, by its records.
pub(super) fn recognise_cut(head: &[u8]) -> Sign {
    let Some(first) = framed(head).next().filter(|first| !first.whole && message::asks_plainly(first.bytes)) else {
        return Sign::No;
    };
    let sure = looks_like_message(first.bytes) && message::records_of_update(first.bytes).is_some_and(|read| read > 2);
    if sure { Sign::Request { after: 0 } } else { Sign::No }
}

/// Which of two heads asks what the other one answers.
pub(super) fn client_of(heads: [&[u8]; 2]) -> Option<usize> {
    if heads.map(look) != [Look::Message; 2] {
        return None;
    }
    let answers = |query: &[u8], response: &[u8]| {
        read(response).any(|response| {
            response.response && read(query).any(|query| !query.response && asks_for(&query, &response))
        })
    };
    let [first, second] = heads;
    match (answers(first, second), answers(second, first)) {
        (true, false) => Some(0),
        (false, true) => Some(1),
        _ => None,
    }
}

/// The response repeats id, opcode and question (RFC 5452 section 9.1).
fn asks_for(query: &Message, response: &Message) -> bool {
    let key = |message: &Message| (message.id, message.opcode, message.qtype, message.qclass);
    key(query) == key(response) && query.name.eq_ignore_ascii_case(&response.name)
}

/// Whether these may be messages one after the other: `Message` once the first question is here.
fn look(head: &[u8]) -> Look {
    if head.len() < 2 + 12 {
        // The length may come in a segment of its own.
        return if matches!(head, [0 | 1, ..]) { Look::More } else { Look::Other };
    }
    let mut all = framed(head).take(MOST).map(|framed| {
        if framed.whole {
            // All that the header announces is there, and nothing behind it.
            let read = message::parse(framed.bytes).filter(|_| looks_like_message(framed.bytes));
            if read.is_some_and(|read| read.whole) { Look::Message } else { Look::Other }
        } else {
            message::look(framed.bytes)
        }
    });
    let first = all.next().unwrap_or(Look::Other);
    if all.any(|look| look == Look::Other) { Look::Other } else { first }
}

fn read(head: &[u8]) -> impl Iterator<Item = Message> {
    framed(head).take(MOST).filter(|framed| looks_like_message(framed.bytes)).filter_map(|it| message::parse(it.bytes))
}

/// The messages of a head, one after the other.
fn framed(head: &[u8]) -> impl Iterator<Item = Framed<'_>> {
    let mut rest = head;
    std::iter::from_fn(move || {
        let (length, behind) = match *rest {
            [] => return None,
            [high, low, ref behind @ ..] => (usize::from(u16::from_be_bytes([high, low])), behind),
            [_] => (usize::MAX, &[][..]),
        };
        let whole = behind.get(..length);
        rest = behind.get(length..).unwrap_or_default();
        let bytes = if length < 12 { TOO_SHORT } else { whole.unwrap_or(behind) };
        Some(Framed { bytes, whole: whole.is_some() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: u8, name: &[u8], response: bool) -> Vec<u8> {
        let flags = if response { [0x81, 0x80] } else { [1, 0] };
        let mut bytes =
            [&[0, id][..], &flags, &[0, 1, 0, u8::from(response), 0, 0, 0, 0], name, &[0, 0, 1, 0, 1]].concat();
        if response {
            bytes.extend(b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x0a\0\0\x01");
        }
        [&(bytes.len() as u16).to_be_bytes()[..], &bytes].concat()
    }

    #[test]
    fn a_query_and_its_response_show_it_together() {
        let (query, response) = (message(7, b"\x01a", false), message(7, b"\x01A", true));
        assert_eq!(client_of([&query, &response]), Some(0));
        assert_eq!(client_of([&response, &query]), Some(1));
        for other in [message(8, b"\x01a", true), message(7, b"\x01b", true), message(7, b"\x01a", false)] {
            assert_eq!(client_of([&query, &other]), None);
        }
        // Of several queries, the one that is answered first.
        let queries = [message(6, b"\x01c", false), query].concat();
        assert_eq!(client_of([&queries, &response]), Some(0));
        // Of a long response the beginning is enough.
        let mut long = response;
        long[0] = 0x40;
        assert_eq!(client_of([&queries, &long]), Some(0));
    }

    #[test]
    fn a_long_update_shows_by_its_records() {
        let record = b"\xc0\x0c\0\x10\0\x01\0\0\0\x3c\0\x02\x01x";
        let head = [&b"\x20\0\0\x07\x28\0\0\x01\0\0\0\xff\0\0\x01a\0\0\x06\0\x01"[..], &record.repeat(9)].concat();
        assert_eq!((recognise(&head), recognise_cut(&head)), (Sign::More, Sign::Request { after: 0 }));
        assert_eq!(recognise_cut(&head[..60]), Sign::No, "two records");
        let zeros = [&head[..21], &[0; 99]].concat();
        assert_eq!(recognise_cut(&zeros), Sign::No);
    }

    #[test]
    fn alone_it_is_a_whole_query_at_the_beginning() {
        let (query, response) = (message(7, b"\x01a", false), message(7, b"\x01a", true));
        assert_eq!(recognise_first(&query), Sign::Request { after: 0 });
        assert_eq!(recognise_first(&query.repeat(2)), Sign::Request { after: 0 });
        for end in 0..query.len() {
            assert_eq!(recognise(&query[..end]), if end == 0 { Sign::No } else { Sign::More }, "{end}");
            assert_eq!(recognise_first(&query[..end]), Sign::No, "{end}");
        }
        assert_eq!(recognise(&query), Sign::More);
        assert_eq!(recognise_first(&[&query[..], &query[..20]].concat()), Sign::Request { after: 0 });
        for other in [response, [&query[..], &[0, 4, 0, 0, 0, 0]].concat()] {
            assert_eq!(recognise_first(&other), Sign::No, "{other:?}");
        }
        let mut long = query;
        long[1] += 1;
        long.push(0);
        assert_eq!((recognise(&long), recognise_first(&long)), (Sign::No, Sign::No), "a byte behind the question");
    }
}
