//! A container runtime to test with: where its programs are, and what it calls itself.

use crate::command::output;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What is built where a series is asked for and PATH has another.
const LATEST: [(&str, &str); 2] = [("1.7", "1.7.35"), ("2.4", "2.4.2")];
pub(crate) const PROGRAMS: [&str; 3] = ["containerd", "ctr", "containerd-shim-runc-v2"];

#[derive(Debug)]
pub(crate) struct Runtime {
    /// For people.
    pub name: String,
    pub version: (u32, u32),
    /// None: PATH leads to it.
    dir: Option<PathBuf>,
}

impl Runtime {
    /// What PATH has.
    pub(super) fn installed(name: &str) -> Runtime {
        Runtime { name: name.to_owned(), version: (0, 0), dir: None }
    }

    /// The one in a directory, or that of a version: what PATH has if it is that, else built.
    pub(crate) fn containerd(asked: &str) -> Result<Runtime> {
        if Path::new(asked).is_dir() {
            return Runtime::of(Some(Path::new(asked).canonicalize()?));
        }
        let asked = asked.trim_start_matches('v');
        let is_it = |said: &str| said.strip_prefix(asked).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        if said_version(None).is_ok_and(|said| is_it(&said)) {
            return Runtime::of(None);
        }
        let version = LATEST.iter().find(|(series, _)| *series == asked).map_or(asked, |(_, latest)| latest);
        Runtime::of(Some(built(version)?))
    }

    fn of(dir: Option<PathBuf>) -> Result<Runtime> {
        let said = said_version(dir.as_deref())?;
        let mut numbers = said.split('.').map_while(|number| number.parse().ok());
        let version = numbers.next().zip(numbers.next()).with_context(|| format!("{said:?} is no version"))?;
        Ok(Runtime { name: format!("containerd {said}"), version, dir })
    }

    /// Where its programs are, unless PATH leads to them.
    pub(super) fn dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    /// Where each of [`PROGRAMS`] is.
    pub(crate) fn programs(&self) -> Result<[PathBuf; 3]> {
        let usual = ["/usr/local/bin", "/usr/bin"].map(Path::new);
        let places: Vec<&Path> = self.dir().map_or(usual.to_vec(), |dir| vec![dir]);
        let find = |name: &str| places.iter().map(|dir| dir.join(name)).find(|path| path.is_file());
        let [containerd, ctr, shim] = PROGRAMS.map(|name| find(name).with_context(|| format!("{name} is missing")));
        Ok([containerd?, ctr?, shim?])
    }

    /// `command`, with this runtime's programs before all others.
    pub(super) fn first<'a>(&self, command: &'a mut Command) -> Result<&'a mut Command> {
        if let Some(dir) = &self.dir {
            let old = std::env::var_os("PATH").unwrap_or_default();
            command.env("PATH", std::env::join_paths([dir.clone()].into_iter().chain(std::env::split_paths(&old)))?);
        }
        Ok(command)
    }
}

/// The directory of a version that is built from its Go module, by whoever asks first.
fn built(version: &str) -> Result<PathBuf> {
    let mut build = Command::new("scripts/containerd.sh");
    let dir = output(build.arg(version).stderr(Stdio::inherit())).context("build containerd")?;
    Ok(PathBuf::from(dir))
}

/// runc's shim of 1.7, the last that has sandboxes without containers; 2.x starts it as it is.
pub(super) fn shim_with_sandboxes() -> Result<PathBuf> {
    Ok(built(LATEST[0].1)?.join(PROGRAMS[2]))
}

/// As `containerd --version` says it, without the "v".
fn said_version(dir: Option<&Path>) -> Result<String> {
    let mut program = PathBuf::from(PROGRAMS[0]);
    if let Some(dir) = dir {
        let missing: Vec<&str> = PROGRAMS.into_iter().filter(|program| !dir.join(program).is_file()).collect();
        ensure!(missing.is_empty(), "{} has no {}", dir.display(), missing.join(", no "));
        program = dir.join(program);
    }
    let text = output(Command::new(program).arg("--version"))?;
    let said = text.split_whitespace().nth(2).with_context(|| format!("it says no version: {text:?}"))?;
    // Debian's: `1.6.20~ds1`.
    Ok(said.trim_start_matches('v').split('~').next().unwrap_or_default().to_owned())
}
