//! Completion scripts and manual pages, made from the command line's own definition.

use super::output::print;
use crate::cli::Cli;
use crate::exit::{Exit, Failure};
use clap::CommandFactory;
use std::path::Path;

pub fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "pilotfish", &mut script);
    print(&String::from_utf8_lossy(&script))
}

pub fn man(directory: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), directory))
        .map_err(|error| Failure::new(Exit::Usage, anyhow::Error::new(error).context(directory.display().to_string())))
}
