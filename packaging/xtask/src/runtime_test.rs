//! `cargo xtask runtime-test`: the tests that meet a container runtime, with another one than the
//! machine's own containerd, which continuous integration runs them with.

use crate::command::output;
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Built once by `scripts/containerd.sh`: the last of 1.x, and what is newest.
const VERSIONS: [&str; 2] = ["1.7.35", "2.4.2"];

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Run with the containerd, shim and ctr of this directory [default: 1.7 and 2.4, built once]
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "docker")]
    containerd: Vec<PathBuf>,
    /// Run with a real dockerd instead (`scripts/setup.sh --docker` installs it)
    #[arg(long)]
    docker: bool,
    /// Run only the tests whose names contain this
    #[arg(long, default_value = "")]
    filter: String,
}

/// Whose tests they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum For {
    Containerd,
    Docker,
}

struct Part {
    package: &'static str,
    test: &'static str,
    of: For,
}

const fn containerd(package: &'static str, test: &'static str) -> Part {
    Part { package, test, of: For::Containerd }
}

/// What a runtime is for. The Kubernetes nodes are configured for the CRI plugin of containerd 1.x
/// and have no other; what reads files only meets no runtime.
const PARTS: [Part; 9] = [
    containerd("shim-plugin", "containerd"),
    containerd("e2e", "first_line"),
    containerd("e2e", "lifecycle"),
    containerd("e2e", "names"),
    containerd("e2e", "node"),
    containerd("e2e", "runtime"),
    containerd("e2e", "truth"),
    containerd("e2e", "two_containerds"),
    Part { package: "e2e", test: "docker", of: For::Docker },
];

/// # Errors
/// A runtime cannot be had, or a test fails with it.
pub fn run(options: &Options) -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "the tests run containers: they need root");
    cargo(&["build", "-p", "agentd", "-p", "testbed"], None)?;
    let runtimes: Vec<(String, Option<PathBuf>)> = match &options.containerd[..] {
        _ if options.docker => vec![("docker".to_owned(), None)],
        [] => VERSIONS
            .iter()
            .map(|version| Ok((format!("containerd {version}"), Some(built(version)?))))
            .collect::<Result<_>>()?,
        named => named.iter().map(|dir| Ok((said_version(dir)?, Some(dir.canonicalize()?)))).collect::<Result<_>>()?,
    };
    let kind = if options.docker { For::Docker } else { For::Containerd };
    let mut failed = Vec::new();
    let mut table = String::new();
    for (name, dir) in &runtimes {
        for Part { package, test, .. } in PARTS.iter().filter(|part| part.of == kind) {
            let features: &[&str] = if kind == For::Docker { &["--features", "docker"] } else { &[] };
            let mut args = vec!["test", "-p", package, "--test", test];
            args.extend_from_slice(features);
            args.extend(["--", "--test-threads=1", &options.filter]);
            eprintln!("{name}: {package} {test}");
            let passed = cargo(&args, dir.as_deref()).is_ok();
            table += &format!("{name:<20} {package:<12} {test:<16} {}\n", if passed { "ok" } else { "failed" });
            if !passed {
                failed.push(format!("{test} with {name}"));
            }
        }
    }
    eprint!("{table}");
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

/// cargo, with the programs of `first` before all others.
fn cargo(args: &[&str], first: Option<&Path>) -> Result<()> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(args);
    if let Some(first) = first {
        let old = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(std::iter::once(first.to_owned()).chain(std::env::split_paths(&old)))?;
        command.env("PATH", path);
    }
    let status = command.status().context("run cargo")?;
    ensure!(status.success(), "cargo {}: {status}", args.join(" "));
    Ok(())
}

/// The directory of a version that is built from its Go module, by whoever asks first.
fn built(version: &str) -> Result<PathBuf> {
    let mut command = Command::new("scripts/containerd.sh");
    Ok(PathBuf::from(output(command.arg(version).stderr(Stdio::inherit()))?))
}

/// As `containerd --version` says it.
fn said_version(dir: &Path) -> Result<String> {
    let program = dir.join("containerd");
    for needed in ["ctr", "containerd-shim-runc-v2"] {
        ensure!(dir.join(needed).is_file(), "{} has no {needed}", dir.display());
    }
    let text = output(Command::new(&program).arg("--version"))?;
    let version = text.split_whitespace().nth(2).context("it says no version")?;
    Ok(format!("containerd {}", version.trim_start_matches('v')))
}
