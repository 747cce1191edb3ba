//! Builds the packages of the tree as it is.

use super::product::Product;
use super::source::{Format, Source};
use super::{glibc, stage, tools};
use crate::arch::{Arch, Facts};
use crate::command::run_command;
use crate::cross;
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds one package of the agent for this machine into `target/package/`.
pub(crate) fn one(format: Format, binary: Option<&Path>, revision: u32) -> Result<PathBuf> {
    let given = Given { binary, agent: None };
    let mut packages = build(Product::Agent, &Source::read()?, Arch::or_this(None)?, given, revision, &[format])?;
    packages.pop().context("no package was built")
}

/// Builds the agent of this machine's packages, as it is before it is stripped.
pub(crate) fn program() -> Result<PathBuf> {
    let source = Source::read()?;
    compiled(Product::Agent, &source, Arch::or_this(None)?)
}

/// Builds a program as it is packaged, before it is stripped.
pub(crate) fn compiled(product: Product, source: &Source, arch: Arch) -> Result<PathBuf> {
    compile(product, source, arch, &source.root.join("target"))
}

/// Programs that need not be built.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given<'a> {
    pub binary: Option<&'a Path>,
    /// For the image in the companion's packages.
    pub agent: Option<&'a Path>,
}

pub(super) fn build(
    product: Product,
    source: &Source,
    arch: Arch,
    given: Given<'_>,
    revision: u32,
    formats: &[Format],
) -> Result<Vec<PathBuf>> {
    let program = |product, given: Option<&Path>| match given {
        Some(path) => Ok(path.to_owned()),
        None => compiled(product, source, arch),
    };
    let binary = program(product, given.binary)?;
    arch.check(&binary)?;
    let agent = match product {
        Product::Agent => None,
        Product::Companion => Some(program(Product::Agent, given.agent)?),
    };
    stage::fill(product, source, arch, (&binary, agent.as_deref()), revision)?;
    let packages =
        formats.iter().map(|format| pack(product, source, arch, *format, revision)).collect::<Result<_>>()?;
    give_back(&source.root, &product.stage(&source.root))?;
    Ok(packages)
}

/// Root builds packages for a virtual machine in the tree of somebody who then wants to build them again.
fn give_back(root: &Path, stage: &Path) -> Result<()> {
    let packages = root.join("target/package");
    if fs::metadata(stage)?.uid() == fs::metadata(root)?.uid() {
        return Ok(());
    }
    let mut chown = Command::new("chown");
    run_command(chown.arg("-R").arg("--reference").arg(root).arg(packages), "give the packages back")
}

/// The compiler puts paths of sources into panic messages and debug data; the last prefix that
/// matches is the one that it replaces.
///
/// Symbols stay, in the mangling that names the types of generic functions too: `cargo xtask size`
/// reads them. What is packed is stripped of them.
fn compile(product: Product, source: &Source, arch: Arch, target: &Path) -> Result<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    let home = home.context("neither CARGO_HOME nor HOME is set")?;
    let mapped = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    let paths = [mapped(&home, "/cargo"), mapped(&source.root, "/pilotfish"), mapped(target, "/target")];
    let flags = format!("{} -Csymbol-mangling-version=v0{}", paths.join(" "), of_the_linker(arch));
    let mut cargo = Command::new("cargo");
    cargo.current_dir(&source.root).args([
        "build",
        "--locked",
        "--profile",
        "dist",
        "-p",
        product.krate(),
        "--target-dir",
    ]);
    cross::build(arch, cargo.arg(target))?;
    cargo.env("RUSTFLAGS", flags).env("CARGO_PROFILE_DIST_STRIP", "none").env("PILOTFISH_COMMIT", &source.commit);
    run_command(cargo.env("SOURCE_DATE_EPOCH", &source.date), "build the program")?;
    Ok(cross::built(arch, target).join("dist").join(product.name()))
}

/// Functions whose code is the same are one. Only LLD can, and rustc links with it for x86_64. The
/// addresses of functions tell nothing in Rust, so nothing notices.
fn of_the_linker(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => " -Clink-arg=-Wl,--icf=all",
        Arch::Aarch64 => "",
    }
}

/// Packs what is staged.
fn pack(product: Product, source: &Source, arch: Arch, format: Format, revision: u32) -> Result<PathBuf> {
    let Source { root, version, date, .. } = source;
    let package = root.join("target/package").join(file_name(product, arch, format, version, revision));
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
            .args(["--package", product.krate(), "--no-build", "--no-strip", "--quiet"])
            .args(["--deb-version", &format!("{version}-{revision}")]),
        Format::Rpm => make
            .args(["--package", product.directory(), "--source-date", date])
            .args(["--set-metadata", &format!("release = \"{revision}\"")]),
    };
    if !arch.is_of_this_machine() {
        make.args(["--target", arch.facts().rust_target]);
        if format == Format::Deb {
            make.args(["--variant", "cross"]);
        }
    }
    run_command(&mut make, &format!("make {}", package.display()))?;
    if format == Format::Deb {
        glibc::check(&product.stage(root).join(product.name()), &package)?;
    }
    Ok(package)
}

fn file_name(product: Product, arch: Arch, format: Format, version: &str, revision: u32) -> String {
    let (package, Facts { name, deb, .. }) = (product.name(), arch.facts());
    match format {
        Format::Deb => format!("{package}_{version}-{revision}_{deb}.deb"),
        Format::Rpm => format!("{package}-{version}-{revision}.{name}.rpm"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_called_as_each_distribution_calls_the_architecture() {
        let name = |arch, format| file_name(Product::Agent, arch, format, "0.2.0", 1);
        assert_eq!(name(Arch::X86_64, Format::Deb), "pilotfish_0.2.0-1_amd64.deb");
        assert_eq!(name(Arch::X86_64, Format::Rpm), "pilotfish-0.2.0-1.x86_64.rpm");
        assert_eq!(name(Arch::Aarch64, Format::Deb), "pilotfish_0.2.0-1_arm64.deb");
        assert_eq!(name(Arch::Aarch64, Format::Rpm), "pilotfish-0.2.0-1.aarch64.rpm");
        let companion = file_name(Product::Companion, Arch::X86_64, Format::Deb, "0.2.0", 1);
        assert_eq!(companion, "pilotfish-companion_0.2.0-1_amd64.deb");
    }
}
