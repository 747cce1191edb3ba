//! Lines that a person reads wrap: comments where code does, pages at 100 columns.
#![forbid(unsafe_code)]

use architecture::Workspace;
use std::collections::BTreeSet;
use std::path::Path;

/// As rustfmt.toml has it for code.
const COMMENT: usize = 120;
const PAGE: usize = 100;

/// Beginnings of paths whose comments do not wrap yet.
const PENDING_COMMENTS: &[&str] = &[
    "capture-engine/bpf/",
    "capture-engine/l7/",
    "capture-engine/metrics/",
    "capture-engine/model/",
    "capture-engine/src/attach/",
    "capture-engine/src/lib.rs",
    "capture-engine/src/pipeline/",
    "capture-engine/tests/",
    "scripts/setup.sh",
    "shim-plugin/agentd/",
    "shim-plugin/src/",
    "shim-plugin/tests/",
    "tests/e2e/",
    "tests/fuzz/",
];
/// Pages that do not wrap yet.
const PENDING_PAGES: &[&str] = &[
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "README.md",
    "docs/benchmarks.md",
    "docs/decisions/",
    "docs/install.md",
    "docs/operate.md",
];

fn is_comment(path: &str, line: &str) -> bool {
    let line = line.trim_start();
    match path.ends_with(".sh") {
        true => line.starts_with('#'),
        false => line.starts_with("//") || line.starts_with("/*") || line.starts_with("* "),
    }
}

/// Nothing but a link, as an item of a list or by itself: it cannot be broken.
fn is_link(line: &str) -> bool {
    let line = line.trim().trim_start_matches(['-', '*', ' ']).trim_end_matches('.');
    let is_named = line.starts_with('[') && (line.ends_with(')') || line.contains("]: "));
    !line.trim_matches(['<', '>']).contains(' ') || is_named
}

/// Numbers of the lines of a page that are too long: neither of a table, nor of code, nor a link.
fn long_lines(text: &str) -> impl Iterator<Item = usize> {
    let mut in_code = false;
    let prose = text.lines().enumerate().filter(move |(_, line)| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        !in_code && !is_fence && !line.starts_with('|')
    });
    prose.filter(|(_, line)| line.chars().count() > PAGE && !is_link(line)).map(|(at, _)| at + 1)
}

/// Asserts that what is long is what is excused, and that what is excused is long.
fn check(long: &[(String, usize)], excused: &[&str], limit: usize) {
    let covers = |entry: &str, path: &str| path.starts_with(entry);
    let new: Vec<String> = long
        .iter()
        .filter(|(path, _)| !excused.iter().any(|entry| covers(entry, path)))
        .map(|(path, line)| format!("{path}:{line}"))
        .collect();
    assert!(new.is_empty(), "longer than {limit} columns:\n{}", new.join("\n"));
    let is_stale = |entry: &&&str| !long.iter().any(|(path, _)| covers(entry, path));
    let stale: BTreeSet<&&str> = excused.iter().filter(is_stale).collect();
    assert!(stale.is_empty(), "wrapped by now, strike them off the list: {stale:?}");
}

#[test]
fn comments_wrap_where_code_does() -> anyhow::Result<()> {
    let workspace = Workspace::load()?;
    let is_code =
        |path: &str| Path::new(path).extension().is_some_and(|e| ["rs", "c", "h", "sh"].iter().any(|x| e == *x));
    let mut long = Vec::new();
    for file in workspace.files().filter(|file| is_code(&file.path)) {
        let lines = file.text.lines().enumerate().filter(|(_, line)| line.chars().count() > COMMENT);
        let comments = lines.filter(|(_, line)| is_comment(&file.path, line));
        long.extend(comments.map(|(at, _)| (file.path.clone(), at + 1)));
    }
    check(&long, PENDING_COMMENTS, COMMENT);
    Ok(())
}

#[test]
fn pages_wrap() -> anyhow::Result<()> {
    let workspace = Workspace::load()?;
    let pages = workspace.with_extension("md");
    let long: Vec<(String, usize)> =
        pages.flat_map(|page| long_lines(&page.text).map(|line| (page.path.clone(), line))).collect();
    check(&long, PENDING_PAGES, PAGE);
    Ok(())
}
