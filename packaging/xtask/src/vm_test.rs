//! `cargo xtask vm-test`: our deb, installed by apt on a Debian with systemd and containerd, on a
//! kernel of Debian's, in a virtual machine without KVM (whose guests die on some development
//! machines). There everything takes ten times as long: it counts, and times nothing.

mod guest;
mod image;

use crate::arch::Arch;
use crate::runtime_test::runtime::{PROGRAMS, Runtime};
use crate::{command, package};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub(crate) use image::Kernel;

/// A boot takes about a minute and the story some minutes, with the machine to itself.
const TIME_LIMIT: Duration = Duration::from_secs(2400);

/// What is told inside, in this order.
const SCENES: [&str; 11] =
    ["install", "sandbox", "faults", STUCK, "handover", "state", "rights", "removal", UPGRADE, "k3s", "eks"];
/// Needs a program of the testbed, which is built with this one.
const STUCK: &str = "stuck";
/// Needs an older package to begin with.
const UPGRADE: &str = "upgrade";
/// These bring a node's own containerd, of the newest version. They begin without a package and end without one.
const NODES: [&str; 2] = ["k3s", "eks"];
const STORY: [(&str, &str); 14] = [
    ("main.sh", include_str!("vm_test/story/main.sh")),
    ("words.sh", include_str!("vm_test/story/words.sh")),
    ("install.sh", include_str!("vm_test/story/install.sh")),
    ("sandbox.sh", include_str!("vm_test/story/sandbox.sh")),
    ("faults.sh", include_str!("vm_test/story/faults.sh")),
    ("stuck.sh", include_str!("vm_test/story/stuck.sh")),
    ("handover.sh", include_str!("vm_test/story/handover.sh")),
    ("state.sh", include_str!("vm_test/story/state.sh")),
    ("rights.sh", include_str!("vm_test/story/rights.sh")),
    ("removal.sh", include_str!("vm_test/story/removal.sh")),
    ("upgrade.sh", include_str!("vm_test/story/upgrade.sh")),
    ("nodes.sh", include_str!("vm_test/story/nodes.sh")),
    ("k3s.sh", include_str!("vm_test/story/k3s.sh")),
    ("eks.sh", include_str!("vm_test/story/eks.sh")),
];
/// What an operator and an agent of 0.1.0 have left on a node: the tests of agentd and of k8s-sync read the same files.
const LEFT: [(&str, &[u8]); 2] = [
    ("config-0.1.0.toml", include_bytes!("../../../shim-plugin/agentd/tests/fixtures/config-0.1.0.toml")),
    ("cluster-names-0.1.0", include_bytes!("../../../k8s-sync/tests/fixtures/cluster-names-0.1.0")),
];

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Which kernel to boot
    #[arg(long, value_enum, default_value_t = Kernel::Bookworm)]
    kernel: Kernel,
    /// Package this program instead of building one
    #[arg(long)]
    binary: Option<PathBuf>,
    /// A deb of 0.1.0, for the scene that upgrades from it; without it that scene is left out
    #[arg(long, value_name = "DEB")]
    from: Option<PathBuf>,
    /// The containerd of the scenes k3s and eks: a version, built once with Go, or a directory with
    /// containerd, its shim and ctr
    #[arg(long, value_name = "VERSION|PATH", default_value = "2.4")]
    containerd: String,
    /// Which scenes, in the story's order. The first makes what the others need, and `removal`
    /// unmakes it; k3s and eks need none of the others
    #[arg(long, value_delimiter = ',', default_values = SCENES, value_parser = SCENES)]
    scenes: Vec<String>,
    /// Show all that the console says
    #[arg(long)]
    verbose: bool,
}

/// # Errors
/// When a tool is missing, or a check inside fails.
pub fn run(options: &Options) -> Result<()> {
    // Its disks and machines are of x86_64, and the packages are this machine's.
    ensure!(Arch::X86_64.is_of_this_machine(), "vm-test is for x86_64 only; kernel-test is for aarch64, too");
    let image = image::fetch(options.kernel, &package::cache()?.join("vm"))?;
    // The second build differs from the first by its revision only, as a rebuild would.
    let deb = |revision| package::one(package::Format::Deb, options.binary.as_deref(), revision);
    let (second, first) = (deb(2)?, deb(1)?);
    let mut scenes: Vec<&str> =
        SCENES.into_iter().filter(|scene| options.scenes.iter().any(|name| name == scene)).collect();
    let mut debs = vec![("first.deb", first), ("second.deb", second)];
    match &options.from {
        Some(old) => debs.push(("old.deb", old.clone())),
        None if scenes.contains(&UPGRADE) => {
            eprintln!("the scene {UPGRADE} is left out: --from names no older package");
            scenes.retain(|scene| *scene != UPGRADE);
        }
        None => {}
    }
    let containerd = match scenes.iter().any(|scene| NODES.contains(scene)) {
        true => Some(Runtime::containerd(&options.containerd)?),
        false => None,
    };
    let payload = payload(&debs, &scenes, containerd.as_ref().map(Runtime::programs).transpose()?)?;
    let report = guest::boot(&image, &payload, options.verbose, TIME_LIMIT);
    std::fs::remove_file(&payload)?;
    let report = report?;
    eprintln!("{report}");
    ensure!(report.passed(), "the packages do not hold on this kernel");
    Ok(())
}

/// A root file system of Debian's as a tar file, with systemd in it.
pub(crate) fn base() -> Result<PathBuf> {
    image::base(Kernel::Bookworm, &package::cache()?.join("vm"))
}

/// What the guest finds on its second disk: a tar without a file system around it.
fn payload(debs: &[(&str, PathBuf)], scenes: &[&str], containerd: Option<[PathBuf; 3]>) -> Result<PathBuf> {
    let (_, first) = debs.first().context("there is a package")?;
    let dir = first.with_file_name(format!("vm-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    for (name, deb) in debs {
        copy(deb, &dir.join(name))?;
    }
    if let Some(programs) = containerd {
        let bin = dir.join("containerd");
        std::fs::create_dir_all(&bin)?;
        for (name, program) in PROGRAMS.iter().zip(&programs) {
            copy(program, &bin.join(name))?;
        }
    }
    if scenes.contains(&STUCK) {
        copy(&testbed::built_binary("silent")?, &dir.join("silent"))?;
    }
    for (name, bytes) in LEFT {
        std::fs::write(dir.join(name), bytes)?;
    }
    std::fs::write(dir.join("scenes"), scenes.join(" "))?;
    for (name, text) in STORY {
        std::fs::write(dir.join(name), text)?;
    }
    let tar = dir.with_extension("tar");
    command::run_command(Command::new("tar").arg("-C").arg(&dir).arg("-cf").arg(&tar).arg("."), "pack the payload")?;
    std::fs::remove_dir_all(&dir)?;
    Ok(tar)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to).map(drop).with_context(|| format!("copy {}", from.display()))
}
