//! Lines that a person reads wrap: comments where code does, pages at 100 columns.
#![forbid(unsafe_code)]

use architecture::Workspace;
use std::path::Path;

/// As rustfmt.toml has it for code.
const COMMENT: usize = 120;
const PAGE: usize = 100;

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

#[test]
fn comments_wrap_where_code_does() -> anyhow::Result<()> {
    let workspace = Workspace::load()?;
    let is_code =
        |path: &str| Path::new(path).extension().is_some_and(|e| ["rs", "c", "h", "sh"].iter().any(|x| e == *x));
    let mut long = Vec::new();
    for file in workspace.files().filter(|file| is_code(&file.path)) {
        let lines = file.text.lines().enumerate().filter(|(_, line)| line.chars().count() > COMMENT);
        let comments = lines.filter(|(_, line)| is_comment(&file.path, line));
        long.extend(comments.map(|(at, _)| format!("{}:{}", file.path, at + 1)));
    }
    assert_eq!(long, Vec::<String>::new(), "longer than {COMMENT} columns");
    Ok(())
}

#[test]
fn pages_wrap() -> anyhow::Result<()> {
    let workspace = Workspace::load()?;
    let pages = workspace.with_extension("md");
    let long: Vec<String> =
        pages.flat_map(|page| long_lines(&page.text).map(|line| format!("{}:{line}", page.path))).collect();
    assert_eq!(long, Vec::<String>::new(), "longer than {PAGE} columns");
    Ok(())
}
