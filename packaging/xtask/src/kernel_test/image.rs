//! Debian's kernels, by apt.

use crate::command::output_of;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Clone, Copy, Debug)]
pub(super) enum Suite {
    /// Linux 6.1
    Bookworm,
    /// Linux 6.12
    Backports,
}

/// An unpacked kernel package.
#[derive(Debug)]
pub(super) struct Image {
    /// As `uname -r` says it.
    pub release: String,
    pub root: PathBuf,
}

impl Image {
    pub fn vmlinuz(&self) -> PathBuf {
        self.root.join("boot").join(format!("vmlinuz-{}", self.release))
    }

    pub fn module(&self, path: &str) -> PathBuf {
        self.root.join("lib/modules").join(&self.release).join("kernel").join(path)
    }
}

impl Suite {
    fn name(self) -> &'static str {
        match self {
            Suite::Bookworm => "bookworm",
            Suite::Backports => "bookworm-backports",
        }
    }
}

/// The cloud flavour: the same source and BPF options as the generic one, a third of its size.
const PACKAGE: &str = "linux-image-cloud-amd64";

/// The kernel that the suite has now; downloaded when it is not in the cache.
pub(super) fn fetch(suite: Suite, cache: &Path) -> Result<Image> {
    let dir = cache.join(suite.name());
    fs::create_dir_all(dir.join("lists/partial")).with_context(|| format!("make {}", dir.display()))?;
    let apt = |program: &str| {
        let mut command = Command::new(program);
        command.current_dir(&dir).arg("-q");
        for (option, value) in [
            ("Dir::Etc::sourcelist", dir.join("suite.list").display().to_string()),
            ("Dir::Etc::sourceparts", "-".into()),
            ("Dir::State::lists", dir.join("lists").display().to_string()),
            ("Dir::Cache::pkgcache", String::new()),
            ("Dir::Cache::srcpkgcache", String::new()),
            ("APT::Sandbox::User", "root".into()),
        ] {
            command.arg("-o").arg(format!("{option}={value}"));
        }
        command
    };
    // A list of its own: the machine need not have the suite among its sources, and they stay as they are.
    fs::write(dir.join("suite.list"), format!("deb {} {} main\n", mirror()?, suite.name()))?;
    output_of(apt("apt-get").arg("update"), "read the list of kernels")?;
    let depends = output_of(apt("apt-cache").args(["depends", PACKAGE]), "find the kernel's package")?;
    let package = depends
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: linux-image-"))
        .with_context(|| format!("{} has no {PACKAGE}", suite.name()))?
        .to_owned();
    let root = dir.join(&package);
    let image = Image { release: package.clone(), root };
    if !image.vmlinuz().exists() {
        eprintln!("downloading linux-image-{package}");
        output_of(apt("apt-get").args(["download", &format!("linux-image-{package}")]), "download the kernel")?;
        let deb = fs::read_dir(&dir)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| {
                path.file_name()
                    .is_some_and(|name| name.to_string_lossy().starts_with(&format!("linux-image-{package}_")))
            })
            .context("apt-get download left no package")?;
        output_of(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&image.root), "unpack the kernel")?;
        fs::remove_file(&deb)?;
    }
    Ok(image)
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
