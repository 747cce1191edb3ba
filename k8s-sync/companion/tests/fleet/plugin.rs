//! `kubectl pilotfish`, as kubectl itself finds and runs it.

use crate::kubectl::Bed;
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::{Command, Output};
use testbed::cluster::User;

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/kubernetes");
const COMPANION: &str = env!("CARGO_BIN_EXE_pilotfish-companion");

fn pilotfish(bed: &Bed, user: &Path, arguments: &[&str]) -> Result<Output> {
    let directory = |program: &Path| program.parent().map(|parent| parent.display().to_string());
    let own = directory(Path::new(COMPANION)).context("a directory")?;
    let path = format!("{SCRIPTS}:{own}:{}:/usr/bin:/bin", directory(&bed.kubectl).context("a directory")?);
    let mut kubectl = Command::new(&bed.kubectl);
    kubectl.arg("pilotfish").args(arguments).arg("--kubeconfig").arg(user);
    Ok(kubectl.env("PATH", path).env("HOME", bed.dir.path()).output()?)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The tables are those of `kubectl get`, with its flags.
pub fn shows_the_cluster(bed: &Bed) -> Result<()> {
    let admin = bed.plane.kubeconfig(User::Admin)?;
    for (arguments, words) in [
        (&["stat", "-n", "shop"][..], "api"),
        (&["edges", "-A", "-o", "wide"], "TCP-CONN"),
        (&["findings", "-A"], "3 requests to api unanswered"),
        (&["agents", "-o", "name"], "nodeagent.traffic.pilotfish.io/n3"),
    ] {
        let output = pilotfish(bed, &admin, arguments)?;
        ensure!(output.status.success() && text(&output.stdout).contains(words), "{arguments:?}: {output:?}");
    }
    let output = pilotfish(bed, &admin, &["check"])?;
    let page = text(&output.stdout);
    for words in [
        "api        ok       the API server reaches the companion",
        "agents     ERROR    2 of 3 nodes push",
        "n3  Absent  no agent has joined from this node",
        "versions   ok       0.2.0",
        "findings   warning  2 errors, 1 warning on 2 nodes",
    ] {
        ensure!(page.contains(words), "{words}: {output:?}");
    }
    ensure!(output.status.code() == Some(2), "{output:?}");
    let output = pilotfish(bed, &admin, &["check", "--json"])?;
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    ensure!(report["checks"][0]["verdict"] == "ok", "{report}");
    // Somebody without any right is told what could not be looked at.
    let nobody = bed.plane.kubeconfig_with_certificate("nobody", &[])?;
    let output = pilotfish(bed, &nobody, &["check"])?;
    let is_told = text(&output.stdout).contains("unknown  Error from server (Forbidden)");
    ensure!(is_told && output.status.code() == Some(3), "{output:?}");
    Ok(())
}
