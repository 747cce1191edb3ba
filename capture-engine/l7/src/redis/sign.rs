//! What the first bytes of a message say: whether it is Redis's protocol, and who asks.

use super::command::Name;
use super::scan::{Extent, Scan, Step, number};
use crate::dissector::Sign;
use memchr::memchr;

/// No known command is longer, nor has it more arguments in its first bytes than fit here.
const LONGEST_COUNT: usize = 8;

/// An array of bulk strings that begins with the name of a command is one. A command in a line of its
/// own is one only together with its reply (`recognise_pair`).
pub(super) fn recognise(head: &[u8]) -> Sign {
    match head.first() {
        Some(b'*') => array(head),
        Some(b'a'..=b'z' | b'A'..=b'Z') => line(head),
        _ => Sign::No,
    }
}

/// A command in a line of its own, and what may be the reply to it.
pub(super) fn recognise_pair(request: &[u8], response: &[u8]) -> Sign {
    let is = line(request) == Sign::More && request.ends_with(b"\n") && reply_begins(response);
    if is { Sign::Response } else { Sign::No }
}

/// Whether a command begins here, as far as it goes.
pub(super) fn command_begins(bytes: &[u8]) -> bool {
    recognise(bytes) != Sign::No
}

/// Whether a reply begins here, and what follows it is one, too, as far as it goes.
pub(super) fn reply_begins(bytes: &[u8]) -> bool {
    let (mut scan, mut extent, mut rest, mut any) = (Scan::default(), Extent::default(), bytes, false);
    while !rest.is_empty() {
        let (used, step) = scan.feed(rest);
        rest = rest.get(used..).unwrap_or_default();
        match step {
            Step::More => any |= scan.left().is_some(),
            Step::Line if extent.line(scan.text()) => any = true,
            Step::Bulk { kind, .. } => {
                extent.bulk(kind);
                any = true;
            }
            Step::Line | Step::Broken => return false,
        }
        if extent.is_whole() {
            extent = Extent::default();
        }
    }
    any
}

/// `*3\r\n$3\r\nSET\r\n`, as far as it goes.
fn array(head: &[u8]) -> Sign {
    let counted = |bytes: &[u8], kind: u8| -> Result<Option<(u64, usize)>, ()> {
        match (bytes.first(), memchr(b'\n', bytes)) {
            (None, _) => Ok(None),
            (Some(first), _) if *first != kind => Err(()),
            (_, None) if bytes.len() <= LONGEST_COUNT + 2 => Ok(None),
            (_, Some(end)) if end <= LONGEST_COUNT + 2 => {
                let digits = bytes.get(1..end).and_then(|text| text.strip_suffix(b"\r"));
                digits.and_then(number).map(|count| Some((count, end + 1))).ok_or(())
            }
            _ => Err(()),
        }
    };
    let (_, at) = match counted(head, b'*') {
        Ok(Some((0, _))) | Err(()) => return Sign::No,
        Ok(Some(counted)) => counted,
        Ok(None) => return Sign::More,
    };
    let rest = head.get(at..).unwrap_or_default();
    let (length, name) = match counted(rest, b'$') {
        Ok(Some((length, at))) => (length, rest.get(at..).unwrap_or_default()),
        Ok(None) => return Sign::More,
        Err(()) => return Sign::No,
    };
    let Some(length) = usize::try_from(length).ok().filter(|length| (1..=24).contains(length)) else {
        return Sign::No;
    };
    match name.get(..length) {
        Some(word) if Name::of(word) != Name::OTHER => Sign::Request { after: 0 },
        None if name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')) => {
            Sign::More
        }
        _ => Sign::No,
    }
}

/// `More` where it is a command in a line, whole or not. Those that other protocols of lines have, too,
/// and begin with, are left out.
fn line(head: &[u8]) -> Sign {
    let end = memchr(b'\n', head);
    let text = head.get(..end.unwrap_or(head.len())).unwrap_or_default();
    let word = text.split(|byte| matches!(byte, b' ' | b'\r')).next().unwrap_or_default();
    if end.is_none() && word.len() == text.len() {
        let may_grow = word.len() < 24 && word.iter().all(u8::is_ascii_alphanumeric);
        return if may_grow { Sign::More } else { Sign::No };
    }
    match Name::of(word).as_str() {
        "QUIT" | "AUTH" | "other" => Sign::No,
        _ => Sign::More,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_that_begins_with_a_command_is_a_request() {
        let command = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n";
        assert_eq!(recognise(command), Sign::Request { after: 0 });
        for end in 1..11 {
            assert_eq!(recognise(&command[..end]), Sign::More, "{end}");
        }
        for other in
            ["*3\r\n:1\r\n", "*2\r\n$3\r\nfoo\r\n", "*0\r\n", "*x\r\n", "*1\r\n$99\r\n", "*1\n$4\nPING", "+OK\r\n"]
        {
            assert_eq!(recognise(other.as_bytes()), Sign::No, "{}", other.escape_debug());
        }
    }

    #[test]
    fn a_line_is_a_command_where_a_reply_follows_it() {
        for (request, response, is) in [
            ("PING\r\n", "+PONG\r\n", true),
            ("ping\nping\n", "+PONG\r\n+PONG\r\n", true),
            ("LRANGE l 0 -1\r\n", "*2\r\n$1\r\na\r\n", true),
            ("get a\r\n", "END\r\n", false),
            ("PING\r\n", "PONG\r\n", false),
            ("QUIT\r\n", "+OK bye\r\n", false),
            ("HELLO there, you\r\n", "250 mail\r\n", false),
            ("GET / HTTP/1.1\r\n", "HTTP/1.1 200 OK\r\n", false),
            ("USER joe\r\n", "+OK\r\n", false),
            ("PING", "+PONG\r\n", false),
            ("PING\r\n", "", false),
        ] {
            let sign = recognise_pair(request.as_bytes(), response.as_bytes());
            assert_eq!(sign == Sign::Response, is, "{} {}", request.escape_debug(), response.escape_debug());
        }
    }
}
