//! `cargo xtask runtime-test`: the tests that meet a container runtime, with another one than the
//! machine's own containerd, which continuous integration runs them with.

mod parts;
pub(crate) mod runtime;
mod vm;

use crate::arch::Arch;
use crate::command::run_command;
use crate::test_program;
use anyhow::{Result, bail, ensure};
use parts::{Kind, Part, Tests};
use runtime::Runtime;
use std::path::PathBuf;
use std::process::Command;

/// The last of 1.x, and what is newest.
const VERSIONS: [&str; 2] = ["1.7", "2.4"];
/// Containers that are killed and removed at once: of each hundred, 2.4 forgets to tell of some.
const ENDS: &str = "100";

#[derive(Debug, clap::Args)]
pub struct Options {
    /// With this containerd: a version (2.4, 2.4.2), built once unless PATH has it, or a directory
    /// with containerd, its shim and ctr [default: 1.7 and 2.4]
    #[arg(long, value_name = "VERSION|PATH", conflicts_with = "docker")]
    containerd: Vec<String>,
    /// With a real dockerd instead (`scripts/setup.sh --docker` installs it)
    #[arg(long)]
    docker: bool,
    /// Also the parts that a runtime is not asked about: the whole end-to-end suite
    #[arg(long, conflicts_with = "docker")]
    all: bool,
    /// In a virtual machine with Debian's 6.12, which has the modules that this machine's kernel may
    /// not have, and cgroups of version 2 alone: the links and balancers of the test `networks`
    /// [default: with the machine's own containerd]
    #[arg(long, conflicts_with_all = ["docker", "all"])]
    vm: bool,
    /// Run only the tests whose names contain this
    #[arg(long, default_value = "")]
    filter: String,
}

/// # Errors
/// A runtime cannot be had, or a test fails with it.
pub fn run(options: &Options) -> Result<()> {
    let Options { containerd, docker, all, vm, filter } = options;
    ensure!(nix::unistd::geteuid().is_root(), "the tests run containers: they need root");
    let (kind, runtimes) = if *docker {
        (Kind::Docker, vec![Runtime::installed("docker")])
    } else {
        let asked: Vec<&str> = containerd.iter().map(String::as_str).collect();
        let runtimes = match asked.is_empty() {
            true if *vm => vec![Runtime::installed("the machine's containerd")],
            true => VERSIONS.into_iter().map(Runtime::containerd).collect::<Result<_>>()?,
            false => asked.into_iter().map(Runtime::containerd).collect::<Result<_>>()?,
        };
        (Kind::Containerd, runtimes)
    };
    run_command(cargo().args(["build", "--workspace", "--bins"]), "build the programs")?;
    if *vm {
        return runtimes.iter().try_for_each(|runtime| vm::run(runtime, filter));
    }
    let (mut table, mut failed) = (String::new(), Vec::new());
    for runtime in &runtimes {
        for part in parts::all(*all).filter(|part| part.kind == kind) {
            let outcome = match part.missing(runtime) {
                Some(reason) => format!("not run: {reason}"),
                None => {
                    eprintln!("{}: {} {}", runtime.name, part.package, part.test);
                    let mut command = Command::new(program(part)?);
                    runtime.first(command.args(["--test-threads=1", filter]))?.env("PILOTFISH_ENDS", ENDS);
                    if part.wants_sandboxes() {
                        command.env("PILOTFISH_SANDBOX_SHIM", runtime::shim_with_sandboxes()?);
                    }
                    let passed = command.status()?.success();
                    if !passed {
                        failed.push(format!("{} with {}", part.test, runtime.name));
                    }
                    if passed { "ok" } else { "failed" }.to_owned()
                }
            };
            table += &format!("{:<18} {:<12} {:<18} {outcome}\n", runtime.name, part.package, part.test);
        }
    }
    eprint!("{table}");
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

/// The test program of a part, freshly built.
fn program(part: &Part) -> Result<PathBuf> {
    let feature = if let Tests::Feature(feature) = part.tests { feature } else { "" };
    test_program::build(Arch::or_this(None)?, part.package, part.test, feature)
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
