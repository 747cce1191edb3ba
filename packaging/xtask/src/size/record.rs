//! The tables of docs/size.md: for people, and what a build is compared with.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const PAGE: &str = "docs/size.md";
const BEGIN: &str = "<!-- written by cargo xtask size --record -->\n";
const END: &str = "<!-- end -->\n";

/// Kilobytes of each crate and file.
#[derive(Debug, Default)]
pub(crate) struct Record(BTreeMap<String, i64>);

impl Record {
    /// Rows of tables: a name in back quotes, then kilobytes. Everything else is no row.
    pub fn parse(page: &str) -> Record {
        let row = |line: &str| {
            let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
            let name = cells.next()?.strip_suffix('`')?;
            Some((name.to_owned(), cells.next()?.parse().ok()?))
        };
        Record(page.lines().filter_map(row).collect())
    }

    /// By how many kilobytes it is heavier than then; `None` where nothing was recorded at all.
    pub fn grown(&self, name: &str, bytes: u64) -> Option<i64> {
        let now = i64::try_from(kb(bytes)).unwrap_or(i64::MAX);
        let then = self.0.get(name).copied();
        // How many small crates there are is part of that line's name.
        let is_named = then.is_some() || !name.ends_with("smaller crates");
        (!self.0.is_empty() && is_named).then(|| now.saturating_sub(then.unwrap_or(0)))
    }
}

pub(super) fn kb(bytes: u64) -> u64 {
    bytes.saturating_add(500) / 1000
}

/// What the page says; nothing where there is no page yet.
pub(crate) fn read(root: &Path) -> Result<Record> {
    match fs::read_to_string(root.join(PAGE)) {
        Ok(page) => Ok(Record::parse(&page)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Record::default()),
        Err(error) => Err(error).with_context(|| format!("read {PAGE}")),
    }
}

pub(super) fn write(root: &Path, tables: &str) -> Result<()> {
    let path = root.join(PAGE);
    let page = fs::read_to_string(&path).with_context(|| format!("read {PAGE}"))?;
    let page = replaced(&page, tables).with_context(|| format!("{PAGE} has no place for the tables"))?;
    fs::write(&path, page).with_context(|| format!("write {PAGE}"))
}

fn replaced(page: &str, tables: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{tables}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let page = format!("# Size\n\n{BEGIN}old\n{END}after\n");
        let tables = "| crate | kB | % |\n|---|---|---|\n| `ring` | 612 | 3.9 |\n| `3 smaller crates` | 9 | 0 |\n| all | 621 | |\n";
        let page = replaced(&page, tables).expect("a place");
        assert!(page.starts_with("# Size") && page.ends_with("after\n") && !page.contains("old"));
        assert_eq!(replaced(&page, tables).as_deref(), Some(page.as_str()));
        let record = Record::parse(&page);
        assert_eq!(record.grown("ring", 700_000), Some(88));
        assert_eq!(record.grown("tokio", 5_000), Some(5));
        assert_eq!(record.grown("4 smaller crates", 5_000), None);
    }

    #[test]
    fn a_page_without_its_place_is_left_alone() {
        assert_eq!(replaced("# Size\n", "x"), None);
    }
}
