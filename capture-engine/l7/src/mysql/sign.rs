//! What the first bytes of a message say: whether it is MySQL's protocol, and who asks.

use super::command::{self, Command};
use super::login;
use super::packet::{self, HEADER, KEPT_CLIENT, SECURE_CONNECTION, Sender};
use super::statement;
use crate::dissector::Sign;

/// A greeting is no longer, nor is what a client says to it, but for what authenticates it.
const LONGEST_GREETING: u32 = 512;
const LONGEST_LOGIN: u32 = 1 << 14;

/// A command by which the protocol is found in the middle of a connection is no longer.
const LONGEST: u32 = 1 << 14;

pub(super) fn recognise(head: &[u8]) -> Sign {
    let Some((header, payload)) = head.split_first_chunk::<HEADER>() else {
        // A short length.
        return if matches!(head, [_] | [_, 0..=0x3f] | [_, 0..=0x3f, 0]) { Sign::More } else { Sign::No };
    };
    let length = packet::length(*header);
    let payload = payload.get(..length as usize).unwrap_or(payload);
    match header[3] {
        0 if length == 0 => Sign::No,
        0 => match begins_connection(length, payload, head.len() - HEADER) {
            Sign::No if asks(head).fits => Sign::More,
            sign => sign,
        },
        1 => match logs_in(length, payload) {
            Sign::No if answers(head).fits => Sign::More,
            sign => sign,
        },
        _ => Sign::No,
    }
}

/// A greeting, or an error in the place of one, which has no state where the server does not know the
/// client's capabilities yet.
fn begins_connection(length: u32, payload: &[u8], have: usize) -> Sign {
    if let [0xff, rest @ ..] = payload {
        let Some((code, text)) = rest.split_first_chunk::<2>() else { return Sign::More };
        let code = u16::from_le_bytes(*code);
        let fits = (1000..5000).contains(&code) && (12..LONGEST_GREETING).contains(&length);
        let is_text = text.iter().all(|byte| matches!(byte, b' '..=b'~' | 0x80..));
        // A sentence, or a state before it.
        let begins = text.first().is_none_or(|byte| matches!(byte, b'A'..=b'Z' | b'#' | 0x80..));
        return match (fits && is_text && begins, have as u32 >= length) {
            (false, _) => Sign::No,
            // It is all that there is.
            (true, true) if have as u32 == length => Sign::Response,
            (true, true) => Sign::No,
            (true, false) => Sign::More,
        };
    }
    if !(30..LONGEST_GREETING).contains(&length) {
        return Sign::No;
    }
    match login::greeting(payload) {
        Some(Ok(_)) => Sign::Response,
        Some(Err(_)) => Sign::No,
        None if payload.len() < length as usize => Sign::More,
        None => Sign::No,
    }
}

/// What a client says to a greeting that was not seen.
fn logs_in(length: u32, payload: &[u8]) -> Sign {
    if !(login::FIXED as u32..LONGEST_LOGIN).contains(&length) {
        return Sign::No;
    }
    if payload.len() < login::FIXED {
        let zeros = payload.get(9..payload.len().min(login::FIXED - 4)).unwrap_or_default();
        let capable = payload.get(1).is_none_or(|byte| byte & 2 != 0);
        return if capable && zeros.iter().all(|byte| *byte == 0) { Sign::More } else { Sign::No };
    }
    // All since 4.1 say that they authenticate so; small numbers among zeros do not.
    let is_login = login::fixed(payload).is_some_and(|capabilities| {
        let rest = payload.get(login::FIXED..).unwrap_or_default();
        capabilities & SECURE_CONNECTION != 0 && login::names_user(rest, length, capabilities)
    });
    if is_login { Sign::Request { after: 0 } } else { Sign::No }
}

/// Packets that this sender would begin a message with.
pub(super) fn begins(sender: Sender, bytes: &[u8]) -> bool {
    // A part of a header has to be believed until it is whole.
    let Some((header, payload)) = bytes.split_first_chunk::<HEADER>() else { return true };
    let length = packet::length(*header) as usize;
    let next = payload.get(length..).and_then(|next| next.get(3));
    match sender {
        // What follows, if anything, is a command, too.
        Sender::Client => {
            let known = payload.first().is_none_or(|code| command::known(*code).is_some());
            header[3] == 0 && length > 0 && known && next.is_none_or(|number| *number <= 1)
        }
        Sender::Server => {
            header[3] != 0
                && length > 0
                && next.is_none_or(|number| matches!(*number, 0 | 1) || *number == header[3].wrapping_add(1))
        }
    }
}

/// Which of two directions asks, where both say what it would: a connection that was joined in the middle. 0 or 1.
pub(super) fn client_of(heads: [&[u8]; 2]) -> Option<usize> {
    let [first, second] = heads;
    let is = |client: &[u8], server: &[u8]| asks(client).sure && answers(server).sure;
    match (is(first, second), is(second, first)) {
        (true, false) => Some(0),
        (false, true) => Some(1),
        _ => None,
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Says {
    /// It may be of this sender.
    fits: bool,
    /// It is like nothing else.
    sure: bool,
}

const NOTHING: Says = Says { fits: false, sure: false };

/// Whether a message is a command of which more is sure than its number.
fn asks(head: &[u8]) -> Says {
    let Some((header, payload)) = head.split_first_chunk::<HEADER>() else { return NOTHING };
    let length = packet::length(*header);
    if header[3] != 0 || length == 0 || length >= LONGEST {
        return NOTHING;
    }
    let whole = payload.len() >= length as usize;
    let payload = payload.get(..length as usize).unwrap_or(payload);
    let [code, rest @ ..] = payload else { return Says { fits: true, sure: false } };
    let kept = payload.get(..KEPT_CLIENT).unwrap_or(payload);
    let Some(command) = Command::read(kept, kept.len() == length as usize) else { return NOTHING };
    // Where more than one packet is here, the next one begins as one, too.
    let verb = |verb: &str| verb != statement::OTHER && verb != statement::UNKNOWN;
    let is_text = |text: &[u8]| text.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\r' | 0x80..));
    let (fits, sure) = match *code {
        command::QUERY | command::PREPARE => {
            let name = command.prepares.unwrap_or(command.name);
            let text = if *code == command::QUERY { command::statement_of(rest) } else { Some(rest) };
            let begins = text.is_some_and(|text| is_text(text.get(..8).unwrap_or(text)));
            (begins && name != statement::OTHER, whole && begins && verb(name))
        }
        command::EXECUTE => (command.fits, command.fits && whole),
        command::PING => (length == 1, length == 1),
        command::RESET | command::CLOSE => (length == 5, false),
        command::FETCH => (length == 9, length == 9 && whole),
        _ => (false, false),
    };
    Says { fits, sure }
}

/// Whether a message is the answer to one.
fn answers(head: &[u8]) -> Says {
    let Some((header, rest)) = head.split_first_chunk::<HEADER>() else { return NOTHING };
    let length = packet::length(*header) as usize;
    if header[3] != 1 || length == 0 || length > 1 << 12 {
        return NOTHING;
    }
    let more = Says { fits: true, sure: false };
    let Some(payload) = rest.get(..length) else {
        return if matches!(rest, [] | [0 | 0xff, ..] | [1..=0xfa]) { more } else { NOTHING };
    };
    let next = rest.get(length..).unwrap_or_default();
    // What follows begins as the next packet of this answer or the first one of another.
    let numbered = match next {
        [_, _, _, number, ..] => *number == 2 || *number == 1,
        _ => true,
    };
    let (fits, sure) = match payload {
        _ if !numbered => (false, false),
        // OK. That of a statement that is prepared has zeros where another has its state.
        [0, ..] if length >= 7 => {
            let status = packet::ok(payload).filter(|status| status.is_sound());
            let prepared = length == 12 && payload.get(9) == Some(&0);
            (
                status.is_some() || prepared,
                status.is_some_and(|status| status.is_usual()) && next.is_empty() || prepared,
            )
        }
        [0xff, _, _, b'#', state @ ..] => {
            let code = packet::error(payload).is_some_and(|code| (1000..5000).contains(&code));
            let state = state
                .get(..5)
                .is_some_and(|state| state.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()));
            (code && state, code && state)
        }
        // Columns follow.
        [1..=0xfa] | [1..=0xfa, 1] => match next {
            [_, _, _, 2, 3, b'd', b'e', b'f', ..] => (true, true),
            _ => (next.len() < 8 && matches!(next, [] | [_] | [_, _] | [_, _, _] | [_, _, _, 2, ..]), false),
        },
        // Rows that are fetched.
        _ => (false, false),
    };
    Says { fits, sure }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(number: u8, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_le_bytes();
        [&length[..3], &[number], payload].concat()
    }

    fn greeting(version: &str) -> Vec<u8> {
        let mut payload = [b"\x0a", version.as_bytes(), &[0, 9, 0, 0, 0], b"abcdefgh\0"].concat();
        payload.extend([0xff, 0xf7, 0x2d, 2, 0, 0xff, 0x81, 21]);
        payload.extend([0; 10]);
        payload.extend(b"ijklmnopqrst\0mysql_native_password\0");
        packet(0, &payload)
    }

    #[test]
    fn a_greeting_shows_the_protocol_whatever_the_port() {
        for version in ["8.0.36", "5.5.5-10.11.6-MariaDB-0+deb12u1", "5.7.25-TiDB-v7.1.0"] {
            let head = greeting(version);
            assert_eq!(recognise(&head), Sign::Response, "{version}");
            for end in 1..version.len() + 28 {
                assert_eq!(recognise(&head[..end]), Sign::More, "{version} {end}");
            }
        }
        let no = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut head = greeting("8.0.36");
            change(&mut head);
            assert_ne!(recognise(&head), Sign::Response, "{head:?}");
        };
        no(&|head| head[3] = 1);
        no(&|head| head[4] = 9);
        no(&|head| head[5] = b'x');
        no(&|head| head[6] = 1);
        no(&|head| head[24] = 1);
        no(&|head| head[0] = 20);
        no(&|head| head[33] = 1);
    }

    #[test]
    fn an_error_in_the_place_of_a_greeting_is_all_there_is() {
        let refused = packet(0, b"\xff\x10\x04Too many connections");
        assert_eq!(recognise(&refused), Sign::Response);
        assert_eq!(recognise(&refused[..9]), Sign::More);
        assert_eq!(recognise(&[&refused[..], b"x"].concat()), Sign::No);
        assert_eq!(recognise(&packet(0, b"\xff\x10\x04Too many\0connections")), Sign::No);
        assert_eq!(recognise(&packet(0, b"\xff\x00\x00Too many connections")), Sign::No);
    }

    #[test]
    fn what_a_client_says_to_a_greeting_shows_it_too() {
        let mut payload = [0x85, 0xa6, 0xff, 1, 0, 0, 0, 1, 45].to_vec();
        payload.resize(32, 0);
        let login = packet(1, &[&payload[..], b"joe\0\0"].concat());
        assert_eq!(recognise(&login), Sign::Request { after: 0 });
        for end in 36..login.len() {
            assert_eq!(recognise(&login[..end]), Sign::Request { after: 0 }, "{end}");
        }
        assert_eq!(recognise(&packet(1, &[&payload[..], b"\0\0"].concat())), Sign::Request { after: 0 }, "nobody");
        for none in [&b"\x05\0\0"[..], b"jo\ne\0\0", b"joe\0\x05abcd", b"joe\0\xfe\0\0"] {
            assert_eq!(recognise(&packet(1, &[&payload[..], none].concat())), Sign::No, "{none:?}");
        }
        assert_eq!(recognise(&packet(1, &payload)), Sign::No, "nothing of a user, and no TLS");
        payload[1] |= 8;
        assert_eq!(recognise(&packet(1, &payload)), Sign::Request { after: 0 });
        payload[12] = 1;
        assert_eq!(recognise(&packet(1, &payload)), Sign::No);
    }

    #[test]
    fn two_directions_show_together_who_asks() {
        let query = packet(0, b"\x03SELECT 1");
        let rows = [packet(1, &[1]), packet(2, b"\x03def\0\0\0")].concat();
        let execute = packet(0, &[0x17, 1, 0, 0, 0, 0, 1, 0, 0, 0]);
        let ok = packet(1, &[0, 1, 0, 2, 0, 0, 0]);
        let error = packet(1, b"\xff\x28\x04#42000You have an error");
        let ping = packet(0, &[14]);
        for (ask, answer) in [(&query, &rows), (&execute, &rows), (&query, &ok), (&ping, &ok), (&query, &error)] {
            assert_eq!((recognise(ask), recognise(answer)), (Sign::More, Sign::More), "{ask:?} {answer:?}");
            assert_eq!(client_of([ask, answer]), Some(0));
            assert_eq!(client_of([answer, ask]), Some(1));
            assert_eq!(client_of([ask, ask]), None);
            assert_eq!(client_of([answer, answer]), None);
        }
        assert_eq!(client_of([&query, &packet(2, &[0, 1, 0, 2, 0, 0, 0])]), None);
        assert_eq!(client_of([&packet(0, b"\x03SELECTED"), &rows]), None);
    }
}
