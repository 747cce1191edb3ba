//! What the first bytes of a message say: whether it is PostgreSQL's protocol, and who asks.

use super::frame::{self, Sender};
use super::statement;
use crate::dissector::Sign;

/// Messages of a head that are looked at.
const MOST: u32 = 32;

/// Messages may be longer, but not the ones by which the protocol is found: 2 MiB.
const LONGEST: u8 = 0x20;

pub(super) fn recognise(head: &[u8]) -> Sign {
    match head {
        [0, ..] => startup(head),
        // A kind, and a length whose highest byte is 0.
        [kind] => {
            let kinds = frame::CLIENT_KINDS.contains(kind) || frame::SERVER_KINDS.contains(kind);
            if kinds { Sign::More } else { Sign::No }
        }
        [_, 0, rest @ ..] if rest.first().is_none_or(|byte| *byte < LONGEST) => {
            // Both directions have to agree.
            if says(Sender::Client, head).fits || says(Sender::Server, head).fits { Sign::More } else { Sign::No }
        }
        _ => Sign::No,
    }
}

/// Messages that a client would ask with.
pub(super) fn begins(sender: Sender, bytes: &[u8]) -> bool {
    says(sender, bytes).fits
}

/// Which of two directions asks, where both say what it would: a connection that was joined in the middle. 0 or 1.
pub(super) fn client_of(heads: [&[u8]; 2]) -> Option<usize> {
    let asks = |head| says(Sender::Client, head);
    let answers = |head| says(Sender::Server, head);
    let [first, second] = heads;
    let is = |asks: Says, answers: Says| asks.fits && asks.sure && answers.fits && answers.sure;
    match (is(asks(first), answers(second)), is(asks(second), answers(first))) {
        (true, false) => Some(0),
        (false, true) => Some(1),
        _ => None,
    }
}

/// The message that begins a connection: its length and one of the codes.
fn startup(head: &[u8]) -> Sign {
    let Some((length, rest)) = head.split_first_chunk::<4>() else {
        return if matches!(head, [0] | [0, 0] | [0, 0, _]) { Sign::More } else { Sign::No };
    };
    let length = u32::from_be_bytes(*length);
    if frame::startup_length(length.to_be_bytes()).is_none() {
        return Sign::No;
    }
    let Some((code, rest)) = rest.split_first_chunk::<4>() else {
        let begins = matches!(rest, [] | [0] | [0, 3] | [0, 3, 0..=39] | [4] | [4, 0xd2] | [4, 0xd2, 0x16]);
        return if begins { Sign::More } else { Sign::No };
    };
    match u32::from_be_bytes(*code) {
        frame::SSL | frame::GSS if length == 8 => Sign::Request { after: 0 },
        frame::CANCEL if (16..=268).contains(&length) => Sign::Request { after: 0 },
        code if frame::is_version(code) && length > 8 => parameters(length as usize - 8, rest),
        _ => Sign::No,
    }
}

/// `length` bytes of parameters: names, which are words, with their values, and a zero at the end. One of them is
/// the user, without whom no server lets in: frames of others have such a length and such a version, too.
fn parameters(length: usize, rest: &[u8]) -> Sign {
    if rest.first() == Some(&0) {
        let empty = length == 1 && rest.len() == 1;
        return if empty { Sign::Request { after: 0 } } else { Sign::No };
    }
    let is_word = |name: &[u8]| {
        name.first().is_none_or(|byte| byte.is_ascii_alphabetic() || *byte == b'_')
            && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(byte))
    };
    let whole = rest.len() >= length;
    let mut strings = rest.get(..length).unwrap_or(rest).split(|byte| *byte == 0);
    let mut names_user = false;
    while let Some(name) = strings.next() {
        let ends = name.is_empty() && whole;
        let value = strings.next();
        if !is_word(name) || ends && value.is_none() {
            return Sign::No;
        }
        if ends {
            break;
        }
        names_user |= name == b"user" && value.is_some();
    }
    match (names_user, whole) {
        (true, _) => Sign::Request { after: 0 },
        (false, true) => Sign::No,
        (false, false) => Sign::More,
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Says {
    /// All of it may be messages of this sender.
    fits: bool,
    /// A message is like nothing else.
    sure: bool,
}

fn says(sender: Sender, head: &[u8]) -> Says {
    let mut sure = false;
    let chain = frame::chain(sender, head, MOST, |kind, body| match sender {
        Sender::Client => asks(kind, body, &mut sure),
        Sender::Server => answers(kind, body, &mut sure),
    });
    Says { fits: chain.fits, sure }
}

/// Whether a message of a client is as it should be.
fn asks(kind: u8, body: &[u8], sure: &mut bool) -> bool {
    match kind {
        b'Q' => {
            let text = body.strip_suffix(&[0]).filter(|text| !text.contains(&0));
            *sure |= text.is_some_and(|text| statement::verb(text, false) != statement::OTHER);
            text.is_some()
        }
        b'P' => {
            let mut strings = body.splitn(3, |byte| *byte == 0);
            let text = strings.nth(1);
            let rest = strings.next();
            *sure |= text.is_some_and(|text| statement::verb(text, false) != statement::OTHER);
            rest.is_some_and(|rest| {
                let types = rest.first_chunk::<2>().map(|count| usize::from(u16::from_be_bytes(*count)));
                types.is_some_and(|types| rest.len() == 2 + 4 * types)
            })
        }
        b'E' => {
            let end = memchr::memchr(0, body);
            let fits = end.is_some_and(|end| body.len() == end + 5);
            *sure |= fits && end == Some(0);
            fits
        }
        b'B' => body.iter().filter(|byte| **byte == 0).count() >= 2,
        b'D' | b'C' => matches!(body, [b'S' | b'P', .., 0]),
        b'S' => {
            *sure |= body.is_empty();
            body.is_empty()
        }
        b'H' | b'X' | b'c' => body.is_empty(),
        _ => true,
    }
}

/// Whether a message of a server is as it should be.
fn answers(kind: u8, body: &[u8], sure: &mut bool) -> bool {
    match kind {
        b'Z' => {
            let fits = matches!(body, [b'I' | b'T' | b'E']);
            *sure |= fits;
            fits
        }
        b'C' => {
            let word = body.strip_suffix(&[0]).filter(|text| text.iter().all(|byte| matches!(byte, b' '..=b'~')));
            let fits = word.is_some_and(|word| word.first().is_some_and(u8::is_ascii_uppercase));
            *sure |= fits;
            fits
        }
        b'E' | b'N' => matches!(body, [b'S', b'A'..=b'Z' | 0x80.., .., 0, 0]),
        b'T' => rows_described(body).is_some(),
        b'D' => {
            let count = body.first_chunk::<2>().map(|count| usize::from(u16::from_be_bytes(*count)));
            count.is_some_and(|count| body.len() >= 2 + 4 * count)
        }
        b'1' | b'2' | b'3' | b'n' | b's' | b'I' | b'c' => body.is_empty(),
        b'K' => body.len() >= 8,
        b'S' => matches!(body, [b'a'..=b'z' | b'A'..=b'Z', .., 0]),
        _ => true,
    }
}

/// Columns that a RowDescription tells of: a name and 18 bytes each.
fn rows_described(body: &[u8]) -> Option<u16> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let count = u16::from_be_bytes(*count);
    for _ in 0..count {
        let end = memchr::memchr(0, rest)?;
        rest = rest.get(end + 19..)?;
    }
    rest.is_empty().then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        [&[kind][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
    }

    #[test]
    fn a_connection_that_begins_says_so() {
        let login = [&[0, 0, 0, 23, 0, 3, 0, 0][..], b"user\0joe\0\0\0\0\0\0\0"].concat();
        assert_eq!(recognise(&login), Sign::Request { after: 0 });
        for end in 1..=8 {
            assert_eq!(recognise(&login[..end]), Sign::More, "{end}");
        }
        for (bytes, sure) in [
            (&[0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f][..], true),
            (&[0, 0, 0, 8, 4, 0xd2, 0x16, 0x30], true),
            (&[0, 0, 0, 16, 4, 0xd2, 0x16, 0x2e, 0, 0, 0, 1, 2, 3, 4, 5], true),
            (&[0, 0, 0, 9, 0, 3, 0, 2, 0], true),
            (&[0, 0, 0, 9, 4, 0xd2, 0x16, 0x2f, 0], false),
            (&[0, 0, 0, 80, 0, 3, 0, 0, 1], false),
            (&[0, 0, 0, 80, 0, 4, 0, 0, b'u'], false),
            (&[0, 1, 0, 8, 0, 3, 0, 0, b'u'], false),
        ] {
            assert_eq!(recognise(bytes) == Sign::Request { after: 0 }, sure, "{bytes:?}");
        }
    }

    #[test]
    fn two_directions_show_together_who_asks() {
        let ask = message(b'Q', b"SELECT 1\0");
        let answer = [message(b'C', b"SELECT 1\0"), message(b'Z', b"I")].concat();
        let execute = [message(b'B', b"\0s\0\0\0\0\0\0\0"), message(b'E', b"\0\0\0\0\0"), message(b'S', b"")].concat();
        let executed = [message(b'2', b""), message(b'C', b"INSERT 0 1\0"), message(b'Z', b"T")].concat();
        for (ask, answer) in [(&ask, &answer), (&execute, &executed), (&ask, &executed), (&execute, &answer)] {
            assert_eq!(recognise(ask), Sign::More);
            assert_eq!(recognise(answer), Sign::More);
            assert_eq!(client_of([ask, answer]), Some(0));
            assert_eq!(client_of([answer, ask]), Some(1));
            assert_eq!(client_of([ask, ask]), None);
            assert_eq!(client_of([answer, answer]), None);
        }
        // A query of MySQL with 81 bytes, and what it is answered.
        let query = [&[0x51, 0, 0, 0, 3][..], b"SELECT 1", &[b' '; 73]].concat();
        assert_eq!(client_of([&query, &answer]), None);
        assert_eq!(recognise(&[1, 0, 0, 1, 1]), Sign::No);
    }
}
