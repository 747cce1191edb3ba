//! What the distributions' own checkers say.

use super::{Packages, run_command};
use anyhow::Result;
use std::path::Path;
use std::process::Command;

/// # Errors
/// When a checker is missing or finds an error.
pub(super) fn run(packages: &Packages) -> Result<()> {
    // Root is asked for by other commands that run beside this one; lintian only warns of it.
    let mut lintian = Command::new("lintian");
    lintian.args(["--allow-root", "--fail-on", "error", "--info"]).arg(&packages.deb);
    run_command(&mut lintian, "check the deb (Debian package lintian)")?;
    let mut rpmlint = Command::new("rpmlint");
    rpmlint.arg("--config").arg(Path::new("packaging/rpm/rpmlint.toml")).arg(&packages.rpm);
    run_command(&mut rpmlint, "check the rpm (Debian package rpmlint)")
}
