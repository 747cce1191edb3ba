//! Reads a program and weighs it.

use super::elf;
use super::weights::Weights;
use crate::package::symbols;
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

/// Weighs a program that was built from this tree and has its symbols.
pub(crate) fn weigh(binary: &Path) -> Result<Weights> {
    let bytes = fs::read(binary).with_context(|| format!("read {}", binary.display()))?;
    let found = elf::read(&bytes).with_context(|| format!("read the symbols of {}", binary.display()))?;
    Ok(Weights::of(&found, &symbols::crates()?))
}
