//! `cargo xtask package`: the deb and the rpm, from the metadata in
//! `shim-plugin/agentd/Cargo.toml`; with `--companion` those of the companion, with both images, from
//! `k8s-sync/companion/Cargo.toml`. The same commit gives the same bytes: dates are the commit's,
//! paths of the build machine are mapped away, and lists are sorted.

mod build;
mod glibc;
pub(crate) mod image;
mod lint;
mod product;
mod rpm_root;
mod source;
mod stage;
pub(crate) mod symbols;
mod tools;

use crate::arch::Arch;
use crate::command::output;
use crate::cross;
use crate::size;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) use build::{compiled, one, program};
pub(crate) use product::Product;
pub(crate) use source::{Format, Source};
pub(crate) use tools::cache;

use build::{Given, build};

#[derive(Debug, clap::Args)]
pub struct Options {
    /// The companion's packages, with its image and the agent's, instead of the agent's
    #[arg(long)]
    companion: bool,
    /// For which architecture [default: this machine's]
    #[arg(long, value_enum)]
    arch: Option<Arch>,
    /// Package this program instead of building one
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Put this agent into the image in the companion's packages instead of building one
    #[arg(long, requires = "companion")]
    agent: Option<PathBuf>,
    /// Revision of the packages, to tell builds of one version apart
    #[arg(long, default_value_t = 1)]
    revision: u32,
    /// Only one of the two
    #[arg(long, value_enum)]
    only: Option<Format>,
    /// Run lintian and rpmlint, and fail on their errors
    #[arg(long)]
    lint: bool,
    /// Install, upgrade and erase the rpm in a root directory of its own; asks for root
    #[arg(long)]
    rpm_root: bool,
    /// Build everything a second time, elsewhere, and compare the bytes
    #[arg(long)]
    reproduce: bool,
}

impl Options {
    fn given(&self) -> Given<'_> {
        Given { binary: self.binary.as_deref(), agent: self.agent.as_deref() }
    }
}

/// # Errors
/// When a tool fails, the linters find an error, or two builds differ.
pub fn run(options: &Options) -> Result<()> {
    let mut formats = vec![Format::Deb, Format::Rpm];
    formats.retain(|format| options.only.is_none_or(|only| only == *format));
    let arch = Arch::or_this(options.arch)?;
    let product = if options.companion { Product::Companion } else { Product::Agent };
    ensure!(!options.rpm_root || arch.is_of_this_machine(), "--rpm-root runs the agent: not with another --arch");
    ensure!(!options.rpm_root || product == Product::Agent, "--rpm-root runs the agent: not with --companion");
    let source = Source::read()?;
    let packages = build(product, &source, arch, options.given(), options.revision, &formats)?;
    for path in &packages {
        eprintln!("{}  {} bytes", path.display(), fs::metadata(path)?.len());
    }
    let is_weighed = |_: &&PathBuf| product == Product::Agent;
    if let Some(deb) = packages.iter().filter(is_weighed).find(|path| path.extension().is_some_and(|end| end == "deb"))
    {
        // A program that came from elsewhere may be of another profile.
        if options.binary.is_none() && arch == Arch::X86_64 {
            size::check(&source.root, deb, &cross::built(arch, &source.root.join("target")).join("dist/pilotfish"))?;
        } else {
            eprintln!("its size is not held to a bound: that is for an x86_64 program that was built here");
        }
    }
    if options.lint {
        packages.iter().try_for_each(|path| lint::run(path))?;
    }
    if options.rpm_root {
        rpm_root::run(options.binary.as_deref())?;
    }
    if options.reproduce {
        reproduce(options, product, arch, &source, &formats, &packages)?;
    }
    Ok(())
}

/// The whole way again, from a copy of the tree in another directory.
fn reproduce(
    options: &Options,
    product: Product,
    arch: Arch,
    source: &Source,
    formats: &[Format],
    first: &[PathBuf],
) -> Result<()> {
    let again = Source { root: source.root.join("target/package/again"), ..source.clone() };
    if again.root.exists() {
        fs::remove_dir_all(&again.root).with_context(|| format!("empty {}", again.root.display()))?;
    }
    copy_tree(&source.root, &again.root)?;
    let second = build(product, &again, arch, options.given(), options.revision, formats)?;
    for (first, second) in first.iter().zip(&second) {
        let same = fs::read(first)? == fs::read(second)?;
        ensure!(same, "{} and {} differ", first.display(), second.display());
    }
    fs::remove_dir_all(&again.root).with_context(|| format!("remove {}", again.root.display()))?;
    eprintln!("two builds in two directories, the same bytes");
    Ok(())
}

/// Everything that git tracks or would, as it is now.
fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    let listed = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let listed = output(Command::new("git").current_dir(from).args(listed))?;
    for path in listed.split('\0').filter(|path| from.join(path).is_file()) {
        let copy = to.join(path);
        fs::create_dir_all(copy.parent().context("a file's directory")?)?;
        fs::copy(from.join(path), &copy).with_context(|| format!("copy {path}"))?;
    }
    Ok(())
}
