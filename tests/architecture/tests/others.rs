//! What we take from others: under which licences, and nothing twice without a reason. Reads `cargo metadata`.
#![forbid(unsafe_code)]

use architecture::crates_of_others;
use std::collections::{BTreeMap, BTreeSet};

/// Licences that Apache-2.0 can carry along. Of an expression with `OR` one has to be among them,
/// of one with `AND` all.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Zlib",
];

/// Crate, a licence besides, and why it may be.
const EXCEPTIONS: &[(&str, &str)] = &[
    // The sources of LLVM's libFuzzer are in it; tests/fuzz is never shipped.
    ("libfuzzer-sys", "NCSA"),
];

/// Crates in several versions: with the majors of all but the newest, and who holds them back. A
/// line goes when they move on.
const TWICE: &[(&str, &str)] = &[
    ("base64", "tonic and k8s-openapi are at 0.22"),
    ("foldhash", "hashbrown 0.15 is at 0.1"),
    ("getrandom", "ring is at 0.2, rand_core 0.9 at 0.3"),
    ("hashbrown", "petgraph is at 0.15; we and half of the others are at 0.16"),
    ("rand", "hickory-proto is at 0.9; both are of tests"),
    ("rand_core", "follows rand"),
    ("syn", "derive-into-owned (pcap-file, of tests) is at 1; half of all derives are at 2"),
    ("synstructure", "asn1-rs is at 0.13"),
    ("thiserror", "pcap-file, of tests, is at 1"),
    ("thiserror-impl", "follows thiserror"),
    ("unicode-width", "getopts, which builds the grammar of promql-parser (of tests), is at 0.1"),
    ("winnow", "toml is at 0.7, its own parser at 1"),
];

/// By the rules of SPDX; older crates write `/` for OR.
fn is_allowed(expression: &str, also: &[&str]) -> bool {
    let expression = expression.replace('/', " OR ");
    if let Some(parts) = split(&expression, " OR ") {
        return parts.iter().any(|part| is_allowed(part, also));
    }
    if let Some(parts) = split(&expression, " AND ") {
        return parts.iter().all(|part| is_allowed(part, also));
    }
    let one = expression.trim();
    match one.strip_prefix('(').and_then(|one| one.strip_suffix(')')) {
        Some(inner) => is_allowed(inner, also),
        None => ALLOWED.contains(&one) || also.contains(&one),
    }
}

/// At each `word` that stands in no brackets; none without one.
fn split<'a>(expression: &'a str, word: &str) -> Option<Vec<&'a str>> {
    let (mut depth, mut last, mut parts) = (0_usize, 0, Vec::new());
    for (at, c) in expression.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ if depth == 0 && expression[at..].starts_with(word) => {
                parts.push(&expression[last..at]);
                last = at + word.len();
            }
            _ => {}
        }
    }
    parts.push(&expression[last..]);
    (parts.len() > 1).then_some(parts)
}

#[test]
fn expressions_are_read_as_spdx_says() {
    for expression in
        ["MIT", "GPL-3.0 OR MIT", "MIT/GPL-3.0", "(GPL-3.0 OR MIT) AND ISC", "Apache-2.0 WITH LLVM-exception"]
    {
        assert!(is_allowed(expression, &[]), "{expression}");
    }
    for expression in ["", "GPL-3.0", "MIT AND GPL-3.0", "(GPL-3.0 OR NCSA) AND ISC", "MIT AND (ISC AND GPL-3.0)"] {
        assert!(!is_allowed(expression, &[]), "{expression}");
    }
    assert!(is_allowed("MIT AND NCSA", &["NCSA"]));
}

#[test]
fn every_licence_is_one_that_we_can_carry() -> anyhow::Result<()> {
    let others = crates_of_others()?;
    assert!(others.len() > 200, "the crates are not where this test looks for them");
    let mut wrong = Vec::new();
    for package in &others {
        let also = EXCEPTIONS.iter().filter(|(name, _)| *name == package.name.as_str()).map(|(_, licence)| *licence);
        let licence = package.license.as_deref().unwrap_or_default();
        if !is_allowed(licence, &also.collect::<Vec<_>>()) {
            wrong.push(format!("{} {}: {licence:?}", package.name, package.version));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    Ok(())
}

#[test]
fn a_crate_is_there_twice_only_for_a_reason_that_still_holds() -> anyhow::Result<()> {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in crates_of_others()? {
        versions.entry(package.name.to_string()).or_default().insert(package.version.to_string());
    }
    versions.retain(|_, versions| versions.len() > 1);
    let found: BTreeSet<&str> = versions.keys().map(String::as_str).collect();
    let known: BTreeSet<&str> = TWICE.iter().map(|(name, _)| *name).collect();
    let new: Vec<_> = versions.iter().filter(|(name, _)| !known.contains(name.as_str())).collect();
    assert!(new.is_empty(), "there are several versions of: {new:?}");
    let gone: Vec<_> = known.difference(&found).collect();
    assert!(gone.is_empty(), "there is one version only, strike it off TWICE: {gone:?}");
    Ok(())
}
