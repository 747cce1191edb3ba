//! Mounts files that never answer over a directory, until it is ended.
#![forbid(unsafe_code)]

use anyhow::{Context, Result};
use std::path::PathBuf;
use testbed::SilentFiles;

fn main() -> Result<()> {
    let at = std::env::args().nth(1).map(PathBuf::from).context("silent DIRECTORY")?;
    let _silent = SilentFiles::mount(&at)?;
    loop {
        std::thread::park();
    }
}
