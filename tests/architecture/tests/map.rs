//! The tables of ARCHITECTURE.md name what is there: each crate its room, each thread as the kernel shows it.
#![forbid(unsafe_code)]

use architecture::Workspace;
use std::collections::BTreeSet;

/// Crates whose threads run in the agent.
const RUNNING: [&str; 4] = ["shim-plugin/", "capture-engine/src/", "k8s-sync/src/", "netns-scanner/"];
/// How a thread is given its name.
const NAMING: [&str; 5] = [".name(\"", ".thread_name(\"", ".thread(\"", ".spawn(\"", ".spawn(&format!(\""];

/// Rows of the table below a heading of ARCHITECTURE.md, as their cells.
fn rows(workspace: &Workspace, heading: &str) -> anyhow::Result<Vec<Vec<String>>> {
    let page = std::fs::read_to_string(workspace.root.join("ARCHITECTURE.md"))?;
    let section = page.split(&format!("\n## {heading}\n")).nth(1).unwrap_or_default();
    let section = section.split("\n## ").next().unwrap_or_default();
    let cells = |row: &str| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    let rows: Vec<Vec<String>> = section.lines().filter(|line| line.starts_with("| ")).skip(1).map(cells).collect();
    anyhow::ensure!(rows.len() > 5, "no table below \"{heading}\" of ARCHITECTURE.md");
    Ok(rows)
}

/// What stands in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn every_crate_has_its_room_and_every_room_is_there() -> anyhow::Result<()> {
    let workspace = Workspace::load()?;
    let rows = rows(&workspace, "Rooms")?;
    let mut wrong = Vec::new();
    for package in workspace.crates() {
        let directory = workspace.directory(package);
        let is_its_room = |row: &&Vec<String>| {
            let [path, names, ..] = row.as_slice() else { return false };
            let is_there = quoted(path).any(|path| match path.strip_suffix("/*") {
                Some(above) => directory.strip_prefix(above).is_some_and(|rest| rest.starts_with('/')),
                None => path == directory,
            });
            is_there && names.split([',', ' ']).any(|name| name == package.name.as_str())
        };
        if !rows.iter().any(|row| is_its_room(&row)) {
            wrong.push(format!("{} at {directory} has no row", package.name));
        }
    }
    for path in rows.iter().flat_map(|row| row.first()).flat_map(|cell| quoted(cell)) {
        if !workspace.root.join(path.trim_end_matches("/*")).is_dir() {
            wrong.push(format!("{path} is not there"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    Ok(())
}

#[test]
fn every_thread_is_told_by_the_name_that_it_has() -> anyhow::Result<()> {
    let workspace = Workspace::load()?;
    let rows = rows(&workspace, "Threads")?;
    let told: BTreeSet<String> =
        rows.iter().filter_map(|row| row.first()).flat_map(|cell| quoted(cell)).map(str::to_owned).collect();
    let mut named = BTreeSet::new();
    let is_shipped = |path: &str| path.contains("/src/") && RUNNING.iter().any(|place| path.starts_with(place));
    for file in workspace.with_extension("rs").filter(|file| is_shipped(&file.path)) {
        let code = file.text.split("\nmod tests {").next().unwrap_or_default();
        for call in NAMING {
            for rest in code.split(call).skip(1) {
                let name = rest.split('"').next().unwrap_or_default();
                named.insert(name.split_once('{').map_or(name.to_owned(), |(fixed, _)| format!("{fixed}*")));
            }
        }
    }
    assert!(named.len() > 5, "the threads are not where this test looks for them: {named:?}");
    assert_eq!(told, named, "what the page tells, and what the code names");
    Ok(())
}
