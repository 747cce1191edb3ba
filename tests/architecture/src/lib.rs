//! Reads the workspace as data: its crates and their edges, and the text of its files. The rules
//! are in `tests/`; they hold what ARCHITECTURE.md states.
#![forbid(unsafe_code)]

pub mod modules;

use anyhow::{Context, Result, ensure};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, PackageId};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Debug)]
pub struct Workspace {
    pub root: PathBuf,
    metadata: Metadata,
    files: Vec<SourceFile>,
}

/// A file under version control, or about to be.
#[derive(Debug)]
pub struct SourceFile {
    /// Relative to the root.
    pub path: String,
    /// Empty for what is not UTF-8.
    pub text: String,
}

impl Workspace {
    pub fn load() -> Result<Workspace> {
        let metadata = MetadataCommand::new().no_deps().exec().context("cargo metadata")?;
        let root = metadata.workspace_root.clone().into_std_path_buf();
        let files = list(&root)?
            .into_iter()
            .map(|path| SourceFile { text: std::fs::read_to_string(root.join(&path)).unwrap_or_default(), path })
            .collect();
        Ok(Workspace { root, metadata, files })
    }

    pub fn crates(&self) -> impl Iterator<Item = &Package> {
        self.metadata.workspace_packages().into_iter()
    }

    /// Names of the direct dependencies of `package`, those of its build script included.
    #[must_use]
    pub fn dependencies(&self, package: &Package) -> BTreeSet<String> {
        package.dependencies.iter().filter(|d| d.kind != DependencyKind::Development).map(|d| d.name.clone()).collect()
    }

    /// As above for its tests.
    #[must_use]
    pub fn dev_dependencies(&self, package: &Package) -> BTreeSet<String> {
        package.dependencies.iter().filter(|d| d.kind == DependencyKind::Development).map(|d| d.name.clone()).collect()
    }

    pub fn files(&self) -> impl Iterator<Item = &SourceFile> {
        self.files.iter()
    }

    /// Files whose name ends with `.extension`.
    pub fn with_extension<'a>(&'a self, extension: &'a str) -> impl Iterator<Item = &'a SourceFile> {
        self.files.iter().filter(move |file| Path::new(&file.path).extension().is_some_and(|e| e == extension))
    }

    #[must_use]
    pub fn all_files(&self) -> &[SourceFile] {
        &self.files
    }

    /// Directory of a crate, relative to the root.
    #[must_use]
    pub fn directory(&self, package: &Package) -> String {
        let directory = package.manifest_path.parent().map(|p| p.as_std_path().to_owned()).unwrap_or_default();
        self.relative(&directory)
    }

    /// `path` relative to the root.
    #[must_use]
    pub fn relative(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy().into_owned()
    }
}

/// All crates that a build for this kind of machine takes from a registry, those of tests included.
/// What was never fetched, as on a new machine, is fetched now.
///
/// # Errors
/// When cargo cannot tell, or cannot fetch.
pub fn crates_of_others() -> Result<Vec<Package>> {
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let options = ["--locked", "--filter-platform", &platform].map(str::to_owned);
    let metadata = MetadataCommand::new().other_options(options).exec().context("cargo metadata")?;
    let built = metadata.resolve.context("cargo metadata resolved nothing")?.nodes;
    let built: BTreeSet<PackageId> = built.into_iter().map(|node| node.id).collect();
    Ok(metadata.packages.into_iter().filter(|p| p.source.is_some() && built.contains(&p.id)).collect())
}

/// Everything that git tracks or would, so that a rule is broken before the commit, not after it.
fn list(root: &Path) -> Result<Vec<String>> {
    let output = Command::new("git")
        // The tree may belong to another user than the one who tests.
        .args(["-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("git ls-files")?;
    ensure!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr).trim());
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().map(str::to_owned).filter(|path| root.join(path).is_file()).collect())
}
