//! Completion scripts and manual pages, made from the command line's own definition.

use super::output::print;
use crate::cli::args::Cli;
use crate::exit::{Exit, Failure};
use clap::CommandFactory;
use std::path::Path;
use std::{fs, io};

pub fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "pilotfish", &mut script);
    print(&String::from_utf8_lossy(&script))
}

pub fn man(directory: &Path) -> Result<(), Failure> {
    pages(directory)
        .map_err(|error| Failure::new(Exit::Usage, anyhow::Error::new(error).context(directory.display().to_string())))
}

fn pages(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    clap_mangen::generate_to(Cli::command(), directory)?;
    for page in fs::read_dir(directory)? {
        let page = page?.path();
        let is_ours = page.file_name().is_some_and(|name| name.to_string_lossy().starts_with("pilotfish"));
        if is_ours && page.extension().is_some_and(|section| section == "1") {
            // What stands after the help is the exit codes, and man-pages(7) has a name for that.
            let text = fs::read_to_string(&page)?.replace(".SH EXTRA\nExit codes:\n", ".SH \"EXIT STATUS\"\n.nf\n");
            fs::write(&page, text)?;
        }
    }
    Ok(())
}
