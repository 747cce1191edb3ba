//! `cargo xtask image`: one image alone, as it is in the companion's packages.

use crate::arch::Arch;
use crate::package::{Product, Source, compiled, image};
use anyhow::Result;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// The agent's image, instead of the companion's
    #[arg(long)]
    agent: bool,
    /// Take this program instead of building one
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Where to [default: target/package/PROGRAM-VERSION.oci.tar]
    #[arg(long)]
    output: Option<PathBuf>,
}

/// # Errors
/// When the program cannot be built, or is for another machine.
pub fn run(options: &Options) -> Result<()> {
    let source = Source::read()?;
    let arch = Arch::or_this(None)?;
    let product = if options.agent { Product::Agent } else { Product::Companion };
    let built = match &options.binary {
        Some(binary) => binary.clone(),
        None => compiled(product, &source, arch)?,
    };
    let usual = || source.root.join(format!("target/package/{}-{}.oci.tar", product.name(), source.version));
    let output = options.output.clone().unwrap_or_else(usual);
    let size = image::make(product, &source, arch, &built, &output)?;
    eprintln!("{}  {size} bytes, as {}:{}", output.display(), product.image(), source.version);
    Ok(())
}
