//! `cargo xtask package`: the deb and the rpm, from the metadata in `shim-plugin/agentd/Cargo.toml`. The same commit gives the same bytes:
//! dates are the commit's, paths of the build machine are mapped away, and lists are sorted.

mod lint;
mod rpm_root;
mod stage;
mod tools;

use anyhow::{Context, Result, ensure};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) use tools::cache;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Package this program instead of building one
    #[arg(long)]
    binary: Option<PathBuf>,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    Deb,
    Rpm,
}

/// What a build is told from outside: all of it follows from the commit.
#[derive(Clone, Debug)]
struct Source {
    root: PathBuf,
    version: String,
    commit: String,
    /// Seconds since 1970 of the commit.
    date: String,
}

/// # Errors
/// When a tool fails, the linters find an error, or two builds differ.
pub fn run(options: &Options) -> Result<()> {
    let mut formats = vec![Format::Deb, Format::Rpm];
    formats.retain(|format| options.only.is_none_or(|only| only == *format));
    let source = Source::read()?;
    let packages = build(&source, options.binary.as_deref(), options.revision, &formats)?;
    for path in &packages {
        eprintln!("{}  {} bytes", path.display(), fs::metadata(path)?.len());
    }
    if let Some(deb) = packages.iter().find(|path| path.extension().is_some_and(|end| end == "deb")) {
        let installed = output(Command::new("dpkg-deb").arg("--field").arg(deb).arg("Installed-Size"))?;
        eprintln!("installed: {installed} KiB");
    }
    if options.lint {
        packages.iter().try_for_each(|path| lint::run(path))?;
    }
    if options.rpm_root {
        rpm_root::run(options.binary.as_deref())?;
    }
    if options.reproduce {
        reproduce(options, &source, &formats, &packages)?;
    }
    Ok(())
}

/// Builds one package into `target/package/`.
pub(crate) fn one(format: Format, binary: Option<&Path>, revision: u32) -> Result<PathBuf> {
    let mut packages = build(&Source::read()?, binary, revision, &[format])?;
    packages.pop().context("no package was built")
}

fn build(source: &Source, binary: Option<&Path>, revision: u32, formats: &[Format]) -> Result<Vec<PathBuf>> {
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

impl Source {
    fn read() -> Result<Source> {
        let root = PathBuf::from(output(Command::new("git").args(["rev-parse", "--show-toplevel"]))?);
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let git = |args: &[&str]| output(Command::new("git").current_dir(&root).args(args));
        let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
        let date = git(&["log", "-1", "--format=%ct"])?;
        Ok(Source { version, commit, date, root })
    }
}

/// The compiler puts paths of sources into panic messages and debug data; the last prefix that matches is the one that it replaces.
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

/// The whole way again, from a copy of the tree in another directory.
fn reproduce(options: &Options, source: &Source, formats: &[Format], first: &[PathBuf]) -> Result<()> {
    let again = Source { root: source.root.join("target/package/again"), ..source.clone() };
    if again.root.exists() {
        fs::remove_dir_all(&again.root).with_context(|| format!("empty {}", again.root.display()))?;
    }
    copy_tree(&source.root, &again.root)?;
    let second = build(&again, options.binary.as_deref(), options.revision, formats)?;
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

pub(crate) fn run_command(command: &mut Command, act: &str) -> Result<()> {
    let status = command.status().with_context(|| format!("{act}: cannot run {:?}", command.get_program()))?;
    ensure!(status.success(), "{act}: {:?} ended with {status}", command.get_program());
    Ok(())
}

/// Standard output without the last line's end.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {:?}", command.get_program()))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{:?}: {}", command.get_program(), errors.trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}
