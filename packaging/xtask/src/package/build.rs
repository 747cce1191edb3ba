//! Builds the packages of the tree as it is.

use super::source::{Format, Source};
use super::{stage, tools};
use crate::command::run_command;
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds one package into `target/package/`.
pub(crate) fn one(format: Format, binary: Option<&Path>, revision: u32) -> Result<PathBuf> {
    let mut packages = build(&Source::read()?, binary, revision, &[format])?;
    packages.pop().context("no package was built")
}

pub(super) fn build(source: &Source, binary: Option<&Path>, revision: u32, formats: &[Format]) -> Result<Vec<PathBuf>> {
    let binary = match binary {
        Some(path) => path.to_owned(),
        None => compile(source, &source.root.join("target"))?,
    };
    stage::fill(source, &binary, revision, &source.root.join("target/package/stage"))?;
    let packages = formats.iter().map(|format| pack(source, *format, revision)).collect::<Result<_>>()?;
    give_back(&source.root)?;
    Ok(packages)
}

/// Root builds packages for a virtual machine in the tree of somebody who then wants to build them again.
fn give_back(root: &Path) -> Result<()> {
    let packages = root.join("target/package");
    if fs::metadata(packages.join("stage"))?.uid() == fs::metadata(root)?.uid() {
        return Ok(());
    }
    let mut chown = Command::new("chown");
    run_command(chown.arg("-R").arg("--reference").arg(root).arg(packages), "give the packages back")
}

/// The compiler puts paths of sources into panic messages and debug data; the last prefix that
/// matches is the one that it replaces.
fn compile(source: &Source, target: &Path) -> Result<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    let home = home.context("neither CARGO_HOME nor HOME is set")?;
    let mapped = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    let flags = [mapped(&home, "/cargo"), mapped(&source.root, "/pilotfish"), mapped(target, "/target")];
    let mut cargo = Command::new("cargo");
    cargo.current_dir(&source.root).args(["build", "--locked", "--profile", "dist", "-p", "agentd", "--target-dir"]);
    cargo.arg(target).env("RUSTFLAGS", flags.join(" ")).env("PILOTFISH_COMMIT", &source.commit);
    run_command(cargo.env("SOURCE_DATE_EPOCH", &source.date), "build the agent")?;
    Ok(target.join("dist/pilotfish"))
}

/// Packs what is staged.
fn pack(source: &Source, format: Format, revision: u32) -> Result<PathBuf> {
    let Source { root, version, date, .. } = source;
    let (deb_arch, rpm_arch) = match std::env::consts::ARCH {
        "x86_64" => ("amd64", "x86_64"),
        "aarch64" => ("arm64", "aarch64"),
        other => (other, other),
    };
    let name = match format {
        Format::Deb => format!("pilotfish_{version}-{revision}_{deb_arch}.deb"),
        Format::Rpm => format!("pilotfish-{version}-{revision}.{rpm_arch}.rpm"),
    };
    let package = root.join("target/package").join(name);
    // Not every tool cuts a longer file that is there.
    if package.exists() {
        fs::remove_file(&package).with_context(|| format!("replace {}", package.display()))?;
    }
    let mut make = match format {
        Format::Deb => tools::cargo_deb()?,
        Format::Rpm => tools::cargo_generate_rpm()?,
    };
    make.current_dir(root).args(["--profile", "dist", "--output"]).arg(&package).env("SOURCE_DATE_EPOCH", date);
    match format {
        Format::Deb => make
            .args(["--package", "agentd", "--no-build", "--no-strip", "--quiet"])
            .args(["--deb-version", &format!("{version}-{revision}")]),
        Format::Rpm => make
            .args(["--package", "shim-plugin/agentd", "--source-date", date])
            .args(["--set-metadata", &format!("release = \"{revision}\"")]),
    };
    run_command(&mut make, &format!("make {}", package.display()))?;
    Ok(package)
}
