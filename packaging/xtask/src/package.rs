//! `cargo xtask package`: the deb and the rpm, from the metadata in `shim-plugin/agentd/Cargo.toml`. The same commit gives the same bytes:
//! dates are the commit's, paths of the build machine are mapped away, and lists are sorted.

mod lint;
mod rpm_root;
mod stage;
mod tools;

use anyhow::{Context, Result, ensure};
use std::fs;
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

/// The two package files.
#[derive(Clone, Debug)]
pub struct Packages {
    pub deb: PathBuf,
    pub rpm: PathBuf,
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
    let packages = build(options.binary.as_deref(), options.revision)?;
    report(&packages)?;
    if options.lint {
        lint::run(&packages)?;
    }
    if options.rpm_root {
        rpm_root::run(options.binary.as_deref())?;
    }
    if options.reproduce {
        reproduce(options, &packages)?;
    }
    Ok(())
}

/// Builds both packages into `target/package/`.
pub fn build(binary: Option<&Path>, revision: u32) -> Result<Packages> {
    let source = Source::read()?;
    let binary = match binary {
        Some(path) => path.to_owned(),
        None => compile(&source, &source.root.join("target"))?,
    };
    pack(&source, &binary, revision)
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

fn pack(source: &Source, binary: &Path, revision: u32) -> Result<Packages> {
    let out = source.root.join("target/package");
    stage::fill(source, binary, revision, &out.join("stage"))?;
    let Source { root, version, date, .. } = source;
    let (deb_arch, rpm_arch) = match std::env::consts::ARCH {
        "x86_64" => ("amd64", "x86_64"),
        "aarch64" => ("arm64", "aarch64"),
        other => (other, other),
    };
    let deb = out.join(format!("pilotfish_{version}-{revision}_{deb_arch}.deb"));
    let rpm = out.join(format!("pilotfish-{version}-{revision}.{rpm_arch}.rpm"));
    // Not every tool cuts a longer file that is there.
    for old in [&deb, &rpm].into_iter().filter(|old| old.exists()) {
        fs::remove_file(old).with_context(|| format!("replace {}", old.display()))?;
    }
    let mut make = tools::cargo_deb()?;
    make.current_dir(root).args(["--package", "agentd", "--no-build", "--no-strip", "--quiet", "--profile", "dist"]);
    make.args(["--deb-version", &format!("{version}-{revision}"), "--output"]).arg(&deb);
    run_command(make.env("SOURCE_DATE_EPOCH", date), "make the deb")?;
    let mut make = tools::cargo_generate_rpm()?;
    make.current_dir(root).args(["--package", "shim-plugin/agentd", "--profile", "dist", "--source-date", date]);
    make.args(["--set-metadata", &format!("release = \"{revision}\""), "--output"]).arg(&rpm);
    run_command(make.env("SOURCE_DATE_EPOCH", date), "make the rpm")?;
    Ok(Packages { deb, rpm })
}

fn report(packages: &Packages) -> Result<()> {
    let installed = output(Command::new("dpkg-deb").args(["--field"]).arg(&packages.deb).arg("Installed-Size"))?;
    for path in [&packages.deb, &packages.rpm] {
        eprintln!("{}  {} bytes", path.display(), fs::metadata(path)?.len());
    }
    eprintln!("installed: {installed} KiB");
    Ok(())
}

/// The whole way again, from a copy of the tree in another directory.
fn reproduce(options: &Options, first: &Packages) -> Result<()> {
    let mut source = Source::read()?;
    let again = source.root.join("target/package/again");
    if again.exists() {
        fs::remove_dir_all(&again).with_context(|| format!("empty {}", again.display()))?;
    }
    copy_tree(&source.root, &again)?;
    source.root = again;
    let binary = match &options.binary {
        Some(path) => path.clone(),
        None => compile(&source, &source.root.join("target"))?,
    };
    let second = pack(&source, &binary, options.revision)?;
    for (first, second) in [(&first.deb, &second.deb), (&first.rpm, &second.rpm)] {
        let same = fs::read(first)? == fs::read(second)?;
        ensure!(same, "{} and {} differ", first.display(), second.display());
    }
    fs::remove_dir_all(&source.root).with_context(|| format!("remove {}", source.root.display()))?;
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
