//! What is counted is shown.
#![forbid(unsafe_code)]

use architecture::Workspace;

/// What this test does not ask for: these crates run on no node.
const NOT_SHIPPED: [&str; 2] = ["tests/", "packaging/"];

/// Where the agent and the companion show what is counted.
const SHOWING: [&str; 2] = ["shim-plugin/agentd/src/serve/", "k8s-sync/companion/src/serve/"];

/// The name of a struct of counts that a line of code makes public. `Counters` and `Stats` alone are
/// those of one flow, and the words of the kernel programs: they end in a series, or in a struct that
/// is looked for here.
fn counts(line: &str) -> Option<&str> {
    let name = line.strip_prefix("pub struct ")?.split(|c: char| !c.is_alphanumeric()).next()?;
    let is_one = ["Counters", "Counts", "Stats"].iter().any(|end| name.ends_with(end));
    (is_one && !["Counters", "Stats"].contains(&name)).then_some(name)
}

/// Whether the struct is taken apart here to its last field: then a new field does not compile
/// until it is shown, too.
fn is_taken_apart(text: &str, name: &str) -> bool {
    text.split(&format!("let {name} {{")).skip(1).any(|rest| {
        let fields = rest.split(" = ").next().unwrap_or_default();
        !fields.contains("..")
    })
}

#[test]
fn every_struct_of_counts_is_shown_to_its_last_field() -> anyhow::Result<()> {
    let workspace = Workspace::load()?;
    let is_shipped = |path: &str| path.contains("/src/") && !NOT_SHIPPED.iter().any(|place| path.starts_with(place));
    let shown: Vec<&str> = workspace
        .with_extension("rs")
        .filter(|file| SHOWING.iter().any(|place| file.path.starts_with(place)))
        .map(|file| file.text.as_str())
        .collect();
    let (mut found, mut missing) = (0, Vec::new());
    for file in workspace.with_extension("rs").filter(|file| is_shipped(&file.path)) {
        for name in file.text.lines().filter_map(counts) {
            found += 1;
            if !shown.iter().any(|text| is_taken_apart(text, name)) {
                missing.push(format!("{}: {name}", file.path));
            }
        }
    }
    assert!(found > 3, "the structs are not where this test looks for them");
    assert_eq!(missing, Vec::<String>::new(), "counted, and not taken apart without `..` in a serve/");
    Ok(())
}
