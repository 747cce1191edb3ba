//! What a statement does, in one word of a closed list: nothing else of its text is looked at or kept, but
//! for the name behind `USE`.

use crate::sql::{self, Dialect};

pub(super) use crate::sql::{OTHER, UNKNOWN};

/// Words with which statements of MySQL and MariaDB begin. Sorted.
const VERBS: [&str; 61] = [
    "ALTER",
    "ANALYZE",
    "BACKUP",
    "BEGIN",
    "BINLOG",
    "CACHE",
    "CALL",
    "CHANGE",
    "CHECK",
    "CHECKSUM",
    "CLONE",
    "COMMIT",
    "CREATE",
    "DEALLOCATE",
    "DELETE",
    "DESC",
    "DESCRIBE",
    "DO",
    "DROP",
    "EXECUTE",
    "EXPLAIN",
    "FLUSH",
    "GET",
    "GRANT",
    "HANDLER",
    "HELP",
    "IMPORT",
    "INSERT",
    "INSTALL",
    "KILL",
    "LOAD",
    "LOCK",
    "OPTIMIZE",
    "PREPARE",
    "PURGE",
    "RELEASE",
    "RENAME",
    "REPAIR",
    "REPLACE",
    "RESET",
    "RESIGNAL",
    "RESTART",
    "REVOKE",
    "ROLLBACK",
    "SAVEPOINT",
    "SELECT",
    "SET",
    "SHOW",
    "SHUTDOWN",
    "SIGNAL",
    "START",
    "STOP",
    "TABLE",
    "TRUNCATE",
    "UNINSTALL",
    "UNLOCK",
    "UPDATE",
    "USE",
    "VALUES",
    "WITH",
    "XA",
];

/// The longest of them.
const LONGEST: usize = 10;

static DIALECT: Dialect = Dialect {
    verbs: &VERBS,
    longest: LONGEST,
    main: &["SELECT", "INSERT", "REPLACE", "UPDATE", "DELETE", "VALUES", "TABLE"],
    aside,
};

/// The word that a statement begins with; what stands in a comment that is executed (`/*!40101 SET ..*/`)
/// counts. `cut`: the text goes on.
pub(super) fn verb(text: &[u8], cut: bool) -> &'static str {
    DIALECT.verb(text, cut)
}

/// The database that `USE` names, where the text is nothing else and all of it is here.
pub(super) fn used(text: &[u8]) -> Option<&[u8]> {
    let mut words = DIALECT.words(text);
    words.next().filter(|word| word.eq_ignore_ascii_case(b"USE"))?;
    let rest = words.rest.trim_ascii();
    let rest = rest.strip_suffix(b";").unwrap_or(rest).trim_ascii();
    let name = rest.strip_prefix(b"`").and_then(|rest| rest.strip_suffix(b"`")).unwrap_or(rest);
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'-' | 0x80..);
    (!name.is_empty() && name.iter().all(plain)).then_some(name)
}

fn aside(text: &[u8]) -> Option<usize> {
    match text {
        [b'#', ..] | [b'-', b'-', b' ' | b'\t' | b'\n' | b'\r', ..] | [b'-', b'-'] => sql::line(text),
        // What is in it is executed, but for the version.
        [b'/', b'*', b'!', rest @ ..] | [b'/', b'*', b'M', b'!', rest @ ..] => {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            Some(text.len() - rest.len() + digits)
        }
        [b'/', b'*', ..] => sql::ends(memchr::memmem::find(text, b"*/").map(|end| end + 2)),
        [b'\'' | b'"' | b'`', ..] => sql::ends(quoted(text)),
        _ => None,
    }
}

/// Where a string or a name in quotes ends. A doubled quote begins another one, which is the same here.
fn quoted(text: &[u8]) -> Option<usize> {
    let quote = *text.first()?;
    let mut at = 1;
    loop {
        match *text.get(at)? {
            b'\\' if quote != b'`' => at += 2,
            byte if byte == quote => return Some(at + 1),
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted() {
        assert!(VERBS.is_sorted());
        assert!(VERBS.iter().all(|verb| verb.len() <= LONGEST));
    }

    #[test]
    fn a_statement_is_called_by_its_first_word() {
        for (text, expected) in [
            ("SELECT 1", "SELECT"),
            ("select\n* from t where password = 'SELECT'", "SELECT"),
            ("  ;; insert into t values (1)", "INSERT"),
            ("/* app='x' */ -- c\n# d\n Update t set a = 1", "UPDATE"),
            ("/*!40101 SET NAMES utf8 */", "SET"),
            ("/*M!100101 SET x=1 */", "SET"),
            ("((SELECT 1) UNION (SELECT 2))", "SELECT"),
            ("XA START 'a'", "XA"),
            ("", "other"),
            ("-- ping", "other"),
            ("secret", "other"),
            ("SELECTED 1", "other"),
            ("'SELECT' 1", "other"),
            ("WITH a AS (SELECT 1) DELETE FROM t", "DELETE"),
            ("with recursive `UPDATE` (n) as (select ')' '\\'' union select 2) select * from y", "SELECT"),
            ("WITH a AS (SELECT 1", "WITH"),
        ] {
            assert_eq!(verb(text.as_bytes(), false), expected, "{text}");
        }
        assert_eq!(verb(b"SELECT", true), "unknown");
        assert_eq!(verb(b"SELECT ", true), "SELECT");
        assert_eq!(verb(b"/* a very long comment", true), "unknown");
    }

    #[test]
    fn use_names_a_database_and_nothing_else_is_believed() {
        for (text, expected) in [
            ("USE shop", Some("shop")),
            ("use `shop-1` ;", Some("shop-1")),
            ("/* c */ USE shop", Some("shop")),
            ("USE shop; SELECT 1", None),
            ("USE", None),
            ("SELECT shop", None),
            ("USE 'x'", None),
        ] {
            assert_eq!(used(text.as_bytes()), expected.map(str::as_bytes), "{text}");
        }
    }
}
