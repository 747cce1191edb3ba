//! `cargo xtask kernel-test`: the kernel tests of `capture-engine` and the scan's tests of
//! `netns-scanner` on Debian's own kernels, in a virtual machine without KVM (whose guests die on
//! some development machines). What loads there, loads for users.

mod guest;
mod image;

use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// A boot takes about 25 s and the tests about as long, without KVM and with the machine to itself.
const TIME_LIMIT: Duration = Duration::from_secs(300);

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Which kernel to boot
    #[arg(long, value_enum, default_value_t = Kernel::All)]
    kernel: Kernel,
    /// Where kernels are kept between runs [default: $XDG_CACHE_HOME/pilotfish/kernels]
    #[arg(long)]
    cache: Option<PathBuf>,
    /// Run only the tests whose names contain this
    #[arg(long, default_value = "")]
    filter: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kernel {
    #[value(name = "6.1")]
    Bookworm,
    #[value(name = "6.12")]
    Backports,
    All,
}

/// # Errors
/// When a tool or a kernel is missing, or a test fails on one of the kernels.
pub fn run(options: &Options) -> Result<()> {
    let cache = match &options.cache {
        Some(cache) => cache.clone(),
        None => default_cache()?,
    };
    let tests = build_tests()?;
    let wanted = match options.kernel {
        Kernel::All => vec![image::Suite::Bookworm, image::Suite::Backports],
        Kernel::Bookworm => vec![image::Suite::Bookworm],
        Kernel::Backports => vec![image::Suite::Backports],
    };
    let mut failed = Vec::new();
    for suite in wanted {
        let image = image::fetch(suite, &cache)?;
        eprintln!("booting {}", image.release);
        let report = guest::boot(&image, &tests, &options.filter, &cache, TIME_LIMIT)?;
        eprintln!("{}: {report}", image.release);
        if !report.passed() {
            failed.push(image.release);
        }
    }
    if !failed.is_empty() {
        bail!("the kernel tests failed on {}", failed.join(", "));
    }
    Ok(())
}

fn default_cache() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    Ok(base.context("neither XDG_CACHE_HOME nor HOME is set: name a directory with --cache")?.join("pilotfish/kernels"))
}

/// Packages and their test programs.
const TESTS: [(&str, &str); 2] = [("capture-engine", "kernel"), ("netns-scanner", "scan")];

/// The paths of the test programs, freshly built.
fn build_tests() -> Result<Vec<PathBuf>> {
    TESTS.iter().map(|(package, test)| build_test(package, test)).collect()
}

fn build_test(package: &str, test: &str) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["test", "-p", package, "--test", test, "--no-run", "--message-format=json"])
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("run cargo")?;
    if !output.status.success() {
        bail!("the tests of {package} do not build");
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == test)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .context("cargo named no executable")
}
