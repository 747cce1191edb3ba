//! What a statement does, in one word of a closed list: nothing else of its text is looked at or kept, but
//! for the name behind `USE`.

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

/// A statement that begins with no known word, or with none.
pub(super) const OTHER: &str = "other";

/// A statement whose text was not seen.
pub(super) const UNKNOWN: &str = "unknown";

/// The word that a statement begins with, comments and parentheses left out; what stands in a comment
/// that is executed (`/*!40101 SET ..*/`) counts. That of `WITH` is the first of `SELECT`, `INSERT`,
/// `REPLACE`, `UPDATE`, `DELETE`, `VALUES` and `TABLE` that stands in no parentheses, where it is
/// among the bytes that are looked at; else it stays `WITH`. `cut`: the text goes on.
pub(super) fn verb(text: &[u8], cut: bool) -> &'static str {
    let mut words = Words { rest: text, depth: 0 };
    let Some(first) = words.next() else { return if cut { UNKNOWN } else { OTHER } };
    if cut && words.rest.is_empty() {
        return UNKNOWN;
    }
    let first = known(first);
    if first != "WITH" {
        return first;
    }
    let base = words.depth;
    while let Some(word) = words.next() {
        let is_main = |verb| matches!(verb, "SELECT" | "INSERT" | "REPLACE" | "UPDATE" | "DELETE" | "VALUES" | "TABLE");
        let verb = known(word);
        if words.depth == base && is_main(verb) && !(cut && words.rest.is_empty()) {
            return verb;
        }
    }
    first
}

/// The database that `USE` names, where the text is nothing else and all of it is here.
pub(super) fn used(text: &[u8]) -> Option<&[u8]> {
    let mut words = Words { rest: text, depth: 0 };
    words.next().filter(|word| word.eq_ignore_ascii_case(b"USE"))?;
    let rest = words.rest.trim_ascii();
    let rest = rest.strip_suffix(b";").unwrap_or(rest).trim_ascii();
    let name = rest.strip_prefix(b"`").and_then(|rest| rest.strip_suffix(b"`")).unwrap_or(rest);
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'-' | 0x80..);
    (!name.is_empty() && name.iter().all(plain)).then_some(name)
}

fn known(word: &[u8]) -> &'static str {
    if word.len() > LONGEST {
        return OTHER;
    }
    let order = |verb: &str| {
        let bytes = word.iter().map(u8::to_ascii_uppercase);
        verb.bytes().cmp(bytes)
    };
    VERBS.binary_search_by(|verb| order(verb)).ok().and_then(|at| VERBS.get(at)).copied().unwrap_or(OTHER)
}

/// The words of a statement that are not in quotes or comments.
struct Words<'a> {
    rest: &'a [u8],
    /// Parentheses that are open.
    depth: u32,
}

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            let (&first, after) = self.rest.split_first()?;
            match (first, after) {
                (b'#', _) => self.pass(|rest| memchr::memchr(b'\n', rest).map(|end| end + 1)),
                (b'-', [b'-', b' ' | b'\t' | b'\n' | b'\r', ..] | [b'-']) => {
                    self.pass(|rest| memchr::memchr(b'\n', rest).map(|end| end + 1));
                }
                // What is in it is executed, but for the version.
                (b'/', [b'*', b'!', rest @ ..] | [b'*', b'M', b'!', rest @ ..]) => {
                    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
                    self.rest = rest.get(digits..).unwrap_or_default();
                }
                (b'/', [b'*', ..]) => self.pass(|rest| memchr::memmem::find(rest, b"*/").map(|end| end + 2)),
                (b'\'' | b'"' | b'`', _) => self.pass(quoted),
                (b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.., _) => {
                    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..);
                    let end = self.rest.iter().position(|byte| !is_word(byte)).unwrap_or(self.rest.len());
                    let (word, rest) = self.rest.split_at(end);
                    self.rest = rest;
                    return Some(word);
                }
                (b'0'..=b'9', _) => {
                    let end = self.rest.iter().position(|byte| !byte.is_ascii_alphanumeric());
                    self.pass(|_| end);
                }
                _ => {
                    match first {
                        b'(' => self.depth += 1,
                        b')' => self.depth = self.depth.saturating_sub(1),
                        _ => {}
                    }
                    self.rest = after;
                }
            }
        }
    }

    /// Leaves out what begins here; all that is left where it does not end.
    fn pass(&mut self, end: impl Fn(&[u8]) -> Option<usize>) {
        let at = end(self.rest).unwrap_or(self.rest.len()).max(1);
        self.rest = self.rest.get(at..).unwrap_or_default();
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
