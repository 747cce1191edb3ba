//! What the distributions' own checkers say.

use crate::command::run_command;
use anyhow::Result;
use std::path::Path;
use std::process::Command;

/// # Errors
/// When a checker is missing or finds an error.
pub(super) fn run(package: &Path) -> Result<()> {
    if package.extension().is_some_and(|end| end == "deb") {
        // Root is asked for by other commands that run beside this one; lintian only warns of it.
        let mut lintian = Command::new("lintian");
        lintian.args(["--allow-root", "--fail-on", "error", "--info"]).arg(package);
        return run_command(&mut lintian, "check the deb (scripts/setup.sh --package installs lintian)");
    }
    let mut rpmlint = Command::new("rpmlint");
    rpmlint.arg("--config").arg("packaging/rpm/rpmlint.toml").arg(package);
    run_command(&mut rpmlint, "check the rpm (scripts/setup.sh --package installs rpmlint)")
}
