//! `cargo xtask l7-test`: the end-to-end tests of protocols whose servers and clients are no packages of
//! the distribution. A script fetches them into the cache, once.

use crate::arch::Arch;
use crate::command::{output, run_command};
use crate::test_program;
use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use std::process::Command;

#[derive(Debug, Args)]
pub struct Options {
    protocol: Protocol,
    /// Messages that the first client produces, and consumes
    #[arg(long, default_value_t = 10_000)]
    count: u32,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Protocol {
    Kafka,
}

/// # Errors
/// The server cannot be had, or the test fails.
pub fn run(options: &Options) -> Result<()> {
    let Options { protocol: Protocol::Kafka, count } = options;
    ensure!(nix::unistd::geteuid().is_root(), "the tests run containers: they need root");
    let kafka = output(&mut Command::new("scripts/kafka.sh"))?;
    run_command(Command::new("cargo").args(["build", "--workspace", "--bins"]), "build the agent")?;
    let mut test = Command::new(test_program::build(Arch::or_this(None)?, "e2e", "kafka", "kafka")?);
    test.arg("--nocapture");
    test.env("E2E_KAFKA", kafka.trim()).env("E2E_KAFKA_COUNT", count.to_string());
    run_command(&mut test, "the test of Kafka")
}
