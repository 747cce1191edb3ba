//! The directory that everything of a cluster is in, with its processes recorded, so that they are
//! found again whatever becomes of us.

use crate::process::Process;
use crate::sweep;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Debug)]
pub(super) struct Place {
    id: String,
    dir: PathBuf,
    /// Held while this process lives: `sweep` takes only what nobody holds. None: taken down.
    lock: Option<sweep::Lock>,
}

impl Place {
    pub fn new() -> Result<Place> {
        let (id, dir, lock) = sweep::new_directory()?;
        Place { id, dir, lock: Some(lock) }.furnish()
    }

    /// One with a fixed name, for a cluster that is to outlive us. Fails when it is there.
    pub fn kept(id: &str) -> Result<Place> {
        let (dir, lock) = sweep::named_directory(id)?;
        Place { id: id.to_owned(), dir, lock: Some(lock) }.furnish()
    }

    fn furnish(self) -> Result<Place> {
        for name in ["conf", "logs", "pki"] {
            fs::create_dir_all(self.dir.join(name)).with_context(|| format!("create {name}"))?;
        }
        Ok(self)
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn pki(&self, name: &str) -> PathBuf {
        self.dir.join("pki").join(name)
    }

    pub fn log(&self, name: &str) -> PathBuf {
        self.dir.join("logs").join(format!("{name}.log"))
    }

    /// The last lines that a program wrote, for who wants to know why it ended.
    pub fn log_tail(&self, name: &str) -> String {
        let text = fs::read(self.log(name)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    pub fn start(&self, name: &str, command: &mut Command) -> Result<Process> {
        let process = Process::start(name, command, &self.log(name))?;
        sweep::record_process(&self.dir, process.pid())?;
        Ok(process)
    }

    /// Removes everything and tells what is left, which should be nothing.
    pub fn take_down(&mut self) -> Result<Vec<String>> {
        if self.lock.is_none() {
            return Ok(Vec::new());
        }
        let removed = sweep::remove(&self.id, &self.dir);
        self.lock = None;
        removed?;
        Ok(sweep::leftovers(&self.id, &self.dir))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        match self.take_down() {
            Ok(left) if left.is_empty() => {}
            Ok(left) => eprintln!("cluster {}: left behind: {}", self.id, left.join(", ")),
            Err(error) => eprintln!("cluster {}: {error:#}", self.id),
        }
    }
}
