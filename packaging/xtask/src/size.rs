//! `cargo xtask size`: what each crate weighs in the program that the packages carry, and what has
//! grown since docs/size.md was written.

mod elf;
mod installed;
mod owner;
mod record;
mod weigh;
mod weights;

use crate::package::{Source, program};
use anyhow::Result;
use std::path::PathBuf;

use installed::Installed;
pub(crate) use installed::check;
use weigh::weigh;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Weigh this program, which has its symbols, instead of building one
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Also list the files of this deb
    #[arg(long)]
    deb: Option<PathBuf>,
    /// Every crate as JSON
    #[arg(long)]
    json: bool,
    /// Replace the tables of docs/size.md by what was found; needs --deb
    #[arg(long, requires = "deb")]
    record: bool,
}

/// # Errors
/// When the program cannot be built or read.
#[allow(clippy::print_stdout, reason = "the answer of the command")]
pub fn run(options: &Options) -> Result<()> {
    let root = Source::read()?.root;
    let binary = match &options.binary {
        Some(path) => path.clone(),
        None => program()?,
    };
    let weights = weigh(&binary)?;
    let installed = options.deb.as_deref().map(Installed::read).transpose()?;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&weights.json(installed.as_ref().map(Installed::files)))?);
    } else {
        let then = record::read(&root)?;
        print!("{}", weights.text(&then));
        installed.iter().for_each(|installed| print!("\n{}", installed.text(&then)));
    }
    if let Some(installed) = installed.filter(|_| options.record) {
        record::write(&root, &format!("{}\n{}", installed.markdown(), weights.markdown()))?;
    }
    Ok(())
}
