//! `cargo xtask kernel-test`: the kernel tests of `capture-engine` and the scan's tests of
//! `netns-scanner` on Debian's own kernels, in a virtual machine without KVM (whose guests die on
//! some development machines). What loads there, loads for users.

mod apt;
mod guest;
pub(crate) mod image;
pub(crate) mod report;
mod tools;

use crate::arch::Arch;
use crate::test_program;
use anyhow::{Context, Result, bail};
use guest::Guest;
use image::{Image, Kernel};
use report::Report;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tools::Tools;

/// A boot takes about 25 s and the tests some three minutes, without KVM and with a core to itself.
const TIME_LIMIT: Duration = Duration::from_secs(900);

/// Guests at a time. Each has one processor, and so keeps one of ours busy.
const AT_ONCE: usize = 2;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Of which architecture [default: this machine's]
    #[arg(long, value_enum)]
    arch: Option<Arch>,
    /// Which kernel to boot [default: all that Debian has for the architecture]
    #[arg(long, value_enum)]
    kernel: Option<Kernel>,
    /// Where kernels are kept between runs [default: $XDG_CACHE_HOME/pilotfish/kernels]
    #[arg(long)]
    cache: Option<PathBuf>,
    /// Run only the tests whose names contain this
    #[arg(long, default_value = "")]
    filter: String,
    /// More words of the kernel's command line (`lockdown=confidentiality`, `ipv6.disable=1`)
    #[arg(long, default_value = "")]
    boot: String,
    /// Have this `pilotfish` say, too, what it finds there (`pilotfish check`)
    #[arg(long)]
    binary: Option<PathBuf>,
}

/// # Errors
/// When a tool or a kernel is missing, or a test fails on one of the kernels.
pub fn run(options: &Options) -> Result<()> {
    let cache = match &options.cache {
        Some(cache) => cache.clone(),
        None => default_cache()?,
    };
    let arch = Arch::or_this(options.arch)?;
    let tests = build_tests(arch)?;
    let tools = Tools::find(arch, &cache)?;
    let kernels = options.kernel.map_or_else(|| Kernel::all(arch), |kernel| vec![kernel]);
    let images: Vec<Image> =
        kernels.into_iter().map(|kernel| image::fetch(kernel, arch, &cache)).collect::<Result<_>>()?;
    let Options { filter, boot, binary, .. } = options;
    let mut failed = Vec::new();
    for pair in images.chunks(AT_ONCE) {
        let guests = pair.iter().map(|image| Guest {
            arch,
            image,
            tools: &tools,
            tests: &tests,
            filter,
            boot,
            binary: binary.as_deref(),
        });
        for (image, report) in pair.iter().zip(boot_all(guests, &cache)) {
            let report = report.with_context(|| format!("kernel {}", image.release))?;
            eprintln!("{}: {report}", image.release);
            if !report.passed() {
                failed.push(image.release.as_str());
            }
        }
    }
    if !failed.is_empty() {
        bail!("the kernel tests failed on {}", failed.join(", "));
    }
    Ok(())
}

/// Boots guests side by side and waits for all of them.
fn boot_all<'a>(guests: impl Iterator<Item = Guest<'a>>, cache: &Path) -> Vec<Result<Report>> {
    std::thread::scope(|scope| {
        let booted: Vec<_> = guests
            .map(|guest| {
                eprintln!("booting {}", guest.image.release);
                scope.spawn(move || guest.boot(cache, TIME_LIMIT))
            })
            .collect();
        let ended = booted.into_iter().map(|guest| guest.join());
        ended.map(|end| end.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

/// Where kernels are kept.
pub(crate) fn default_cache() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    Ok(base.context("neither XDG_CACHE_HOME nor HOME is set: name a directory with --cache")?.join("pilotfish/kernels"))
}

/// Packages and their test programs.
const TESTS: [(&str, &str); 2] = [("capture-engine", "kernel"), ("netns-scanner", "scan")];

/// The paths of the test programs, freshly built.
fn build_tests(arch: Arch) -> Result<Vec<PathBuf>> {
    TESTS.iter().map(|(package, test)| test_program::build(arch, package, test, "")).collect()
}
