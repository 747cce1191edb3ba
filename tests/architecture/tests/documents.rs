//! What the documents promise is there.
#![forbid(unsafe_code)]

use architecture::Workspace;

#[test]
fn every_decision_is_listed() -> anyhow::Result<()> {
    let workspace = Workspace::load()?;
    let list = std::fs::read_to_string(workspace.root.join("docs/decisions/README.md")).unwrap_or_default();
    let pages = workspace.files().filter_map(|file| file.path.strip_prefix("docs/decisions/"));
    let missing: Vec<&str> = pages.filter(|page| *page != "README.md" && !list.contains(*page)).collect();
    assert_eq!(missing, Vec::<&str>::new(), "not in docs/decisions/README.md");
    Ok(())
}

#[test]
fn the_map_names_every_crate() -> anyhow::Result<()> {
    let workspace = Workspace::load()?;
    let map = std::fs::read_to_string(workspace.root.join("ARCHITECTURE.md"))?;
    let missing: Vec<String> = workspace
        .crates()
        .map(|package| package.name.to_string())
        .filter(|name| !map.contains(name.as_str()))
        .collect();
    assert_eq!(missing, Vec::<String>::new(), "not in ARCHITECTURE.md");
    Ok(())
}

/// A link to a file of the tree leads somewhere.
#[test]
fn links_between_documents_lead_somewhere() -> anyhow::Result<()> {
    let workspace = Workspace::load()?;
    let mut broken = Vec::new();
    for file in workspace.with_extension("md") {
        let directory = workspace.root.join(&file.path).parent().map(std::path::Path::to_owned).unwrap_or_default();
        for target in file.text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = target.split('#').next().unwrap_or_default();
            let is_elsewhere =
                target.is_empty() || target.contains("://") || target.contains(' ') || target.starts_with("mailto:");
            if !is_elsewhere && !directory.join(target).exists() {
                broken.push(format!("{}: {target}", file.path));
            }
        }
    }
    assert_eq!(broken, Vec::<String>::new());
    Ok(())
}

/// A promise whose test was renamed or went away is a wish again.
#[test]
fn the_tests_that_hold_the_promises_are_there() -> anyhow::Result<()> {
    let workspace = Workspace::load()?;
    let is_name = |text: &&str| {
        text.matches('_').count() > 2
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    let is_there = |name: &str| {
        let declared = format!("fn {name}(");
        workspace.all_files().iter().any(|file| file.text.contains(&declared))
    };
    for page in ["docs/truth.md", "docs/nodes.md"] {
        let text = std::fs::read_to_string(workspace.root.join(page))?;
        let named: Vec<&str> = text.split('`').skip(1).step_by(2).filter(is_name).collect();
        assert!(named.len() > 40, "{page} names {} tests", named.len());
        let gone: Vec<&str> = named.into_iter().filter(|name| !is_there(name)).collect();
        assert!(gone.is_empty(), "{page} names tests that are not there: {gone:#?}");
    }
    Ok(())
}
