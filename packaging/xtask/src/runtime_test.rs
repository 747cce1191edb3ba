//! `cargo xtask runtime-test`: the tests that meet a container runtime which continuous integration
//! does not have.

use crate::command::run_command;
use anyhow::Result;
use std::process::Command;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// With a real dockerd (`scripts/setup.sh --docker` installs it)
    #[arg(long, required = true)]
    docker: bool,
    /// Run only the tests whose names contain this
    #[arg(long, default_value = "")]
    filter: String,
}

/// # Errors
/// A program is missing, or a test fails.
pub fn run(options: &Options) -> Result<()> {
    let Options { docker: _, filter } = options;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    run_command(Command::new(&cargo).args(["build", "-p", "agentd", "-p", "testbed"]), "build the agent")?;
    let test = ["test", "-p", "e2e", "--features", "docker", "--test", "docker", "--", "--test-threads=1", filter];
    run_command(Command::new(&cargo).args(test), "the tests with Docker")
}
