//! What an operator may meet is explained in docs/operate.md: every metric family, every exit code
//! and every event of the log.
#![forbid(unsafe_code)]

use architecture::{SourceFile, Workspace};
use std::collections::BTreeSet;

/// Crates whose metrics a node or the cluster shows.
const EXPOSING: [&str; 4] = ["shim-plugin/", "capture-engine/metrics/", "k8s-sync/", "netns-scanner/"];
/// Crates that write to the agent's log.
const LOGGING: [&str; 4] = ["shim-plugin/", "capture-engine/", "k8s-sync/", "netns-scanner/"];
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

/// Sources of what runs on a node or in the cluster, below these directories.
fn shipped<'a>(workspace: &'a Workspace, places: &'a [&str]) -> impl Iterator<Item = &'a SourceFile> {
    workspace.with_extension("rs").filter(|file| {
        places.iter().any(|place| file.path.starts_with(place))
            && file.path.contains("/src/")
            && !file.path.ends_with("/tests.rs")
            && !file.path.contains("/tests/")
    })
}

fn metrics<'a>(files: impl Iterator<Item = &'a SourceFile>) -> BTreeSet<String> {
    files.flat_map(literals).filter(|text| is_metric(text)).map(str::to_owned).collect()
}

/// Where the names of metrics are listed for who asks, and not shown.
fn is_list(file: &SourceFile) -> bool {
    file.path.ends_with("/known.rs")
}

fn families(workspace: &Workspace) -> BTreeSet<String> {
    metrics(shipped(workspace, &EXPOSING).filter(|file| !is_list(file)))
}

#[test]
fn every_metric_is_in_a_list_that_a_program_prints() -> anyhow::Result<()> {
    let workspace = Workspace::load()?;
    // Those of exchanges are listed by what describes them.
    let describes = |file: &SourceFile| file.path.starts_with("capture-engine/metrics/src/families/");
    let listed = metrics(shipped(&workspace, &EXPOSING).filter(|file| is_list(file) || describes(file)));
    let shown = families(&workspace);
    let missing: Vec<_> = shown.difference(&listed).collect();
    assert!(missing.is_empty(), "in no known.rs: {missing:?}");
    let gone: Vec<_> = listed.difference(&shown).collect();
    assert!(gone.is_empty(), "in a known.rs, and in no code: {gone:?}");
    Ok(())
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

/// The last string in the arguments of each call of a macro of this level, up to what is filled in.
/// `rest` begins behind a macro's `(`.
fn message(rest: &str) -> Option<&str> {
    let (mut depth, mut begun, mut last) = (1_usize, None, None);
    let mut bytes = rest.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match (begun, byte) {
            (Some(_), b'\\') => drop(bytes.next()),
            (Some(from), b'"') => (begun, last) = (None, rest.get(from..at)),
            (Some(_), _) => {}
            (None, b'"') => begun = Some(at + 1),
            (None, b'(') => depth += 1,
            (None, b')') if depth == 1 => break,
            (None, b')') => depth -= 1,
            (None, _) => {}
        }
    }
    let fixed = last?.split('{').next().unwrap_or_default().trim_end_matches([' ', ':']);
    (!fixed.is_empty()).then_some(fixed)
}

#[test]
fn every_event_of_the_log_is_explained() -> anyhow::Result<()> {
    let workspace = Workspace::load()?;
    let page = page(&workspace)?;
    let (mut seen, mut missing) = (0, Vec::new());
    for file in shipped(&workspace, &LOGGING) {
        let code = file.text.split("\nmod tests {").next().unwrap_or_default();
        for level in ["info", "warn", "error"] {
            let call = format!("tracing::{level}!(");
            for message in code.split(call.as_str()).skip(1).filter_map(message) {
                seen += 1;
                let explains = |line: &str| line.starts_with(&format!("| {level} |")) && line.contains(message);
                if !page.lines().any(explains) {
                    missing.push(format!("{}: {level}: {message}", file.path));
                }
            }
        }
    }
    assert!(seen > 20, "the events are not where this test looks for them");
    assert_eq!(missing, Vec::<String>::new(), "not in docs/operate.md, \"Log events\", under its level");
    Ok(())
}

#[test]
fn every_place_of_loss_is_explained() -> anyhow::Result<()> {
    let workspace = Workspace::load()?;
    let page = page(&workspace)?;
    let mut places = BTreeSet::new();
    for file in shipped(&workspace, &EXPOSING) {
        let code = file.text.split("\nmod tests {").next().unwrap_or_default();
        for call in code.split(".place(").skip(1) {
            let mut words = call.split('"').skip(1).step_by(2);
            if let (Some(stage), Some(reason)) = (words.next(), words.next()) {
                places.insert(format!("{stage}/{reason}"));
            }
        }
    }
    assert!(places.len() > 10, "the places are not where this test looks for them: {places:?}");
    let explained: BTreeSet<&str> = first_cells(&page).map(|cell| cell.trim_matches('`')).collect();
    let missing: Vec<_> = places.iter().filter(|place| !explained.contains(place.as_str())).collect();
    assert!(missing.is_empty(), "not in docs/operate.md, \"Places of pilotfish_lost_total\": {missing:?}");
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
