//! Who may depend on whom. A new edge edits this table and ARCHITECTURE.md in a commit of its own.
#![forbid(unsafe_code)]

use architecture::Workspace;
use std::collections::BTreeSet;

/// Crate, and the crates of ours that it may depend on.
const EDGES: &[(&str, &[&str])] = &[
    (
        "agentd",
        &[
            "shim-plugin",
            "netns-scanner",
            "netns",
            "doctor",
            "capture-engine",
            "k8s-sync",
            "join",
            "golden-metrics",
            "agent-api",
            "flow-model",
            "l7",
        ],
    ),
    ("capture-engine", &["capture-wire", "l7", "netns", "btf", "flow-model"]),
    ("netns-scanner", &["netns", "btf", "flow-model"]),
    ("doctor", &["netns-scanner", "netns", "flow-model"]),
    ("shim-plugin", &["flow-model"]),
    ("k8s-sync", &["flow-model"]),
    // What a series is called and counts are bytes to it.
    ("join", &[]),
    ("companion", &["join", "golden-metrics", "k8s-sync", "flow-model"]),
    // Its rows are those that the agent answers.
    ("golden-metrics", &["agent-api", "flow-model"]),
    ("agent-api", &[]),
    ("l7", &["flow-model"]),
    ("capture-wire", &[]),
    ("netns", &["flow-model"]),
    ("btf", &[]),
    ("flow-model", &[]),
    // What tests and measures runs the binaries; it links nothing of them but the words of their
    // answers.
    ("testbed", &[]),
    ("e2e", &["testbed", "agent-api"]),
    ("fuzz", &["l7", "flow-model"]),
    ("xtask", &["testbed", "agent-api"]),
    ("architecture", &[]),
];

/// Crate, and the crates of ours that its tests use besides.
const TEST_EDGES: &[(&str, &[&str])] = &[
    // What is dropped is counted by a program of the kernel, which it loads.
    ("doctor", &["capture-engine"]),
    // A watch that cannot die is shown against a real API server.
    ("k8s-sync", &["testbed"]),
    // And so is what kubectl reads through it.
    ("companion", &["testbed"]),
];

/// Crate of others, and the only crates of ours that may depend on it.
const PLACES: &[(&str, &[&str])] = &[
    ("kube", &["k8s-sync"]),
    ("k8s-openapi", &["k8s-sync"]),
    ("aya", &["capture-engine"]),
    ("aya-obj", &["capture-engine"]),
    // The companion puts its image there, and asks nothing else.
    ("containerd-client", &["shim-plugin", "companion"]),
    ("tonic", &["shim-plugin", "join", "companion"]),
    ("prometheus-client", &["golden-metrics"]),
    ("axum", &["agentd"]),
    ("clap", &["agentd", "companion", "xtask"]),
    ("anyhow", &["agentd", "xtask", "testbed", "e2e", "architecture"]),
];

/// Crates that stay free of any runtime.
const WITHOUT_TOKIO: [&str; 8] =
    ["flow-model", "l7", "capture-wire", "netns", "btf", "golden-metrics", "agent-api", "capture-engine"];

#[test]
fn crates_depend_only_along_the_allowed_edges() -> anyhow::Result<()> {
    let workspace = Workspace::load()?;
    let ours: BTreeSet<&str> = EDGES.iter().map(|(name, _)| *name).collect();
    let mut wrong = Vec::new();
    for package in workspace.crates() {
        let Some((_, allowed)) = EDGES.iter().find(|(name, _)| *name == package.name.as_str()) else {
            wrong.push(format!("{} is not in the table of edges", package.name));
            continue;
        };
        let for_tests =
            TEST_EDGES.iter().filter(|(name, _)| *name == package.name.as_str()).flat_map(|(_, used)| *used);
        let for_tests: Vec<&str> = for_tests.copied().collect();
        let dev = workspace.dev_dependencies(package).into_iter().filter(|d| !for_tests.contains(&d.as_str()));
        let all = workspace.dependencies(package).into_iter().chain(dev);
        for dependency in all.filter(|d| ours.contains(d.as_str()) && !allowed.contains(&d.as_str())) {
            wrong.push(format!("{} -> {dependency}", package.name));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    Ok(())
}

#[test]
fn crates_of_others_are_used_only_at_their_place() -> anyhow::Result<()> {
    let workspace = Workspace::load()?;
    let mut wrong = Vec::new();
    for package in workspace.crates() {
        let used = workspace.dependencies(package);
        for (dependency, places) in PLACES {
            if used.contains(*dependency) && !places.contains(&package.name.as_str()) {
                wrong.push(format!("{} uses {dependency}", package.name));
            }
        }
        if used.contains("tokio") && WITHOUT_TOKIO.contains(&package.name.as_str()) {
            wrong.push(format!("{} uses tokio", package.name));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    Ok(())
}

/// A permission that nobody uses is one that nobody thought about.
#[test]
fn every_allowed_edge_and_place_is_used() -> anyhow::Result<()> {
    let workspace = Workspace::load()?;
    let used: BTreeSet<(String, String)> = workspace
        .crates()
        .flat_map(|package| {
            let all = workspace.dependencies(package).into_iter().chain(workspace.dev_dependencies(package));
            all.map(|dependency| (package.name.to_string(), dependency)).collect::<Vec<_>>()
        })
        .collect();
    let edges = EDGES.iter().chain(TEST_EDGES).flat_map(|(from, to)| to.iter().map(move |to| (*from, *to)));
    let places = PLACES.iter().flat_map(|(to, from)| from.iter().map(move |from| (*from, *to)));
    let allowed = edges.chain(places).map(|(from, to)| (from.to_owned(), to.to_owned()));
    let unused: Vec<(String, String)> = allowed.filter(|edge| !used.contains(edge)).collect();
    assert_eq!(unused, Vec::new());
    Ok(())
}

/// Versions and features live in the workspace's table, so that `-p CRATE` and the whole workspace
/// build the same artefacts.
#[test]
fn members_take_every_dependency_from_the_workspace() -> anyhow::Result<()> {
    let workspace = Workspace::load()?;
    let mut wrong = Vec::new();
    for package in workspace.crates() {
        let manifest = std::fs::read_to_string(&package.manifest_path)?;
        let mut in_dependencies = false;
        for line in manifest.lines() {
            if line.starts_with('[') {
                in_dependencies = line.ends_with("dependencies]");
            } else if in_dependencies && line.contains('=') && !line.contains("workspace = true") {
                wrong.push(format!("{}: {line}", package.name));
            }
        }
        if !manifest.contains("[lints]\nworkspace = true") {
            wrong.push(format!("{}: does not take the workspace's lints", package.name));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    Ok(())
}
