//! Runs the tools of the machine. What fails is told with what it was meant for.

use anyhow::{Context, Result, ensure};
use std::process::Command;

/// Its output goes where ours goes.
pub(crate) fn run_command(command: &mut Command, act: &str) -> Result<()> {
    let status = command.status().with_context(|| format!("{act}: cannot run {:?}", command.get_program()))?;
    ensure!(status.success(), "{act}: {:?} ended with {status}", command.get_program());
    Ok(())
}

/// Standard output without the last line's end.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {:?}", command.get_program()))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{:?}: {}", command.get_program(), errors.trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

/// As above, and an error says what it was for.
pub(crate) fn output_of(command: &mut Command, act: &str) -> Result<String> {
    let output = command.output().with_context(|| format!("{act}: cannot run {:?}", command.get_program()))?;
    ensure!(output.status.success(), "{act}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
