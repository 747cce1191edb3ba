//! Within a crate, files lie above one another: none is above a file that is above it. A noun that
//! several files share lies beneath them, in a file of its own, not in the roof that uses them all.
#![forbid(unsafe_code)]

use architecture::Workspace;
use architecture::modules::{Edge, Modules};
use std::collections::{BTreeMap, BTreeSet};

fn circles(workspace: &Workspace) -> Vec<BTreeSet<Edge>> {
    let roots =
        workspace.crates().flat_map(|package| &package.targets).filter(|target| target.is_lib() || target.is_bin());
    let roots: BTreeSet<String> = roots.map(|target| workspace.relative(target.src_path.as_std_path())).collect();
    roots.iter().flat_map(|root| Modules::read(root, workspace.all_files()).circles()).collect()
}

#[test]
fn files_of_a_crate_do_not_import_each_other_in_a_circle() -> anyhow::Result<()> {
    let mut told = String::new();
    for circle in &circles(&Workspace::load()?) {
        let files: BTreeSet<&str> = circle.iter().map(|edge| edge.from.as_str()).collect();
        told += &format!("\na circle of {} files:\n", files.len());
        let mut uses: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
        for Edge { from, line, to, path } in circle {
            uses.entry((from, to)).or_default().push(format!("{line}: {path}"));
        }
        for ((from, to), lines) in uses {
            told += &format!("  {from} -> {to}\n    {}\n", lines.join("\n    "));
        }
    }
    assert!(told.is_empty(), "{told}");
    Ok(())
}
