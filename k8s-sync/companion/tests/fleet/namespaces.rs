//! What a dead companion costs whoever deletes a namespace, and the way out that docs/companion.md has.
//! By command: `cargo test -p companion --test fleet -- --ignored --nocapture namespace`.

use crate::kubectl::Bed;
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};
use testbed::until;

const SERVICE: &str = "apiservice/v1alpha1.traffic.pilotfish.io";
/// The API server asks every half minute, and the controller tries again with longer and longer waits.
const PATIENCE: Duration = Duration::from_secs(180);
/// A namespace that hangs is watched for as long.
const HANGS: Duration = Duration::from_secs(45);

/// One with something in it, as somebody uses it.
fn used(bed: &Bed, name: &str) -> Result<()> {
    bed.kubectl(&["create", "namespace", name])?;
    bed.kubectl(&["-n", name, "create", "configmap", "settings", "--from-literal=colour=blue"]).map(drop)
}

fn is_gone(bed: &Bed, name: &str) -> bool {
    bed.kubectl(&["get", "namespace", name, "--ignore-not-found", "-o", "name"]).is_ok_and(|told| told.is_empty())
}

/// Returns how long it took.
fn wait_gone(bed: &Bed, name: &str) -> Result<Duration> {
    let began = Instant::now();
    until(&format!("namespace {name} is gone"), PATIENCE, || is_gone(bed, name))
        .with_context(|| bed.kubectl(&["get", "namespace", name, "-o", "yaml"]).unwrap_or_default())?;
    Ok(began.elapsed())
}

#[test]
#[ignore = "measures: minutes of a namespace that hangs"]
fn a_namespace_hangs_for_a_dead_companion_until_its_apiservice_is_deleted() -> Result<()> {
    let bed = Bed::new()?;
    let _controller = bed.plane.start_namespaces()?;
    used(&bed, "before")?;
    bed.kubectl(&["delete", "namespace", "before", "--wait=false"])?;
    let usual = wait_gone(&bed, "before")?;

    bed.die();
    bed.kubectl(&["wait", "--for=condition=Available=False", "--timeout=120s", SERVICE])?;
    used(&bed, "after")?;
    bed.kubectl(&["delete", "namespace", "after", "--wait=false"])?;
    let why = "jsonpath={.status.conditions[?(@.type==\"NamespaceDeletionDiscoveryFailure\")].message}";
    let mut told = String::new();
    until("it says why it hangs", PATIENCE, || {
        told = bed.kubectl(&["get", "namespace", "after", "-o", why]).unwrap_or_default();
        told.contains("traffic.pilotfish.io")
    })
    .context(told.clone())?;
    std::thread::sleep(HANGS);
    ensure!(!is_gone(&bed, "after"), "it does not hang: {told}");
    // What was in it is deleted all the same.
    ensure!(bed.kubectl(&["-n", "after", "get", "configmaps", "-o", "name"])?.is_empty(), "it is still there");

    bed.kubectl(&["delete", SERVICE])?;
    let freed = wait_gone(&bed, "after")?;
    eprintln!(
        "a namespace ended after {usual:?}; with the companion dead it hung ({told}), and was freed in {freed:?}"
    );
    Ok(())
}
