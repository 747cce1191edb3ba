//! Test programs of the workspace, to be run elsewhere or in another way than cargo runs them.

use crate::arch::Arch;
use crate::cross;
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;

/// The path of one test program, freshly built with these features of its package.
pub(crate) fn build(arch: Arch, package: &str, test: &str, features: &str) -> Result<PathBuf> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // All packages are selected, as where all tests ran before: cargo gives each selection dependencies of its own.
    let features = (!features.is_empty()).then(|| format!("--features={package}/{features}"));
    cargo.args(["test", "--workspace", "--test", test, "--no-run", "--message-format=json"]).args(features);
    cross::build(arch, &mut cargo)?;
    let output = cargo.stderr(std::process::Stdio::inherit()).output().context("run cargo")?;
    if !output.status.success() {
        bail!("the tests of {package} do not build");
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == test && is_of(&message["package_id"], package))
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .context("cargo named no executable")
}

/// Whether cargo's id of a package (`path+file:///tree/package#version`, `...#name@version`) is of this one.
fn is_of(id: &serde_json::Value, package: &str) -> bool {
    let id = id.as_str().unwrap_or_default();
    let (path, rest) = id.rsplit_once('#').unwrap_or((id, ""));
    match rest.split_once('@') {
        Some((name, _)) => name == package,
        None => path.rsplit('/').next() == Some(package),
    }
}

#[cfg(test)]
mod tests {
    use super::is_of;

    #[test]
    fn packages_are_known_by_their_ids() {
        for (id, package, is) in [
            ("path+file:///tree/capture-engine#0.2.0", "capture-engine", true),
            ("path+file:///tree/capture-engine#0.2.0", "netns-scanner", false),
            ("path+file:///tree/capture-engine/wire#capture-wire@0.2.0", "capture-wire", true),
            ("path+file:///tree/capture-engine/wire#capture-wire@0.2.0", "wire", false),
            ("", "e2e", false),
        ] {
            assert_eq!(is_of(&id.into(), package), is, "{id}");
        }
    }
}
