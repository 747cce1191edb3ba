//! A virtual machine with one purpose: its first process runs the tests, prints, and powers off.

use super::image::Image;
use crate::command::output_of;
use crate::console;
use anyhow::{Context, Result, bail};
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// For the veth pair and what is made on it, for clsact filters, and for sock_diag; each after those
/// that it needs.
const MODULES: [&str; 16] = [
    "drivers/net/veth.ko",
    "net/llc/llc.ko",
    "net/802/stp.ko",
    "net/802/garp.ko",
    "net/802/mrp.ko",
    "net/8021q/8021q.ko",
    "net/bridge/bridge.ko",
    "net/tls/tls.ko",
    "drivers/net/bonding/bonding.ko",
    "drivers/net/macvlan.ko",
    "drivers/net/ipvlan/ipvlan.ko",
    "net/sched/sch_ingress.ko",
    "net/sched/cls_bpf.ko",
    "net/ipv4/inet_diag.ko",
    "net/ipv4/tcp_diag.ko",
    "net/ipv4/udp_diag.ko",
];
/// What the tests call. A real shell: busybox's runs its own `ip` whatever PATH says.
const TOOLS: [&str; 7] = ["ip", "tc", "sh", "unshare", "nsenter", "sleep", "test"];
const DONE: &str = "pilotfish-guest-done";

/// What the console said of the tests.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Programs that were to be run.
    programs: usize,
    /// The last line of each.
    results: Vec<String>,
    failures: Vec<String>,
}

impl Report {
    pub fn passed(&self) -> bool {
        let ran = |result: &String| !result.starts_with("ok. 0 passed");
        self.results.len() == self.programs
            && self.results.iter().all(|result| result.starts_with("ok."))
            // A filter may leave one of them without a test, not all.
            && self.results.iter().any(ran)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} test programs ended", self.results.len(), self.programs)?;
        self.results.iter().try_for_each(|line| write!(f, "\n  {line}"))?;
        self.failures.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

pub(super) fn boot(image: &Image, tests: &[PathBuf], filter: &str, cache: &Path, limit: Duration) -> Result<Report> {
    let initrd = build_initrd(image, tests, filter, cache)?;
    let mut qemu = console::qemu();
    qemu.args(["-accel", "tcg", "-smp", "1", "-m", "1024"])
        .args(["-append", "console=ttyS0 quiet panic=-1 net.ifnames=0"])
        .arg("-kernel")
        .arg(image.vmlinuz())
        .arg("-initrd")
        .arg(&initrd);
    let report = console::boot(&mut qemu, |lines| watch(lines, tests.len(), limit));
    fs::remove_file(&initrd).with_context(|| format!("remove {}", initrd.display()))?;
    report
}

fn watch(lines: &mpsc::Receiver<String>, programs: usize, limit: Duration) -> Result<Report> {
    let mut report = Report { programs, ..Report::default() };
    let mut last = Vec::new();
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match lines.recv_timeout(left) {
            Ok(line) if line.contains(DONE) => return Ok(report),
            Ok(line) => {
                if let Some(result) = line.strip_prefix("test result: ") {
                    report.results.push(result.to_owned());
                } else if line.ends_with("FAILED")
                    || line.contains("panicked at")
                    || report.failures.last().is_some_and(|l| l.contains("panicked at"))
                {
                    report.failures.push(line.clone());
                }
                eprintln!("  | {line}");
                last.push(line);
            }
            Err(mpsc::RecvTimeoutError::Timeout) => bail!("nothing more within {} s", limit.as_secs()),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                bail!(
                    "the guest ended early; its last words:\n{}",
                    last.split_off(last.len().saturating_sub(20)).join("\n")
                )
            }
        }
    }
}

fn build_initrd(image: &Image, tests: &[PathBuf], filter: &str, cache: &Path) -> Result<PathBuf> {
    let root = cache.join(format!("initrd-{}-{}", image.release, std::process::id()));
    for dir in ["bin", "tools", "proc", "sys", "dev", "tmp", "run", "modules", "tests"] {
        fs::create_dir_all(root.join(dir)).with_context(|| format!("make {}", root.display()))?;
    }
    fs::copy(find("busybox")?, root.join("bin/busybox"))?;
    for test in tests {
        fs::copy(test, root.join("tests").join(test.file_name().context("a test's path")?))?;
        copy_libraries(test, &root)?;
    }
    for tool in TOOLS {
        let path = find(tool)?;
        fs::copy(&path, root.join("tools").join(tool))?;
        copy_libraries(&path, &root)?;
    }
    for (number, module) in MODULES.iter().enumerate() {
        add_module(image, module, number, &root)?;
    }
    let init = root.join("init");
    fs::write(&init, init_script(filter))?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    let initrd = root.with_extension("cpio");
    let pack = format!("cd '{}' && find . | cpio --quiet -o -H newc > '{}'", root.display(), initrd.display());
    output_of(Command::new("sh").args(["-ec", &pack]), "pack the initial file system (Debian package cpio)")?;
    fs::remove_dir_all(&root)?;
    Ok(initrd)
}

/// Debian compresses modules from 6.10 or so on; what is built in has no file.
fn add_module(image: &Image, module: &str, number: usize, root: &Path) -> Result<()> {
    let plain = image.module(module);
    let packed = plain.with_extension("ko.xz");
    // Inserted in the order of their names.
    let name = format!("{number:02}-{}", plain.file_name().context("a module's path")?.to_string_lossy());
    if plain.exists() {
        fs::copy(&plain, root.join("modules").join(name))?;
    } else if packed.exists() {
        let unpacked =
            Command::new("xz").arg("-dc").arg(&packed).output().context("run xz (Debian package xz-utils)")?;
        fs::write(root.join("modules").join(name), unpacked.stdout)?;
    }
    Ok(())
}

fn init_script(filter: &str) -> String {
    format!(
        "#!/bin/busybox sh
b=/bin/busybox
export PATH=/tools RUST_BACKTRACE=0
$b mount -t proc proc /proc; $b mount -t sysfs sys /sys; $b mount -t devtmpfs dev /dev; $b mount -t tmpfs tmp /tmp; $b mount -t tmpfs run /run
$b mount -t cgroup2 cgroup /sys/fs/cgroup
for module in /modules/*; do $b insmod $module; done
ip link set lo up
for test in /tests/*; do $test --test-threads 1 {filter}; done
echo {DONE}
$b poweroff -f
"
    )
}

/// The shared libraries that the program names, at the same paths.
fn copy_libraries(program: &Path, root: &Path) -> Result<()> {
    let listing = output_of(Command::new("ldd").arg(program), "list the libraries of a program")?;
    for library in listing.split_whitespace().filter(|word| word.starts_with('/')) {
        let to = root.join(library.trim_start_matches('/'));
        fs::create_dir_all(to.parent().context("a library's path")?)?;
        fs::copy(library, &to).with_context(|| format!("copy {library}"))?;
    }
    Ok(())
}

fn find(program: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(program))
        .find(|path| path.exists())
        .with_context(|| format!("{program} is missing (Debian packages busybox-static and iproute2)"))
}
