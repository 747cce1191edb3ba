//! Debian's packages of one architecture, by apt. Lists, packages and what is installed are files
//! of a directory of ours: the machine's own sources and architectures stay as they are, and need
//! not have the suite or the architecture that is asked for.

use crate::arch::Arch;
use crate::command::output_of;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Debug)]
pub(super) struct Apt {
    dir: PathBuf,
    arch: Arch,
}

impl Apt {
    /// Reads the list of the suite's packages into `dir`.
    pub fn new(suite: &str, arch: Arch, dir: &Path) -> Result<Apt> {
        for part in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(dir.join(part)).with_context(|| format!("make {}", dir.display()))?;
        }
        fs::write(dir.join("suite.list"), format!("deb {} {suite} main\n", mirror()?))?;
        // Nothing is installed.
        fs::write(dir.join("status"), "")?;
        let apt = Apt { dir: dir.to_owned(), arch };
        output_of(apt.command("apt-get").arg("update"), "read the list of packages")?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let place = |file: &str| self.dir.join(file).display().to_string();
        let mut command = Command::new(program);
        command.current_dir(&self.dir).arg("-q");
        for (option, value) in [
            ("Dir::Etc::sourcelist", place("suite.list")),
            ("Dir::Etc::sourceparts", "-".into()),
            ("Dir::State::lists", place("lists")),
            ("Dir::State::status", place("status")),
            ("Dir::Cache::archives", place("archives")),
            ("Dir::Cache::pkgcache", String::new()),
            ("Dir::Cache::srcpkgcache", String::new()),
            ("APT::Sandbox::User", "root".into()),
            ("APT::Architecture", self.arch.facts().deb.into()),
            ("APT::Architectures", self.arch.facts().deb.into()),
        ] {
            command.arg("-o").arg(format!("{option}={value}"));
        }
        command
    }

    /// The first package after `prefix` that `package` depends on, without the prefix.
    pub fn dependency(&self, package: &str, prefix: &str) -> Result<String> {
        let depends = output_of(self.command("apt-cache").args(["depends", package]), "ask for a package")?;
        let prefix = format!("Depends: {prefix}");
        let found = depends.lines().find_map(|line| line.trim().strip_prefix(&prefix));
        Ok(found.with_context(|| format!("the suite has no {package}"))?.to_owned())
    }

    /// Unpacks the package alone below `root`.
    pub fn unpack(&self, package: &str, root: &Path) -> Result<()> {
        self.bring(&["download", package], root)
    }

    /// Unpacks the packages, and all that they need, below `root`. None of their scripts is run.
    pub fn unpack_with_dependencies(&self, packages: &[&str], root: &Path) -> Result<()> {
        let install = ["install", "--yes", "--no-install-recommends", "--download-only"];
        self.bring(&[&install, packages].concat(), root)
    }

    /// Has apt-get leave packages in `archives`, and moves what is in them to `root`: whole or not at all.
    fn bring(&self, ask: &[&str], root: &Path) -> Result<()> {
        let (archives, part) = (self.dir.join("archives"), self.dir.join("part"));
        // What an interrupted run has left.
        packages_in(&archives)?.iter().try_for_each(fs::remove_file)?;
        if part.exists() {
            fs::remove_dir_all(&part).with_context(|| format!("empty {}", part.display()))?;
        }
        output_of(self.command("apt-get").current_dir(&archives).args(ask), "download packages")?;
        for deb in packages_in(&archives)? {
            output_of(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&part), "unpack a package")?;
            fs::remove_file(&deb)?;
        }
        fs::rename(&part, root).with_context(|| format!("keep {}", root.display()))
    }
}

fn packages_in(dir: &Path) -> Result<Vec<PathBuf>> {
    let files = fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))?;
    let files = files.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(files.filter(|path| path.extension().is_some_and(|end| end == "deb")).collect())
}

/// Where the machine's own sources get Debian from.
fn mirror() -> Result<String> {
    let mut texts = vec![fs::read_to_string("/etc/apt/sources.list").unwrap_or_default()];
    for entry in fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten() {
        texts.push(fs::read_to_string(entry.path()).unwrap_or_default());
    }
    let words = texts
        .iter()
        .flat_map(|text| text.lines())
        .filter(|line| !line.starts_with('#'))
        .flat_map(str::split_whitespace);
    let mut uris = words.filter(|word| word.starts_with("http") && word.trim_end_matches('/').ends_with("/debian"));
    // On other distributions: Debian's own.
    Ok(uris.next().unwrap_or("http://deb.debian.org/debian").to_owned())
}
