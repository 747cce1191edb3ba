//! Messages of the protocol ("Message Formats" in PostgreSQL's manual), as far as their heads tell: a
//! kind in one byte, and a length in four that counts itself and what follows it.

use super::statement;
use flow_model::Ts;
use std::hash::{DefaultHasher, Hasher};

/// Kind and length.
pub(super) const HEADER: usize = 5;

/// Bytes of a message that are looked at, its head included. What a source that follows frames copies.
pub(super) const KEPT: usize = 256;

/// The same of the message that begins a connection, which has no kind.
pub(super) const KEPT_STARTUP: usize = 1024;

/// No message is longer (`PQ_LARGE_MESSAGE_LIMIT`).
const LONGEST: u32 = 1 << 30;

/// The kind that stands for a message without one.
pub(super) const STARTUP: u8 = 0;

/// Kinds that a client sends, and a server.
pub(super) const CLIENT_KINDS: &[u8] = b"QPBDECSHFdcfpX";
pub(super) const SERVER_KINDS: &[u8] = b"RKSZTDCIENA123ntsGHWdcVv";

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    Client,
    Server,
}

/// A name of a prepared statement or a portal; `None` where its end was not seen. Only its hash is kept.
pub(super) type Name = Option<u64>;

/// The statement or portal without a name.
pub(super) const UNNAMED: Name = Some(0);

/// What of a message matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    Query(&'static str),
    Parse {
        statement: Name,
        verb: &'static str,
    },
    Bind {
        portal: Name,
        statement: Name,
    },
    Execute {
        portal: Name,
    },
    CloseStatement(Name),
    ClosePortal(Name),
    /// The first word of what was done ("SELECT"); empty where it is none of the usual ones.
    Complete(&'static str),
    Error {
        code: Code,
        fatal: bool,
    },
    Startup(Box<Startup>),
    Other,
}

/// SQLSTATE of an error; `None` where it was not seen, or is none.
pub(super) type Code = Option<[u8; 5]>;

/// What begins a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Startup {
    /// It asks to go on encrypted.
    Encrypt,
    Cancel,
    Login {
        database: Option<String>,
    },
    Unknown,
}

/// A message that is over.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub kind: u8,
    pub length: u64,
    /// When its first and its last byte passed.
    pub first: Ts,
    pub last: Ts,
    /// The message of the flow in which it ended.
    pub turn: u32,
    pub body: Body,
    /// Bytes that are to be read were not seen.
    pub cut: bool,
}

/// Bytes of the body of the message that begins here; `None` where none does.
pub(super) fn body_length(sender: Sender, head: [u8; HEADER]) -> Option<u32> {
    let [kind, length @ ..] = head;
    let length = u32::from_be_bytes(length);
    let kinds = if sender == Sender::Client { CLIENT_KINDS } else { SERVER_KINDS };
    let fits = kinds.contains(&kind) && (4..=LONGEST).contains(&length) && length >= least(sender, kind);
    fits.then(|| length - 4)
}

/// The same of a message without a kind.
pub(super) fn startup_length(head: [u8; 4]) -> Option<u32> {
    let length = u32::from_be_bytes(head);
    (8..=10_000).contains(&length).then(|| length - 4)
}

/// What a length is at least, and of messages without a body exactly.
fn least(sender: Sender, kind: u8) -> u32 {
    match (sender, kind) {
        (Sender::Server, b'Z') | (_, b'Q') => 5,
        (Sender::Client, b'E') => 9,
        (Sender::Server, b'R') => 8,
        _ => 4,
    }
}

/// Whether more than the kind of such a message matters.
pub(super) fn is_read(sender: Sender, kind: u8) -> bool {
    match sender {
        Sender::Client => matches!(kind, b'Q' | b'P' | b'B' | b'E' | b'C' | STARTUP),
        Sender::Server => matches!(kind, b'C' | b'E'),
    }
}

/// Reads the beginning of a body; all of it where it is `whole`.
pub(super) fn read(sender: Sender, kind: u8, body: &[u8], whole: bool) -> Body {
    match (sender, kind) {
        (Sender::Client, STARTUP) => Body::Startup(Box::new(startup(body))),
        (Sender::Client, b'Q') => Body::Query(statement::verb(until_nul(body).0, !whole)),
        (Sender::Client, b'P') => {
            let (statement, rest) = name(body);
            let text = if statement.is_some() { until_nul(rest).0 } else { &[] };
            Body::Parse { statement, verb: statement::verb(text, !whole) }
        }
        (Sender::Client, b'B') => {
            let (portal, rest) = name(body);
            let statement = if portal.is_some() { name(rest).0 } else { None };
            Body::Bind { portal, statement }
        }
        (Sender::Client, b'E') => Body::Execute { portal: name(body).0 },
        (Sender::Client, b'C') => match body.split_first() {
            Some((b'S', rest)) => Body::CloseStatement(name(rest).0),
            Some((b'P', rest)) => Body::ClosePortal(name(rest).0),
            _ => Body::Other,
        },
        (Sender::Server, b'C') => Body::Complete(statement::done(until_nul(body).0)),
        (Sender::Server, b'E') => error(body),
        _ => Body::Other,
    }
}

/// Bytes up to the next zero, and what is behind it; `None` where there is no zero.
fn until_nul(bytes: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(0, bytes) {
        Some(end) => (bytes.get(..end).unwrap_or_default(), bytes.get(end + 1..)),
        None => (bytes, None),
    }
}

fn name(bytes: &[u8]) -> (Name, &[u8]) {
    let (name, rest) = until_nul(bytes);
    let Some(rest) = rest else { return (None, &[]) };
    if name.is_empty() {
        return (UNNAMED, rest);
    }
    let mut hasher = DefaultHasher::new();
    hasher.write(name);
    (Some(hasher.finish().max(1)), rest)
}

/// Fields of an error: a letter and a string each. The severity that is not translated is `V`.
fn error(mut body: &[u8]) -> Body {
    let (mut code, mut fatal) = (None, false);
    while let Some((&field, rest)) = body.split_first() {
        let (value, rest) = until_nul(rest);
        match field {
            0 => break,
            b'S' | b'V' => fatal |= matches!(value, b"FATAL" | b"PANIC"),
            b'C' => {
                let value = <[u8; 5]>::try_from(value).ok();
                code = value.filter(|code| code.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()));
            }
            _ => {}
        }
        let Some(rest) = rest else { break };
        body = rest;
    }
    Body::Error { code, fatal }
}

/// Codes of messages that begin a connection (`pqcomm.h`).
pub(super) const CANCEL: u32 = 80_877_102;
pub(super) const SSL: u32 = 80_877_103;
pub(super) const GSS: u32 = 80_877_104;

/// Version 3, whatever its minor one.
pub(super) fn is_version(code: u32) -> bool {
    code >> 16 == 3
}

fn startup(body: &[u8]) -> Startup {
    let Some((code, mut rest)) = body.split_first_chunk::<4>() else { return Startup::Unknown };
    match u32::from_be_bytes(*code) {
        SSL | GSS => return Startup::Encrypt,
        CANCEL => return Startup::Cancel,
        code if is_version(code) => {}
        _ => return Startup::Unknown,
    }
    loop {
        let (key, Some(after)) = until_nul(rest) else { return Startup::Login { database: None } };
        let (value, Some(after)) = until_nul(after) else { return Startup::Login { database: None } };
        if key == b"database" {
            // Names in PostgreSQL have up to 63 bytes (`NAMEDATALEN`).
            let name = std::str::from_utf8(value).ok().filter(|name| (1..=63).contains(&name.len()));
            let database = name.filter(|name| !name.chars().any(char::is_control)).map(str::to_owned);
            return Startup::Login { database };
        }
        rest = after;
    }
}

/// Messages that follow one another from the beginning of `bytes` on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Chain {
    /// Messages of which all is there.
    pub whole: u32,
    /// All bytes are of messages; the last one may go on behind them.
    pub fits: bool,
}

/// Looks at up to `most` of them. `is_sound` is asked of each message that is whole.
pub(super) fn chain(sender: Sender, mut bytes: &[u8], most: u32, mut is_sound: impl FnMut(u8, &[u8]) -> bool) -> Chain {
    let mut chain = Chain::default();
    while !bytes.is_empty() && chain.whole < most {
        let Some((head, rest)) = bytes.split_first_chunk::<HEADER>() else {
            let kinds = if sender == Sender::Client { CLIENT_KINDS } else { SERVER_KINDS };
            let begins = bytes.first().is_some_and(|kind| kinds.contains(kind));
            let begins = begins && bytes.get(1).is_none_or(|byte| *byte <= 0x40);
            return Chain { fits: begins, ..chain };
        };
        let Some(length) = body_length(sender, *head) else { return chain };
        let Some(body) = rest.get(..length as usize) else { return Chain { fits: true, ..chain } };
        if !is_sound(head[0], body) {
            return chain;
        }
        chain.whole += 1;
        bytes = rest.get(length as usize..).unwrap_or_default();
    }
    Chain { fits: chain.whole > 0, ..chain }
}

/// Whether the server is ready for more behind these bytes (ReadyForQuery).
pub(super) fn ends_ready(bytes: &[u8]) -> bool {
    matches!(bytes, [.., b'Z', 0, 0, 0, 5, b'I' | b'T' | b'E'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_its_code_and_whether_it_ends_the_connection() {
        let body = b"SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user \"u\"\0\0";
        assert_eq!(error(body), Body::Error { code: Some(*b"28P01"), fatal: true });
        // Translated, and cut behind the code.
        assert_eq!(error(b"SFEHLER\0VERROR\0C42601\0Msyn"), Body::Error { code: Some(*b"42601"), fatal: false });
        assert_eq!(error(b"SERROR\0C4260"), Body::Error { code: None, fatal: false });
        assert_eq!(error(b""), Body::Error { code: None, fatal: false });
    }

    #[test]
    fn a_login_tells_its_database_and_nothing_of_its_user() {
        let login = |text: &[u8]| startup(&[&[0, 3, 0, 0], text].concat());
        let of = |name: &str| Startup::Login { database: Some(name.to_owned()) };
        assert_eq!(login(b"user\0joe\0database\0shop\0\0"), of("shop"));
        assert_eq!(login(b"user\0database\0database\0shop\0\0"), of("shop"));
        for text in [&b"user\0joe\0\0"[..], b"user\0joe\0database\0sh", b"", b"user\0joe\0database\0\0\0"] {
            assert_eq!(login(text), Startup::Login { database: None }, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn lengths_that_cannot_be_are_no_messages() {
        for (sender, head) in [
            (Sender::Client, b"Q\0\0\0\x03"),
            (Sender::Client, b"Q\0\0\0\x04"),
            (Sender::Client, b"E\0\0\0\x08"),
            (Sender::Client, b"Q\xff\xff\xff\xff"),
            (Sender::Client, b"T\0\0\0\x10"),
            (Sender::Server, b"Z\0\0\0\x04"),
            (Sender::Server, b"Q\0\0\0\x10"),
            (Sender::Server, b"D\x40\0\0\x01"),
        ] {
            assert_eq!(body_length(sender, *head), None, "{}", head.escape_ascii());
        }
        assert_eq!(body_length(Sender::Server, *b"Z\0\0\0\x05"), Some(1));
    }
}
