//! What a deb puts on the disk, and how much that may be.

use super::record::{self, Record, kb};
use super::weigh::weigh;
use crate::command::output_of;
use anyhow::{Context, Result, ensure};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

/// Bytes of all files that the deb installs (docs/size.md).
const MOST: u64 = 20_000_000;
/// How many of what grew are named.
const NAMED: usize = 8;

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Installed(BTreeMap<String, u64>);

impl Installed {
    pub fn read(deb: &Path) -> Result<Installed> {
        let mut list = Command::new("dpkg-deb");
        let list = output_of(list.arg("--contents").arg(deb).env("LC_ALL", "C"), "list the deb")?;
        Installed::parse(&list)
    }

    /// Lines as tar(1) writes them.
    fn parse(list: &str) -> Result<Installed> {
        let mut files = BTreeMap::new();
        for line in list.lines().filter(|line| line.starts_with('-')) {
            let mut words = line.split_ascii_whitespace().skip(2);
            let bytes = words.next().and_then(|word| word.parse().ok());
            let path = words.nth(2).and_then(|path| path.strip_prefix('.'));
            let (bytes, path) = bytes.zip(path).with_context(|| format!("a line of the deb's list: {line}"))?;
            files.insert(path.to_owned(), bytes);
        }
        Ok(Installed(files))
    }

    pub fn files(&self) -> &BTreeMap<String, u64> {
        &self.0
    }

    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    fn rows(&self) -> Vec<(&str, u64)> {
        let mut rows: Vec<_> = self.0.iter().map(|(path, bytes)| (path.as_str(), *bytes)).collect();
        rows.sort_by_key(|(path, bytes)| (Reverse(*bytes), *path));
        rows
    }

    pub fn text(&self, then: &Record) -> String {
        let mut out = format!("{:<64} {:>8} {:>8}\n", "file", "kB", "+ kB");
        for (path, bytes) in self.rows() {
            let grown = then.grown(path, bytes).map_or_else(String::new, |kb| format!("{kb:+}"));
            let _ = writeln!(out, "{path:<64} {:>8} {grown:>8}", kb(bytes));
        }
        let _ = writeln!(out, "{:<64} {:>8}", "all", kb(self.total()));
        out
    }

    pub fn markdown(&self) -> String {
        let mut out = String::from("| file | kB |\n|---|---|\n");
        for (path, bytes) in self.rows() {
            let _ = writeln!(out, "| `{path}` | {} |", kb(bytes));
        }
        let _ = writeln!(out, "| all, {} at most | {} |", kb(MOST), kb(self.total()));
        out
    }

    fn grown(&self, then: &Record) -> Vec<(String, u64, i64)> {
        let rows = self.rows().into_iter();
        let grown = rows.filter_map(|(path, bytes)| then.grown(path, bytes).map(|kb| (path.to_owned(), bytes, kb)));
        grown.filter(|(_, _, kb)| *kb > 0).collect()
    }
}

/// Holds the deb to its bound. `binary` is the program in it, before it was stripped.
///
/// # Errors
/// When it installs more; the error says what grew since docs/size.md was written.
pub(crate) fn check(root: &Path, deb: &Path, binary: &Path) -> Result<()> {
    let installed = Installed::read(deb)?;
    let total = installed.total();
    eprintln!("installed: {} kB of {} kB", kb(total), kb(MOST));
    if total <= MOST {
        return Ok(());
    }
    let then = record::read(root)?;
    let crates = weigh(binary)?.grown(&then);
    let too_much = too_much(total, &installed.grown(&then), &crates);
    ensure!(total <= MOST, "{too_much}");
    Ok(())
}

fn too_much(total: u64, files: &[(String, u64, i64)], crates: &[(String, u64, i64)]) -> String {
    let mut out = format!("the deb installs {} kB, and {} is the most (docs/size.md)", kb(total), kb(MOST));
    for (what, grown) in [("files", files), ("crates", crates)] {
        let named: Vec<String> =
            grown.iter().take(NAMED).map(|(name, bytes, by)| format!("{name} {} kB ({by:+})", kb(*bytes))).collect();
        if !named.is_empty() {
            let _ = write!(out, "\n  {what} that grew since that page was written: {}", named.join(", "));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "\
drwxr-xr-x root/root         0 2026-11-29 10:00 ./usr/bin/
-rwxr-xr-x root/root  17000000 2026-11-29 10:00 ./usr/bin/pilotfish
-rw-r--r-- root/root      5400 2026-11-29 10:00 ./etc/pilotfish/agent.toml
lrwxrwxrwx root/root         0 2026-11-29 10:00 ./usr/bin/pf -> pilotfish
";

    #[test]
    fn files_are_counted_and_nothing_else() {
        let installed = Installed::parse(LIST).expect("a list");
        assert_eq!(installed.rows(), [("/usr/bin/pilotfish", 17_000_000), ("/etc/pilotfish/agent.toml", 5400)]);
        assert_eq!(installed.total(), 17_005_400);
        assert!(Installed::parse("-rw-r--r-- root/root much").is_err());
    }

    #[test]
    fn too_much_says_what_grew() {
        let installed = Installed::parse(LIST).expect("a list");
        let then = Record::parse("| `/usr/bin/pilotfish` | 15000 |\n| `/etc/pilotfish/agent.toml` | 5 |\n");
        let crates = [("ring".to_owned(), 900_000, 300)];
        let said = too_much(20_000_001, &installed.grown(&then), &crates);
        assert_eq!(
            said,
            "the deb installs 20000 kB, and 20000 is the most (docs/size.md)\
             \n  files that grew since that page was written: /usr/bin/pilotfish 17000 kB (+2000)\
             \n  crates that grew since that page was written: ring 900 kB (+300)"
        );
    }
}
