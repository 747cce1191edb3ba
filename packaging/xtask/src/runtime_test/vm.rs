//! End-to-end tests in a virtual machine without KVM, on a kernel of Debian's: what this machine's
//! kernel has no modules for. There everything takes ten times as long or more: tests there count,
//! and time nothing.

mod disk;
mod guest;

use super::runtime::Runtime;
use crate::arch::Arch;
use crate::kernel_test::default_cache;
use crate::kernel_test::image::{self, Kernel};
use crate::test_program;
use anyhow::{Result, ensure};
use std::time::Duration;

/// The test, and the feature that adds what only such a kernel can do.
const TEST: (&str, &str) = ("networks", "modules");
/// A boot takes about a minute and a container some seconds, with the machine to itself.
const TIME_LIMIT: Duration = Duration::from_secs(2400);

pub(super) fn run(runtime: &Runtime, filter: &str) -> Result<()> {
    let arch = Arch::or_this(None)?;
    // Drivers of the disk are those of its machine.
    ensure!(arch == Arch::X86_64, "runtime-test --vm is for x86_64 only");
    let (test, feature) = TEST;
    let test = test_program::build(arch, "e2e", test, feature)?;
    let cache = default_cache()?;
    let image = image::fetch(Kernel::Backports, arch, &cache)?;
    eprintln!("{} in a guest with {}", runtime.name, image.release);
    let parts @ [initrd, disk] = &disk::make(&image, runtime, &test, filter, &cache)?;
    let report = guest::boot(&image, initrd, disk, TIME_LIMIT);
    parts.iter().try_for_each(std::fs::remove_file)?;
    let report = report?;
    eprintln!("{}: {report}", image.release);
    ensure!(report.passed(), "the tests failed on {} with {}", image.release, runtime.name);
    Ok(())
}
