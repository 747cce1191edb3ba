//! Of which commit which packages are made.

use crate::command::output;
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    Deb,
    Rpm,
}

/// What a build is told from outside: all of it follows from the commit.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub root: PathBuf,
    pub version: String,
    pub commit: String,
    /// Seconds since 1970 of the commit.
    pub date: String,
}

impl Source {
    pub fn read() -> Result<Source> {
        let root = PathBuf::from(output(Command::new("git").args(["rev-parse", "--show-toplevel"]))?);
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let git = |args: &[&str]| output(Command::new("git").current_dir(&root).args(args));
        let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
        let date = git(&["log", "-1", "--format=%ct"])?;
        Ok(Source { version, commit, date, root })
    }
}
