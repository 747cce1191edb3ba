//! `cargo xtask kernel-test`: the kernel tests of `capture-engine` and the scan's tests of
//! `netns-scanner` on Debian's own kernels, in a virtual machine without KVM (whose guests die on
//! some development machines). What loads there, loads for users.

mod apt;
mod guest;
pub(crate) mod image;
pub(crate) mod report;
mod tools;

use crate::arch::Arch;
use crate::cross;
use anyhow::{Context, Result, bail};
use guest::Guest;
use image::{Image, Kernel};
use report::Report;
use std::path::{Path, PathBuf};
use std::process::Command;
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
    TESTS.iter().map(|(package, test)| build_test(arch, package, test, "")).collect()
}

/// The path of one test program, freshly built with these features of its package.
pub(crate) fn build_test(arch: Arch, package: &str, test: &str, features: &str) -> Result<PathBuf> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Without features it is the program of the whole workspace, which is built already where all tests ran before:
    // cargo gives each selection of packages dependencies of its own.
    let selected = if features.is_empty() { vec!["--workspace"] } else { vec!["-p", package, "--features", features] };
    cargo.arg("test").args(selected).args(["--test", test, "--no-run", "--message-format=json"]);
    cross::build(arch, &mut cargo)?;
    let output = cargo.stderr(std::process::Stdio::inherit()).output().context("run cargo")?;
    if !output.status.success() {
        bail!("the tests of {package} do not build");
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == test && is_of(&message["package_id"], package))
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .context("cargo named no executable")
}

/// Whether cargo's id of a package (`path+file:///tree/package#version`, `...#name@version`) is of this one.
fn is_of(id: &serde_json::Value, package: &str) -> bool {
    let id = id.as_str().unwrap_or_default();
    let (path, rest) = id.rsplit_once('#').unwrap_or((id, ""));
    match rest.split_once('@') {
        Some((name, _)) => name == package,
        None => path.rsplit('/').next() == Some(package),
    }
}

#[cfg(test)]
mod tests {
    use super::is_of;

    #[test]
    fn packages_are_known_by_their_ids() {
        for (id, package, is) in [
            ("path+file:///tree/capture-engine#0.2.0", "capture-engine", true),
            ("path+file:///tree/capture-engine#0.2.0", "netns-scanner", false),
            ("path+file:///tree/capture-engine/wire#capture-wire@0.2.0", "capture-wire", true),
            ("path+file:///tree/capture-engine/wire#capture-wire@0.2.0", "wire", false),
            ("", "e2e", false),
        ] {
            assert_eq!(is_of(&id.into(), package), is, "{id}");
        }
    }
}
