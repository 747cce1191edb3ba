//! Tells the binary which commit it is of: from `PILOTFISH_COMMIT` where a packager sets it, from
//! git in a release build. Debug builds do not ask git, so that a commit does not rebuild them.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=PILOTFISH_COMMIT");
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("PILOTFISH_COMMIT").is_some() || std::env::var("PROFILE").as_deref() != Ok("release") {
        return;
    }
    println!("cargo::rerun-if-changed=../../.git/logs/HEAD");
    let Ok(output) = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output() else { return };
    let commit = String::from_utf8_lossy(&output.stdout);
    if output.status.success() && !commit.trim().is_empty() {
        println!("cargo::rustc-env=PILOTFISH_COMMIT={}", commit.trim());
    }
}
