//! What an operator may meet is explained in docs/operate.md: every metric family and every exit code, and nothing that is gone.
#![forbid(unsafe_code)]

use architecture::{SourceFile, Workspace};
use std::collections::BTreeSet;

/// Crates whose metrics a node or the cluster shows.
const EXPOSING: [&str; 4] = ["shim-plugin/", "capture-engine/metrics/", "k8s-sync/", "netns-scanner/"];
/// Names of kernel programs look like names of metrics.
const PROGRAMS: [&str; 2] = ["pilotfish_in", "pilotfish_out"];
/// How names end that are no metric of ours by their beginning: conventions of OpenTelemetry.
const UNITS: [&str; 4] = ["_seconds", "_bytes", "_ratio", "_total"];

fn page(workspace: &Workspace) -> anyhow::Result<String> {
    Ok(std::fs::read_to_string(workspace.root.join("docs/operate.md"))?)
}

/// Rows of a table, as the text of their first cell.
fn first_cells(page: &str) -> impl Iterator<Item = &str> {
    page.lines().filter_map(|line| Some(line.strip_prefix("| ")?.split(" |").next()?.trim()))
}

/// Text in quotes of the code that is shipped: no comments, no tests.
fn literals(file: &SourceFile) -> impl Iterator<Item = &str> {
    let shipped = file.text.lines().take_while(|line| !line.starts_with("mod tests {"));
    let code = shipped.filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| line.split('"').skip(1).step_by(2))
}

fn is_metric(text: &str) -> bool {
    let is_name = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    let is_ours = text.starts_with("pilotfish_") || text.starts_with("process_");
    let is_a_quantity = text.matches('_').count() > 1 && UNITS.iter().any(|unit| text.ends_with(unit));
    is_name && (is_ours || is_a_quantity) && !PROGRAMS.contains(&text)
}

fn families(workspace: &Workspace) -> BTreeSet<String> {
    let is_shipped = |file: &&SourceFile| {
        EXPOSING.iter().any(|place| file.path.starts_with(place))
            && file.path.contains("/src/")
            && !file.path.ends_with("/tests.rs")
            && !file.path.contains("/tests/")
    };
    let sources = workspace.with_extension("rs").filter(is_shipped);
    sources.flat_map(literals).filter(|text| is_metric(text)).map(str::to_owned).collect()
}

#[test]
fn every_metric_is_explained_and_none_that_is_gone() -> anyhow::Result<()> {
    let workspace = Workspace::load()?;
    let page = page(&workspace)?;
    let explained: BTreeSet<String> = first_cells(&page)
        .map(|cell| cell.trim_matches('`'))
        .filter(|name| is_metric(name))
        .map(str::to_owned)
        .collect();
    let shown = families(&workspace);
    assert!(shown.len() > 30, "the metrics are not where this test looks for them: {shown:?}");
    let missing: Vec<_> = shown.difference(&explained).collect();
    assert!(missing.is_empty(), "not in docs/operate.md, \"Metrics\": {missing:?}");
    let gone: Vec<_> = explained.difference(&shown).collect();
    assert!(gone.is_empty(), "in docs/operate.md, and in no code: {gone:?}");
    Ok(())
}

#[test]
fn every_exit_code_is_explained_and_none_that_is_gone() -> anyhow::Result<()> {
    let workspace = Workspace::load()?;
    let code = workspace.files().find(|file| file.path == "shim-plugin/agentd/src/exit.rs");
    let code = code.map(|file| file.text.as_str()).unwrap_or_default();
    let arms = code.lines().filter_map(|line| line.trim().strip_prefix("Exit::")?.split_once(" => "));
    let codes: BTreeSet<&str> =
        arms.map(|(_, code)| code.trim_end_matches(',')).filter(|code| code.parse::<u8>().is_ok()).collect();
    assert!(codes.len() > 5, "the exit codes are not where this test looks for them: {codes:?}");
    let page = page(&workspace)?;
    let explained: BTreeSet<&str> = first_cells(&page).filter(|cell| cell.parse::<u8>().is_ok()).collect();
    assert_eq!(codes, explained, "exit.rs on the left, docs/operate.md (\"Exit codes\") on the right");
    Ok(())
}
