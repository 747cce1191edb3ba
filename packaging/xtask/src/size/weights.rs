//! What each crate weighs, and what cannot be said to be anybody's. Pure.

use super::elf::{Section, Symbol};
use super::owner::owner;
use super::record::{Record, kb};
use serde_json::json;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Crates below this stand in one line together.
const SMALL: u64 = 20_000;

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Weights {
    /// Bytes of code and named constants.
    crates: BTreeMap<String, u64>,
    /// Bytes that no symbol names.
    rest: BTreeMap<&'static str, u64>,
}

impl Weights {
    pub(super) fn of(sections: &[Section], crates: &BTreeSet<String>) -> Weights {
        let mut weights = Weights::default();
        for section in sections {
            let mut named = 0;
            for (symbol, bytes) in apart(&section.symbols) {
                *weights.crates.entry(owner(&symbol.name, crates).to_owned()).or_default() += bytes;
                named += bytes;
            }
            *weights.rest.entry(kind(&section.name)).or_default() += section.bytes.saturating_sub(named);
        }
        weights
    }

    fn total(&self) -> u64 {
        self.crates.values().chain(self.rest.values()).sum()
    }

    /// Heaviest first, the small ones as one, and what is nobody's.
    fn rows(&self) -> Vec<(String, u64)> {
        let by_weight =
            |rows: &mut Vec<(String, u64)>| rows.sort_by_key(|(name, bytes)| (Reverse(*bytes), name.clone()));
        let all = self.crates.iter().map(|(name, bytes)| (name.clone(), *bytes));
        let (mut large, small): (Vec<_>, Vec<_>) = all.partition(|(_, bytes)| *bytes >= SMALL);
        by_weight(&mut large);
        large.push((format!("{} smaller crates", small.len()), small.iter().map(|(_, bytes)| bytes).sum()));
        let mut rest: Vec<_> = self.rest.iter().map(|(name, bytes)| ((*name).to_owned(), *bytes)).collect();
        by_weight(&mut rest);
        large.extend(rest);
        large
    }

    pub fn text(&self, then: &Record) -> String {
        let mut out = format!("{:<42} {:>8} {:>7} {:>8}\n", "crate", "kB", "%", "+ kB");
        let total = self.total();
        for (name, bytes) in self.rows() {
            let share = bytes as f64 / total.max(1) as f64 * 100.0;
            let grown = then.grown(&name, bytes).map_or_else(String::new, |kb| format!("{kb:+}"));
            let _ = writeln!(out, "{name:<42} {:>8} {share:>7.1} {grown:>8}", kb(bytes));
        }
        let _ = writeln!(out, "{:<42} {:>8}", "all", kb(total));
        out
    }

    pub fn markdown(&self) -> String {
        let mut out = String::from("| crate | kB | % |\n|---|---|---|\n");
        let total = self.total();
        for (name, bytes) in self.rows() {
            let _ = writeln!(out, "| `{name}` | {} | {:.1} |", kb(bytes), bytes as f64 / total.max(1) as f64 * 100.0);
        }
        let _ = writeln!(out, "| all | {} | |", kb(total));
        out
    }

    pub fn json(&self, files: Option<&BTreeMap<String, u64>>) -> serde_json::Value {
        let Weights { crates, rest } = self;
        json!({ "crates": crates, "rest": rest, "total": self.total(), "files": files })
    }

    /// Those that were lighter when the record was written, the most grown first.
    pub fn grown(&self, then: &Record) -> Vec<(String, u64, i64)> {
        let rows = self.rows().into_iter();
        let grown = rows.filter_map(|(name, bytes)| then.grown(&name, bytes).map(|kb| (name, bytes, kb)));
        let mut grown: Vec<_> = grown.filter(|(_, _, kb)| *kb > 0).collect();
        grown.sort_by_key(|(name, _, kb)| (Reverse(*kb), name.clone()));
        grown
    }
}

/// The bytes of each symbol that no symbol before it has: functions that are the same are one, under several names.
fn apart(symbols: &[Symbol]) -> Vec<(&Symbol, u64)> {
    let mut sorted: Vec<&Symbol> = symbols.iter().collect();
    sorted.sort_by_key(|symbol| (symbol.address, Reverse(symbol.bytes), symbol.name.as_str()));
    let mut until = 0;
    let mut out = Vec::with_capacity(sorted.len());
    for symbol in sorted {
        let end = symbol.address.saturating_add(symbol.bytes);
        let bytes = end.saturating_sub(symbol.address.max(until));
        until = until.max(end);
        out.push((symbol, bytes));
    }
    out
}

fn kind(section: &str) -> &'static str {
    match section {
        ".text" => "code without a name, and gaps",
        ".eh_frame" | ".eh_frame_hdr" | ".gcc_except_table" => "unwinding",
        ".rela.dyn" | ".rela.plt" => "relocations",
        ".rodata" | ".data.rel.ro" | ".data" => "constants without a name",
        _ => "the rest of the file",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbol(address: u64, bytes: u64, name: &str) -> Symbol {
        Symbol { address, bytes, name: name.to_owned() }
    }

    #[test]
    fn every_byte_is_counted_once() {
        let crates: BTreeSet<String> = ["ring".to_owned(), "zlib".to_owned()].into();
        let text = Section {
            name: ".text".to_owned(),
            bytes: 100,
            // The second is the first under another name; the third begins within it.
            symbols: vec![
                symbol(1000, 40, "ring_a"),
                symbol(1000, 40, "zlib_a"),
                symbol(1030, 20, "zlib_b"),
                symbol(1060, 5, "x"),
            ],
        };
        let unwinding = Section { name: ".eh_frame".to_owned(), bytes: 7, symbols: Vec::new() };
        let weights = Weights::of(&[text, unwinding], &crates);
        let of = |name: &str| weights.crates.get(name).copied();
        assert_eq!([of("ring"), of("zlib"), of("other")], [Some(40), Some(10), Some(5)]);
        assert_eq!(weights.rest.values().copied().collect::<Vec<_>>(), [45, 7]);
        assert_eq!(weights.total(), 107);
    }

    #[test]
    fn what_grew_is_told_by_how_much_it_did() {
        let mut weights = Weights::default();
        for (name, bytes) in [("a", 100_000), ("b", 300_000), ("c", 50_000), ("new", 70_000)] {
            weights.crates.insert(name.to_owned(), bytes);
        }
        let then = Record::parse("| `a` | 60 | 1 |\n| `b` | 300 | 1 |\n| `c` | 60 | 1 |\n");
        let grown: Vec<_> = weights.grown(&then).into_iter().map(|(name, _, kb)| (name, kb)).collect();
        assert_eq!(grown, [("new".to_owned(), 70), ("a".to_owned(), 40)]);
        assert!(weights.grown(&Record::default()).is_empty(), "without a record nothing is known to have grown");
    }
}
