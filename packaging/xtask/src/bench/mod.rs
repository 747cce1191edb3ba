//! `cargo xtask bench`: the measurements behind docs/benchmarks.md, each with its method in the head of its file.

use anyhow::Result;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum Bench {}

pub fn run(bench: &Bench) -> Result<()> {
    match *bench {}
}
