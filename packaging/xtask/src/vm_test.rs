//! `cargo xtask vm-test`: our deb, installed by apt on a Debian with systemd and containerd, on a
//! kernel of Debian's, in a virtual machine without KVM (whose guests die on some development
//! machines). There everything takes ten times as long: it counts, and times nothing.

mod guest;
mod image;

use crate::{command, package};
use anyhow::{Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub(crate) use image::Kernel;

/// A boot takes about a minute and the story some minutes, with the machine to itself.
const TIME_LIMIT: Duration = Duration::from_secs(1500);

/// What is told inside, in this order.
const SCENES: [&str; 7] = ["install", "sandbox", "faults", "handover", "state", "rights", "removal"];
const STORY: [(&str, &str); 9] = [
    ("main.sh", include_str!("vm_test/story/main.sh")),
    ("words.sh", include_str!("vm_test/story/words.sh")),
    ("install.sh", include_str!("vm_test/story/install.sh")),
    ("sandbox.sh", include_str!("vm_test/story/sandbox.sh")),
    ("faults.sh", include_str!("vm_test/story/faults.sh")),
    ("handover.sh", include_str!("vm_test/story/handover.sh")),
    ("state.sh", include_str!("vm_test/story/state.sh")),
    ("rights.sh", include_str!("vm_test/story/rights.sh")),
    ("removal.sh", include_str!("vm_test/story/removal.sh")),
];

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Which kernel to boot
    #[arg(long, value_enum, default_value_t = Kernel::Bookworm)]
    kernel: Kernel,
    /// Package this program instead of building one
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Which scenes, in the story's order. The first and the last make and unmake what the others need
    #[arg(long, value_delimiter = ',', default_values = SCENES, value_parser = SCENES)]
    scenes: Vec<String>,
    /// Show all that the console says
    #[arg(long)]
    verbose: bool,
}

/// # Errors
/// When a tool is missing, or a check inside fails.
pub fn run(options: &Options) -> Result<()> {
    let image = image::fetch(options.kernel, &package::cache()?.join("vm"))?;
    // The second build differs from the first by its revision only, as a rebuild would.
    let deb = |revision| package::one(package::Format::Deb, options.binary.as_deref(), revision);
    let (second, first) = (deb(2)?, deb(1)?);
    let scenes: Vec<&str> =
        SCENES.into_iter().filter(|scene| options.scenes.iter().any(|name| name == scene)).collect();
    let payload = payload(&first, &second, &scenes)?;
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
fn payload(first: &Path, second: &Path, scenes: &[&str]) -> Result<PathBuf> {
    let dir = first.with_file_name(format!("vm-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    std::fs::copy(first, dir.join("first.deb"))?;
    std::fs::copy(second, dir.join("second.deb"))?;
    std::fs::write(dir.join("scenes"), scenes.join(" "))?;
    for (name, text) in STORY {
        std::fs::write(dir.join(name), text)?;
    }
    let tar = dir.with_extension("tar");
    command::run_command(Command::new("tar").arg("-C").arg(&dir).arg("-cf").arg(&tar).arg("."), "pack the payload")?;
    std::fs::remove_dir_all(&dir)?;
    Ok(tar)
}
