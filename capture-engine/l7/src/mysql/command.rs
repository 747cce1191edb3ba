//! What a client asks ("Command Phase" in MySQL's and MariaDB's manuals): one byte, and what it needs.

use super::packet::{self, until_nul};
use super::statement;

pub(super) const QUIT: u8 = 0x01;
const INIT_DB: u8 = 0x02;
pub(super) const QUERY: u8 = 0x03;
pub(super) const PING: u8 = 0x0e;
const CHANGE_USER: u8 = 0x11;
pub(super) const PREPARE: u8 = 0x16;
pub(super) const EXECUTE: u8 = 0x17;
pub(super) const CLOSE: u8 = 0x19;
pub(super) const RESET: u8 = 0x1a;
pub(super) const FETCH: u8 = 0x1c;
const RESET_CONNECTION: u8 = 0x1f;
pub(super) const BULK_EXECUTE: u8 = 0xfa;

/// How the server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answers {
    /// Not at all.
    Never,
    /// OK, an error, results, or it asks for a file.
    Results,
    /// With a number and what the statement wants and gives.
    Prepared,
    /// Rows without what comes before them.
    Rows,
    /// In one packet, whatever it is.
    Once,
    /// With OK, EOF or an error.
    Plainly,
    /// As in a login: until there is OK or an error, what both say belongs to it.
    Login,
    /// With events that never end.
    Stream,
}

/// A command, as far as its first bytes tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Command {
    pub code: u8,
    /// What it is called; of statements that is their verb.
    pub name: &'static str,
    pub answers: Answers,
    /// The statement that it prepares.
    pub prepares: Option<&'static str>,
    /// The prepared statement that it is about.
    pub statement: Option<u32>,
    /// The database that is used once it is done, where that changes; `None` in it where it was not seen.
    pub database: Option<Option<Box<str>>>,
    /// Its length, and what it begins with, are those of such a command.
    pub fits: bool,
}

/// Name and answer of each command that is known.
pub(super) fn known(code: u8) -> Option<(&'static str, Answers)> {
    let known = match code {
        QUIT => ("quit", Answers::Never),
        INIT_DB => ("init_db", Answers::Plainly),
        QUERY => ("query", Answers::Results),
        0x04 => ("field_list", Answers::Rows),
        0x05 => ("create_db", Answers::Plainly),
        0x06 => ("drop_db", Answers::Plainly),
        0x07 => ("refresh", Answers::Plainly),
        0x08 => ("shutdown", Answers::Plainly),
        0x09 => ("statistics", Answers::Once),
        0x0a => ("process_info", Answers::Results),
        0x0c => ("process_kill", Answers::Plainly),
        0x0d => ("debug", Answers::Plainly),
        PING => ("ping", Answers::Plainly),
        CHANGE_USER => ("change_user", Answers::Login),
        0x12 => ("binlog_dump", Answers::Stream),
        0x15 => ("register_slave", Answers::Plainly),
        PREPARE => ("stmt_prepare", Answers::Prepared),
        EXECUTE => ("stmt_execute", Answers::Results),
        0x18 => ("stmt_send_long_data", Answers::Never),
        CLOSE => ("stmt_close", Answers::Never),
        RESET => ("stmt_reset", Answers::Plainly),
        0x1b => ("set_option", Answers::Plainly),
        FETCH => ("stmt_fetch", Answers::Rows),
        0x1e => ("binlog_dump_gtid", Answers::Stream),
        RESET_CONNECTION => ("reset_connection", Answers::Plainly),
        BULK_EXECUTE => ("stmt_bulk_execute", Answers::Results),
        _ => return None,
    };
    Some(known)
}

/// Whether these are the first bytes of what stands behind such a code; all of it where they are `whole`.
fn fits(code: u8, rest: &[u8], whole: bool) -> bool {
    let exactly = |length: usize| rest.len() == length && whole || rest.len() < length && !whole;
    let at_least = |length: usize| rest.len() >= length || !whole;
    let is_text = |text: &[u8]| {
        let text = text.get(..8).unwrap_or(text);
        text.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\r' | 0x80..))
    };
    match code {
        QUIT | 0x09 | 0x0a | 0x0d | PING | RESET_CONNECTION => exactly(0),
        QUERY => at_least(1) && statement_of(rest).is_none_or(is_text),
        INIT_DB | 0x05 | 0x06 | PREPARE => at_least(1) && is_text(rest),
        0x04 => at_least(1) && is_text(until_nul(rest).map_or(rest, |(table, _)| table)),
        CHANGE_USER => at_least(2) && is_text(until_nul(rest).map_or(rest, |(user, _)| user)),
        0x07 => exactly(1),
        0x08 => exactly(0) || exactly(1),
        0x1b => exactly(2),
        0x0c | CLOSE | RESET => exactly(4),
        FETCH => exactly(8),
        0x18 => at_least(6),
        BULK_EXECUTE => at_least(6),
        // It is executed once, with or without a cursor.
        EXECUTE => match rest {
            [_, _, _, _, flags, 1, 0, 0, 0, ..] => *flags < 0x10,
            _ => !whole && rest.len() < 9,
        },
        _ => at_least(10),
    }
}

impl Command {
    /// Reads the first bytes of a payload; all of it where it is `whole`. `None`: it is no command.
    pub(super) fn read(payload: &[u8], whole: bool) -> Option<Command> {
        let (&code, rest) = payload.split_first()?;
        let (name, answers) = known(code)?;
        let number = rest.first_chunk::<4>().map(|number| u32::from_le_bytes(*number));
        let fits = fits(code, rest, whole);
        let mut command = Command { code, name, answers, prepares: None, statement: None, database: None, fits };
        match code {
            QUERY => {
                let text = statement_of(rest);
                command.name = text.map_or(statement::UNKNOWN, |text| statement::verb(text, !whole));
                if command.name == "USE" {
                    let used = text.filter(|_| whole).and_then(statement::used);
                    command.database = Some(used.and_then(database));
                }
            }
            PREPARE => command.prepares = Some(statement::verb(rest, !whole)),
            INIT_DB => command.database = Some(Some(rest).filter(|_| whole).and_then(database)),
            CHANGE_USER => command.database = Some(changed(rest).and_then(database)),
            EXECUTE | BULK_EXECUTE | CLOSE => command.statement = number,
            _ => {}
        }
        Some(command)
    }

    /// The statements of the session end with it.
    pub(super) fn begins_anew(&self) -> bool {
        matches!(self.code, CHANGE_USER | RESET_CONNECTION)
    }

    /// What it does is what a statement does that was prepared.
    pub(super) fn executes(&self) -> bool {
        matches!(self.code, EXECUTE | BULK_EXECUTE)
    }
}

/// A name as it may stand in a label: names have 64 characters at most.
pub(super) fn database(name: &[u8]) -> Option<Box<str>> {
    let name = std::str::from_utf8(name).ok()?;
    let fits = (1..=64).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    fits.then(|| name.into())
}

/// The database in a COM_CHANGE_USER: user, authentication data with their length before them, database.
fn changed(bytes: &[u8]) -> Option<&[u8]> {
    let (_user, rest) = until_nul(bytes)?;
    let (&length, rest) = rest.split_first()?;
    until_nul(rest.get(usize::from(length)..)?).map(|(name, _)| name)
}

/// The text of a query, without the attributes that may stand before it (`CLIENT_QUERY_ATTRIBUTES`): their
/// number and a 1. No text has these bytes. `None` where it begins beyond what is here.
pub(super) fn statement_of(bytes: &[u8]) -> Option<&[u8]> {
    let [count @ 0..=0x1f, 1, rest @ ..] = bytes else { return Some(bytes) };
    if *count == 0 {
        return Some(rest);
    }
    let count = usize::from(*count);
    let nulls = rest.get(..count.div_ceil(8))?;
    let mut rest = rest.get(nulls.len() + 1..)?;
    let mut kinds = [0; 0x20];
    for kind in kinds.iter_mut().take(count) {
        *kind = *rest.first()?;
        let (length, name) = packet::integer(rest.get(2..)?)?;
        rest = name.get(usize::try_from(length).ok()?..)?;
    }
    for (at, kind) in kinds.iter().take(count).enumerate() {
        if nulls.get(at / 8)? >> (at % 8) & 1 == 1 {
            continue;
        }
        rest = match kind {
            // Types of which values have a fixed length, and those that say it in one byte.
            0x06 => rest,
            0x01 => rest.get(1..)?,
            0x02 | 0x0d => rest.get(2..)?,
            0x03 | 0x04 | 0x09 => rest.get(4..)?,
            0x05 | 0x08 => rest.get(8..)?,
            0x07 | 0x0a..=0x0c => rest.get(1 + usize::from(*rest.first()?)..)?,
            _ => {
                let (length, value) = packet::integer(rest)?;
                value.get(usize::try_from(length).ok()?..)?
            }
        };
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(payload: &[u8]) -> Command {
        Command::read(payload, true).expect("a command")
    }

    #[test]
    fn attributes_stand_before_the_statement() {
        let text = b"SELECT 1";
        let of = |before: &[u8]| [before, text].concat();
        assert_eq!(statement_of(text), Some(&text[..]));
        assert_eq!(statement_of(&of(&[0, 1])), Some(&text[..]));
        let string = [&[1, 1, 0, 1, 0xfe, 0, 5][..], b"trace", &[6], b"secret"].concat();
        assert_eq!(statement_of(&of(&string)), Some(&text[..]));
        let null_and_number = [2, 1, 1, 1, 0xfe, 0, 1, b'a', 3, 0, 1, b'b', 1, 2, 3, 4];
        assert_eq!(statement_of(&of(&null_and_number)), Some(&text[..]));
        assert_eq!(statement_of(&string[..12]), None);
        assert_eq!(read(&[&[QUERY][..], &of(&string)].concat()).name, "SELECT");
        assert_eq!(Command::read(&[&[QUERY][..], &string[..12]].concat(), false).map(|it| it.name), Some("unknown"));
    }

    #[test]
    fn a_database_is_told_and_no_user_and_no_password() {
        let change = b"\x11joe\0\x06secretshop\0\x21\0mysql_native_password\0";
        assert_eq!(read(change).database, Some(Some("shop".into())));
        assert_eq!(read(b"\x11joe\0\x14secret").database, Some(None));
        assert_eq!(read(b"\x02shop").database, Some(Some("shop".into())));
        assert_eq!(read(b"\x03USE shop").database, Some(Some("shop".into())));
        assert_eq!(read(b"\x03USE shop; SELECT 1").database, Some(None));
        assert_eq!(read(b"\x03SELECT 1").database, None);
        assert_eq!(Command::read(b"\x40", true), None);
        assert_eq!(Command::read(b"", true), None);
    }
}
