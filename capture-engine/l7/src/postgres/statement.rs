//! What a statement does, in one word of a closed list: nothing else of its text is looked at or kept.

use crate::sql::{self, Dialect};

pub(super) use crate::sql::{OTHER, UNKNOWN};

/// Words with which statements begin, and what replication asks. Sorted.
const VERBS: [&str; 62] = [
    "ABORT",
    "ALTER",
    "ALTER_REPLICATION_SLOT",
    "ANALYZE",
    "BASE_BACKUP",
    "BEGIN",
    "CALL",
    "CHECKPOINT",
    "CLOSE",
    "CLUSTER",
    "COMMENT",
    "COMMIT",
    "COPY",
    "CREATE",
    "CREATE_REPLICATION_SLOT",
    "DEALLOCATE",
    "DECLARE",
    "DELETE",
    "DISCARD",
    "DO",
    "DROP",
    "DROP_REPLICATION_SLOT",
    "END",
    "EXECUTE",
    "EXPLAIN",
    "FETCH",
    "GRANT",
    "IDENTIFY_SYSTEM",
    "IMPORT",
    "INSERT",
    "LISTEN",
    "LOAD",
    "LOCK",
    "MERGE",
    "MOVE",
    "NOTIFY",
    "PREPARE",
    "READ_REPLICATION_SLOT",
    "REASSIGN",
    "REFRESH",
    "REINDEX",
    "RELEASE",
    "RESET",
    "REVOKE",
    "ROLLBACK",
    "SAVEPOINT",
    "SECURITY",
    "SELECT",
    "SET",
    "SHOW",
    "START",
    "START_REPLICATION",
    "TABLE",
    "TIMELINE_HISTORY",
    "TRUNCATE",
    "UNLISTEN",
    "UPDATE",
    "UPLOAD_MANIFEST",
    "UPSERT",
    "VACUUM",
    "VALUES",
    "WITH",
];

/// The longest of them.
const LONGEST: usize = 23;

static DIALECT: Dialect = Dialect {
    verbs: &VERBS,
    longest: LONGEST,
    main: &["SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "VALUES", "TABLE"],
    aside,
};

/// The word that a statement begins with. `cut`: the text goes on.
pub(super) fn verb(text: &[u8], cut: bool) -> &'static str {
    DIALECT.verb(text, cut)
}

/// What a command that is complete says it did, of those words that a statement begins with, too.
pub(super) fn done(tag: &[u8]) -> &'static str {
    match tag.split(|byte| *byte == b' ').next() {
        Some(b"SELECT") => "SELECT",
        Some(b"INSERT") => "INSERT",
        Some(b"UPDATE") => "UPDATE",
        Some(b"DELETE") => "DELETE",
        _ => "",
    }
}

/// Whether what was done is something else than what was asked for.
pub(super) fn contradicts(asked: &str, done: &str) -> bool {
    !done.is_empty() && matches!(asked, "SELECT" | "INSERT" | "UPDATE" | "DELETE") && asked != done
}

fn aside(text: &[u8]) -> Option<usize> {
    match text {
        [b'-', b'-', ..] => sql::line(text),
        [b'/', b'*', ..] => sql::ends(comment(text)),
        [b'\'' | b'"', ..] => sql::ends(quoted(text)),
        [b'$', ..] => sql::ends(dollar(text)),
        _ => None,
    }
}

/// Where a comment ends; they may lie in one another.
fn comment(text: &[u8]) -> Option<usize> {
    let (mut at, mut depth) = (2, 1_u32);
    while depth > 0 {
        match text.get(at..at + 2)? {
            b"/*" => (at, depth) = (at + 2, depth + 1),
            b"*/" => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
    }
    Some(at)
}

/// Where a string or a name in quotes ends. A doubled quote begins another one, which is the same here.
fn quoted(text: &[u8]) -> Option<usize> {
    let quote = *text.first()?;
    let end = memchr::memchr(quote, text.get(1..)?)?;
    Some(end + 2)
}

/// Where a string between two `$tag$` ends; one byte where there is none, as in `$1`.
fn dollar(text: &[u8]) -> Option<usize> {
    let after = text.get(1..)?;
    let Some(tag) = after.iter().position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_') else {
        return Some(1);
    };
    if after.get(tag) != Some(&b'$') || after.first().is_some_and(u8::is_ascii_digit) {
        return Some(1);
    }
    let mark = text.get(..tag + 2)?;
    let from = mark.len();
    memchr::memmem::find(text.get(from..)?, mark).map(|at| from + at + mark.len())
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
            ("/* app='x' /* nested */ */ -- c\n Update t set a = 1", "UPDATE"),
            ("((SELECT 1) UNION (SELECT 2))", "SELECT"),
            ("COMMIT", "COMMIT"),
            ("", "other"),
            ("-- ping", "other"),
            ("secret", "other"),
            ("SELECTED 1", "other"),
            ("'SELECT' 1", "other"),
        ] {
            assert_eq!(verb(text.as_bytes(), false), expected, "{text}");
        }
    }

    #[test]
    fn with_is_called_by_what_it_leads_to() {
        for (text, expected) in [
            ("WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a", "INSERT"),
            ("with recursive \"DELETE\" (n) as (values (1) union all select n from x) select * from y", "SELECT"),
            ("WITH a AS (DELETE FROM t RETURNING *), b AS (SELECT ')') UPDATE t SET x = 1", "UPDATE"),
            ("WITH a AS (SELECT $tag$ ) DELETE $tag$, $1, '('')') SELECT 1", "SELECT"),
            ("WITH a AS (SELECT 1", "WITH"),
        ] {
            assert_eq!(verb(text.as_bytes(), false), expected, "{text}");
        }
    }

    #[test]
    fn of_a_text_that_is_cut_no_word_is_believed_that_may_go_on() {
        assert_eq!(verb(b"SELECT", true), "unknown");
        assert_eq!(verb(b"SELECT ", true), "SELECT");
        assert_eq!(verb(b"/* a very long comment", true), "unknown");
        assert_eq!(verb(b"WITH a AS (SELECT 1) SELECT", true), "WITH");
    }
}
