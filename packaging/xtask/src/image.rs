//! `cargo xtask image`: the companion's image alone, as it is in its packages.

use crate::arch::Arch;
use crate::package::{Product, Source, compiled, image};
use anyhow::Result;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Take this program instead of building one
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Where to [default: target/package/pilotfish-companion-VERSION.oci.tar]
    #[arg(long)]
    output: Option<PathBuf>,
}

/// # Errors
/// When the program cannot be built, or is for another machine.
pub fn run(options: &Options) -> Result<()> {
    let source = Source::read()?;
    let arch = Arch::or_this(None)?;
    let built = match &options.binary {
        Some(binary) => binary.clone(),
        None => compiled(Product::Companion, &source, arch)?,
    };
    let usual = || source.root.join(format!("target/package/pilotfish-companion-{}.oci.tar", source.version));
    let output = options.output.clone().unwrap_or_else(usual);
    let size = image::make(&source, arch, &built, &output)?;
    eprintln!("{}  {size} bytes, as {}:{}", output.display(), image::NAME, source.version);
    Ok(())
}
